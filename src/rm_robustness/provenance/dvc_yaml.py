"""dvc.yaml: the stages of a preset that is released, and a new preset's place in the file."""

import re
from pathlib import Path

from ..experiment.config import read_mapping
from ..files import write_text

DVC_YAML = Path("dvc.yaml")


def stages_of(preset: str) -> list[str]:
    """The names of a preset's stages, as DVC's commands take them."""
    return [f"{name}@{preset}" for name in _stages()]


def add_preset(preset: str) -> None:
    """Add a preset with its metrics and figures to dvc.yaml, where they are missing.

    Lines are added in place: the comments stay. Folders of the stages' outs that the preset does
    not fill are made, empty: DVC refuses a stage without its outs.
    """
    before = text = DVC_YAML.read_text(encoding="utf-8")
    presets = read_mapping(DVC_YAML, "the stages that DVC records")["vars"][0]["presets"]
    listed = ", ".join(dict.fromkeys([*presets, preset]))
    text = re.sub(r"(?m)^  - presets: \[.*\]$", f"  - presets: [{listed}]", text)
    results = Path("runs", preset, "results")
    text = _with_lines(text, "metrics", [results / "metrics.json"])
    text = _with_lines(text, "plots", sorted(results.glob("figure*.png")))
    if text != before:
        write_text(text, DVC_YAML)
    for stage in _stages().values():
        for out in stage["do"]["outs"]:
            [path] = out
            if not Path(path).suffix:
                Path(path.replace("${item}", preset)).mkdir(parents=True, exist_ok=True)


def _stages() -> dict[str, dict[str, dict[str, list[dict[str, object]]]]]:
    return dict(read_mapping(DVC_YAML, "the stages that DVC records")["stages"])


def _with_lines(text: str, section: str, paths: list[Path]) -> str:
    """The text with lines for some paths at the end of a section that is a list."""
    lines = [f"  - {path}\n" for path in paths]
    new = "".join(line for line in lines if line not in text)
    return re.sub(rf"(?m)^{section}:\n(?:  - .*\n)+", lambda match: match[0] + new, text)
