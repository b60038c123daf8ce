"""Data frames as parquet and csv files, whole or absent, and checks of the texts in them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError
from .files import atomic_write, expect

TEXTS = ("prompt", "response", "reference")  # columns of people's texts


def read_frame(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a parquet file; name the file and what is missing when it is not what it should be.

    Those of `columns` that are `TEXTS` must hold texts in every row; a text may be empty.
    """
    expect(path, "a parquet file")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(path, f"unreadable parquet ({error})", "a whole parquet file") from error
    missing = [column for column in columns or [] if column not in frame]
    if missing:
        raise InputError(path, f"columns {list(frame)}", f"also the columns {missing}")
    check_texts(frame, [name for name in columns or [] if name in TEXTS], f"{path}, ")
    return frame


def check_texts(
    frame: pd.DataFrame, columns: Iterable[str], where: str = "", *, filled: bool = False
) -> None:
    """Check every row of some columns with `require_text`; an error has the row, after `where`."""
    for column in columns:
        for row, value in enumerate(frame[column]):
            try:
                require_text(value, column, where, filled=filled)
            except InputError as error:
                ids = [name for name in ("response_id", "example_id", "prompt_id") if name in frame]
                named = [f"{name[:-3]} {frame[name].iloc[row]}" for name in ids[:1]]
                place = ", ".join([f"{where}row {row}", *named])
                raise InputError(place, error.found, error.expected, error.fix) from None


def require_text(value: Any, name: str, where: str, *, filled: bool = False) -> str:
    """Return a text that UTF-8 can encode and, if `filled`, is not blank; else InputError."""
    if not isinstance(value, str):
        raise InputError(where, f"{name} {' '.join(repr(value).split())[:40]}", f"a text `{name}`")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(value[error.start]):04X} at character {error.start}"
        found = f"{name} with half of a surrogate pair, {half}"
        fix = "the text was cut within a character: remove that half"
        raise InputError(where, found, "a text that UTF-8 can encode", fix) from None
    if filled and not value.strip():
        raise InputError(where, f"an empty {name}", "some text")
    return value


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file, whole or not at all; equal frames give equal bytes.

    On any version of pandas: without its own metadata, in which its version stands, and with one
    type for text.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [
        field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
        for field in table.schema
    ]
    table = table.cast(pa.schema(fields))
    with atomic_write(path) as draft:
        pq.write_table(table, draft, compression="zstd", compression_level=9)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a csv with a header, such as `write_csv` wrote."""
    expect(path, "a csv file")
    return pd.read_csv(path)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a csv, whole or not at all; an unmeasured number is an empty cell."""
    with atomic_write(path) as draft:
        frame.to_csv(draft, index=False, lineterminator="\n", float_format="%.10g")
