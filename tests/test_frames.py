import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from rm_robustness.frames import read_frame, write_frame

FRAME = pd.DataFrame(
    {
        "text": ["a", None, "ü"],
        "number": [0.1, np.nan, -3.0],
        "count": np.array([1, 2, 3], np.int64),
        "flag": [True, False, True],
        "turns": [[{"role": "user", "content": "x"}], [], [{"role": "user", "content": "y"}]],
    },
    index=[7, 3, 5],
)


def test_a_frame_is_read_back_without_its_index(tmp_path):
    write_frame(FRAME, tmp_path / "frame.parquet")
    read = read_frame(tmp_path / "frame.parquet")
    read["turns"] = read["turns"].map(list)
    pd.testing.assert_frame_equal(read, FRAME.reset_index(drop=True))


def test_the_bytes_depend_on_no_version_of_pandas(tmp_path):
    """pandas 2 and 3 hold text in different types, and put their version into the file."""
    for name, dtype in (("two", object), ("three", "string[pyarrow]")):
        write_frame(FRAME.astype({"text": dtype}), tmp_path / f"{name}.parquet")
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "three.parquet").read_bytes()
    schema = pq.read_schema(tmp_path / "three.parquet")
    assert not schema.metadata
    assert schema.field("text").type == "string"
