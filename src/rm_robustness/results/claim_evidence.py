"""Estimates behind the verdicts on the paper's claims C1 to C13: one function for each claim.

Each maps `RunResults` to parts: an estimate and the interval (`side`) in which the claim holds.
`claim_parts` compares the two, and docs/CLAIMS.md gives the reasons for each side.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..evaluation.scenarios import HEADINGS, average
from ..experiment.grid import BSR, BT, bsr_batch, bsr_weight, gold_name, neighbouring_sizes
from ..experiment.scenarios import MUTUAL_DISJOINT, PROMPT_DISJOINT, RESPONSE_DISJOINT, SCENARIOS
from ..pivot import Array
from ..ratios import relative_loss, relative_loss_unpaired
from ..statistics import NO_ESTIMATE, contrast, moderated, respread
from .claim_parts import ABOVE_0, BELOW_0, BESIDE, NEEDED, ClaimPart, Side, counts_of
from .measurements import RunResults

Parts = Iterator[ClaimPart]

NEAR_1: Side = (0.9, 1.1)
ONE_RANGE: Side = (0.95, 1.05)  # a scenario's mean, as a share of the mean over scenarios
ONE_RANK: Side = (-1.0, 1.0)  # effective rank
LOSS: Side = (10.0, np.inf)  # %, the paper's "more than 10 %"
COMPLEX: Side = (5.0, np.inf)  # points, the abstract's "more than 5 % in complex tasks"
STAGNATION = 1 / 3  # of the first half's gain: what linear decay alone leaves to the last half
LAMBDAS = (0.0, 1e-4, 1e-3, 1e-2)  # those of the paper's table 2
RLOO_RUN = "standard"  # the run of figure 5
RLOO_BT, RLOO_BSR = "rloo-bt", "rloo-bt-bsr"
SEEN, RESPONSE = PROMPT_DISJOINT.metric, RESPONSE_DISJOINT.metric
MUTUAL = MUTUAL_DISJOINT.metric
MEAN_UNIT = "accuracy and tau"  # of an average over the four scenarios


def inflation(run: RunResults) -> Parts:
    """C1: ||h_w - h_l|| of Bradley-Terry, last evaluation minus first: mean and std over pairs."""
    for backbone in run.settings["backbones"]:
        first, last = run.probes(backbone, "difference_norm")
        spread = (last.std(axis=1) - first.std(axis=1))[:, None]
        for name, change in (("mean", last - first), ("standard deviation", spread)):
            estimate = run.estimate(change)
            yield ClaimPart(f"{name}, last evaluation - first", backbone, "norm", ABOVE_0, estimate)


def head_norm(run: RunResults) -> Parts:
    """C2: ||W_p|| after Bradley-Terry training divided by its value before, one ratio a seed."""
    for backbone in run.settings["backbones"]:
        first, last = run.probes(backbone, "weight_norm")
        ratio = run.estimate(last[:, :1] / first[:, :1])
        yield ClaimPart("after / before", backbone, "ratio", NEAR_1, ratio)


def dispersion(run: RunResults) -> Parts:
    """C3: ||h|| over the four scenarios: BSR against BT, and each scenario's mean with BSR.

    BSR minus BT of the coefficient of variation over all responses, and of the range of the four
    means as a share of the mean of all; then whether the four means are one, scenario by scenario.
    """
    reason = run.lacks(BSR)
    for backbone in run.settings["backbones"]:
        norms = {m: [] if reason else run.hidden_norms(backbone, m) for m in (BSR, BT)}
        spreads = {method: _spreads(of_method) for method, of_method in norms.items()}
        for i, name in enumerate(("coefficient of variation", "range of the four means")):
            estimate = run.estimate(spreads[BSR][:, [i]] - spreads[BT][:, [i]])
            name, unit = f"{name}: bt-bsr - bt", "share of the mean"
            yield ClaimPart(name, backbone, unit, BELOW_0, estimate, reason=reason)
        means = np.array([[n.mean() for n in scenarios] for scenarios in norms[BSR]])
        means = means.reshape(-1, len(SCENARIOS))
        for i, scenario in enumerate(SCENARIOS.values()):
            estimate = run.estimate(means[:, [i]] / means.mean(axis=1, keepdims=True))
            name = f"bt-bsr: mean in {scenario.title} / mean of the four"
            yield ClaimPart(name, backbone, "ratio", ONE_RANGE, estimate, reason=reason)


def _spreads(seeds: Sequence[Sequence[Array]]) -> Array:
    """Coefficient of variation and range of the scenarios' means of ||h||, a row a seed (S, 2)."""
    rows = []
    for norms in seeds:
        pooled = np.concatenate(norms)
        spread = float(np.ptp([scenario_norms.mean() for scenario_norms in norms]))
        rows.append([pooled.std() / pooled.mean(), spread / pooled.mean()])
    return np.array(rows).reshape(-1, 2)


