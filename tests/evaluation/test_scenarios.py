"""Table 5 on a run folder whose accuracies and taus can be worked out by hand."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from rm_robustness.errors import InputError
from rm_robustness.evaluation.scenarios import METRICS, score_path
from rm_robustness.experiment.scenarios import ALL, AVERAGE
from rm_robustness.results.dvc_metrics import numbers
from rm_robustness.results.table5_scenarios import averages_line, table5, table5_markdown
from rm_robustness.statistics import contrast

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
        "seed_variance": "own",
        "bsr": {"weight": 1e-3, "reduction": "release"},
        "micro_batch": 16,
        "pairs_per_prompt": 1,
        "paper_values": published,
    }


def cell(frame: pd.DataFrame, method: str, metric: str) -> pd.Series:
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of single metrics."""
    return frame[frame["metric"] != AVERAGE]


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
    frame = cells(table5(runs, settings))
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


def test_without_a_sample_in_float32_its_columns_are_empty(runs, settings):
    frame = table5(runs, settings)
    columns = ["float32_difference", "float32_reordered", "float32_prompts"]
    assert frame[columns].isna().all(axis=None)
    assert "float32" not in table5_markdown(frame)


def test_the_change_by_the_format_is_measured_on_the_sample_alone(runs, settings):
    for seed, exact in ((0, [[1, 2, 4, 3], [4, 3, 2, 1]]), (1, [[1, 2, 3, 4], [4, 3, 2, 1]])):
        path = score_path(runs, "tiny", "bt", seed, "mutual_disjoint")
        rewards = [*exact, [np.nan] * 4]
        pd.read_parquet(path).assign(reward_float32=np.ravel(rewards)).to_parquet(path)
    frame = table5(runs, settings)
    row = cell(frame, "bt", "mutual_disjoint_tau")
    # Seed 0 has one pair of twelve in another order: tau 1 here, (2/3 + 1) / 2 in float32.
    assert row["float32_difference"] == pytest.approx((1 / 6 + 0) / 2)
    assert row["float32_reordered"] == pytest.approx(1 / 24)
    assert row["float32_prompts"] == 2
    assert frame["float32_prompts"].notna().sum() == 1
    line = r"changes a cell by at most 0\.0833 \(`tiny`, `bt`, mutual.*\), on 2 prompts.* 4\.17%"
    assert re.search(line, table5_markdown(frame), flags=re.IGNORECASE)


def test_effective_strength_is_lambda_times_micro_batch_of_the_released_form(runs, settings):
    strength = cells(table5(runs, settings)).set_index("method")["weight_times_batch"]
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
    before = cells(table5(runs, settings))
    for path in runs.glob("scores/*/*/*/*.parquet"):
        pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    after = cells(table5(runs, settings))
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


def test_papers_difference_is_that_of_its_numbers_and_is_compared_with_ours(runs, settings):
    frame = table5(runs, settings)
    row = cell(frame, "bt-bsr", "in_domain_accuracy")
    assert row["paper_difference"] == pytest.approx(0.8130 - 0.8132)
    assert row["contains_paper"] is True and row["ratio"] == pytest.approx((1 / 3) / -0.0002)
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"] and row["bf_paper"] > 0
    assert row["mdd80"] > row["difference_high"] - row["difference"] > 0
    assert frame["paper_difference"].notna().sum() == 1  # the average lacks three of four


def big(runs: Path, settings: dict) -> tuple[Path, dict]:
    """Two backbones with three seeds of forty prompts, the scenarios' prompts shared in part."""
    rng = np.random.default_rng(0)
    prompts = {
        "in_domain": ("train", 2),
        "prompt_disjoint": ("valid", 4),
        "response_disjoint": ("train", 4),
        "mutual_disjoint": ("valid", 4),
    }
    for split, (name, n) in prompts.items():
        gold = rng.permuted(np.tile(np.arange(1.0, n + 1), (40, 1)), axis=1)
        frame = long(split, gold.tolist(), response=["x"] * 40 * n)
        frame["prompt_id"] = name + frame["prompt_id"]
        frame.to_parquet(runs / "splits" / f"{split}.parquet")
        for i, backbone in enumerate(("tiny", "wide")):
            for seed in (0, 1, 2):
                for method in ("bt", "bt-bsr"):
                    noise = rng.normal(0, 0.5 + (method == "bt") + i / 2, gold.shape)
                    path = score_path(runs, backbone, method, seed, split)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    scored = frame.drop(columns="response").assign(reward=(gold + noise).ravel())
                    scored.to_parquet(path)
    both = {"tiny": {"paper_model": None}, "wide": {"paper_model": None}}
    return runs, {**settings, "backbones": both, "seeds": [0, 1, 2]}


