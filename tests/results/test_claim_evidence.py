"""What each claim is judged by, on run folders whose numbers can be worked out by hand."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.paths import PUBLISHED

from rm_robustness.errors import InputError
from rm_robustness.evaluation import scenarios
from rm_robustness.evaluation.scenarios import METRICS, score_path
from rm_robustness.experiment.paths import location
from rm_robustness.ratios import relative_change
from rm_robustness.results import claim_evidence as evidence
from rm_robustness.results import measurements
from rm_robustness.results.claim_parts import ABOVE_0, BELOW_0, BESIDE, NEEDED
from rm_robustness.results.claims import claims
from rm_robustness.results.claims_page import claims_markdown
from rm_robustness.results.measurements import RunResults
from rm_robustness.results.table1_effective_rank import table1
from rm_robustness.results.table2_rm_bench import table2
from rm_robustness.results.table3_alpaca_eval import Measured
from rm_robustness.results.table5_scenarios import table5
from rm_robustness.results.tables import read_published

SEEDS = [0, 1, 2]
TITLES = ["in-domain", "prompt-disjoint", "response-disjoint", "mutual-disjoint"]
TAU = {1.0: [1, 2, 3, 4], 2 / 3: [2, 1, 3, 4], 0.0: [1, 4, 3, 2], -1.0: [4, 3, 2, 1]}  # of 1 2 3 4
SETTINGS = {
    "preset": "test",
    "backbones": {"small": {"paper_model": "Qwen2.5-1.5B"}, "large": {"paper_model": "Qwen2.5-3B"}},
    "objectives": ["bt", "bt-dr", "bt-bsr"],
    "seeds": SEEDS,
    "families": [["small", "large", "huge"]],
    "reference": "bt",
    "seed_variance": "own",
    "bsr": {"weight": 1e-3, "reduction": "release"},
    "micro_batch": 16,
    "pairs_per_prompt": 1,
    "train_set": "splits/train.parquet",
    "paper_values": PUBLISHED,
    "rm_bench": None,
    "ranks": None,
    "rloo": None,
    "alpaca_eval": None,
}
BENCH = {
    "backbone": "small",
    "objectives": ["bt-hinge", "bt", "bt-bsr@1e-4", "bt-bsr", "bt-bsr@1e-2"],
    "seeds": dict.fromkeys(("bt-hinge", "bt", "bt-bsr@1e-4", "bt-bsr", "bt-bsr@1e-2"), (0, 1)),
    "paper_model": None,
    "published_as": {},
}


def write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)


def scores(rewards: list[list[float]], prefix: str, norms: float) -> pd.DataFrame:
    prompts, n = len(rewards), len(rewards[0])
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"{prefix}{i}" for i in range(prompts)], n),
            "response_id": [f"{prefix}-{i}" for i in range(prompts * n)],
            "reward": np.ravel(rewards).astype(float),
            "gold": np.tile(np.arange(1.0, n + 1), prompts),
            "hidden_norm": norms,
        }
    )


def write_scores(
    folder: Path, backbone: str, method: str, taus: dict[str, list[float]], norms: list[float]
) -> None:
    """Write the four scenarios for every seed: taus a prompt, accuracies for the in-domain one."""
    for seed in SEEDS:
        for (metric, split), norm in zip(METRICS.items(), norms, strict=True):
            valid = split in ("prompt_disjoint", "mutual_disjoint")
            if split == "in_domain":
                rewards = [[0.0, 1.0] if right else [1.0, 0.0] for right in taus[metric]]
            else:
                rewards = [TAU[tau] for tau in taus[metric]]
            frame = scores(rewards, "valid" if valid else "train", norm)
            write(frame, score_path(folder, backbone, method, seed, split))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two backbones; BT loses a third of tau to unseen models, and BSR loses nothing."""
    bt = dict(zip(METRICS, [[1, 1, 0], [1.0, 1.0, 1.0], [2 / 3] * 3, [2 / 3] * 3], strict=True))
    bsr = {metric: [1.0] * 3 for metric in METRICS}
    dr = {metric: [0.0] * 3 for metric in METRICS}
    for backbone in SETTINGS["backbones"]:
        # ||h|| is 8, 10, 10, 12 in the four scenarios with BT, and always 20 with BSR.
        write_scores(tmp_path, backbone, "bt", bt, [8, 10, 10, 12])
        write_scores(tmp_path, backbone, "bt-dr", dr, [8, 10, 10, 12])
        write_scores(tmp_path, backbone, "bt-bsr", bsr, [20] * 4)
        for seed in SEEDS:
            pairs = np.array([4.0, 5.0, 6.0])
            at = {
                step: {"difference_norm": norm, "weight_norm": 2 + step / 100, "epoch": step / 10}
                for step, norm in ((0, pairs), (5, 9 * pairs), (10, 2 * pairs + seed / 4))
            }
            probes = [
                pd.DataFrame(columns | {"step": step, "prompt_id": ["a", "b", "c"]})
                for step, columns in at.items()
            ]
            path = tmp_path / f"reward_models/{backbone}/bt/seed-{seed}/probes.parquet"
            write(pd.concat(probes), path)
    return tmp_path


