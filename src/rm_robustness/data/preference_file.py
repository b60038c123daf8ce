"""Preferences of one's own: a jsonl, json or parquet file, read into the columns of a split.

TRL's preference formats, of texts or of conversations, with or without a prompt of their own; lists
of responses with scores; and the columns of this project's splits. Every row is a prompt group of
its own, also where its prompt stands in another row: pairs stay pairs.
"""

import difflib
import gzip
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from ..files import expect
from ..frames import check_texts, read_frame, require_text
from .preference_rows import (
    Response,
    Row,
    identity,
    list_of,
    number_of,
    pair,
    ranked,
    short,
    turns_of,
)
from .splits import COLUMNS, key

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
FORMATS = (COLUMNS, ["prompt", "responses", "scores"], ["chosen", "rejected"])
OPTIONAL = ["prompt", "id", "prompt_id", "models", "earlier"]
NO_TEXT = ["tools", "chat_template_kwargs", "images", "image", "videos", "audios"]  # TRL's
EXPECTED = (
    "the columns chosen and rejected (and prompt, where they do not begin with it); "
    f"or prompt, responses and scores; or {', '.join(COLUMNS)}"
)


def read_preferences(path: Path) -> pd.DataFrame:
    """Read preferences, as `read_responses`, that a reward model can agree with or not.

    Raises InputError also for a prompt with one response, for gold that is no finite number, and
    where gold is tied within every prompt.
    """
    frame = read_responses(path)
    gold = pd.to_numeric(frame["gold"], errors="coerce").astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(gold))
    if len(wrong):
        row = frame.iloc[wrong[0]]
        where = f"{path}, row {wrong[0]}, response {row['response_id']}"
        raise InputError(where, f"gold {row['gold']}", "a finite number")
    groups = gold.groupby(frame["prompt_id"], sort=False)
    alone = groups.size() == 1
    if alone.any():
        more = f", as {alone.sum()} of {len(alone)} prompts have" if alone.sum() > 1 else ""
        raise InputError(f"{path}, prompt {alone.idxmax()}", f"one response{more}", "two or more")
    if (groups.nunique() == 1).all():
        found = "equal gold within every prompt"
        raise InputError(path, found, "a preference in at least one")
    return frame.assign(gold=gold)


def read_responses(path: Path) -> pd.DataFrame:
    """Read responses with prompt_id, response_id, prompt, response, response_model and gold.

    Turns before the last user turn, a system turn too, are in one more column `earlier`, where any
    row has them. Gold is 1 and 0 of a pair, `TIED` of a pair of equals, else the row's scores. Ids
    are the row's `id`, its `prompt_id`, or a hash of its texts; of rows with one prompt_id, or one
    hash, the later ones are numbered. Raises InputError, with the line or row, for what cannot be
    read so.
    """
    if path.is_dir():
        raise InputError(path, "a folder", f"a file, one of {', '.join(ENDINGS)}")
    if not path.name.endswith(ENDINGS):
        fix = "pandas writes one: frame.to_json(path, orient='records', lines=True)"
        raise InputError(path, f"a file *{path.suffix}", f"one of {', '.join(ENDINGS)}", fix)
    expect(path, "a file of preferences")
    if path.suffix == ".parquet":
        with _readable(path, "parquet"):
            columns = list(pq.read_schema(path).names)
        rows = _parquet_rows(path, columns)
        needed = _format_of(columns, path)
        frame = read_frame(path, COLUMNS) if needed is COLUMNS else _grouped(rows, needed)
    else:
        rows = _json_rows(path)
        first = next(rows, None)
        needed = _format_of(list(first[1]), first[0]) if first else COLUMNS
        rows = itertools.chain([first] if first else [], rows)
        frame = _ungrouped(rows) if needed is COLUMNS else _grouped(rows, needed)
    if frame.empty:
        raise InputError(path, "no rows", "a row a pair, or a row a list of responses")
    check_texts(frame, ["response"], f"{path}, ", filled=True)
    twice = frame.duplicated(["prompt_id", "response_id"])
    if twice.any():
        row = int(twice.argmax())
        raise InputError(f"{path}, row {row}", f"a second {frame['response_id'][row]}", "other ids")
    return frame


def _format_of(columns: list[str], where: object) -> list[str]:
    """The columns of the first of `FORMATS` that are all there."""
    for needed in FORMATS:
        if set(needed) <= set(columns):
            return needed
    known = {name for needed in FORMATS for name in needed} | {*OPTIONAL}
    unknown = [name for name in columns if name not in known]
    near = ((name, difflib.get_close_matches(name, known - {*columns}, 1)) for name in unknown)
    fix = "; ".join(f"is {name!r} {match[0]!r}?" for name, match in near if match)
    raise InputError(where, f"the columns {', '.join(columns) or 'of no name'}", EXPECTED, fix)


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[tuple[str, Row]]:
    """Rows of a parquet file, those columns that are read, each with its place."""
    read = [name for needed in (*FORMATS, OPTIONAL, NO_TEXT) for name in needed]
    with _readable(path, "parquet"):
        table = pq.read_table(path, columns=[name for name in columns if name in read])
    number = itertools.count()
    for batch in table.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            yield f"{path}, row {next(number)}", row


