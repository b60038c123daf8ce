import json
import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from rm_robustness.data import hub_datasets as hub
from rm_robustness.data.alpaca_eval import ANNOTATIONS, responses
from rm_robustness.data.git_checkout import checkout
from rm_robustness.data.splits import pairs
from rm_robustness.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


# --- checkout: a commit of a git repository ---


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always"]
    command = ["git", *identity, "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def upstream(tmp_path):
    """A bare repository of two commits that serves any commit, and settings for the first one."""
    work, bare = tmp_path / "work", tmp_path / "bare.git"
    (work / "results" / "a").mkdir(parents=True)
    git(work, "init", "--quiet")
    (work / "results" / "a" / "annotations.json").write_text("[1]")
    (work / "results" / "a" / "raw.json").write_text("big")
    (work / "code.py").write_text("pass")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", "first")
    first = git(work, "rev-parse", "HEAD")
    (work / "results" / "a" / "annotations.json").write_text("[2]")
    git(work, "commit", "--quiet", "-am", "second")
    git(tmp_path, "clone", "--quiet", "--bare", str(work), str(bare))
    git(bare, "config", "uploadpack.allowFilter", "true")
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    return {
        "path": None,
        "repository": bare.as_uri(),
        "commit": first,
        "files": ["/results/*/annotations.json"],
    }


def files_of(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] != ".git")


def test_only_the_requested_files_are_checked_out_at_the_requested_commit(upstream, tmp_path):
    folder = checkout(upstream, tmp_path / "runs" / "clone")
    assert files_of(folder) == ["results/a/annotations.json"]
    assert (folder / "results/a/annotations.json").read_text() == "[1]"
    assert [path.name for path in folder.parent.iterdir()] == ["clone"]


def test_what_a_killed_process_of_the_same_number_left_is_removed(upstream, tmp_path):
    (tmp_path / f".clone.{os.getpid()}.part" / ".git").mkdir(parents=True)
    checkout(upstream, tmp_path / "clone")
    assert not list(tmp_path.glob(".clone*"))


def test_the_blobs_of_other_files_are_not_fetched(upstream, tmp_path):
    folder = checkout(upstream, tmp_path / "clone")
    missing = git(folder, "rev-list", "--objects", "--missing=print", "HEAD").splitlines()
    assert sum(line.startswith("?") for line in missing) == 2


def test_a_checkout_that_is_there_is_used_without_the_repository(upstream, tmp_path):
    folder = checkout(upstream, tmp_path / "clone")
    Path(upstream["repository"].removeprefix("file://")).rename(tmp_path / "gone")
    assert checkout(upstream, folder) == folder


@pytest.mark.parametrize(
    ("change", "message"),
    [({"commit": COMMIT}, f"expected commit {COMMIT}"), ({"files": ["/code.py"]}, "patterns")],
)
def test_a_checkout_of_something_else_is_refused_and_kept(upstream, tmp_path, change, message):
    folder = checkout(upstream, tmp_path / "clone")
    with pytest.raises(InputError, match=message):
        checkout({**upstream, **change}, folder)
    assert files_of(folder) == ["results/a/annotations.json"]


def test_a_folder_that_is_no_checkout_is_refused_and_kept(upstream, tmp_path):
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="no git checkout"):
        checkout(upstream, tmp_path / "clone")
    assert files_of(tmp_path / "clone") == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commit": COMMIT}, f"{COMMIT}: found `git fetch` failing"),
        ({"repository": "file:///no/such/repository"}, "`git fetch` failing"),
        ({"commit": "main"}, "'main'; expected a commit of 40 hex digits"),
        ({"files": ["/resluts/"]}, "no file for"),
    ],
)
def test_a_failed_clone_says_why_and_leaves_nothing(upstream, tmp_path, change, message):
    with pytest.raises(InputError, match=message) as caught:
        checkout({**upstream, **change}, tmp_path / "runs" / "clone")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "runs").iterdir() if (tmp_path / "runs").exists() else [])


def test_a_path_is_used_as_it_is_and_must_be_there(upstream, tmp_path):
    assert checkout({**upstream, "path": str(tmp_path)}, tmp_path / "clone") == tmp_path
    assert not (tmp_path / "clone").exists()
    with pytest.raises(InputError, match="absent: found no such folder"):
        checkout({**upstream, "path": str(tmp_path / "absent")}, tmp_path / "clone")


# --- AlpacaEval: annotations of real models ---


def annotation(instruction: str, **change: object) -> dict[str, object]:
    return {"instruction": instruction, "output_2": "yes", "preference": 1.25, **change}


def alpaca(folder: Path, rows: object, model: str = "alpaca-7b") -> Path:
    path = folder / "results" / model / ANNOTATIONS
    path.parent.mkdir(parents=True)
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return folder


