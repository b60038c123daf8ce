"""Configuration files: presets in YAML, and the `--settings` of a command."""

import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from .package_files import package_file

Settings = dict[str, Any]


def nearest(name: str, known: list[str]) -> str:
    """Suggest the closest known name, or list them all."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def read_settings(text: str) -> Settings:
    """Read settings given as inline JSON or as the path of a YAML or JSON file."""
    if text.lstrip().startswith("{"):
        try:
            return Strict(json.loads(text, object_hook=Strict))
        except json.JSONDecodeError as error:
            raise InputError("--settings", f"broken JSON ({error})", "a JSON object") from error
    path = Path(text)
    if not path.is_file():
        raise InputError("--settings", f"'{text[:80]}'", "inline JSON or the path of a YAML file")
    content = read_mapping(path, "a YAML or JSON file")
    return Strict(json.loads(json.dumps(content, default=str), object_hook=Strict))


class _Loader(yaml.SafeLoader):
    """YAML with the floats of version 1.2: a number such as 2e-6, without a point, is one."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789")
)


def read_mapping(path: Path, expected: str) -> Settings:
    """Read a mapping from YAML or JSON; raises InputError, with `expected`, for anything else."""
    language = "JSON" if path.suffix == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if language == "JSON" else yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        line = " ".join(str(error).split())[:160]
        raise InputError(path, f"broken {language} ({line})", expected) from error
    except OSError as error:
        raise InputError(path, "no readable file", expected) from error
    if not isinstance(content, dict):
        raise InputError(path, repr(content)[:80], "a file of keys and values")
    return content


def merged(files: list[Path]) -> Settings:
    """Merge config files as Snakemake's `--configfile` does: later files override earlier ones.

    A preset's file that is not here, `config/paper.yaml`, is the package's.
    """
    try:
        from snakemake.utils import update_config  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        fix = "pip install 'rm-robustness[workflow]'"
        raise InputError("snakemake", "no such package", "the extra `workflow`", fix) from error

    config: Settings = {}
    for path in files:
        own = package_file(str(path))
        file = own if own.is_file() and not path.is_file() else path
        update_config(config, read_mapping(file, "a config file"))
    return config


@dataclass
class Configs:
    """Configurations of presets, read once: from the `named` files, or from config/PRESET.yaml."""

    named: list[Path]
    known: dict[str | None, Settings | None] = field(default_factory=dict)

    def files(self, preset: str | None) -> list[Path]:
        """Config files of a preset, for `--configfile`; empty without a configuration."""
        return (self.named or [Path(f"config/{preset}.yaml")]) if self.of(preset) else []

    def of(self, preset: str | None) -> Settings | None:
        """Configuration of a preset; None without one."""
        if preset not in self.known:
            self.known[preset] = self._read(preset)
        return self.known[preset]

    def _read(self, preset: str | None) -> Settings | None:
        files = self.named or [Path(f"config/{preset}.yaml")]
        config = merged([path for path in files if path.is_file()])
        # An override file alone is not a configuration.
        return config if config.get("preset") == preset and "grid" in config else None


class Strict(Settings):
    """A dict whose missing keys raise InputError, for settings written by hand."""

    def __missing__(self, key: str) -> Any:
        """Name the missing key."""
        raise InputError("--settings", f"no key '{key}'", "see config/README.md for what it means")
