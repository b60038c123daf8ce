import json

import numpy as np
import pandas as pd
import pytest

from rm_robustness.data import alpaca_eval as module
from rm_robustness.data.alpaca_eval import instructions, read_baseline
from rm_robustness.data.synthetic.alpaca_eval import SCALE
from rm_robustness.data.synthetic.tasks import gold
from rm_robustness.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORLD = {"kind": "synthetic", "seed": 1, "instructions": 20, "length_quality_correlation": 0.6}


def made(folder, **change):
    instructions({**WORLD, **change}, folder)
    return pd.read_parquet(folder / "instructions.parquet"), pd.read_csv(folder / "df_gamed.csv")


def test_the_synthetic_instructions_are_prompts_of_the_world_with_a_good_answer(tmp_path):
    frame, _ = made(tmp_path)
    assert list(frame.columns) == ["example_id", "prompt", "reference", "reference_model"]
    assert frame["example_id"].is_unique
    assert frame["prompt"].is_unique
    assert len(frame) == 20
    assert set(frame["reference_model"]) == {"alder"}
    scores = [gold(p, r) for p, r in zip(frame["prompt"], frame["reference"], strict=True)]
    assert np.mean(scores) > 0.7


def test_equal_settings_give_equal_bytes_and_fewer_instructions_are_the_first_ones(tmp_path):
    frame, _ = made(tmp_path / "a")
    made(tmp_path / "b")
    for name in ("instructions.parquet", "df_gamed.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    fewer, _ = made(tmp_path / "c", instructions=8)
    pd.testing.assert_frame_equal(fewer, frame[:8])
    other, _ = made(tmp_path / "d", seed=2)
    assert not set(other["prompt"]) & set(frame["prompt"])


def test_the_gamed_baselines_stand_one_after_the_other_by_row_of_the_instruction(tmp_path):
    _, gamed = made(tmp_path)
    columns = ["index", "model", "preference", "std_delta_len", "instruction_difficulty"]
    assert list(gamed.columns) == [*columns, "not_gamed_baseline"]
    assert gamed["index"].tolist() == [*range(20), *range(20)]
    assert gamed["model"].tolist() == ["alder_concise"] * 20 + ["alder_verbose"] * 20
    assert not gamed["not_gamed_baseline"].any()
    first, second = gamed[:20].reset_index(drop=True), gamed[20:].reset_index(drop=True)
    assert first["instruction_difficulty"].equals(second["instruction_difficulty"])
    # Talk costs a little gold, so concise wins a little more than half, verbose a little less.
    assert (first["std_delta_len"] >= 0).all()
    assert (second["std_delta_len"] <= 0).all()
    assert 0.5 < first["preference"].mean() < 0.75
    assert 0.25 < second["preference"].mean() < 0.5
    for part in (first, second):
        # At equal length the two texts are the same.
        assert (part.loc[part["std_delta_len"] == 0, "preference"] == 0.5).all()
        assert part["std_delta_len"].std() == pytest.approx(1, rel=1e-6)
    assert np.isfinite(gamed.select_dtypes("number")).all(axis=None)
    assert first["instruction_difficulty"].mean() < 0  # the baseline is the best responder
    assert abs(first["instruction_difficulty"]).max() < 2 * SCALE


# --- the hub ---

ROWS = [
    {"instruction": "a", "output": "x", "generator": "gpt4_1106_preview", "dataset": "koala"},
    {"instruction": "b", "output": "", "generator": "gpt4_1106_preview", "dataset": "vicuna"},
]


def hub(folder, monkeypatch, rows=ROWS, gamed="index,model\n0,a\n"):
    """Files as the hub has them, and a download that finds them at one commit."""
    (folder / "alpaca_eval_gpt4_baseline.json").write_text(json.dumps(rows))
    (folder / "df_gamed.csv").write_text(gamed)

    def download(repo, name, *, repo_type, revision):
        assert (repo, repo_type, revision) == ("tatsu-lab/alpaca_eval", "dataset", COMMIT)
        if not (folder / name).is_file():
            raise FileNotFoundError(f"404 {name}")
        return str(folder / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return {"kind": "hub", "repo": "tatsu-lab/alpaca_eval", "revision": COMMIT}


def test_the_hubs_files_are_read_at_the_commit_in_their_order(tmp_path, monkeypatch):
    settings = hub(tmp_path, monkeypatch)
    instructions(settings, tmp_path / "out")
    frame = pd.read_parquet(tmp_path / "out" / "instructions.parquet")
    assert frame[["prompt", "reference"]].values.tolist() == [["a", "x"], ["b", ""]]
    assert set(frame["reference_model"]) == {"gpt4_1106_preview"}
    # The id of an instruction is the one that AlpacaEval's annotations have in this project.
    assert frame["example_id"][0] == "ca978112ca1bbdca"
    assert (tmp_path / "out" / "df_gamed.csv").read_text() == "index,model\n0,a\n"


def test_a_moving_revision_and_a_file_that_cannot_be_fetched_are_refused(tmp_path, monkeypatch):
    settings = hub(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="40 hex digits"):
        instructions({**settings, "revision": "main"}, tmp_path / "out")
    (tmp_path / module.GAMED).unlink()
    with pytest.raises(InputError, match=r"no readable file df_gamed\.csv \(404") as caught:
        instructions(settings, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, {**ROWS[0], "output": "y"}], "row 2: found the instruction of row 0 again"),
        ([ROWS[0], {**ROWS[1], "instruction": " "}], "row 1: found an empty instruction"),
        ([ROWS[0], {**ROWS[1], "output": None}], "row 1: found .* expected texts instruction"),
        ([{"instruction": "a"}], "row 0"),
        (["a"], "row 0"),
        ({"a": 1}, "expected a list with a row per instruction"),
        ([], "expected a list with a row per instruction"),
    ],
)
def test_a_broken_baseline_is_refused_with_its_row(tmp_path, rows, message):
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=message):
        read_baseline(path)