def run(folder: Path, **changes) -> RunResults:
    return RunResults(folder, SETTINGS | changes, read_published(PUBLISHED))


def by_name(parts) -> dict:
    """Parts by subject and name."""
    return {(part.subject, part.name): part for part in parts}


def test_inflation_compares_the_last_evaluation_with_the_first_pair_by_pair(folder):
    parts = by_name(evidence.inflation(run(folder)))
    mean = parts["small", "mean, last evaluation - first"].estimate
    assert mean.value == pytest.approx(5 + 0.25)  # 4, 5 and 6 more, and 0, 1/4, 1/2 by seed
    spread = parts["large", "standard deviation, last evaluation - first"].estimate
    assert spread.value == spread.low == pytest.approx(np.std([4, 5, 6]))
    assert (spread.n_seeds, parts["small", "mean, last evaluation - first"].side[0]) == (3, 0)


def test_head_norm_is_a_ratio_to_the_start(folder):
    part = by_name(evidence.head_norm(run(folder)))["small", "after / before"]
    assert part.estimate.value == pytest.approx(1.05) and part.side == (0.9, 1.1)


def test_dispersion_is_free_of_scale(folder):
    parts = by_name(evidence.dispersion(run(folder)))
    # BT's means are 8, 10, 10, 12 with 6 responses in-domain, 12 in the others: mean 432/42.
    pooled = np.repeat([8, 10, 10, 12], [6, 12, 12, 12])
    cv = parts["small", "coefficient of variation: bt-bsr - bt"].estimate
    assert cv.value == pytest.approx(-pooled.std() / pooled.mean())
    spread = parts["small", "range of the four means: bt-bsr - bt"].estimate
    assert spread.value == pytest.approx(-4 / (432 / 42)) and spread.n_seeds == 3
    means = [parts["small", f"bt-bsr: mean in {s} / mean of the four"] for s in TITLES]
    assert [mean.estimate.value for mean in means] == [1.0] * 4
    assert means[0].side == (0.95, 1.05)


def test_objectives_are_compared_as_in_table5(folder):
    for path in folder.glob("scores/*/bt/seed-1/*.parquet"):  # so that seeds differ
        frame = pd.read_parquet(path)
        write(frame.assign(reward=-frame["reward"]), path)
    for split in METRICS.values():
        frame = pd.read_parquet(score_path(folder, "small", "bt", 0, split))
        write(frame.assign(response="x"), folder / "splits" / f"{split}.parquet")
    table = table5(folder, SETTINGS).set_index(["backbone", "method", "metric"])
    parts = by_name(evidence.objective_gaps("bt-dr", ["bt"], BELOW_0, run(folder)))
    assert len(parts) == 8 + 3
    cells = [parts["large", f"{title}: bt-dr - bt"].estimate.value for title in TITLES]
    cells += [parts["small", f"{title}: bt-dr - bt"].estimate.value for title in TITLES]
    average = parts["all", "average of all: bt-dr - bt"]
    assert average.estimate.value == pytest.approx(np.mean(cells)) and average.role == NEEDED
    assert parts["large", "mutual-disjoint: bt-dr - bt"].role == BESIDE
    for metric in METRICS:
        row = table.loc[("large", "bt-dr", metric)]
        scenario = metric.rpartition("_")[0].replace("_", "-")
        found = parts["large", f"{scenario}: bt-dr - bt"]
        assert (found.estimate.value, found.estimate.p_value) == (row["difference"], row["p_value"])


