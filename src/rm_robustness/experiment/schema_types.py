"""Texts of a configuration as the types that the schema wants: numbers, true or false, null.

Snakemake reads nested values of `--config` as texts, and YAML 1.1 reads 1e-3 as one. A text becomes
another type only where the schema allows no text; null also where it allows both.
"""

import re
from typing import Any

from .config import Settings

_NUMBER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?")


def as_schema_types(config: Settings, schema: Settings) -> Settings:
    """Convert a configuration's texts by its schema; what does not fit stays, for the check."""
    converted = _typed(config, schema, schema["$defs"])
    return config if not isinstance(converted, dict) else converted


def _typed(value: Any, schema: Settings, definitions: Settings) -> Any:
    """Convert a value by its part of the schema."""
    schema = _resolved(schema, definitions)
    variants = [_resolved(variant, definitions) for variant in schema.get("oneOf", [])]
    if isinstance(value, str):
        types = [name for part in [schema, *variants] for name in _types(part)]
        return _from_text(value, types)
    if isinstance(value, list):
        return [_typed(item, schema.get("items", {}), definitions) for item in value]
    if isinstance(value, dict):
        fitting = [variant for variant in variants if _is_of(value, variant)]
        below = fitting[0] if fitting else schema
        return {k: _typed(v, _below(below, k), definitions) for k, v in value.items()}
    return value


def _resolved(schema: Settings, definitions: Settings) -> Settings:
    """The part of the schema that a reference names."""
    if "$ref" not in schema:
        return schema
    found: Settings = definitions[schema["$ref"].rpartition("/")[2]]
    return found


def _types(schema: Settings) -> list[str]:
    """The types that a part of the schema allows; a choice of texts is of texts."""
    types = schema.get("type", [])
    return types if isinstance(types, list) else [types]


def _is_of(section: Settings, variant: Settings) -> bool:
    """Whether a section is of a variant: of its `kind`, where the variant has one."""
    kinds = variant.get("properties", {}).get("kind", {})
    return "object" in _types(variant) and kinds.get("const") in (None, section.get("kind"))


def _below(schema: Settings, key: Any) -> Settings:
    """The part of the schema of a key."""
    if key in schema.get("properties", {}):
        return dict(schema["properties"][key])
    for pattern, part in schema.get("patternProperties", {}).items():
        if re.search(pattern, str(key)):
            return dict(part)
    further = schema.get("additionalProperties", False)
    return dict(further) if isinstance(further, dict) else {}


def _from_text(text: str, types: list[str]) -> Any:
    """Convert a text to the first of some types that it can be; itself if there is none."""
    if "null" in types and text == "null":
        return None
    if not types or "string" in types:
        return text
    if "boolean" in types and text in ("true", "false"):
        return text == "true"
    if "integer" in types and re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    if "number" in types and _NUMBER.fullmatch(text):
        return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    return text
