"""Estimates behind the verdicts on the paper's claims C1 to C13: one function for each claim.

Each maps `RunResults` to parts: an estimate and the interval (`side`) in which the claim holds.
`claims` compares the two, and docs/CLAIMS.md gives the reasons for each side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from ..evaluation.policy_curves import read_evaluations
from ..evaluation.probes import read_probes
from ..evaluation.rm_bench import domain_masks, metric_percent, read_scores
from ..evaluation.rm_bench import per_prompt as bench_per_prompt
from ..evaluation.scenarios import HEADINGS, score_path
from ..experiment.grid import BSR, BT, bsr_batch, bsr_weight
from ..experiment.paths import location
from ..experiment.scenarios import MUTUAL_DISJOINT, PROMPT_DISJOINT, RESPONSE_DISJOINT, SCENARIOS
from ..frames import read_frame
from ..pivot import Array
from ..ratios import relative_loss, relative_loss_unpaired, stratified_mean
from ..statistics import NO_ESTIMATE, Estimate
from .measurements import RunResults

Side = tuple[float, float]
Parts = Iterator["ClaimPart"]

ABOVE_0: Side = (0.0, np.inf)
BELOW_0: Side = (-np.inf, 0.0)
NEAR_1: Side = (0.9, 1.1)
LOSS: Side = (10.0, np.inf)  # %, the paper's "more than 10 %"
COMPLEX: Side = (5.0, np.inf)  # points, the abstract's "more than 5 % in complex tasks"
STAGNATION = 0.1  # linear decay alone would leave the last half a third of the first half's gain
LAMBDAS = (0.0, 1e-4, 1e-3, 1e-2)  # those of the paper's table 2
RLOO_RUN = "standard"  # the run of figure 5
SEEN, RESPONSE = PROMPT_DISJOINT.metric, RESPONSE_DISJOINT.metric
MUTUAL = MUTUAL_DISJOINT.metric


@dataclass(frozen=True)
class ClaimPart:
    """One quantity of a claim, which holds if it lies strictly between the ends of `side`.

    `subject` is the backbone, or the RLOO run. `paper` is the same quantity computed from the
    paper's tables, NaN where they lack it. `reason` explains a missing estimate. A part with
    `counts` False is reported and does not enter the claim's verdict.
    """

    name: str
    subject: str
    unit: str
    side: Side
    estimate: Estimate
    paper: float = np.nan
    reason: str = ""
    counts: bool = True


def inflation(run: RunResults) -> Parts:
    """C1: ||h_w - h_l|| of Bradley-Terry, last evaluation minus first: mean and std over pairs."""
    for backbone in run.settings["backbones"]:
        first, last = _first_and_last(run, backbone, "difference_norm")
        spread = (last.std(axis=1) - first.std(axis=1))[:, None]
        for name, change in (("mean", last - first), ("standard deviation", spread)):
            estimate = run.estimate(change)
            yield ClaimPart(f"{name}, last evaluation - first", backbone, "norm", ABOVE_0, estimate)


def head_norm(run: RunResults) -> Parts:
    """C2: ||W_p|| after Bradley-Terry training divided by its value before, one ratio a seed."""
    for backbone in run.settings["backbones"]:
        first, last = _first_and_last(run, backbone, "weight_norm")
        ratio = run.estimate(last[:, :1] / first[:, :1])
        yield ClaimPart("after / before", backbone, "ratio", NEAR_1, ratio)


def _first_and_last(run: RunResults, backbone: str, column: str) -> tuple[Array, Array]:
    """A column of the BT probes at the first and the last evaluation, (seeds, pairs) each."""
    probes = read_probes(run.folder, backbone, run.settings["seeds"])
    steps, seeds = probes["step"], len(run.settings["seeds"])
    first, last = (
        probes.loc[steps == step, column].to_numpy(np.float64).reshape(seeds, -1)
        for step in (steps.min(), steps.max())
    )
    return first, last


def dispersion(run: RunResults) -> Parts:
    """C3: ||h|| over the four scenarios, BSR minus BT: coefficient of variation, and range.

    The range is that of the four scenarios' means, as a share of the mean of all responses.
    """
    reason = run.lacks(BSR)
    for backbone in run.settings["backbones"]:
        spreads = [] if reason else [_spreads(run, backbone, method) for method in (BSR, BT)]
        for i, name in enumerate(("coefficient of variation", "range of the four means")):
            gap = spreads[0][:, [i]] - spreads[1][:, [i]] if spreads else np.empty((0, 0))
            name, estimate = f"{name}: bt-bsr - bt", run.estimate(gap)
            yield ClaimPart(name, backbone, "share of the mean", BELOW_0, estimate, reason=reason)


def _spreads(run: RunResults, backbone: str, method: str) -> Array:
    """Coefficient of variation and range of the scenarios' means of ||h||, a row a seed (S, 2)."""
    rows = []
    for seed in run.settings["seeds"]:
        paths = [score_path(run.folder, backbone, method, seed, split) for split in SCENARIOS]
        norms = [read_frame(p, ["hidden_norm"])["hidden_norm"].to_numpy(np.float64) for p in paths]
        pooled = np.concatenate(norms)
        spread = float(np.ptp([scenario_norms.mean() for scenario_norms in norms]))
        rows.append([pooled.std() / pooled.mean(), spread / pooled.mean()])
    return np.array(rows)