def objective_gaps(method: str, others: Sequence[str], side: Side, run: RunResults) -> Parts:
    """C4, C5, C6: `method` minus each of `others` (table 5): averages, counts, and every cell.

    A cell is a backbone and scenario. The average over cells is a part for each of `others`; the
    cells are counted over all of them.
    """
    cells = []
    for other in others:
        reason, of_backbones = run.lacks(method, other), {}
        papers: list[float] = []
        for backbone in run.settings["backbones"]:
            gaps = {m: run.gap(backbone, m, method, other) for m in HEADINGS}
            of_backbones[backbone] = list(gaps.values())
            for metric, heading in HEADINGS.items():
                scenario, unit = heading.split(", ")
                name, estimate = f"{scenario}: {method} - {other}", run.estimate(gaps[metric])
                paper = run.paper_gap("table5", backbone, metric, method, other)
                papers.append(paper)
                cells.append(ClaimPart(name, backbone, unit, side, estimate, paper, reason))
        estimate = average(of_backbones)
        name, paper = f"average of all: {method} - {other}", float(np.mean(papers))
        yield ClaimPart(name, "all", MEAN_UNIT, side, estimate, paper, reason)
    yield from counts_of(_moderated(cells, run))


def _moderated(cells: list[ClaimPart], run: RunResults) -> list[ClaimPart]:
    """Cells with their seeds' variances shrunk towards each other, if the preset says so."""
    measured = [cell for cell in cells if not np.isnan(cell.estimate.low)]
    if run.settings["seed_variance"] == "own" or len(measured) < len(cells):
        return cells
    spreads = moderated([cell.estimate.spread for cell in cells])
    return [
        replace(c, estimate=respread(c.estimate, s)) for c, s in zip(cells, spreads, strict=True)
    ]


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
            paper, role = 100 * (1 - after / before), NEEDED if metric == MUTUAL else BESIDE
            yield ClaimPart(name, backbone, "%", LOSS, estimate, paper, reason, role)


def gold_under_rloo(run: RunResults) -> Parts:
    """C8: gain in gold reward of RLOO's run `standard`, by halves of training (figure 5).

    Gold of a reward model (`rloo.gold`, D51) is named in the subject.
    """
    rloo, estimates, subject = run.settings["rloo"], [NO_ESTIMATE] * 3, RLOO_RUN
    if gold := rloo and rloo["gold"]:
        subject = f"{RLOO_RUN}, gold by {gold_name(gold)}"
    reason = f"the preset has no RLOO run `{RLOO_RUN}`"
    if rloo and RLOO_RUN in rloo["runs"]:
        halves = (run.gold_halves(f"{RLOO_RUN}-{method}") for method in (BT, BSR))
        early, late = zip(*halves, strict=True)
        changes = [late[1], late[1] - late[0], STAGNATION * early[0] - late[0]]
        estimates = [run.estimate(change) for change in changes]
        reason = "with bt, gold does not rise in the first half: nothing can stagnate"
        if not run.estimate(early[0]).low > 0:
            estimates[2] = NO_ESTIMATE
    for name, estimate in zip(
        (
            "gain of the last half: bt-bsr",
            "gain of the last half: bt-bsr - bt",
            "bt: a third of the first half's gain - the last half's",
        ),
        estimates,
        strict=True,
    ):
        yield ClaimPart(name, subject, "gold", ABOVE_0, estimate, reason=reason)