def test_annotations_become_raw_rows_with_one_id_per_instruction(tmp_path):
    alpaca(tmp_path, [annotation("a", output_2=""), annotation("b", preference=2)], "one")
    alpaca(tmp_path, [annotation("b", output_2="no")], "two")
    frame = responses(tmp_path, ["two", "one"])
    columns = ["prompt", "response", "response_model", "preference"]
    assert list(frame.columns) == ["example_id", *columns]
    assert frame[columns].values.tolist() == [
        ["b", "no", "two", 1.25],
        ["a", "", "one", 1.25],
        ["b", "yes", "one", 2.0],
    ]
    assert frame["example_id"][0] == frame["example_id"][2] != frame["example_id"][1]


def test_the_id_of_an_instruction_does_not_depend_on_the_models_read(tmp_path):
    alpaca(tmp_path, [annotation("a"), annotation("b")], "one")
    alpaca(tmp_path, [annotation("b")], "two")
    alone, both = responses(tmp_path, ["two"]), responses(tmp_path, ["one", "two"])
    assert alone["example_id"][0] == both["example_id"][2]


@pytest.mark.parametrize("value", [None, float("nan"), 0.5, 2.5, "1.5", True])
def test_a_bad_preference_is_refused_with_file_and_row(tmp_path, value):
    alpaca(tmp_path, [annotation("a"), annotation("b", preference=value)])
    with pytest.raises(InputError, match=r"alpaca-7b.*annotations\.json row 1: found preference"):
        responses(tmp_path, ["alpaca-7b"])


@pytest.mark.parametrize("field", ["instruction", "output_2", "preference"])
def test_a_missing_field_is_refused_with_file_and_row(tmp_path, field):
    row = annotation("b")
    del row[field]
    alpaca(tmp_path, [annotation("a"), row])
    with pytest.raises(InputError, match=rf"annotations\.json row 1: found {field} None"):
        responses(tmp_path, ["alpaca-7b"])


def test_an_instruction_answered_twice_is_refused_with_both_rows(tmp_path):
    alpaca(tmp_path, [annotation("a"), annotation("b"), annotation("a")])
    with pytest.raises(InputError, match="row 2: found the instruction of row 0 again"):
        responses(tmp_path, ["alpaca-7b"])


def test_json_cut_in_half_is_refused_by_file(tmp_path):
    alpaca(tmp_path, json.dumps([annotation("a"), annotation("b")])[:90])
    with pytest.raises(InputError, match=r"annotations\.json: found broken JSON"):
        responses(tmp_path, ["alpaca-7b"])


@pytest.mark.parametrize("rows", [[], {"a": 1}, [1]])
def test_json_of_another_shape_is_refused(tmp_path, rows):
    with pytest.raises(InputError, match=r"annotations\.json"):
        responses(alpaca(tmp_path, rows), ["alpaca-7b"])


def test_a_misspelt_model_is_refused_with_the_nearest_name(tmp_path):
    for model in ("alpaca-7b", "gemma-2b-it", "vicuna-7b-v1.3"):
        alpaca(tmp_path, [annotation("a")], model)
    with pytest.raises(InputError, match=r"did you mean vicuna-7b-v1\.3"):
        responses(tmp_path, ["alpaca-7b", "vicuna-7b"])
    with pytest.raises(InputError, match=r"\['alpaca-7b'\] twice"):
        responses(tmp_path, ["alpaca-7b", "alpaca-7b"])


def test_a_missing_checkout_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(InputError, match="results: found no such folder"):
        responses(tmp_path, ["alpaca-7b"])
    (tmp_path / "results" / "alpaca-7b").mkdir(parents=True)
    with pytest.raises(InputError, match=r"annotations\.json: found no such file"):
        responses(tmp_path, ["alpaca-7b"])