def test_average_is_the_mean_over_scenarios_then_backbones(runs, settings):
    runs, settings = big(runs, settings)
    frame = table5(runs, settings)
    gaps = cells(frame)[cells(frame)["method"] == "bt-bsr"]
    averages = frame[frame["metric"] == AVERAGE].set_index("backbone")
    assert list(averages.index) == ["tiny", "wide", ALL]
    by_backbone = gaps.groupby("backbone")["difference"].mean()
    for backbone in ("tiny", "wide"):
        assert averages["difference"][backbone] == pytest.approx(by_backbone[backbone])
    assert averages["difference"][ALL] == pytest.approx(gaps["difference"].mean())
    assert averages["value"].isna().all() and (averages["n_prompts"] == 80).all()
    # By hand: a prompt's influence is its own deviations from the means of its two scenarios.
    groups = []
    for backbone in ("tiny", "wide"):
        differences = [
            table5_values(runs, backbone, metric, split) for metric, split in METRICS.items()
        ]
        means = [d.mean(axis=1, keepdims=True) for d in differences]
        own = [2 * (d - m) / 4 for d, m in zip(differences, means, strict=True)]
        train, valid = own[0] + own[2], own[1] + own[3]
        groups.append(np.hstack([train, valid]) + sum(means) / 4)
    expected = contrast(groups, [0.5, 0.5])
    found = averages.loc[ALL]
    assert found["difference_low"] == pytest.approx(expected.low)
    assert found["p_value"] == found["p_holm"] == pytest.approx(expected.p_value)


def table5_values(runs: Path, backbone: str, metric: str, split: str) -> np.ndarray:
    """BSR minus BT of each seed and prompt, by scipy."""
    rows: dict = {}
    for method in ("bt", "bt-bsr"):
        for seed in (0, 1, 2):
            frame = pd.read_parquet(score_path(runs, backbone, method, seed, split))
            of_prompts = frame.groupby("prompt_id", sort=False)
            statistic = 1 if metric.endswith("accuracy") else 0
            taus = [kendalltau(g["reward"], g["gold"]).statistic for _, g in of_prompts]
            rows[method, seed] = [(tau + 1) / 2 if statistic else tau for tau in taus]
    seeds = [np.array(rows["bt-bsr", s]) - np.array(rows["bt", s]) for s in (0, 1, 2)]
    return np.stack(seeds)


def test_averages_are_neither_metrics_nor_part_of_the_tables_family(runs, settings, tmp_path):
    frame = table5(*big(runs, settings))
    compared = cells(frame)["p_value"].dropna()
    assert cells(frame)["p_holm"].min() == pytest.approx(min(1, len(compared) * compared.min()))
    backbones = frame[(frame["metric"] == AVERAGE) & (frame["backbone"] != ALL)]
    assert backbones["p_holm"].min() == pytest.approx(min(1, 2 * backbones["p_value"].min()))
    frame.to_csv(tmp_path / "table5.csv", index=False)
    assert set(numbers([tmp_path / "table5.csv"])["table5"]) == {"tiny", "wide", "-"}


def test_moderated_variances_move_intervals_and_p_values_together(runs, settings):
    own = table5(*big(runs, settings))
    runs, settings = big(runs, settings)
    frame = table5(runs, {**settings, "seed_variance": "moderated"})
    gaps = [cells(f)[cells(f)["method"] == "bt-bsr"] for f in (own, frame)]
    assert gaps[1]["difference"].to_list() == gaps[0]["difference"].to_list()
    widths = [(g["difference_high"] - g["difference_low"]).to_numpy() for g in gaps]
    assert widths[1].std() < widths[0].std() and widths[1].mean() < widths[0].mean()
    significant = (gaps[1]["difference_low"] > 0) | (gaps[1]["difference_high"] < 0)
    assert significant.to_list() == (gaps[1]["p_value"] < 0.05).to_list()
    assert "shrunk over the table (limma)" in table5_markdown(frame)
    assert "shrunk" not in table5_markdown(own)


def test_markdown_shows_the_reference_and_differences_from_it(runs, settings):
    frame = table5(runs, settings)
    up = (frame["method"] == "bt-bsr") & (frame["metric"] == "in_domain_accuracy")
    down = (frame["method"] == "bt-bsr") & (frame["metric"] == "mutual_disjoint_tau")
    frame.loc[:, "p_holm"] = np.nan
    frame.loc[up | down, "p_holm"] = 0.01
    text = table5_markdown(frame, "A made-up world.")
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert len(grid) == 2 + 3 and len({len(line) for line in grid}) == 1
    names = [[part.strip() for part in line.split("|")[1:3]] for line in grid[2:]]
    assert names == [["tiny", "bt"], ["tiny", "bt-bsr - bt"], ["-", "length"]]
    assert "0.6667 ± " in grid[2]
    first, *_, last = [part.strip() for part in grid[3].split("|")[3:-1]]
    assert first.startswith("+0.3333 ± ") and first.endswith(" ↑ (paper -0.0002)")
    assert last.startswith("-0.4590 ± ") and last.endswith(" ↓")
    assert "↑" not in grid[2] + grid[4] and "+" not in grid[2] + grid[4]
    assert "Preset `test`, 2 seeds" in text and "A made-up world." in text
    assert "7 prompts (`length`: 4)" in text and "`bt-bsr` 0.016" in text


def test_the_averages_are_one_sentence_with_what_would_have_been_found(runs, settings):
    frame = table5(*big(runs, settings))
    row = frame[frame["backbone"] == ALL].iloc[0]
    half = (row["difference_high"] - row["difference_low"]) / 2
    arrow = " ↑" if row["p_holm"] < 0.05 else ""
    told = f"bt-bsr - bt = {row['difference']:+.3f} ± {half:.3f}{arrow} ({row['mdd80']:.3f}); "
    line = averages_line(frame)
    assert line.startswith(f"Averaged over 4 scenarios x 2 backbones: {told}")
    assert f"- {line}\n" in table5_markdown(frame)


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
    text = table5_markdown(frame)
    assert "not measured" in text and "No average over the scenarios" in text