def test_comparison_carries_the_papers_own_difference(folder):
    parts = by_name(evidence.objective_gaps("bt-bsr", ["bt", "bt-hinge"], ABOVE_0, run(folder)))
    part = parts["small", "in-domain: bt-bsr - bt"]
    assert part.estimate.value == pytest.approx(1 / 3) and part.unit == "accuracy"
    assert part.paper == pytest.approx(0.8423 - 0.8415)
    assert np.isfinite(parts["all", "average of all: bt-bsr - bt"].paper)
    lacking = parts["large", "mutual-disjoint: bt-bsr - bt-hinge"]
    assert np.isnan(lacking.estimate.value) and "bt-hinge" in lacking.reason
    assert lacking.paper == pytest.approx(0.6106 - 0.5685)


def test_loss_to_unseen_models_is_relative_and_paired_by_prompt(folder):
    for seed in SEEDS:  # one prompt of prompt-disjoint has no counterpart
        path = score_path(folder, "large", "bt", seed, "mutual_disjoint")
        write(pd.read_parquet(path).iloc[4:], path)
        path = score_path(folder, "large", "bt", seed, "prompt_disjoint")
        frame = pd.read_parquet(path)
        frame.loc[frame["prompt_id"] == "valid0", "reward"] = TAU[2 / 3]
        write(frame, path)
    parts = by_name(evidence.unseen_models(run(folder)))
    loss = parts["large", "prompt-disjoint to mutual-disjoint"]
    assert loss.estimate.value == pytest.approx(100 / 3) and loss.role == NEEDED
    assert loss.paper == pytest.approx(100 * (1 - 0.587 / 0.705))
    other = parts["large", "prompt-disjoint to response-disjoint"]
    assert other.estimate.value == pytest.approx(100 * (1 - (2 / 3) / (8 / 9)))
    assert other.estimate.n_prompts == 6 and other.role == BESIDE


def test_there_is_no_share_of_a_tau_that_is_not_above_zero(folder):
    for path in folder.glob("scores/small/bt/*/prompt_disjoint.parquet"):
        frame = pd.read_parquet(path)
        write(frame.assign(reward=-frame["reward"]), path)
    part = by_name(evidence.unseen_models(run(folder)))[
        "small", "prompt-disjoint to mutual-disjoint"
    ]
    assert np.isnan(part.estimate.value) and "not above 0" in part.reason


def write_evaluations(folder: Path, method: str, gold: dict[int, float]) -> None:
    """Looks of two seeds at two prompts; seed 1 has 1 more gold everywhere, prompt b 10 more."""
    rows = [
        {"seed": s, "update": u, "example_id": e, "epoch": u / 4, "gold": g + s + 10 * (e == "b")}
        for s in (0, 1)
        for u, g in gold.items()
        for e in ("a", "b")
    ]
    frame = pd.DataFrame(rows).assign(reward=0.0, kl=0.0, n_tokens=5, finished=True)
    write(frame, folder / "policy_gold" / f"standard-{method}.parquet")


RLOO = {"runs": {"standard": {}}, "gold": None}


def test_gold_is_compared_in_the_two_halves_of_rloo(tmp_path):
    write_evaluations(tmp_path, "bt", {0: 0.0, 5: 4.0, 10: 4.5, 12: 4.1})  # the middle one is 5
    write_evaluations(tmp_path, "bt-bsr", {0: 0.0, 5: 3.0, 10: 5.0, 12: 6.0})
    parts = list(evidence.gold_under_rloo(run(tmp_path, rloo=RLOO)))
    assert [p.estimate.value for p in parts] == pytest.approx([3.0, 3.0 - 0.1, 4 / 3 - 0.1])
    assert [p.subject for p in parts] == ["standard"] * 3 and parts[0].estimate.n_seeds == 2


def test_the_parts_name_the_model_whose_gold_it_is(tmp_path):
    for method in ("bt", "bt-bsr"):
        write_evaluations(tmp_path, method, {0: 0.0, 5: 4.0, 10: 4.5})
    rloo = RLOO | {"gold": {"backbone": "large", "objective": "bt"}}
    parts = list(evidence.gold_under_rloo(run(tmp_path, rloo=rloo)))
    assert [p.subject for p in parts] == ["standard, gold by large/bt"] * 3