def objective_gaps(method: str, others: Sequence[str], side: Side, run: RunResults) -> Parts:
    """C4, C5, C6: `method` minus each of `others`, for every backbone and scenario (table 5)."""
    for backbone in run.settings["backbones"]:
        for metric, heading in HEADINGS.items():
            scenario, unit = heading.split(", ")
            for other in others:
                name, reason = f"{scenario}: {method} - {other}", run.lacks(method, other)
                gap = run.estimate(run.gap(backbone, metric, method, other))
                paper = run.paper_gap("table5", backbone, metric, method, other)
                yield ClaimPart(name, backbone, unit, side, gap, paper, reason)


def unseen_models(run: RunResults) -> Parts:
    """C7: relative loss of BT's tau from prompt-disjoint to mutual-disjoint, in %.

    Reported with it: the loss to response-disjoint, which has other prompts.
    """
    reason = "tau on prompt-disjoint is not above 0: there is no share of it"
    for backbone in run.settings["backbones"]:
        seen, response, mutual = (run.values(backbone, BT, m) for m in (SEEN, RESPONSE, MUTUAL))
        shared = seen.columns.intersection(mutual.columns)
        losses = {
            MUTUAL: relative_loss(seen[shared].to_numpy(), mutual[shared].to_numpy()),
            RESPONSE: relative_loss_unpaired(seen.to_numpy(), response.to_numpy()),
        }
        positive = run.estimate(seen).low > 0
        for metric, loss in losses.items():
            estimate = run.estimate(100 * loss) if positive else NO_ESTIMATE
            before, after = (run.paper("table5", backbone, BT, m) for m in (SEEN, metric))
            name = f"prompt-disjoint to {HEADINGS[metric].partition(',')[0]}"
            paper, counts = 100 * (1 - after / before), metric == MUTUAL
            yield ClaimPart(name, backbone, "%", LOSS, estimate, paper, reason, counts)


def gold_under_rloo(run: RunResults) -> Parts:
    """C8: gain in gold reward of RLOO's run `standard`, by halves of training (figure 5).

    The middle evaluation is the one nearest to half of the updates, the earlier of two.
    """
    rloo, estimates = run.settings["rloo"], [NO_ESTIMATE] * 3
    reason = f"the preset has no RLOO run `{RLOO_RUN}`"
    if rloo and RLOO_RUN in rloo["runs"]:
        early, late = zip(*(_halves(run, method) for method in (BT, BSR)), strict=True)
        changes = [late[1], late[1] - late[0], STAGNATION * early[0] - late[0]]
        estimates = [run.estimate(change) for change in changes]
        reason = "with bt, gold does not rise in the first half: nothing can stagnate"
        if not run.estimate(early[0]).low > 0:
            estimates[2] = NO_ESTIMATE
    for name, estimate in zip(
        (
            "gain of the last half: bt-bsr",
            "gain of the last half: bt-bsr - bt",
            "bt: a tenth of the first half's gain - the last half's",
        ),
        estimates,
        strict=True,
    ):
        yield ClaimPart(name, RLOO_RUN, "gold", ABOVE_0, estimate, reason=reason)