def effective_ranks(run: RunResults) -> Parts:
    """C9: growth of the effective rank from the training set to RM-Bench: BT's, and BT's - BSR's.

    Reported with it: whether BSR's is within 1 of none.
    """
    subject, reason, growth = "-", "the preset measures no effective ranks", [np.empty((0, 0))] * 2
    if run.settings["ranks"]:
        subject, reason = run.settings["rm_bench"]["backbone"], "table 1 has no such number"
        growth = [run.rank_growth(method) for method in (BT, BSR)]
    papers = [run.paper("table1", subject, method, "erank_delta") for method in (BT, BSR)]
    for name, side, estimate, paper, role in (
        ("growth on RM-Bench: bt", ABOVE_0, run.estimate(growth[0]), papers[0], NEEDED),
        (
            "growth on RM-Bench: bt - bt-bsr",
            ABOVE_0,
            contrast(growth, [1, -1])
            if len(growth[0]) != len(growth[1])
            else run.estimate(growth[0] - growth[1]),
            papers[0] - papers[1],
            NEEDED,
        ),
        ("growth on RM-Bench: bt-bsr", ONE_RANK, run.estimate(growth[1]), papers[1], BESIDE),
    ):
        yield ClaimPart(name, subject, "effective rank", side, estimate, paper, reason, role)


def hard_accuracy(run: RunResults) -> Parts:
    """C10: RM-Bench's hard accuracy over lambda, in points, on table 2's prompts and seeds.

    The least-squares slope over the paper's four lambdas (BT is lambda 0), and BSR minus BT at the
    two largest lambdas. Reported with it: whether that exceeds the abstract's five points.
    """
    bench, default = run.settings["rm_bench"], run.settings["bsr"]["weight"]
    names, subject = (bench["objectives"], bench["backbone"]) if bench else ([], "-")
    of_lambda = [n for n in names if n == BT or (n.startswith(BSR) and not bsr_batch(n))]
    method_at = {bsr_weight(n, default) or 0.0: n for n in of_lambda}
    # One (seeds, prompts) array, or None, and one published number for each lambda.
    hard, published = [], []
    for weight in LAMBDAS:
        name = next((n for w, n in method_at.items() if np.isclose(w, weight, atol=0)), None)
        hard.append(run.hard_accuracy(name) if name else None)
        paper_method = f"{BSR}@{weight:g}" if weight else BT
        published.append(run.paper("table2", subject, paper_method, "hard"))
    # Every part is a contrast: a linear combination of the four accuracies, paired by seed and
    # prompt. (-3, -1, 1, 3) / 10 is the least-squares slope over four equally spaced points.
    for name, weights, side in (
        ("slope over lambda, a step", (-0.3, -0.1, 0.1, 0.3), ABOVE_0),
        ("lambda 0.001: bt-bsr - bt", (-1, 0, 1, 0), ABOVE_0),
        ("lambda 0.001: more than 5", (-1, 0, 1, 0), COMPLEX),
        ("lambda 0.01: bt-bsr - bt", (-1, 0, 0, 1), ABOVE_0),
        ("lambda 0.01: more than 5", (-1, 0, 0, 1), COMPLEX),
    ):
        terms_used = [
            (weight, accuracy) for weight, accuracy in zip(weights, hard, strict=True) if weight
        ]
        terms = [weight * accuracy for weight, accuracy in terms_used if accuracy is not None]
        if len(terms) == len(terms_used):
            estimate = run.estimate(np.sum(terms, axis=0))
            reason = "a file of RM-Bench is missing, without which no mean over domains is given"
        else:
            estimate = NO_ESTIMATE
            reason = "the preset lacks a lambda" if bench else "the preset has no RM-Bench"
        paper, role = float(np.dot(weights, published)), NEEDED if side == ABOVE_0 else BESIDE
        yield ClaimPart(name, subject, "points", side, estimate, paper, reason, role)