def test_nothing_stagnates_that_did_not_rise(tmp_path):
    write_evaluations(tmp_path, "bt", {0: 1.0, 5: 1.0, 10: 0.0})
    write_evaluations(tmp_path, "bt-bsr", {0: 1.0, 5: 2.0, 10: 3.0})
    parts = list(evidence.gold_under_rloo(run(tmp_path, rloo=RLOO)))
    assert [p.estimate.value for p in parts[:2]] == [1.0, 2.0]
    assert np.isnan(parts[2].estimate.value) and "nothing can stagnate" in parts[2].reason


def test_rank_growth_is_bts_minus_bsrs_at_the_largest_n(tmp_path):
    growth = {"bt": ([10, 12], [3, 5]), "bt-bsr": ([1, 1], [7, 7])}  # at n = 20 and n = 10
    for method, (large, small) in growth.items():
        for seed in (0, 1):
            rows = [(20, "train", 30.0), (20, "rm_bench", 30.0 + large[seed])]
            rows += [(10, "train", 15.0), (10, "rm_bench", 15.0 + small[seed])]
            frame = pd.DataFrame(rows, columns=["n", "set", "effective_rank"])
            write(
                frame, tmp_path / location("ranks", backbone="small", objective=method, seed=seed)
            )
    sections = {"rm_bench": BENCH, "ranks": {"objectives": ["bt", "bt-bsr"], "rows": [20]}}
    table = table1(tmp_path, SETTINGS | sections)
    table = table[table["n"] == 20].set_index(["method", "metric"])
    bt, gap, bsr = evidence.effective_ranks(run(tmp_path, **sections))
    assert (bt.estimate.value, bsr.estimate.value) == (11, 1)
    assert bt.estimate.low == table["ci_low"]["bt", "erank_delta"]
    assert gap.estimate.value == pytest.approx((9 + 11) / 2)
    assert gap.estimate.low < gap.estimate.value < gap.estimate.high
    assert gap.estimate.n_seeds == 2 and gap.paper == pytest.approx(10.42 - 0.14)
    assert (bt.role, gap.role, bsr.role) == (NEEDED, NEEDED, BESIDE) and bsr.side == (-1, 1)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """RM-Bench with two prompts a domain file and random rewards, better with lambda."""
    rng = np.random.default_rng(0)
    domains = ["chat", "math", "code", "safety-refuse", "safety-response"]
    rows = [
        {"prompt_id": f"{d}-{i}", "domain": d, "kind": kind, "style": style, "response": "x"}
        for d in domains
        for i in (0, 1)
        for kind in ("chosen", "rejected")
        for style in ("concise", "detailed", "markdown")
    ]
    frame = pd.DataFrame(rows)
    frame = frame.assign(response_id=[f"r{i}" for i in range(len(frame))])
    write(frame, tmp_path / "raw" / "rm_bench.parquet")
    for lift, method in enumerate(BENCH["objectives"]):
        for seed in BENCH["seeds"][method]:
            noise = rng.normal(size=len(frame))
            reward = noise + lift * (frame["kind"] == "chosen") / 2
            write(
                frame.assign(reward=reward), score_path(tmp_path, "small", method, seed, "rm_bench")
            )
    return tmp_path


def test_hard_accuracy_is_that_of_table2_and_its_slope_over_lambda(bench):
    table = table2(bench, SETTINGS | {"rm_bench": BENCH})
    hard = table[table["metric"] == "hard"].set_index("method")
    parts = by_name(evidence.hard_accuracy(run(bench, rm_bench=BENCH)))
    for name, method in (("lambda 0.001", "bt-bsr"), ("lambda 0.01", "bt-bsr@1e-2")):
        found = parts["small", f"{name}: bt-bsr - bt"]
        assert found.estimate.value == hard["difference"][method]
        assert found.estimate.p_value == hard["p_value"][method]
        assert parts["small", f"{name}: more than 5"].estimate == found.estimate
        assert parts["small", f"{name}: more than 5"].role == BESIDE
    slope = parts["small", "slope over lambda, a step"]
    levels = hard["value"][["bt", "bt-bsr@1e-4", "bt-bsr", "bt-bsr@1e-2"]]
    assert slope.estimate.value == pytest.approx(np.polyfit(range(4), levels, 1)[0])
    assert slope.paper == pytest.approx(np.polyfit(range(4), [47.8, 47.9, 52.1, 55.7], 1)[0])
    assert parts["small", "lambda 0.001: bt-bsr - bt"].paper == pytest.approx(4.3)
    assert parts["small", "lambda 0.01: bt-bsr - bt"].paper == pytest.approx(7.9)


