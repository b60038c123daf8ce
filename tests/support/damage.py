"""Files of a recorded run, and ways to damage them."""

import hashlib
import json
import os
from pathlib import Path

MODELS = "runs/demo/reward_models/llama"
WEIGHTS, RECORD = (f"{MODELS}/bt/seed-0/{name}" for name in ("model.safetensors", "record.json"))
SPLIT = "runs/demo/splits/train.parquet"
TABLE = "results/table5.csv"


def flip(path: str, keep_time: bool = True) -> None:
    """Change a byte, and leave the file's size and time as they were."""
    file, before = Path(path), Path(path).stat()
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    if keep_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit(path: str, *keys: str, value: object) -> None:
    """Set one entry of a JSON file."""
    content = json.loads(Path(path).read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    Path(path).write_text(json.dumps(content))


def edit_with_its_record(path: str) -> None:
    Path(path).write_text("edited")
    digest = hashlib.sha256(b"edited").hexdigest()
    edit(f"{Path(path).parent}/record.json", "files", Path(path).name, value=digest)