def response_length(run: RunResults) -> Parts:
    """C11: relative change of AlpacaEval's response length with RLOO and BSR, in %.

    From the SFT policy: any decrease, and at least half of the decrease in the paper's table 3; and
    from RLOO with BT, because RLOO might shorten answers with any reward model.
    """
    methods = ("sft", RLOO_BT, RLOO_BSR)
    sft, bt, bsr = (run.paper("table3", "-", m, "avg_length_chars") for m in methods)
    papers = [100 * (bsr / sft - 1), 100 * (bsr / bt - 1)]
    subject, reason, changes = "-", "the preset has no AlpacaEval", [np.empty((0, 0))] * 2
    if run.settings["alpaca_eval"]:
        subject = run.settings["alpaca_eval"]["run"]
        reason = "the answers that it is compared with are all empty"
        answers = run.answers
        lengths = [answers[method, "avg_length_chars"] for method in (RLOO_BT, RLOO_BSR)]
        changes = [answers[RLOO_BSR, "length_change_from_sft"], -100 * relative_loss(*lengths)]
    for name, end, change, paper in (
        ("change from SFT: shorter at all", 0.0, changes[0], papers[0]),
        ("change from SFT: half of the paper's or more", papers[0] / 2, changes[0], papers[0]),
        ("change from RLOO with BT: shorter", 0.0, changes[1], papers[1]),
    ):
        side = (-np.inf, end)
        yield ClaimPart(name, subject, "%", side, run.estimate(change), paper, reason)


def win_rate(run: RunResults) -> Parts:
    """C12: AlpacaEval's length-controlled win rate, RLOO with BSR minus RLOO with BT, in points."""
    judged = run.settings["alpaca_eval"]
    estimate, subject, reason = NO_ESTIMATE, "-", "the preset has no AlpacaEval"
    if judged:
        subject, reason = judged["run"], "the preset has no judge (`alpaca_eval.judge` is null)"
        if judged["judge"]:
            answers = run.answers
            wins = [answers[method, "lc_win_rate"] for method in (RLOO_BSR, RLOO_BT)]
            estimate, reason = run.estimate(wins[0] - wins[1]), "no length-controlled win rate"
    paper = run.paper_gap("table3", subject, "lc_win_rate", RLOO_BSR, RLOO_BT)
    yield ClaimPart("rloo-bt-bsr - rloo-bt", subject, "points", ABOVE_0, estimate, paper, reason)


def grows_with_size(run: RunResults) -> Parts:
    """C13: BSR minus BT of a backbone, less the same of the next smaller one of its family.

    Average, counts and cells as of C4. Two sizes share their prompts, and not their seeds.
    """
    reason = run.lacks(BSR)
    neighbours = neighbouring_sizes(run.settings["families"], run.settings["backbones"])
    if not neighbours:
        reason = "the preset has no two sizes of one family"
    gaps: dict[str, list[pd.DataFrame]] = {}
    signs: dict[str, float] = defaultdict(float)
    cells = []
    for small, large in neighbours:
        for name, sign in ((large, 1), (small, -1)):
            gaps[name] = [run.gap(name, metric, BSR, BT) for metric in HEADINGS]
            signs[name] += sign / len(neighbours)
        for i, (metric, heading) in enumerate(HEADINGS.items()):
            scenario, unit = heading.split(", ")
            pair = gaps[large][i], gaps[small][i]
            estimate = NO_ESTIMATE if reason else contrast(pair, [1, -1])
            papers = [run.paper_gap("table5", b, metric, BSR, BT) for b in (large, small)]
            name, paper = f"{scenario}: gap of {large} - of {small}", papers[0] - papers[1]
            cells.append(ClaimPart(name, large, unit, ABOVE_0, estimate, paper, reason))
    paper = float(np.mean([cell.paper for cell in cells])) if cells else np.nan
    name, estimate = "average of all: larger - smaller", average(gaps, signs)
    yield ClaimPart(name, "all", MEAN_UNIT, ABOVE_0, estimate, paper, reason)
    yield from counts_of(cells) if cells else ()