def test_domain_that_is_not_at_hand_leaves_the_hard_accuracy_out(bench):
    path = bench / "raw" / "rm_bench.parquet"
    rest = pd.read_parquet(path).query("domain != 'math'")
    write(rest, path)
    for method, seeds in BENCH["seeds"].items():
        for seed in seeds:
            scores = score_path(bench, "small", method, seed, "rm_bench")
            write(pd.read_parquet(scores).query("domain != 'math'"), scores)
    for part in evidence.hard_accuracy(run(bench, rm_bench=BENCH)):
        assert np.isnan(part.estimate.value)
        assert "file of RM-Bench is missing" in part.reason


def test_lambda_that_was_not_trained_leaves_its_comparisons_out(bench):
    fewer = BENCH | {"objectives": ["bt", "bt-bsr"]}
    parts = by_name(evidence.hard_accuracy(run(bench, rm_bench=fewer)))
    assert np.isfinite(parts["small", "lambda 0.001: bt-bsr - bt"].estimate.value)
    for name in ("slope over lambda, a step", "lambda 0.01: bt-bsr - bt"):
        assert np.isnan(parts["small", name].estimate.value)
        assert parts["small", name].reason == "the preset lacks a lambda"
    # One of another micro-batch is no point of the line, and is not read.
    other = BENCH | {"objectives": ["bt", "bt-bsr", "bt-bsr@b4"]}
    again = by_name(evidence.hard_accuracy(run(bench, rm_bench=other)))
    part = "small", "lambda 0.001: bt-bsr - bt"
    assert again[part].estimate == parts[part].estimate


JUDGED = {"run": "large", "judge": {"kind": "gold"}, "paper_model": None}


class Answered(RunResults):
    """A run whose answers were measured: three seeds, four instructions."""

    @property
    def answers(self):
        sft = np.array([100.0, 200.0, 100.0, 200.0])
        seeds = np.array([[0.9], [1.0], [1.1]])
        lengths = {"rloo-bt": 1.2 * sft * seeds, "rloo-bt-bsr": 0.6 * sft * seeds}
        return {
            ("rloo-bt", "avg_length_chars"): lengths["rloo-bt"],
            ("rloo-bt-bsr", "avg_length_chars"): lengths["rloo-bt-bsr"],
            ("rloo-bt-bsr", "length_change_from_sft"): relative_change(lengths["rloo-bt-bsr"], sft),
            ("rloo-bt", "lc_win_rate"): 10 * seeds + sft / 100,
            ("rloo-bt-bsr", "lc_win_rate"): 12 * seeds + sft / 100,
        }


def answered(folder: Path, **changes) -> RunResults:
    settings = SETTINGS | {"alpaca_eval": JUDGED | changes}
    return Answered(folder, settings, read_published(PUBLISHED))


def test_length_is_compared_with_sft_and_with_rloo_of_bt(tmp_path):
    shorter, half, than_bt = evidence.response_length(answered(tmp_path))
    assert shorter.estimate.value == pytest.approx(-40) and shorter.side[1] == 0
    assert half.estimate == shorter.estimate and half.subject == "large"
    paper = 100 * (1337 / 2247 - 1)
    assert half.paper == pytest.approx(paper) and half.side[1] == pytest.approx(paper / 2)
    assert than_bt.estimate.value == pytest.approx(-50) and than_bt.estimate.n_seeds == 3
    assert than_bt.paper == pytest.approx(-38.7, abs=0.05)
    assert all(part.role == NEEDED for part in (shorter, half, than_bt))


def test_wins_are_compared_with_rloo_of_bt(tmp_path):
    [wins] = evidence.win_rate(answered(tmp_path))
    assert wins.estimate.value == pytest.approx(2) and wins.estimate.n_seeds == 3
    assert wins.paper == pytest.approx(9.02 - 8.41)


