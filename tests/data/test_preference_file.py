"""Preferences of one's own: every format gives one frame, and every bad row one line."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.paths import ROOT

from rm_robustness.data.preference_file import read_preferences, read_responses
from rm_robustness.data.preference_rows import pair
from rm_robustness.data.splits import COLUMNS
from rm_robustness.errors import InputError

PAIR = {"prompt": "What is the sky?", "chosen": "It is blue.", "rejected": "It is green."}
RANKED = {"prompt": "What is the sky?", "responses": ["blue", "green", "no"], "scores": [3, 1.5, 0]}
SPLIT = dict(zip(COLUMNS, ["p", "r1", "question", "answer", "m", 1.0], strict=True))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def write(folder: Path, rows: list, ending: str = ".jsonl") -> Path:
    path = folder / f"own{ending}"
    if ending == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
        return path
    lines = ending.startswith(".jsonl")
    text = "".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows, indent=1)
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())
    return path


def read(folder: Path, rows: list, ending: str = ".jsonl") -> pd.DataFrame:
    return read_preferences(write(folder, rows, ending))


def test_a_pair_is_two_rows_with_gold_one_and_zero(tmp_path):
    frame = read(tmp_path, [PAIR | {"id": 7}])
    assert frame.to_dict("list") == {
        "prompt_id": ["7", "7"],
        "response_id": ["7-chosen", "7-rejected"],
        "prompt": ["What is the sky?"] * 2,
        "response": ["It is blue.", "It is green."],
        "response_model": ["chosen", "rejected"],
        "gold": [1.0, 0.0],
    }


def test_a_list_has_its_scores_as_gold_and_may_have_any_length(tmp_path):
    other = {"prompt": "2 + 2?", "responses": ["4", "5"], "scores": [1, 0], "models": ["a", "b"]}
    frame = read(tmp_path, [RANKED | {"models": None}, other])
    assert list(frame["gold"]) == [3, 1.5, 0, 1, 0]
    models = ["response-1", "response-2", "response-3", "a", "b"]
    assert list(frame["response_model"]) == models
    assert frame["prompt_id"].nunique() == 2 and frame["response_id"].is_unique
    chats = [[assistant(text)] for text in RANKED["responses"]]
    turns = RANKED | {"prompt": [user(RANKED["prompt"])], "responses": chats}
    assert list(read(tmp_path, [turns])["response"]) == RANKED["responses"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
answers = texts.filter(str.strip)
exchanges = st.lists(st.tuples(texts, texts), max_size=2)
pairs = st.lists(
    st.tuples(st.none() | texts, exchanges, texts, answers, answers), min_size=1, max_size=3
)


@settings(max_examples=25, deadline=None)
@given(pairs)
def test_every_format_gives_the_same_frame(tmp_path_factory, drawn):
    """A system turn, earlier exchanges, a prompt and its two answers, in all formats that fit."""
    folder = tmp_path_factory.mktemp("formats")
    assume(any(chosen != rejected for *_, chosen, rejected in drawn))
    explicit, implicit, repeated, split = [], [], [], []
    for number, (system, earlier, prompt, chosen, rejected) in enumerate(drawn):
        turns = [{"role": "system", "content": system}] if system is not None else []
        turns += [turn for ask, answer in earlier for turn in (user(ask), assistant(answer))]
        whole = {
            name: [*turns, user(prompt), assistant(text)]
            for name, text in (("chosen", chosen), ("rejected", rejected))
        }
        row = {"prompt_id": f"p{number}"}
        sides = {name: [chat[-1]] for name, chat in whole.items()}
        explicit.append(row | {"prompt": [*turns, user(prompt)]} | sides)
        implicit.append(row | whole)
        repeated.append(row | {"prompt": prompt} | whole)
        golds = (0.5, 0.5) if chosen == rejected else (1.0, 0.0)
        for (name, chat), gold in zip(whole.items(), golds, strict=True):
            cells = [f"p{number}", f"p{number}-{name}", prompt, chat[-1]["content"], name, gold]
            split.append(dict(zip(COLUMNS, cells, strict=True)) | {"earlier": turns})
    expected = pd.DataFrame(split)
    if not expected["earlier"].map(len).any():
        expected = expected[COLUMNS]
        split = [{name: row[name] for name in COLUMNS} for row in split]
        plain = [
            {"prompt_id": f"p{n}", "prompt": prompt, "chosen": chosen, "rejected": rejected}
            for n, (_, _, prompt, chosen, rejected) in enumerate(drawn)
        ]
        for ending in (".jsonl", ".parquet"):
            pd.testing.assert_frame_equal(read(folder, plain, ending), expected)
    for rows in (explicit, implicit, repeated, split):
        for ending in (".jsonl", ".json", ".jsonl.gz", ".parquet"):
            frame = read(folder, rows, ending)
            if "earlier" in frame:  # pandas reads lists of a split as arrays
                frame["earlier"] = frame["earlier"].map(list)
            pd.testing.assert_frame_equal(frame, expected)


def test_a_prompt_within_texts_ends_where_a_word_differs(tmp_path):
    texts = {"chosen": "Q: the sky? It is blue.", "rejected": "Q: the sky? It is black."}
    frame = read(tmp_path, [texts])
    assert set(frame["prompt"]) == {"Q: the sky? It is "}
    assert list(frame["response"]) == ["blue.", "black."]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("ab"), min_size=1).map(" ".join), st.text("ab "), st.text("ab "))
def test_a_prompt_within_texts_loses_no_letter(prompt, chosen, rejected):
    """Whatever is common is in the prompt, but for the beginning of the word that differs."""
    sides = {"chosen": f"{prompt} x{chosen}c", "rejected": f"{prompt} x{rejected}d"}
    (turns, _, _), (other, _, _) = pair(sides, "here")
    assert turns[0] == other[0] and turns[0]["content"].startswith(f"{prompt} ")
    answers = turns[1]["content"], other[1]["content"]
    for answer, text in zip(answers, sides.values(), strict=True):
        assert turns[0]["content"] + answer == text
    assert answers[0].split()[0] != answers[1].split()[0]


def test_the_same_prompt_in_several_rows_stays_several_pairs(tmp_path):
    frame = read(tmp_path, [PAIR, PAIR | {"rejected": "It is red."}, PAIR])
    assert frame["prompt_id"].nunique() == 3 and (frame.groupby("prompt_id").size() == 2).all()
    frame = read(tmp_path, [PAIR | {"prompt_id": "a"}] * 2)
    assert list(frame["prompt_id"]) == ["a", "a", "a#2", "a#2"]


def test_ids_depend_on_the_texts_alone(tmp_path):
    other = PAIR | {"chosen": "It is grey."}
    one, two = read(tmp_path, [PAIR, other]), read(tmp_path, [other, PAIR], ".parquet")
    assert list(one["response_id"][:2]) == list(two["response_id"][2:])


def test_the_rows_of_the_document_are_read(tmp_path):
    document = (ROOT / "docs/OWN_DATA.md").read_text()
    (tmp_path / "own.jsonl").write_text(document.partition("```json\n")[2].partition("```")[0])
    frame = read_preferences(tmp_path / "own.jsonl")
    assert list(frame["prompt"]) == ["What colour is the sky?"] * 2 + ["Hi"] * 2
    assert list(frame["response"]) == ["Blue.", "Green.", "Hello!", "No."]


def test_equal_responses_are_a_tie(tmp_path):
    frame = read(tmp_path, [PAIR, PAIR | {"rejected": PAIR["chosen"]}])
    assert list(frame["gold"]) == [1, 0, 0.5, 0.5]


def test_other_separators_of_lines_within_a_text_are_text(tmp_path):
    row = PAIR | {"chosen": "one\u2028two\x85three\x0cfour"}
    path = tmp_path / "own.jsonl"
    path.write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n\n", encoding="utf-8")
    assert read_preferences(path)["response"][0] == row["chosen"]


TURNS = [user("Hello?"), assistant("Yes.")]
BAD = {
    "no JSON": ('{"prompt": "a", ', "line 1: found broken JSON"),
    "a number": ("3", "line 1: found 3; expected an object"),
    "a later line": ([PAIR, PAIR | {"chosen": None}], "line 2: found chosen None; expected a text"),
    "half a surrogate": ([PAIR | {"chosen": "cut \ud83d"}], "line 1: found chosen with half of"),
    "a number for text": ([PAIR | {"prompt": 3}], "line 1: found prompt 3; expected a text"),
    "an empty response": ([PAIR | {"rejected": " "}], "line 1: found an empty rejected"),
    "no id": ([PAIR | {"id": None}], "line 1: found id None; expected a text or a whole number"),
    "an id twice": ([PAIR | {"id": 1}, PAIR | {"id": "1"}], "line 2: found a second id 1"),
    "one response": ([RANKED | {"responses": ["a"]}], "line 1: found 1 responses; expected two"),
    "no responses": ([RANKED | {"responses": "a"}], "line 1: found responses 'a'; expected a list"),
    "fewer scores": ([RANKED | {"scores": [1, 2]}], "found 3 responses and 2 scores"),
    "fewer models": ([RANKED | {"models": ["a"]}], "found 3 responses and 1 models"),
    "a NaN score": ([RANKED | {"scores": [1, 2, float("nan")]}], "line 1: found score 3 nan"),
    "a text as score": ([RANKED | {"scores": [1, 2, "3"]}], "line 1: found score 3 '3'"),
    "a huge score": ([RANKED | {"scores": [1, 2, 10**400]}], "expected a finite number"),
    "equal scores": ([RANKED | {"scores": [1, 1, 1]}], "found equal gold within every prompt"),
    "all ties": ([PAIR | {"rejected": PAIR["chosen"]}], "found equal gold within every prompt"),
    "a misspelt column": (
        [{"prompt": "a", "choosen": "b", "rejected": "c"}],
        "'choosen' 'chosen'?",
    ),
    "a column missing later": ([PAIR, {"prompt": "a", "chosen": "b"}], "line 2: found the columns"),
    "no columns": ([{}], "line 1: found the columns of no name; expected the columns chosen"),
    "no rows": ("\n", "found no rows"),
    "an empty file": ("", "found no rows"),
    "the user last": ([{"chosen": TURNS, "rejected": [*TURNS, user("So?")]}], "is the last turn"),
    "no question": ([{"chosen": TURNS[1:], "rejected": TURNS[1:]}], "a user's turn, then"),
    "no turns": ([{"chosen": [], "rejected": TURNS}], "found no turns in chosen"),
    "a tool's turn": (
        [{"chosen": [*TURNS, {"role": "tool", "content": "x"}], "rejected": TURNS}],
        "expected turns with `content` and a `role`",
    ),
    "parts": (
        [{"chosen": [user([{"type": "text", "text": "x"}]), TURNS[1]], "rejected": TURNS}],
        "found content in chosen [{'type'",
    ),
    "other questions": (
        [{"chosen": TURNS, "rejected": [user("Who?"), TURNS[1]]}],
        "expected two answers to one prompt",
    ),
    "another conversation": (
        [{"prompt": [user("Who?")], "chosen": TURNS, "rejected": TURNS}],
        "found the turns user, user, assistant",
    ),
    "no common beginning": ([{"chosen": "a b", "rejected": "c d"}], "texts that begin differently"),
    "equal texts": ([{"chosen": "a b", "rejected": "a b"}], "found equal texts"),
    "tools": ([PAIR | {"tools": [{"name": "f"}]}], "expected a chat of texts alone"),
    "a response twice": ([SPLIT, SPLIT], "row 1: found a second r1"),
    "alone in a split": ([SPLIT], "prompt p: found one response; expected two or more"),
    "no gold": ([SPLIT | {"gold": None}], "line 1: found gold None; expected a finite number"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(name, tmp_path):
    rows, message = BAD[name]
    if isinstance(rows, str):
        path = tmp_path / "own.jsonl"
        path.write_text(rows)
    else:
        path = write(tmp_path, rows)
    with pytest.raises(InputError) as error:
        read_preferences(path)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


def test_files_of_other_kinds_are_one_line(tmp_path):
    with pytest.raises(InputError, match="found a folder"):
        read_preferences(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_preferences(tmp_path / "absent.jsonl")
    (tmp_path / "own.csv").write_text("prompt,chosen,rejected\na,b,c\n")
    with pytest.raises(InputError, match=r"a file \*\.csv; expected one of \.jsonl.*to_json"):
        read_preferences(tmp_path / "own.csv")
    for ending, found in (
        (".parquet", "parquet"),
        (".jsonl.gz", "text in UTF-8"),
        (".jsonl", "text in UTF-8"),
    ):
        path = tmp_path / f"cut{ending}"
        path.write_bytes(b"PAR1\xff\xfe\x00")
        with pytest.raises(InputError, match=f"unreadable {found}"):
            read_preferences(path)
    rows = [PAIR, PAIR | {"chosen": None}]
    with pytest.raises(InputError, match=r"own\.parquet, row 1: found chosen None"):
        read(tmp_path, rows, ".parquet")
    with pytest.raises(InputError, match=r"own\.json, row 1: found chosen None"):
        read(tmp_path, rows, ".json")


def test_a_split_without_gold_can_be_scored_but_not_compared(tmp_path):
    path = write(
        tmp_path, [SPLIT | {"gold": float("nan")}, SPLIT | {"response_id": "r2"}], ".parquet"
    )
    assert len(read_responses(path)) == 2
    with pytest.raises(InputError, match="row 0, response r1: found gold nan"):
        read_preferences(path)
