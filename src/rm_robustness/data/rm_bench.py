"""RM-Bench: prompts with three chosen and three rejected responses, one of each in each style."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ..errors import InputError
from ..experiment.config import Settings
from ..experiment.scenarios import RM_BENCH_DOMAINS as DOMAINS
from ..experiment.scenarios import RM_BENCH_KINDS as KINDS
from ..experiment.scenarios import RM_BENCH_STYLES as STYLES
from ..files import read_json
from ..frames import require_text
from .git_checkout import checkout, only, require_commit
from .hub_errors import explained
from .hub_files import require_sum
from .synthetic import rm_bench as synthetic

COLUMNS = [
    *("prompt_id", "response_id", "prompt", "response", "response_model", "gold"),
    *("domain", "style", "kind"),
]
TOTAL = "total_dataset.json"


def responses(settings: Settings, folder: Path) -> pd.DataFrame:
    """Read the benchmark of a source with `read_benchmark`; downloads go into `folder`.

    `settings` is a source of kind `local` (a path, or a checkout of THU-KEG/RM-Bench; keys of
    `git_checkout.checkout`), `hub` (a data set repository: `repo`, `revision`, a commit) or
    `synthetic` (`synthetic.rm_bench.write` with `seed` and `subtle_prompts` prompts a domain).
    Of the domains `parts` the first `prompts` each in a fixed order; all of what is null or absent.
    """
    return sample(_whole(settings, folder), settings.get("parts"), settings.get("prompts"))


def _whole(settings: Settings, folder: Path) -> pd.DataFrame:
    parts = settings.get("parts") or DOMAINS
    if settings["kind"] == "local":
        return read_benchmark(checkout(only(settings, parts), folder / "checkout" / "rm_bench"))
    if settings["kind"] == "synthetic":
        with TemporaryDirectory() as files:
            synthetic.write(settings["seed"], settings["subtle_prompts"], Path(files))
            return read_benchmark(Path(files))
    return read_benchmark(_download(settings["repo"], settings["revision"]))


def sample(frame: pd.DataFrame, parts: list[str] | None, prompts: int | None) -> pd.DataFrame:
    """The rows of some domains, and of each the first `prompts` by a hash of their prompt_id.

    So which prompts are taken depends on no other row. Raises InputError for a domain without rows.
    """
    for part in parts or []:
        if part not in set(frame["domain"]):
            raise InputError("rm_bench.parts", f"no prompts of '{part}'", "a domain of the source")
    frame = frame[frame["domain"].isin(parts)] if parts else frame
    ids = frame[["domain", "prompt_id"]].drop_duplicates()
    hashes = ids["prompt_id"].map(lambda name: sha256(str(name).encode()).hexdigest())
    taken = (
        ids.assign(order=hashes).sort_values("order").groupby("domain").head(prompts or len(ids))
    )
    return frame[frame["prompt_id"].isin(taken["prompt_id"])].reset_index(drop=True)


def _download(repo: str, revision: str) -> Path:
    """Download a data set repository's JSON files into the hub's cache; return their folder."""
    require_commit(revision, repo)
    # Importing it takes a second, and the other kinds do not need it.
    import huggingface_hub

    where = f"{repo} at {revision}"
    with explained(where, "no readable data set"):
        folder = Path(
            huggingface_hub.snapshot_download(
                repo, repo_type="dataset", revision=revision, allow_patterns="*.json"
            )
        )
    for path in sorted(folder.rglob("*.json")):
        require_sum(path, f"{where}: {path.relative_to(folder)}")
    return folder


def read_benchmark(folder: Path) -> pd.DataFrame:
    """Read upstream's JSON files, in `folder` or its sub-folder `data`, into a scorable frame.

    The files are `{domain}_filtered.json`, or, when none of them is there, `total_dataset.json`,
    whose rows name their domain. Six rows a prompt, chosen before rejected, both in the order
    concise, detailed, markdown: `COLUMNS`, with prompt_id `{domain}-{id}`, response_model
    `{kind}-{style}` and gold 1 for chosen, 0 for rejected. A missing file is a missing domain.
    Raises `InputError` with file and row when no file is there, for broken JSON, an unknown
    domain, a missing field, an id twice in a domain, and anything but three texts a kind. An empty
    text is refused too, because an empty response cannot be scored; upstream has none.
    """
    home = folder / "data" if (folder / "data").is_dir() else folder
    rows: list[tuple[str, str, str, str, str, float, str, str, str]] = []
    first: dict[str, str] = {}
    for where, domain, row in _raw_rows(home):
        prompt_id = f"{domain}-{_identity(row, where)}"
        if prompt_id in first:
            raise InputError(where, f"the id of {first[prompt_id]} again", "each id once a domain")
        first[prompt_id] = where
        prompt = _text(row.get("prompt"), "prompt", where)
        for kind, gold in zip(KINDS, (1.0, 0.0), strict=True):
            for style, text in zip(STYLES, _texts(row, kind, where), strict=True):
                model = f"{kind}-{style}"
                response_id = f"{prompt_id}-{model}"
                rows.append(
                    (prompt_id, response_id, prompt, text, model, gold, domain, style, kind)
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def _raw_rows(home: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (file and row as a text, domain, row), domain by domain."""
    paths = {domain: home / f"{domain}_filtered.json" for domain in DOMAINS}
    present = {domain: path for domain, path in paths.items() if path.is_file()}
    for domain, path in present.items():
        yield from ((where, domain, row) for where, row in _numbered(path))
    if present:
        return
    if not (home / TOTAL).is_file():
        expected = f"{TOTAL} or some of {[path.name for path in paths.values()]}"
        raise InputError(home, "no file of RM-Bench", expected, "fetch it again, or correct `path`")
    whole = list(_numbered(home / TOTAL))
    for where, row in whole:
        if row.get("domain") not in DOMAINS:
            raise InputError(where, f"domain {row.get('domain')!r}", f"one of {list(DOMAINS)}")
    for domain in DOMAINS:
        yield from ((where, domain, row) for where, row in whole if row["domain"] == domain)


def _numbered(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a file's rows, each with its name for an error."""
    raw_rows = read_json(path)
    if not isinstance(raw_rows, list) or not raw_rows:
        raise InputError(path, type(raw_rows).__name__, "a list with a row per prompt")
    for number, row in enumerate(raw_rows):
        where = f"{path} row {number}"
        if not isinstance(row, dict):
            raise InputError(where, repr(row)[:40], "an object with id, prompt, chosen, rejected")
        yield where, row


def _identity(row: dict[str, Any], where: str) -> str:
    """Return the id of a row as a text."""
    value = row.get("id")
    if not isinstance(value, int | str) or isinstance(value, bool) or value == "":
        raise InputError(where, f"id {value!r}", "a number or a text")
    return require_text(str(value), "id", where)


def _texts(row: dict[str, Any], kind: str, where: str) -> list[str]:
    """Return the three texts of a kind."""
    texts, expected = row.get(kind), f"{len(STYLES)} texts ({', '.join(STYLES)})"
    if not isinstance(texts, list):
        raise InputError(where, f"{kind} {texts!r:.40}", expected)
    if len(texts) != len(STYLES):
        raise InputError(where, f"{len(texts)} texts in {kind}", expected)
    return [_text(text, f"{kind} {i}", where) for i, text in enumerate(texts)]


def _text(value: Any, name: str, where: str) -> str:
    """Return a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(where, f"{name} {value!r:.40}", "a text that is not empty")
    return require_text(value, name, where)