def test_win_rate_without_a_judge_says_so(tmp_path):
    [wins] = evidence.win_rate(answered(tmp_path, judge=None))
    assert np.isnan(wins.estimate.value) and "no judge" in wins.reason


def test_gap_is_compared_between_neighbouring_sizes_that_are_there(folder):
    easier = {metric: [1.0] * 3 for metric in METRICS}
    write_scores(folder, "small", "bt", easier, [8, 10, 10, 12])  # no gap to BSR is left
    parts = by_name(evidence.grows_with_size(run(folder)))
    assert len(parts) == 4 + 3  # nothing of the size that the preset does not have
    average = parts["all", "average of all: larger - smaller"]
    assert average.estimate.value == pytest.approx((1 / 3 + 0 + 1 / 3 + 1 / 3) / 4)
    part = parts["large", "response-disjoint: gap of large - of small"]
    assert part.estimate.value == pytest.approx(1 / 3) and part.unit == "tau"
    theirs = (0.5991 - 0.5917) - (0.5618 - 0.5601)
    assert part.paper == pytest.approx(theirs)


def test_preset_without_the_later_parts_measures_none_of_them(folder):
    frame = claims(folder, SETTINGS | {"families": []})
    whole = frame[frame["part"] == "all"].set_index("claim")
    later = ["C8", "C9", "C10", "C11", "C12", "C13"]
    assert list(whole.index) == [f"C{i}" for i in range(1, 14)]
    assert set(whole.loc[later, "verdict"]) == {"not measured"}
    assert (frame.loc[frame["verdict"] == "not measured", "value"].isna()).all()
    parts = frame[(frame["part"] != "all") & (frame["verdict"] == "not measured")]
    assert (parts["note"] != "").all()
    assert "NaN" not in claims_markdown(frame) and "nan" not in claims_markdown(frame)


def test_verdicts_follow_from_the_numbers(folder):
    frame = claims(folder, SETTINGS)
    whole = frame[frame["part"] == "all"].set_index("claim")["verdict"]
    # tau is the same for every prompt and seed, so its differences have intervals of no width.
    assert whole[["C1", "C2", "C3", "C7"]].to_list() == ["supported"] * 4
    # Without bt-hinge and bt-norm a part of C4 is missing, and all of C6.
    assert whole[["C4", "C5", "C6", "C13"]].to_list() == [
        "inconclusive",
        "supported",
        "not measured",
        "inconclusive",
    ]
    five = frame[frame["claim"] == "C5"].set_index("part")["verdict"]
    assert set(five[["in-domain: bt-dr - bt"]]) == {"inconclusive"}  # two of three prompts
    assert set(five[["mutual-disjoint: bt-dr - bt"]]) == {"supported"}
    assert set(frame.loc[frame["claim"] == "C7", "paper_model"].dropna()) == {
        "Qwen2.5-1.5B",
        "Qwen2.5-3B",
    }


def test_what_several_claims_are_judged_by_is_measured_once(folder, monkeypatch):
    measured = Counter()

    def answers(runs: Path, settings: dict) -> Measured:
        measured["answers"] += 1
        return Measured(answered(runs).answers, None, {})

    def prompt_values(metric: str, paths: list[Path]) -> tuple:
        measured.update(paths)
        return scenarios.prompt_values(metric, paths)

    monkeypatch.setattr(measurements, "measured_values", answers)
    monkeypatch.setattr(measurements, "prompt_values", prompt_values)
    claims(folder, SETTINGS | {"alpaca_eval": JUDGED})
    assert len(measured) == 1 + 2 * 3 * 3 * 4  # backbones, objectives, seeds, scenarios
    assert set(measured.values()) == {1}


def test_a_missing_source_is_an_error(folder):
    next((folder / "reward_models").rglob("probes.parquet")).unlink()
    with pytest.raises(InputError, match=r"probes\.parquet"):
        claims(folder, SETTINGS)


def test_another_reference_than_bt_is_refused(folder):
    with pytest.raises(InputError, match=r"statistics\.reference: found 'bt-dr'; expected 'bt'"):
        claims(folder, SETTINGS | {"reference": "bt-dr"})
