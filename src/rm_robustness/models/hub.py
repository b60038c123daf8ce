"""The folder of a model: one on this machine, or a model of the Hugging Face hub in its cache."""

from pathlib import Path

from huggingface_hub import snapshot_download

from ..errors import InputError

# Configuration, tokenizer and weights as safetensors: no code, no pickles, no other precisions.
TEXTS = ("*.json", "*.jinja", "*.model", "*.txt")
FILES = [*TEXTS, *("model.safetensors", "model-*.safetensors", "adapter_model.safetensors")]


def folder_of(source: str | Path, revision: str | None = None) -> Path:
    """The folder `source`; a text that names none is a model of the hub, fetched at `revision`.

    Raises InputError where there is neither.
    """
    if isinstance(source, Path) or Path(source).is_dir():
        return Path(source)
    try:
        fetched = snapshot_download(
            source, revision=revision or "main", allow_patterns=FILES, ignore_patterns=["*/*"]
        )
    except Exception as error:  # of the name, the network, the hub, the disk
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            source,
            f"no folder, and no model of the hub ({reason})",
            "one of them",
            "check the spelling, the network, and HF_TOKEN where the model is gated",
        ) from error
    if not any(Path(fetched).glob("*.safetensors")):
        fix = "load it where you trust it and save it with save_pretrained"
        raise InputError(source, "no weights as safetensors", "a model that has them", fix)
    return Path(fetched)
