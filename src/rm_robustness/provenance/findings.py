"""What an audit finds, as lines: the same said of several files is said once."""

from collections.abc import Iterable
from typing import NamedTuple

TITLES = {"wrong": "WRONG", "differs": "Worth knowing", "unproven": "Cannot be proven"}


class Finding(NamedTuple):
    """One thing to know about a file.

    `kind`: bytes or records are `wrong`, something `differs` from today or from what is usual, or
    it is `unproven`.
    """

    kind: str
    path: str
    text: str
    expected: str = ""
    found: str = ""
    repair: str = ""


def brief(findings: Iterable[Finding], *kinds: str) -> list[str]:
    """What was found of some kinds; of many files the first three are named."""
    lines = []
    for kind in kinds:
        said: dict[str, list[str]] = {}
        for each in findings:
            if each.kind == kind:
                said.setdefault(each.text, []).append(each.path)
        lines += [f"{TITLES[kind]}:"] if said else []
        for text, paths in said.items():
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            lines += [f"  {', '.join(paths[:3])}{more}: {text}"]
    return lines


def full(findings: Iterable[Finding]) -> list[str]:
    """Every wrong file with what was expected and found, and the command that repairs it."""
    said: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}
    for each in findings:
        if each.kind == "wrong":
            command, _, target = each.repair.partition(" -- ")
            same = (each.text, each.expected, each.found, command)
            said.setdefault(same, []).append((each.path, target))
    lines = []
    for (text, expected, found, command), files in said.items():
        lines += [*(path for path, _ in files), f"  {text}"]
        lines += [f"  expected {expected}"] if expected else []
        lines += [f"  found    {found}"] if found else []
        targets = " ".join(dict.fromkeys(target for _, target in files if target))
        lines += [f"  repair   {command}" + (f" -- {targets}" if targets else ""), ""]
    return lines
