"""The settings that a configuration gives the job of a record, to compare with those recorded."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import (
    Settings,
    backbone_settings,
    policy_settings,
    read_mapping,
    reward_model_settings,
)


@dataclass
class Configs:
    """Where presets are configured: in the `named` files, or in config/PRESET.yaml."""

    named: list[Path]
    known: dict[str | None, Settings | None] = field(default_factory=dict)

    def files(self, preset: str | None) -> list[Path]:
        """The config files of a preset, for `--configfile`; none where they are not known."""
        return (self.named or [Path(f"config/{preset}.yaml")]) if self.of(preset) else []

    def of(self, preset: str | None) -> Settings | None:
        """A preset's configuration, later files over earlier ones; None where it is not here."""
        if preset not in self.known:
            self.known[preset] = self._read(preset)
        return self.known[preset]

    def _read(self, preset: str | None) -> Settings | None:
        from snakemake.utils import update_config  # type: ignore[import-untyped]

        config: Settings = {}
        for path in self.named or [Path(f"config/{preset}.yaml")]:
            if path.is_file():
                update_config(config, read_mapping(path, "a config file"))
        # A file that only changes another is no configuration.
        return config if config.get("preset") == preset and "grid" in config else None


def differences(recorded: Settings, config: Settings, record: str) -> str | None:
    """Say which settings of a record are others in a configuration: "" for none.

    None where the configuration lacks the record's sections. Keys of one side alone are passed
    over: a key that came later has no value in an older record.
    """
    try:
        return compared(recorded, configured(config, record))
    except (KeyError, TypeError):
        return None


def compared(recorded: Settings, others: Settings) -> str:
    """Say which settings have another value elsewhere, of those that both have; "" for none."""
    there = dict(_leaves(others))
    found = [
        f"{key} {value} recorded, {there[key]} there"
        for key, value in _leaves(recorded)
        if key in there and value != there[key]
    ]
    return "; ".join(found)


def _leaves(settings: Settings, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def configured(config: Settings, record: str) -> Settings:
    """What a configuration gives the job of runs/PRESET/...; KeyError where it lacks a section."""
    match record.split("/")[2:]:
        case ["backbones", backbone, _]:
            return backbone_settings(config, backbone)
        case ["reward_models", backbone, objective, *_]:
            released: Settings = config.get("released", {})
            if objective in released:
                return dict(released[objective])
            return reward_model_settings(config, backbone, objective)
        case ["policies", policy, *_]:
            return policy_settings(config, policy)
        case ["raw", "responses.record.json"]:
            return {**config["sources"][config["responses"]["source"]], **config["responses"]}
        case ["splits", _]:
            return {**config["responses"], **config["splits"]}
        case ["scores", *_]:
            return dict(config["scoring"])
        case ["ranks", *_]:
            return {**config["scoring"], "rows": config["ranks"]["rows"]}
        case ["results", _]:
            shown = {**config["grid"], **config["statistics"]}
            for section in ("rm_bench", "ranks", "rloo", "alpaca_eval", "note"):
                shown[section] = config[section]
            return {key: value for key, value in shown.items() if key != "backbones"}
    return {}
