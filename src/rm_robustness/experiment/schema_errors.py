"""Errors of jsonschema as one readable line: key, found, expected, fix."""

import re
from typing import Any

from ..errors import InputError
from .config import nearest


def explain(errors: list[Any], where: str) -> InputError:
    """Convert the most specific of jsonschema's errors to an InputError."""
    return _explain(max(errors, key=_priority), where)


def _priority(error: Any) -> tuple[int, bool]:
    """Sort key: outermost errors first, an unknown key before the missing key that it explains."""
    return -len(error.absolute_path), error.validator == "additionalProperties"


def _explain(error: Any, where: str) -> InputError:
    """Convert one jsonschema error to an InputError."""
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
        allowed = [str(value) for value in error.validator_value]
        fix = nearest(error.instance, allowed) if isinstance(error.instance, str) else ""
        return InputError(key, _shown(error.instance), f"one of {allowed}", fix)
    return InputError(key, _shown(error.instance), _expected(error))


def _explain_variants(error: Any, where: str, key: str) -> InputError:
    """Explain a value that matches no `oneOf` variant by the variant that its `kind` selects."""
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
    return _explain(max(fitting, key=_priority), where)


def _explain_unknown(error: Any, key: str) -> InputError:
    """Explain an unknown key."""
    allowed = list(error.schema.get("properties", {}))
    patterns = [re.compile(p) for p in error.schema.get("patternProperties", {})]
    unknown = next(
        name
        for name in error.instance
        if name not in allowed and not any(p.search(str(name)) for p in patterns)
    )
    if patterns:
        plain = "letters, digits, '_', '.' and '-' alone"
        return InputError(key, f"the name '{unknown}'", error.schema.get("description", plain))
    kind = error.instance.get("kind")
    expected = f"a key of kind '{kind}'" if isinstance(kind, str) else "a key of config/README.md"
    fix = nearest(str(unknown), allowed) if allowed else "this section is empty"
    return InputError(key, f"unknown key '{unknown}'", expected, fix)


def _expected(error: Any) -> str:
    """Describe the allowed values, shorter than jsonschema's message, which repeats the value."""
    value = error.validator_value
    if error.validator == "type":
        names = value if isinstance(value, list) else [value]
        return " or ".join(_TYPES[name] for name in names)
    if error.validator == "pattern" and value == "^[0-9a-f]{40}$":
        return "a commit of 40 hex digits" + " or null" * ("null" in str(error.schema.get("type")))
    if error.validator == "pattern" and value == "^[0-9a-f]{64}$":
        return "a sha256 of 64 hex digits"
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


def _shown(value: Any) -> str:
    """Representation of a value, at most 80 characters."""
    return repr(value)[:80]