def _json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Rows of a file of JSON lines, or of one JSON list, each with its place."""
    with _readable(path, "text in UTF-8"):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8-sig")  # with or without a byte-order mark
    if text.lstrip().startswith("["):
        values = _parsed(text, str(path), "a whole JSON list")
        places = ((f"{path}, row {number}", value) for number, value in enumerate(values))
    else:  # not splitlines: a text may have other separators of lines in it
        lines = ((f"{path}, line {n}", line) for n, line in enumerate(text.split("\n"), 1))
        places = (
            (where, _parsed(line, where, "a row in JSON on each line"))
            for where, line in lines
            if line.strip()
        )
    for where, value in places:
        if not isinstance(value, dict):
            raise InputError(where, f"{short(value)}", "an object with the columns of a row")
        yield where, value


def _parsed(text: str, where: str, expected: str) -> Any:
    """The value of a JSON text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"broken JSON ({error})", expected) from None


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises for a file that is cut or of another kind into an InputError.

    The kinds of errors are those of gzip, of text and of parquet.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, pa.ArrowException) as error:
        found = f"unreadable {kind} ({' '.join(str(error).split())[:200]})"
        raise InputError(path, found, f"a whole {kind} file") from error


def _ungrouped(rows: Iterator[tuple[str, Row]]) -> pd.DataFrame:
    """Responses of rows that have the columns of a split."""
    cells = []
    for where, row in rows:
        _require(row, COLUMNS, where)
        texts = [require_text(row[name], name, where) for name in ("prompt", "response_model")]
        response = require_text(row["response"], "response", where, filled=True)
        earlier = list_of(row.get("earlier") or [], "earlier", where)
        cells.append(
            {
                **{name: identity(row[name], name, where) for name in COLUMNS[:2]},
                **dict(zip(COLUMNS[2:], [texts[0], response, texts[1]], strict=False)),
                "gold": number_of(row["gold"], "gold", where),
                "earlier": turns_of(earlier, "earlier", "user", where) if earlier else [],
            }
        )
    return _frame(cells)


def _grouped(rows: Iterator[tuple[str, Row]], columns: list[str]) -> pd.DataFrame:
    """Responses of rows that are a pair, or a list, of responses each."""
    cells, seen = [], Counter[str]()
    for where, row in rows:
        _require(row, columns, where)
        responses = pair(row, where) if "chosen" in columns else ranked(row, where)
        prompt_id, unique = _group_id(row, responses, where)
        seen[prompt_id] += 1
        if seen[prompt_id] > 1 and unique:
            raise InputError(where, f"a second id {prompt_id}", "an id of its own in every row")
        prompt_id += f"#{seen[prompt_id]}" if seen[prompt_id] > 1 else ""
        for number, (turns, model, gold) in enumerate(responses, 1):
            name = model if "chosen" in columns else str(number)
            *earlier, prompt, response = turns
            values = prompt_id, f"{prompt_id}-{name}", prompt["content"], response["content"]
            cells.append(
                dict(zip(COLUMNS, [*values, model, gold], strict=True)) | {"earlier": earlier}
            )
    return _frame(cells)


def _frame(cells: list[Row]) -> pd.DataFrame:
    """A frame of responses, with the column `earlier` where any row has turns in it."""
    frame = pd.DataFrame(cells, columns=[*COLUMNS, "earlier"])
    return frame if frame["earlier"].map(len).any() else frame[COLUMNS]


def _require(row: Row, columns: list[str], where: str) -> None:
    """Refuse a row without one of the columns, and one with more than texts."""
    missing = [name for name in columns if name not in row]
    if missing:
        raise InputError(where, f"the columns {', '.join(row)}", f"also {', '.join(missing)}")
    given = [name for name in NO_TEXT if row.get(name)]
    if given:
        found, expected = f"{given[0]} {short(row[given[0]])}", "a chat of texts alone"
        raise InputError(where, found, expected, "leave such rows out: a template would read it")


def _group_id(row: Row, responses: list[Response], where: str) -> tuple[str, bool]:
    """The id of a row, and whether it may stand in no other row."""
    for name in ("id", "prompt_id"):
        if name in row:
            return identity(row[name], name, where), name == "id"
    parts = [part for turns, model, gold in responses for part in (turns, model, gold)]
    return key(json.dumps(parts)), False
