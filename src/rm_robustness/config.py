"""The configuration: one preset, checked against one schema, cut into what each rule needs."""

import difflib
import json
import re
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError

Settings = dict[str, Any]


def nearest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant, or list them all."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def check(config: Settings, schema_path: Path, where: str = "config") -> None:
    """Refuse a configuration that the schema does not allow, naming the key and the nearest name.

    Beyond the schema, keys must fit each other: names that refer to other keys exist, and what
    would fail only after hours of computing is refused here. Raises InputError for the first
    mistake.
    """
    import jsonschema

    schema = yaml.safe_load(schema_path.read_text(encoding="utf-8"))
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(config))
    if errors:
        raise _explain(max(errors, key=_importance), where)
    _check_sources(config, where)
    _check_responses(config["responses"], where)
    _check_training(config, where)
    for backbone in config["grid"]["backbones"]:
        known_backbone(config, backbone, f"{where}: grid.backbones")
    for objective in config["grid"]["objectives"]:
        known_objective(config, objective, f"{where}: grid.objectives")


def _check_sources(config: Settings, where: str) -> None:
    """Sources that are named must exist, and be of a kind that their reader can read."""
    for section in ("responses", "sft"):
        if config[section] is None:
            continue
        source = config[section]["source"]
        if source not in config["sources"]:
            raise InputError(
                f"{where}: {section}.source", f"'{source}'", "a key of sources",
                nearest(source, list(config["sources"])),
            )  # fmt: skip
    kind = config["sources"][config["responses"]["source"]]["kind"]
    judged = {"programmatic": "synthetic", "column": "local"}.get(config["gold"]["kind"], kind)
    if kind != judged:
        raise InputError(
            f"{where}: gold.kind", f"'{config['gold']['kind']}' for a source of kind '{kind}'",
            f"a source of kind '{judged}', or gold of kind 'model'",
        )  # fmt: skip
    if config["sft"] and config["sources"][config["sft"]["source"]]["kind"] == "local":
        raise InputError(
            f"{where}: sft.source", "a source of kind 'local', which has no chats",
            "one of kind 'synthetic' or 'hub'",
        )  # fmt: skip


def _check_responses(responses: Settings, where: str) -> None:
    """Response models must be on one side each, and enough of them on both."""
    where = f"{where}: responses"
    overlap = set(responses["train_models"]) & set(responses["valid_models"])
    if overlap:
        raise InputError(
            where, f"{sorted(overlap)} in train_models and in valid_models",
            "no response model on both sides",
        )  # fmt: skip
    wanted = responses["responses_per_prompt"]
    for side in ("train_models", "valid_models"):
        if len(responses[side]) < wanted:
            raise InputError(
                f"{where}.{side}", f"{len(responses[side])} models",
                f"{wanted} or more (responses.responses_per_prompt)",
            )  # fmt: skip
    for model in responses["generate"]["models"] if responses["generate"] else []:
        if model not in responses["valid_models"]:
            raise InputError(
                f"{where}.generate.models", f"'{model}'", "a model of responses.valid_models",
                nearest(model, responses["valid_models"]),
            )  # fmt: skip


def _check_training(config: Settings, where: str) -> None:
    """Batches must divide, and every backbone must have weights or a way to get them."""
    for section in ("sft", "reward_models"):
        settings = config[section]
        if settings and settings["global_batch"] % settings["micro_batch"]:
            raise InputError(
                f"{where}: {section}.global_batch", f"{settings['global_batch']}",
                f"a multiple of {section}.micro_batch, which is {settings['micro_batch']}",
            )  # fmt: skip
    for name, backbone in config["backbones"].items():
        key, chat = f"{where}: backbones.{name}", backbone["chat"]
        if chat["pad"] == chat["eos"]:
            raise InputError(f"{key}.chat.pad", f"'{chat['pad']}', the EOS", "another token (D22)")
        if backbone["sft"] and not config["sft"]:
            raise InputError(f"{key}.sft", "true", "false, as the section sft is null")
        if backbone["init"]["kind"] == "config" and not backbone["sft"]:
            raise InputError(
                f"{key}.sft", "false", "true, as a model of init.kind 'config' starts untrained"
            )


def _importance(error: Any) -> tuple[int, bool]:
    """Order errors: the outermost first, an unknown key before the missing one that it explains."""
    return -len(error.absolute_path), error.validator == "additionalProperties"


def _explain(error: Any, where: str) -> InputError:
    """Turn one jsonschema error into one line of ours."""
    path = ".".join(str(part) for part in error.absolute_path) or "the top level"
    key = f"{where}: {path}"
    if error.validator == "oneOf":
        return _explain_variants(error, where, key)
    if error.validator == "additionalProperties":
        return _explain_unknown(error, key)
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        fix = "see config/README.md for what it means"
        if not error.absolute_path:
            fix = "an override file goes after its preset: --configfile PRESET OVERRIDE"
        return InputError(key, f"no key '{missing}'", "all of its keys", fix)
    if error.validator == "enum":
        known = [str(value) for value in error.validator_value]
        fix = nearest(error.instance, known) if isinstance(error.instance, str) else ""
        return InputError(key, _shown(error.instance), f"one of {known}", fix)
    fix = ""
    if error.validator == "type" and isinstance(error.instance, str) and _number(error.instance):
        fix = "write a number without quotes, as 1.0e-3 (YAML reads 1e-3 as text)"
    return InputError(key, _shown(error.instance), _expected(error), fix)


