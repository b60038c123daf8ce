import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rm_robustness.errors import InputError
from rm_robustness.frames import check_texts, read_frame, require_text, write_frame

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


# Texts that people's data have: what is no text is one line with its row

GOOD = ["plain", "a\x00b", "", "  \n", "\u202eright to left א", "👩\u200d💻", "\ufffd"]


def test_odd_characters_and_empty_texts_are_texts(tmp_path):
    write_frame(pd.DataFrame({"prompt": GOOD}), tmp_path / "a.parquet")
    assert read_frame(tmp_path / "a.parquet", ["prompt"])["prompt"].tolist() == GOOD


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "response None"),
        (float("nan"), "response nan"),
        (3, "response 3"),
        (b"bytes", "response b'bytes'"),
        (["a", "b"], r"response \['a', 'b'\]"),
        ("cut in an emoji \ud83d", r"half of a surrogate pair, U\+D83D at character 16"),
        ("\ude00 low", r"half of a surrogate pair, U\+DE00 at character 0"),
    ],
)
def test_what_is_no_text_is_one_line_with_row_and_name(value, found):
    frame = pd.DataFrame({"response_id": ["r0", "r1", "r2"], "response": ["a", value, value]})
    with pytest.raises(InputError, match=rf"data, row 1, response r1: found .*{found}") as caught:
        check_texts(frame, ["response"], "data, ")
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000\xa0"])
def test_a_blank_text_is_refused_where_one_is_needed(blank):
    assert require_text(blank, "response", "x") == blank
    with pytest.raises(InputError, match="x: found an empty response; expected some text"):
        require_text(blank, "response", "x", filled=True)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array(["a", None]),
        pa.array([["a"], ["b"]]),
        pa.array([b"\xed\xa0\xbd", b"b"]),
    ],
)
def test_a_parquet_whose_prompts_are_no_texts_is_refused_by_file_and_row(tmp_path, column):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"prompt": column}), path)
    with pytest.raises(InputError, match=r"data\.parquet, row [01]: found prompt"):
        read_frame(path, ["prompt"])
    assert len(read_frame(path)) == 2


def test_a_parquet_whose_text_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "data.parquet"
    data = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"\xed\xa0\xbd")]
    )
    pq.write_table(pa.table({"prompt": data}), path)
    with pytest.raises(InputError, match=r"data\.parquet: found unreadable parquet"):
        read_frame(path, ["prompt"])
