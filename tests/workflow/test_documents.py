"""Documents and docstrings agree with the code: names, links, keys, deviations, list of files."""

import ast
import fnmatch
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.paths import ROOT
from support.presets import parsed

PACKAGE = ROOT / "src" / "rm_robustness"
SOURCES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])
CONFIG = ROOT / "config" / "README.md"
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
PRESETS = ("demo", "small", "paper")
SUFFIXES = set(["csv", "html", "json", "jsonl", "lock", "md", "parquet", "py", "smk", "yaml"])
TEXTS = [*DOCUMENTS, *SOURCES]


def from_root(path: Path) -> str:
    return str(path.relative_to(ROOT))


def schema_keys(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every dotted path that the schema allows, `*` for a free name."""
    if "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    for variant in node.get("oneOf", []):
        yield from schema_keys(variant, path)
    named = [*node.get("properties", {}).items()]
    named += [("*", part) for part in node.get("patternProperties", {}).values()]
    for name, part in named:
        below = f"{path}.{name}" if path else name
        yield below
        yield from schema_keys(part, below)


def preset_keys(node: Any, path: str = "") -> Iterator[str]:
    """Every dotted path of a preset."""
    for name, part in node.items() if isinstance(node, dict) else ():
        yield f"{path}{name}"
        yield from preset_keys(part, f"{path}{name}.")


KEYS = set(schema_keys(SCHEMA))
USED = {key for name in PRESETS for key in preset_keys(parsed(name))}


@cache
def module_names() -> dict[str, set[str]]:
    """What the modules of each name define at the top, `Class.member` too, and their modules."""
    names: dict[str, set[str]] = {}
    for path in SOURCES:
        module = path.parent if path.stem == "__init__" else path.with_suffix("")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names.setdefault(module.name, set()).update(defined(tree))
        names.setdefault(module.parent.name, set()).add(module.name)
    return names


def defined(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for part in node.body:
        match part:
            case ast.FunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield from (name, *(f"{name}.{member}" for member in defined(part)))
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def quoted_names(text: str) -> list[str]:
    """Every dotted name in backticks whose first part is a section of the schema or a module."""
    names = re.findall(r"`([a-z_]\w*\.[\w.*/-]+)(?:\([^`]*\))?`", text)
    known = SCHEMA["properties"].keys() | module_names().keys()
    return [
        name
        for name in names
        if name.partition(".")[0] in known and name.rpartition(".")[2] not in SUFFIXES
    ]


def is_defined(name: str) -> bool:
    """Whether `module.name`, or `package.module.name`, is in the package."""
    module, _, rest = name.partition(".")
    names = module_names().get(module, set())
    return rest in names or (rest.partition(".")[0] in names and is_defined(rest))


def unknown_names(text: str) -> list[str]:
    """The quoted names that are neither keys of the configuration nor defined in a module."""
    return [
        name
        for name in quoted_names(text)
        if not (fnmatch.filter(KEYS | USED, name) or is_defined(name))
    ]


@pytest.mark.parametrize("path", TEXTS, ids=from_root)
def test_every_dotted_name_in_backticks_is_a_configuration_key_or_is_defined(path):
    assert unknown_names(path.read_text(encoding="utf-8")) == []


def test_a_misspelt_key_and_a_function_that_is_not_there_are_seen():
    known = "`statistics.seed_mean`, `synthetic.rm_bench.write(1)`, `splits.seed`, `record.json`"
    assert unknown_names(f"{known}, `backbones.*.chat.eos`, `sources.world`, `trl.X`") == []
    wrong = "`splits.sed`, `statistics.sed_mean`, `scoring.score_ids.x`, `backbones.*.chat.eso`"
    assert unknown_names(wrong) == re.findall("`(.+?)`", wrong)
    assert sum(len(quoted_names(path.read_text(encoding="utf-8"))) for path in DOCUMENTS) > 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=from_root)
def test_every_relative_link_leads_to_a_file(path):
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    files = [target.partition("#")[0] for target in targets if "://" not in target]
    assert [name for name in files if name and not (path.parent / name).exists()] == []


def test_every_module_that_is_named_by_its_path_exists():
    commented = [*ROOT.glob("config/**/*.yaml"), *ROOT.glob("workflow/**/*.*"), ROOT / "dvc.yaml"]
    named = {
        (from_root(path), name)
        for path in [*TEXTS, *commented]
        for name in re.findall(r"(?:`|\bsrc/)(\w+/[\w/]+\.py)\b", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    roots = (ROOT, ROOT / "src", PACKAGE)
    missing = [pair for pair in named if not any((root / pair[1]).is_file() for root in roots)]
    assert sorted(missing) == []


@pytest.mark.parametrize("path", TEXTS, ids=from_root)
def test_nothing_cites_a_specification_that_is_not_in_the_repository(path):
    assert re.findall(r".*\bSPEC\b.*", path.read_text(encoding="utf-8")) == []


def test_every_key_of_the_schema_has_a_row_in_the_readme():
    text = CONFIG.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| [^|]", text, flags=re.MULTILINE)
    assert sorted(KEYS - set(rows)) == []
    assert sorted(set(rows) - KEYS) == []
    assert len(rows) == len(set(rows))


def values_at(node: Any, path: list[str]) -> list[Any]:
    """The values of a dotted path in a preset, `*` standing for every name."""
    if not path:
        return [node]
    if not isinstance(node, dict):
        return []
    names = node if path[0] == "*" else [path[0]] if path[0] in node else []
    return [value for name in names for value in values_at(node[name], path[1:])]


def test_the_values_that_the_readme_quotes_are_the_presets():
    rows = re.findall(
        r"^\| `([^`]+)` \|.*\| ([^|]+) \|$", CONFIG.read_text(encoding="utf-8"), re.MULTILINE
    )
    compared = 0
    for key, cell in rows:
        quoted = cell.split(" / ")
        if len(quoted) not in (1, len(PRESETS)):
            continue
        for number, name in enumerate(PRESETS):
            values = values_at(parsed(name), key.split("."))
            plain = values and not isinstance(values[0], dict | list | str)
            word = values and isinstance(values[0], str) and re.fullmatch("[a-z_]+", values[0])
            if not (plain or word) or any(value != values[0] for value in values):
                continue
            value = quoted[number % len(quoted)]
            assert yaml.safe_load(value) == values[0], f"{key} of {name}: README has {value}"
            compared += 1
    assert compared > 100


def test_every_deviation_that_is_named_is_explained():
    text = (ROOT / "docs/DEVIATIONS.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| (D\d+) \|", text, flags=re.MULTILINE))
    assert explained == {f"D{n}" for n in range(1, 51)}
    for folder in ("src", "config", "workflow"):
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.suffix in (".py", ".yaml", ".md", ".smk"):
                named = set(re.findall(r"\bD\d+\b", path.read_text(encoding="utf-8")))
                assert named <= explained, path


def file_line(path: Path) -> str:
    """A file's line in docs/ARCHITECTURE.md: its path, the first sentence of its docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<=[.?])\s", " ".join(docstring.partition("\n\n")[0].split()))[0]
    return f"- `{path.relative_to(PACKAGE)}`: {sentence}"


def listed_files() -> list[str]:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition("\n## Every file\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("- `")]


def test_the_architecture_has_one_line_for_every_file():
    lines = [file_line(path) for path in SOURCES if path.stat().st_size]
    assert sorted(listed_files()) == sorted(lines), "write this:\n\n" + "\n".join(lines)