def _explain_variants(error: Any, where: str, key: str) -> InputError:
    """Explain a value that fits none of its variants by the one that its `kind` names."""
    if not isinstance(error.instance, dict):
        nullable = {"type": "null"} in error.validator_value
        return InputError(key, _shown(error.instance), "a section" + " or null" * nullable)
    other_kind = [e for e in error.context if list(e.relative_path) == ["kind"]]
    null = [e for e in error.context if e.validator == "type" and not e.relative_path]
    off = {e.relative_schema_path[0] for e in (*other_kind, *null)}
    fitting = [e for e in error.context if e.relative_schema_path[0] not in off]
    if not fitting:
        kinds = [e.validator_value for e in other_kind]
        kind = error.instance["kind"]
        fix = nearest(kind, kinds) if isinstance(kind, str) else ""
        return InputError(f"{key}.kind", _shown(kind), f"one of {kinds}", fix)
    if len({e.relative_schema_path[0] for e in fitting}) > 1:
        return InputError(key, "no key 'kind'", "one", "see config/README.md for the kinds")
    return _explain(max(fitting, key=_importance), where)


def _explain_unknown(error: Any, key: str) -> InputError:
    """Explain a key that its section does not have."""
    known = list(error.schema.get("properties", {}))
    patterns = [re.compile(p) for p in error.schema.get("patternProperties", {})]
    unknown = next(
        name for name in error.instance
        if name not in known and not any(p.search(str(name)) for p in patterns)
    )  # fmt: skip
    if patterns:
        return InputError(key, f"the name '{unknown}'", "letters, digits, '_', '.' and '-' alone")
    kind = error.instance.get("kind")
    of = f"a key of kind '{kind}'" if isinstance(kind, str) else "a key of config/README.md"
    fix = nearest(str(unknown), known) if known else "this section is empty"
    return InputError(key, f"unknown key '{unknown}'", of, fix)


def _expected(error: Any) -> str:
    """Say what a value must be, where jsonschema's own message would repeat the value."""
    value = error.validator_value
    if error.validator == "type":
        names = value if isinstance(value, list) else [value]
        return " or ".join(_TYPES[name] for name in names)
    if error.validator == "pattern" and value == "^[0-9a-f]{40}$":
        return "a commit of 40 hex digits" + " or null" * ("null" in str(error.schema.get("type")))
    words = {
        "minimum": f"{value} or more",
        "maximum": f"{value} or less",
        "exclusiveMinimum": f"more than {value}",
        "minItems": f"{value} or more entries",
        "minProperties": f"{value} or more entries",
        "minLength": "some text",
        "uniqueItems": "no entry twice",
        "const": f"{value!r}",
        "pattern": "letters, digits, '_', '.' and '-' alone",
    }
    return words.get(error.validator, f"{error.validator} {value}")


_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a section",
    "string": "a text",
}


def _number(text: str) -> bool:
    """Whether a text is a number that YAML did not take for one."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value in one short line."""
    return repr(value)[:80]


def known_backbone(config: Settings, name: str, where: str) -> None:
    """Refuse a backbone that the preset does not define."""
    if name not in config["backbones"]:
        raise InputError(
            where, f"backbone '{name}'", f"one of preset '{config['preset']}'",
            nearest(name, list(config["backbones"])),
        )  # fmt: skip


def objective_parts(name: str) -> tuple[str, str]:
    """Split an objective's name into its objective and its weight: `bt-bsr@1e-2`; "" for none."""
    objective, _, weight = name.partition("@")
    return objective, weight


def known_objective(config: Settings, name: str, where: str) -> None:
    """Refuse an objective that does not exist; a weight may follow: `bt-bsr@1e-2`."""
    objective, weight = objective_parts(name)
    known = list(config["reward_models"]["objectives"])
    if objective not in known:
        raise InputError(where, f"objective '{name}'", "a known one", nearest(objective, known))
    if "@" in name:
        positive = re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", weight) and float(weight) > 0
        if objective != "bt-bsr" or not positive:
            raise InputError(
                where,
                f"objective '{name}'",
                "a positive weight after 'bt-bsr@', such as bt-bsr@1e-2",
            )


def reward_model_settings(config: Settings, backbone: str, name: str) -> Settings:
    """Everything that one training of a reward model depends on, besides its data and its seed."""
    settings = {k: v for k, v in config["reward_models"].items() if k not in _GRID_ONLY}
    settings["learning_rate"] = config["backbones"][backbone]["reward_model_learning_rate"]
    objective, weight = objective_parts(name)
    options = dict(config["reward_models"]["objectives"][objective])
    settings["objective"] = objective
    settings["options"] = options | {"weight": float(weight)} if weight else options
    return settings


def backbone_settings(config: Settings, backbone: str) -> Settings:
    """Everything that one backbone depends on, besides its data; `sft` is null without SFT."""
    section = config["backbones"][backbone]
    kept = {name: section[name] for name in ("init", "chat", "keep_layers")}
    return {**kept, "sft": config["sft"] if section["sft"] else None}


_GRID_ONLY = ("objectives", "seeds_per_job")


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
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())[:160]
        raise InputError(path, f"broken YAML ({line})", "a YAML or JSON file") from error
    if not isinstance(found, dict):
        raise InputError(path, _shown(found), "a file of keys and values")
    return Strict(json.loads(json.dumps(found, default=str), object_hook=Strict))


class Strict(Settings):
    """A dict whose missing keys are an InputError, so that hand-written settings are judged."""

    def __missing__(self, key: str) -> Any:
        """Name the missing key."""
        raise InputError("--settings", f"no key '{key}'", "see config/README.md for what it means")
