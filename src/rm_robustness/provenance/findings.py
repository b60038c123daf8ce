"""Findings of an audit, and their text: one line for all files with the same finding."""

from collections.abc import Iterable
from typing import NamedTuple

TITLES = {"mismatch": "MISMATCH", "note": "Notes", "unverified": "Unverified"}


class Finding(NamedTuple):
    """One finding about a file.

    `kind`: `mismatch` (bytes or records disagree), `note` (differs from the current config, code or
    environment, which is no error), or `unverified` (cannot be checked here).
    """

    kind: str
    path: str
    text: str
    expected: str = ""
    found: str = ""
    repair: str = ""


class Findings(list[Finding]):
    """Findings in the order of the checks."""

    def mismatch(
        self, path: str, text: str, repair: str, expected: str = "", found: str = ""
    ) -> None:
        """Add a mismatch with the records, and the command that repairs it."""
        self.append(Finding("mismatch", path, text, expected, found, repair))

    def note(self, path: str, text: str) -> None:
        """Add a difference that is no error."""
        self.append(Finding("note", path, text))

    def unverified(self, path: str, text: str) -> None:
        """Add what cannot be checked, and why."""
        self.append(Finding("unverified", path, text))

    def mismatched(self) -> set[str]:
        """The files and records with a mismatch."""
        return {finding.path for finding in self if finding.kind == "mismatch"}


def summary(findings: Iterable[Finding], *kinds: str) -> list[str]:
    """Lines of the findings of some kinds; of many files the first three are named."""
    lines = []
    for kind in kinds:
        paths_of: dict[str, list[str]] = {}
        for finding in findings:
            if finding.kind == kind:
                paths_of.setdefault(finding.text, []).append(finding.path)
        lines += [f"{TITLES[kind]}:"] if paths_of else []
        for text, paths in paths_of.items():
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            lines += [f"  {', '.join(paths[:3])}{more}: {text}"]
    return lines


def details(findings: Iterable[Finding]) -> list[str]:
    """Every mismatch with what was expected and found, and the command that repairs it."""
    alike: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}
    for finding in findings:
        if finding.kind == "mismatch":
            command, _, target = finding.repair.partition(" -- ")
            same = (finding.text, finding.expected, finding.found, command)
            alike.setdefault(same, []).append((finding.path, target))
    lines = []
    for (text, expected, found, command), files in alike.items():
        lines += [*(path for path, _ in files), f"  {text}"]
        lines += [f"  expected {expected}"] if expected else []
        lines += [f"  found    {found}"] if found else []
        targets = " ".join(dict.fromkeys(target for _, target in files if target))
        lines += [f"  repair   {command}" + (f" -- {targets}" if targets else ""), ""]
    return lines