def _halves(run: RunResults, method: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gain in gold of a policy in the two halves of training, seeds x prompts each."""
    evaluations = read_evaluations(run.folder, f"{RLOO_RUN}-{method}")
    table = evaluations.pivot(index="seed", columns=["update", "example_id"], values="gold")
    updates = sorted(evaluations["update"].unique())
    middle = min(updates, key=lambda update: abs(2 * update - updates[0] - updates[-1]))
    first, half, last = (table[update] for update in (updates[0], middle, updates[-1]))
    return half - first, last - half


def effective_ranks(run: RunResults) -> Parts:
    """C9: growth of the effective rank from the training set to RM-Bench, BT minus BSR."""
    estimate, subject, reason = NO_ESTIMATE, "-", "the preset measures no effective ranks"
    if run.settings["ranks"]:
        subject, reason = run.settings["rm_bench"]["backbone"], "table 1 has no such number"
        gap = run.read_estimate("table1", BSR, "erank_delta", "difference")
        estimate = Estimate(-gap.value, -gap.high, -gap.low, gap.p_value, gap.n_seeds, 0)
    paper = run.paper_gap("table1", subject, "erank_delta", BT, BSR)
    name = "growth on RM-Bench: bt - bt-bsr"
    yield ClaimPart(name, subject, "effective rank", ABOVE_0, estimate, paper, reason)


def hard_accuracy(run: RunResults) -> Parts:
    """C10: RM-Bench's hard accuracy over lambda, in points, on table 2's prompts and seeds.

    The least-squares slope over the paper's four lambdas (BT is lambda 0), and BSR minus BT at the
    two largest lambdas. Reported with it: whether that exceeds the abstract's five points.
    """
    bench, default = run.settings["rm_bench"], run.settings["bsr"]["weight"]
    names, subject = (bench["objectives"], bench["backbone"]) if bench else ([], "-")
    reason = "the preset lacks a lambda" if bench else "the preset has no RM-Bench"
    of_lambda = [n for n in names if n == BT or (n.startswith(BSR) and not bsr_batch(n))]
    method_at = {bsr_weight(n, default) or 0.0: n for n in of_lambda}
    # One (seeds, prompts) array, or None, and one published number for each lambda.
    hard, published = [], []
    for weight in LAMBDAS:
        name = next((n for w, n in method_at.items() if np.isclose(w, weight, atol=0)), None)
        hard.append(_hard(run, name) if name else None)
        paper_method = f"{BSR}@{weight:g}" if weight else BT
        published.append(run.paper("table2", subject, paper_method, "hard"))
    # Every part is a contrast: a linear combination of the four accuracies, paired by seed and
    # prompt. (-3, -1, 1, 3) / 10 is the least-squares slope over four equally spaced points.
    for name, contrast, side in (
        ("slope over lambda, a step", (-0.3, -0.1, 0.1, 0.3), ABOVE_0),
        ("lambda 0.001: bt-bsr - bt", (-1, 0, 1, 0), ABOVE_0),
        ("lambda 0.001: more than 5", (-1, 0, 1, 0), COMPLEX),
        ("lambda 0.01: bt-bsr - bt", (-1, 0, 0, 1), ABOVE_0),
        ("lambda 0.01: more than 5", (-1, 0, 0, 1), COMPLEX),
    ):
        terms_used = [
            (weight, accuracy) for weight, accuracy in zip(contrast, hard, strict=True) if weight
        ]
        terms = [weight * accuracy for weight, accuracy in terms_used if accuracy is not None]
        estimate = (
            run.estimate(np.sum(terms, axis=0)) if len(terms) == len(terms_used) else NO_ESTIMATE
        )
        paper, counts = float(np.dot(contrast, published)), side == ABOVE_0
        yield ClaimPart(name, subject, "points", side, estimate, paper, reason, counts)


def _hard(run: RunResults, method: str) -> Array:
    """Hard accuracy in percent, (seeds, prompts), weighted so that its mean is table 2's number."""
    bench_settings = run.settings["rm_bench"]
    columns = ["prompt_id", "response_id", "domain", "style", "kind"]
    bench = read_frame(run.folder / location("benchmark", benchmark="rm_bench"), columns)
    folder = run.folder, bench_settings["backbone"], method
    paths = [score_path(*folder, seed, "rm_bench") for seed in bench_settings["seeds"][method]]
    frames = [bench_per_prompt(bench, read_scores(path, bench)) for path in paths]
    values = np.stack([metric_percent(frame, "hard") for frame in frames])
    return stratified_mean(values, domain_masks("hard", frames[0]["domain"]))


def response_length(run: RunResults) -> Parts:
    """C11: relative change of AlpacaEval's response length from SFT to RLOO with BSR, in %.

    Two parts: any decrease, and at least half of the decrease in the paper's table 3.
    """
    estimate, subject, reason = NO_ESTIMATE, "-", "the preset has no AlpacaEval"
    if run.settings["alpaca_eval"]:
        subject, reason = run.settings["alpaca_eval"]["run"], "table 3 has no such number"
        estimate = run.read_estimate("table3", "rloo-bt-bsr", "length_change_from_sft", "value")
    methods = ("sft", "rloo-bt-bsr")
    before, after = (run.paper("table3", subject, m, "avg_length_chars") for m in methods)
    paper = 100 * (after / before - 1)
    for name, end in (("shorter at all", 0.0), ("half of the paper's or more", paper / 2)):
        side = (-np.inf, end)
        yield ClaimPart(f"change from SFT: {name}", subject, "%", side, estimate, paper, reason)


def win_rate(run: RunResults) -> Parts:
    """C12: AlpacaEval's length-controlled win rate, RLOO with BSR minus RLOO with BT, in points."""
    judged = run.settings["alpaca_eval"]
    estimate, subject, reason = NO_ESTIMATE, "-", "the preset has no AlpacaEval"
    if judged:
        subject, reason = judged["run"], "table 3 has no such number"
        estimate = run.read_estimate("table3", "rloo-bt-bsr", "lc_win_rate", "difference")
        if judged["judge"] is None:
            reason = "the preset has no judge (`alpaca_eval.judge` is null)"
    paper = run.paper_gap("table3", subject, "lc_win_rate", "rloo-bt-bsr", "rloo-bt")
    yield ClaimPart("rloo-bt-bsr - rloo-bt", subject, "points", ABOVE_0, estimate, paper, reason)


def grows_with_size(run: RunResults) -> Parts:
    """C13: BSR minus BT of a backbone, less the same of the next smaller one of its family."""
    trained = run.settings["backbones"]
    families = [[name for name in family if name in trained] for family in run.settings["families"]]
    neighbours = [pair for family in families for pair in pairwise(family)]
    if not neighbours:
        reason = "the preset has no two sizes of one family"
        yield ClaimPart("larger - smaller", "-", "", ABOVE_0, NO_ESTIMATE, reason=reason)
    for small, large in neighbours:
        for metric, heading in HEADINGS.items():
            scenario, unit = heading.split(", ")
            gaps = [run.gap(name, metric, BSR, BT) for name in (large, small)]
            paper_gaps = [run.paper_gap("table5", b, metric, BSR, BT) for b in (large, small)]
            name, paper = f"{scenario}: gap of {large} - of {small}", paper_gaps[0] - paper_gaps[1]
            estimate, reason = run.estimate(gaps[0] - gaps[1]), run.lacks(BSR)
            yield ClaimPart(name, large, unit, ABOVE_0, estimate, paper, reason)