# --- the hub: data sets in the published format, from a local folder ---


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def data_set(folder: Path, rows: list[dict[str, object]], name: str = "train") -> str:
    (folder / "data").mkdir(exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return str(folder)


def test_ultrafeedback_becomes_a_row_per_completion(tmp_path):
    rows = [
        {
            "source": "flan",
            "instruction": "p0",
            "completions": [
                {"model": "alpaca-7b", "response": "r0", "overall_score": 3.0},
                {"model": "bard", "response": "", "overall_score": 4.0},
            ],
        },
        {"source": "flan", "instruction": "p1", "completions": []},
        {
            "source": "flan",
            "instruction": "p2",
            "completions": [{"model": "bard", "response": "r2", "overall_score": 1.0}],
        },
    ]
    frame = hub.ultrafeedback(data_set(tmp_path, rows), COMMIT)
    assert list(frame.columns) == ["example_id", "prompt", "response", "response_model"]
    assert frame.values.tolist() == [
        ["0", "p0", "r0", "alpaca-7b"],
        ["0", "p0", "", "bard"],
        ["2", "p2", "r2", "bard"],
    ]


def turns(*contents: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(contents)
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]


def test_ultrachat_and_preferences_become_conversations(tmp_path):
    chats = [{"prompt": "a", "messages": turns("a", "b")}, {"prompt": "c", "messages": turns("c")}]
    repo = data_set(tmp_path, chats, "train_sft")
    frame = hub.ultrachat(repo, COMMIT, "train_sft")
    assert frame["example_id"].tolist() == ["0", "1"]
    assert frame["messages"].tolist() == [turns("a", "b"), turns("c")]
    (tmp_path / "pairs").mkdir()
    pairs = [{"chosen": turns("q", "good"), "rejected": turns("q", "bad"), "source": "s"}]
    frame = hub.preferences(data_set(tmp_path / "pairs", pairs), COMMIT, "train")
    assert frame.values.tolist() == [["0", turns("q", "good"), turns("q", "bad")]]


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:12], None])
def test_a_revision_that_can_move_is_refused(tmp_path, revision):
    with pytest.raises(InputError, match="40 hex digits"):
        hub.ultrafeedback(str(tmp_path), revision)


def test_a_missing_column_and_a_missing_split_are_named(tmp_path):
    repo = data_set(tmp_path, [{"instruction": "p", "answers": "r"}])
    with pytest.raises(InputError, match=r"also the columns \['completions'\]"):
        hub.ultrafeedback(repo, COMMIT)
    with pytest.raises(InputError, match="no readable split 'test_sft'"):
        hub.ultrachat(repo, COMMIT, "test_sft")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no readable split"):
        hub.ultrafeedback(str(tmp_path / "empty"), COMMIT)


def test_a_broken_row_is_named():
    rows = [
        {"instruction": "p", "completions": [{"model": "m", "response": "r"}]},
        {"instruction": "q", "completions": [{"model": "m", "response": None}]},
    ]
    with pytest.raises(InputError, match="uf row 1: found model 'm', response None"):
        hub.completions(rows, "uf")
    with pytest.raises(InputError, match="uf row 0: found instruction None"):
        hub.completions([{"instruction": None, "completions": []}], "uf")
    for broken in ([], None, [{"role": "human", "content": "a"}], [{"role": "user"}]):
        with pytest.raises(InputError, match="uc row 0 column messages"):
            hub.conversations([{"messages": broken}], "uc", ["messages"])


@pytest.mark.parametrize("half", ["cut \ud83d", "\ude00 cut"])
def test_half_of_a_surrogate_pair_is_named_with_its_row(half):
    good = {"model": "m", "response": "r"}
    for row in (
        {"instruction": half, "completions": [good]},
        {"instruction": "p", "completions": [good, {"model": "n", "response": half}]},
    ):
        with pytest.raises(InputError, match=r"uf row 0: found .* half of a surrogate pair"):
            hub.completions([row], "uf")
    with pytest.raises(InputError, match=r"uc row 0 column messages: .* half of a surrogate pair"):
        hub.conversations([{"messages": [{"role": "user", "content": half}]}], "uc", ["messages"])


def test_pairs_of_chats_become_a_split_whole(capsys):
    """A pair differs in its last answer alone; the turns before it are kept, as the prompt is."""
    frame = pd.DataFrame(
        {
            "example_id": ["0", "1", "2", "3", "4"],
            "chosen": [
                turns("a", "good"),
                turns("a", "b", "c", "good"),
                turns("x", "y"),
                turns("q", " "),
                turns("a", "b", "c"),
            ],
            "rejected": [
                turns("a", "bad"),
                turns("a", "b", "c", "bad"),
                turns("other", "z"),
                turns("q", "w"),
                turns("a", "b", "d"),
            ],
        }
    )
    split = hub.pairs_as_split(frame, "pairs")
    assert split.values.tolist() == [
        ["0", "0-chosen", "a", "good", "chosen", 1.0, []],
        ["0", "0-rejected", "a", "bad", "rejected", 0.0, []],
        ["1", "1-chosen", "c", "good", "chosen", 1.0, turns("a", "b")],
        ["1", "1-rejected", "c", "bad", "rejected", 0.0, turns("a", "b")],
    ]
    assert "2 pairs, 1 of more than one turn; 3 left out" in capsys.readouterr().err
    assert pairs(split)["chosen_response"].tolist() == ["good", "good"]
    assert "earlier" not in hub.pairs_as_split(frame[:1], "pairs")
    with pytest.raises(InputError, match="pairs: found no pair that differs in its last answer"):
        hub.pairs_as_split(frame[2:], "pairs")
