"""Table 5 on a run folder whose accuracies and taus can be worked out by hand."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from rm_robustness.errors import InputError
from rm_robustness.evaluation.scenarios import METRICS, score_path
from rm_robustness.results.table5_scenarios import table5, table5_markdown

GOLD2 = [[1, 2], [3, 1], [5, 5], [2, 4]]  # the third prompt has no better response
GOLD4 = [[1, 2, 3, 4], [4, 3, 2, 1], [1, 3, 2, 4]]
TWO = {  # bt: right, right, -, tie (wrong); bt-bsr: right, right, -, right
    ("bt", 0): [[0, 1], [1, 0], [0, 1], [2, 2]],
    ("bt", 1): [[0, 1], [0, 1], [0, 1], [0, 1]],
    ("bt-bsr", 0): [[0, 1], [1, 0], [0, 1], [0, 1]],
    ("bt-bsr", 1): [[0, 1], [1, 0], [0, 1], [0, 1]],
}
FOUR = {  # bt: 1, 1 and, in seed 0, undefined because every reward is tied
    ("bt", 0): [[1, 2, 3, 4], [4, 3, 2, 1], [7, 7, 7, 7]],
    ("bt", 1): [[1, 2, 3, 4], [4, 3, 2, 1], [1, 2, 3, 4]],
    ("bt-bsr", 0): [[1, 2, 3, 4], [1, 2, 3, 4], [1, 3, 2, 4]],
    ("bt-bsr", 1): [[1, 1, 3, 4], [4, 3, 2, 1], [1, 3, 2, 4]],
}
LENGTHS2 = [[3, 5], [1, 9], [4, 4], [6, 7]]
LENGTHS4 = [[1, 2, 3, 4], [1, 2, 3, 4], [5, 5, 5, 5]]


def long(split: str, gold: list, **columns: list) -> pd.DataFrame:
    prompts, n = len(gold), len(gold[0])
    frame = pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{i}" for i in range(prompts)], n),
            "response_id": [f"{split}-{i}" for i in range(prompts * n)],
            "gold": np.ravel(gold).astype(float),
        }
    )
    return frame.assign(**{name: np.ravel(value) for name, value in columns.items()})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "splits").mkdir()
    for split in METRICS.values():
        two = split == "in_domain"
        gold, rewards = (GOLD2, TWO) if two else (GOLD4, FOUR)
        texts = ["x" * n for n in np.ravel(LENGTHS2 if two else LENGTHS4)]
        long(split, gold, response=texts).to_parquet(tmp_path / "splits" / f"{split}.parquet")
        for (method, seed), reward in rewards.items():
            path = score_path(tmp_path, "tiny", method, seed, split)
            path.parent.mkdir(parents=True, exist_ok=True)
            long(split, gold, reward=np.array(reward, float)).to_parquet(path)
    return tmp_path


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    published = tmp_path / "published.csv"
    published.write_text(
        "artifact,model,method,lambda,metric,value\n"
        "table5,Big-1B,bt,,in_domain_accuracy,0.8132\n"
        "table5,Big-1B,bt-bsr,0.001,in_domain_accuracy,0.8130\n"
    )
    return {
        "preset": "test",
        "backbones": {"tiny": {"paper_model": "Big-1B"}},
        "objectives": ["bt", "bt-bsr"],
        "seeds": [0, 1],
        "reference": "bt",
        "bsr": {"weight": 1e-3, "reduction": "release"},
        "micro_batch": 16,
        "paper_values": published,
    }


def cell(frame: pd.DataFrame, method: str, metric: str) -> pd.Series:
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_accuracy_counts_a_tied_reward_as_wrong_and_leaves_tied_gold_out(runs, settings):
    row = cell(table5(runs, settings), "bt", "in_domain_accuracy")
    assert row["value"] == pytest.approx(2 / 3)  # 2 of 3 in each seed
    assert (row["n_undefined"], row["n_ties"], row["n_prompts"]) == (2, 1, 3)
    assert (row["n_seeds"], row["seed_std"]) == (2, 0.0)


def test_tau_is_the_mean_of_scipys_over_prompts_then_seeds(runs, settings):
    frame = table5(runs, settings)
    for method in ("bt", "bt-bsr"):
        means = []
        for seed in (0, 1):
            pairs = zip(FOUR[method, seed], GOLD4, strict=True)
            means.append(np.nanmean([kendalltau(r, g).statistic for r, g in pairs]))
        row = cell(frame, method, "mutual_disjoint_tau")
        assert row["value"] == pytest.approx(np.mean(means))
        assert row["seed_std"] == pytest.approx(abs(means[0] - means[1]) / np.sqrt(2))
    bt = cell(frame, "bt", "response_disjoint_tau")
    assert (bt["n_undefined"], bt["n_ties"]) == (1, 6)  # the all-tied prompt: 6 pairs
    assert bt["value"] == pytest.approx((1 + (1 + 1 + 2 / 3) / 3) / 2)


def test_difference_is_paired_on_prompts_and_seeds(runs, settings):
    row = cell(table5(runs, settings), "bt-bsr", "in_domain_accuracy")
    assert row["difference"] == pytest.approx(1 / 3)
    assert row["difference_low"] <= 1 / 3 <= row["difference_high"]
    tau = cell(table5(runs, settings), "bt-bsr", "prompt_disjoint_tau")
    # Seed 0: 0 and -2 (the third is undefined for bt). Seed 1: tau-b of one tie - 1, 0, 1/3.
    tied = kendalltau([1, 1, 3, 4], [1, 2, 3, 4]).statistic
    assert tau["difference"] == pytest.approx((-1 + (tied - 1 + 0 + 1 / 3) / 3) / 2)


def test_holm_runs_over_every_comparison_and_the_reference_has_none(runs, settings):
    frame = table5(runs, settings)
    assert (
        frame.loc[frame["method"] != "bt-bsr", ["difference", "p_value", "p_holm"]]
        .isna()
        .all(axis=None)
    )
    compared = frame[frame["method"] == "bt-bsr"].sort_values("p_value")
    p = compared["p_value"].to_numpy()
    expected = np.minimum(1, np.maximum.accumulate(p * [4, 3, 2, 1]))
    assert compared["p_holm"].to_numpy() == pytest.approx(expected)


def test_length_baseline_comes_last_and_counts_characters(runs, settings):
    frame = table5(runs, settings)
    assert list(frame["method"][-4:]) == ["length"] * 4
    accuracy = cell(frame, "length", "in_domain_accuracy")
    assert accuracy["value"] == pytest.approx(2 / 3)
    tau = cell(frame, "length", "mutual_disjoint_tau")
    assert tau["value"] == pytest.approx(0.0)  # 1, -1 and undefined
    assert (accuracy["backbone"], accuracy["n_ties"], tau["n_undefined"]) == ("-", 1, 1)
    assert pd.isna(accuracy["n_seeds"]) and accuracy["ci_low"] < 2 / 3 < accuracy["ci_high"]


def test_papers_number_stands_only_where_the_paper_has_it(runs, settings):
    frame = table5(runs, settings)
    assert cell(frame, "bt", "in_domain_accuracy")["paper"] == 0.8132
    assert cell(frame, "bt-bsr", "in_domain_accuracy")["paper"] == 0.8130
    assert frame["paper"].notna().sum() == 2
    other = {**settings, "bsr": {"weight": 1e-2, "reduction": "release"}}
    assert table5(runs, other)["paper"].notna().sum() == 1  # another lambda is another experiment
    ours = {**settings, "backbones": {"tiny": {"paper_model": None}}}
    assert table5(runs, ours)["paper"].isna().all()


def test_effective_strength_is_lambda_times_micro_batch_of_the_released_form(runs, settings):
    strength = table5(runs, settings).set_index("method")["weight_times_batch"]
    assert strength["bt-bsr"].to_list() == pytest.approx([0.016] * 4)
    assert strength.drop("bt-bsr").isna().all()
    paper = {**settings, "bsr": {"weight": 1e-3, "reduction": "paper"}}
    assert table5(runs, paper)["weight_times_batch"].isna().all()


def test_weight_in_the_objectives_name_replaces_the_default(runs, settings):
    (runs / "scores/tiny/bt-bsr").rename(runs / "scores/tiny/bt-bsr@1e-2")
    named = {**settings, "objectives": ["bt", "bt-bsr@1e-2"]}
    row = cell(table5(runs, named), "bt-bsr@1e-2", "in_domain_accuracy")
    assert row["weight_times_batch"] == pytest.approx(0.16) and np.isnan(row["paper"])


def test_micro_batch_in_the_objectives_name_replaces_the_default(runs, settings):
    """The paper's number stands beside the preset's own micro-batch alone."""
    shutil.copytree(runs / "scores/tiny/bt-bsr", runs / "scores/tiny/bt-bsr@b4")
    frame = table5(runs, {**settings, "objectives": ["bt", "bt-bsr", "bt-bsr@b4"]})
    rows = [cell(frame, name, "in_domain_accuracy") for name in ("bt-bsr", "bt-bsr@b4")]
    assert [row["weight_times_batch"] for row in rows] == pytest.approx([0.016, 0.004])
    assert [bool(np.isnan(row["paper"])) for row in rows] == [False, True]
    assert "`bt-bsr` 0.016, `bt-bsr@b4` 0.004" in table5_markdown(frame)


def test_row_order_within_a_file_does_not_matter_if_all_files_share_it(runs, settings):
    before = table5(runs, settings)
    for path in runs.glob("scores/*/*/*/*.parquet"):
        pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    after = table5(runs, settings)
    assert after["value"].to_numpy() == pytest.approx(before["value"].to_numpy())


def test_seeds_that_scored_other_responses_are_refused_by_name(runs, settings):
    path = score_path(runs, "tiny", "bt", 1, "mutual_disjoint")
    frame = pd.read_parquet(path)
    frame.loc[5, "response_id"] = "stray"
    frame.to_parquet(path)
    with pytest.raises(InputError, match=r"seed-1/mutual_disjoint\.parquet, row 5.*stray"):
        table5(runs, settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(reward=np.nan), "row 0: found reward nan"),
        (lambda f: f.drop(columns="gold"), "gold"),
        (lambda f: f.iloc[:-1], "3 to 4 responses a prompt|11 responses"),
    ],
)
def test_broken_score_file_is_named(runs, settings, change, message):
    path = score_path(runs, "tiny", "bt", 0, "prompt_disjoint")
    change(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(InputError, match=message) as error:
        table5(runs, settings)
    assert str(path) in str(error.value)


def test_missing_files_are_named(runs, settings):
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        table5(runs, {**settings, "paper_values": runs / "nowhere.csv"})
    with pytest.raises(InputError, match="bt-dr"):
        table5(runs, {**settings, "reference": "bt-dr"})
    path = score_path(runs, "tiny", "bt-bsr", 1, "in_domain")
    path.unlink()
    with pytest.raises(InputError, match="no such file") as error:
        table5(runs, settings)
    assert str(path) in str(error.value)


def test_markdown_has_a_row_a_model_and_says_what_its_marks_mean(runs, settings):
    frame = table5(runs, settings)
    up = (frame["method"] == "bt-bsr") & (frame["metric"] == "in_domain_accuracy")
    down = (frame["method"] == "bt-bsr") & (frame["metric"] == "mutual_disjoint_tau")
    frame.loc[:, "p_holm"] = np.nan
    frame.loc[up | down, "p_holm"] = 0.01
    text = table5_markdown(frame, "A made-up world.")
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert len(grid) == 2 + 3 and len({len(line) for line in grid}) == 1
    assert "1.0000 ± 0.0000 ↑ (paper 0.8130)" in grid[3] and grid[3].count("↓") == 1
    assert grid[4].startswith("| -") and "↑" not in grid[2] + grid[4]
    assert "Preset `test`, 2 seeds" in text and "A made-up world." in text
    assert "7 prompts (`length`: 4)" in text and "`bt-bsr` 0.016" in text


def test_markdown_is_the_same_from_the_csv(runs, settings, tmp_path):
    frame = table5(runs, settings)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert table5_markdown(pd.read_csv(tmp_path / "t.csv")) == table5_markdown(frame)


def test_unmeasured_cell_is_not_filled_from_the_paper(runs, settings):
    for seed in (0, 1):
        path = score_path(runs, "tiny", "bt", seed, "in_domain")
        pd.read_parquet(path).assign(gold=1.0).to_parquet(path)
    frame = table5(runs, settings)
    row = cell(frame, "bt", "in_domain_accuracy")
    assert np.isnan(row["value"]) and row["paper"] == 0.8132
    assert "not measured" in table5_markdown(frame)
