"""Data frames as parquet and csv files, whole or absent."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError
from .files import atomic_write, expect


def read_frame(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a parquet file; name the file and what is missing when it is not what it should be."""
    expect(path, "a parquet file")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(path, f"unreadable parquet ({error})", "a whole parquet file") from error
    missing = [column for column in columns or [] if column not in frame]
    if missing:
        raise InputError(path, f"columns {list(frame)}", f"also the columns {missing}")
    return frame


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
