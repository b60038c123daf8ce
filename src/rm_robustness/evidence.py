"""From a run's files to estimates: what each of the paper's claims C1 to C13 is judged by.

One function a claim, from a `Run` to its parts. Nothing here judges: a part carries the side on
which the claim holds, `claims` compares, and docs/CLAIMS.md says why this side and no other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .figures import BSR, BT, SCENARIOS, read_probes
from .files import read_csv, read_frame
from .rm_bench import bench_path, domain_masks, percent, read_scores, spread
from .rm_bench import per_prompt as bench_per_prompt
from .scenarios import HEADINGS, METRICS, per_prompt, read_rewards, score_path
from .statistics import Estimate, seed_mean
from .tables import bsr_weight, paper_value
from .tracking import read_looks

Array = NDArray[np.float64]
Side = tuple[float, float]
Parts = Iterator["Part"]

NOTHING = Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0)
ABOVE_0: Side = (0.0, np.inf)
BELOW_0: Side = (-np.inf, 0.0)
NEAR_1: Side = (0.9, 1.1)
LOSS: Side = (10.0, np.inf)  # %, the paper's "more than 10 %"
COMPLEX: Side = (5.0, np.inf)  # points, the abstract's "more than 5 % in complex tasks"
STAGNATION = 0.1  # linear decay alone would leave the last half a third of the first half's gain
LAMBDAS = (0.0, 1e-4, 1e-3, 1e-2)  # those of the paper's table 2
RLOO_RUN = "standard"  # the run of figure 5
SEEN, RESPONSE, MUTUAL = "prompt_disjoint_tau", "response_disjoint_tau", "mutual_disjoint_tau"


@dataclass(frozen=True)
class Part:
    """One quantity of a claim, which says that it lies strictly between the ends of `side`.

    `subject` is the backbone, or the RLOO run. `paper` is the same quantity from the paper's own
    tables, NaN where they do not hold it. `reason` says why nothing was measured, if nothing was.
    A part that does not count is shown beside the claim and does not enter its verdict.
    """

    name: str
    subject: str
    unit: str
    side: Side
    estimate: Estimate
    paper: float = np.nan
    reason: str = ""
    counts: bool = True


@dataclass(frozen=True)
class Run:
    """A run folder, its settings and the paper's numbers.

    `settings` are those of `scenarios.table5`, the sections rm_bench, ranks, rloo and alpaca_eval
    (None where the preset has none of it), and `families`, lists of backbones from small to large.
    """

    folder: Path
    settings: Mapping[str, Any]
    published: pd.DataFrame

    def estimate(self, values: Array | pd.DataFrame) -> Estimate:
        """Mean over seeds (rows) and prompts (columns) with its interval."""
        resamples = self.settings["resamples"]
        return seed_mean(np.asarray(values), seed=self.settings["seed"], resamples=resamples)

    def lacks(self, *objectives: str) -> str:
        """Say which of these objectives the preset does not train; "" if it trains them all."""
        missing = [name for name in objectives if name not in self.settings["objectives"]]
        return f"the preset does not train {' and '.join(missing)}" if missing else ""

    def values(self, backbone: str, method: str, metric: str) -> pd.DataFrame:
        """Accuracy or tau of every seed (row) and prompt (column, named by its id)."""
        seeds, split = self.settings["seeds"], METRICS[metric]
        paths = [score_path(self.folder, backbone, method, seed, split) for seed in seeds]
        scores = zip(*read_rewards(paths), paths, strict=True)
        rows = [per_prompt(metric, rewards, gold, path) for rewards, gold, path in scores]
        prompts = read_frame(paths[0], ["prompt_id"])["prompt_id"].unique()
        return pd.DataFrame(np.stack(rows), index=seeds, columns=prompts)

    def gap(self, backbone: str, metric: str, method: str, reference: str) -> pd.DataFrame:
        """One objective minus another, on the same seeds and prompts; empty if one is lacking."""
        if self.lacks(method, reference):
            return pd.DataFrame()
        return self.values(backbone, method, metric) - self.values(backbone, reference, metric)

    def paper(self, artifact: str, backbone: str, method: str, metric: str) -> float:
        """Look up the paper's number; of tables 1 to 3 there is one model, whatever ours is."""
        if artifact == "table5":
            model = self.settings["backbones"][backbone]["paper_model"]
        else:
            model = self.published.loc[self.published["artifact"] == artifact, "model"].iloc[0]
        weight = bsr_weight(method, self.settings["bsr"]["weight"])
        return paper_value(self.published, artifact, model, method, weight, metric)

    def paper_gap(
        self, artifact: str, backbone: str, metric: str, method: str, reference: str
    ) -> float:
        """One number of the paper's tables minus another."""
        ours, theirs = (self.paper(artifact, backbone, m, metric) for m in (method, reference))
        return ours - theirs

    def read(self, table: str, method: str, metric: str, kind: str) -> Estimate:
        """Read a cell of a table: its `value`, or its paired `difference` from the reference.

        Of a method and metric in several rows it is the first: table 1 begins with its largest n.
        """
        frame = read_csv(self.folder / "results" / f"{table}.csv")
        rows = frame[(frame["method"] == method) & (frame["metric"] == metric)]
        if rows.empty or pd.isna(rows.iloc[0][kind]):
            return NOTHING
        row, ends = rows.iloc[0], "ci" if kind == "value" else kind
        value, low, high = (float(row[name]) for name in (kind, f"{ends}_low", f"{ends}_high"))
        return Estimate(value, low, high, float(row["p_value"]), int(row["n_seeds"]), 0)


def inflation(run: Run) -> Parts:
    """C1: ||h_w - h_l|| of Bradley-Terry, last look minus first: its mean and its spread."""
    for backbone in run.settings["backbones"]:
        first, last = _first_and_last(run, backbone, "difference_norm")
        spread = (last.std(axis=1) - first.std(axis=1))[:, None]
        for name, change in (("mean", last - first), ("standard deviation", spread)):
            estimate = run.estimate(change)
            yield Part(f"{name}, last look - first", backbone, "norm", ABOVE_0, estimate)


def head_norm(run: Run) -> Parts:
    """C2: ||W_p|| after Bradley-Terry training over its value before, a ratio a seed."""
    for backbone in run.settings["backbones"]:
        first, last = _first_and_last(run, backbone, "weight_norm")
        ratio = run.estimate(last[:, :1] / first[:, :1])
        yield Part("after / before", backbone, "ratio", NEAR_1, ratio)


def _first_and_last(run: Run, backbone: str, column: str) -> tuple[Array, Array]:
    """A column of the BT probes at the first and the last look, (seeds, pairs) each."""
    probes = read_probes(run.folder, backbone, run.settings["seeds"])
    steps, seeds = probes["step"], len(run.settings["seeds"])
    first, last = (
        probes.loc[steps == step, column].to_numpy(np.float64).reshape(seeds, -1)
        for step in (steps.min(), steps.max())
    )
    return first, last


def dispersion(run: Run) -> Parts:
    """C3: ||h|| over the four scenarios, BSR minus BT: coefficient of variation, and range.

    The range is that of the four scenarios' means, as a share of the mean of all responses.
    """
    reason = run.lacks(BSR)
    for backbone in run.settings["backbones"]:
        spreads = [] if reason else [_spreads(run, backbone, method) for method in (BSR, BT)]
        for i, name in enumerate(("coefficient of variation", "range of the four means")):
            gap = spreads[0][:, [i]] - spreads[1][:, [i]] if spreads else np.empty((0, 0))
            name, estimate = f"{name}: bt-bsr - bt", run.estimate(gap)
            yield Part(name, backbone, "share of the mean", BELOW_0, estimate, reason=reason)


def _spreads(run: Run, backbone: str, method: str) -> Array:
    """Coefficient of variation and range of the scenarios' means of ||h||, a row a seed (S, 2)."""
    rows = []
    for seed in run.settings["seeds"]:
        paths = [score_path(run.folder, backbone, method, seed, split) for split in SCENARIOS]
        norms = [read_frame(p, ["hidden_norm"])["hidden_norm"].to_numpy(np.float64) for p in paths]
        pooled = np.concatenate(norms)
        spread = float(np.ptp([own.mean() for own in norms]))
        rows.append([pooled.std() / pooled.mean(), spread / pooled.mean()])
    return np.array(rows)


def against(method: str, others: Sequence[str], side: Side, run: Run) -> Parts:
    """C4, C5, C6: an objective minus each other one, for every backbone and scenario (table 5)."""
    for backbone in run.settings["backbones"]:
        for metric, heading in HEADINGS.items():
            scenario, unit = heading.split(", ")
            for other in others:
                name, reason = f"{scenario}: {method} - {other}", run.lacks(method, other)
                gap = run.estimate(run.gap(backbone, metric, method, other))
                paper = run.paper_gap("table5", backbone, metric, method, other)
                yield Part(name, backbone, unit, side, gap, paper, reason)


def unseen_models(run: Run) -> Parts:
    """C7: the share of BT's tau that is lost from prompt-disjoint to mutual-disjoint, in %.

    Beside it the loss to response-disjoint, whose prompts are others.
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
            estimate = run.estimate(100 * loss) if positive else NOTHING
            before, after = (run.paper("table5", backbone, BT, m) for m in (SEEN, metric))
            name = f"prompt-disjoint to {HEADINGS[metric].partition(',')[0]}"
            paper, counts = 100 * (1 - after / before), metric == MUTUAL
            yield Part(name, backbone, "%", LOSS, estimate, paper, reason, counts)


def relative_loss(before: Array, after: Array) -> Array:
    """Linearise 1 - mean(after) / mean(before) on the same prompts: (S, P) values of that mean.

    With R the ratio of the means over seeds and prompts, the value of a seed and prompt is
    (1 - R) - (after - R before) / mean(before); it is NaN where either is.
    """
    mean = _mean(np.where(np.isnan(after), np.nan, before))
    ratio = _mean(np.where(np.isnan(before), np.nan, after)) / mean
    return (1 - ratio) - (after - ratio * before) / mean


def relative_loss_unpaired(before: Array, after: Array) -> Array:
    """Linearise 1 - mean(after) / mean(before) on other prompts: (S, P) and (S, Q) to (S, P + Q).

    A column is one prompt's part in the loss, weighted so that a seed's mean over all columns is
    the seed's loss; redrawing columns then carries the variation of both sets of prompts.
    """
    mean = _mean(before)
    ratio = _mean(after) / mean
    sets = [ratio * (before - mean) / mean, (ratio * mean - after) / mean]
    counts = [np.sum(~np.isnan(values), axis=1, keepdims=True) for values in sets]
    total = counts[0] + counts[1]
    weighted = [v * total / np.maximum(n, 1) for v, n in zip(sets, counts, strict=True)]
    return (1 - ratio) + np.hstack(weighted)


def _mean(values: Array) -> float:
    """Mean over seeds of the means over prompts, as `statistics.seed_mean` takes it."""
    return float(np.mean(np.nanmean(values, axis=1)))


def gold_under_rloo(run: Run) -> Parts:
    """C8: gold of RLOO's run `standard` in the two halves of training (figure 5).

    The middle look is the one nearest to half of the updates, the earlier of two.
    """
    rloo, estimates = run.settings["rloo"], [NOTHING] * 3
    reason = f"the preset has no RLOO run `{RLOO_RUN}`"
    if rloo and RLOO_RUN in rloo["runs"]:
        early, late = zip(*(_halves(run, method) for method in (BT, BSR)), strict=True)
        changes = [late[1], late[1] - late[0], STAGNATION * early[0] - late[0]]
        estimates = [run.estimate(change) for change in changes]
        reason = "with bt, gold does not rise in the first half: nothing can stagnate"
        if not run.estimate(early[0]).low > 0:
            estimates[2] = NOTHING
    for name, estimate in zip(
        (
            "gain of the last half: bt-bsr",
            "gain of the last half: bt-bsr - bt",
            "bt: a tenth of the first half's gain - the last half's",
        ),
        estimates,
        strict=True,
    ):
        yield Part(name, RLOO_RUN, "gold", ABOVE_0, estimate, reason=reason)


def _halves(run: Run, method: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gain in gold of a policy in the two halves of training, seeds x prompts each."""
    looks = read_looks(run.folder, f"{RLOO_RUN}-{method}")
    table = looks.pivot(index="seed", columns=["update", "example_id"], values="gold")
    updates = sorted(looks["update"].unique())
    middle = min(updates, key=lambda update: abs(2 * update - updates[0] - updates[-1]))
    first, half, last = (table[update] for update in (updates[0], middle, updates[-1]))
    return half - first, last - half


def effective_ranks(run: Run) -> Parts:
    """C9: how much the effective rank grows from the training set to RM-Bench, BT minus BSR."""
    estimate, subject, reason = NOTHING, "-", "the preset measures no effective ranks"
    if run.settings["ranks"]:
        subject, reason = run.settings["rm_bench"]["backbone"], "table 1 has no such number"
        gap = run.read("table1", BSR, "erank_delta", "difference")
        estimate = Estimate(-gap.value, -gap.high, -gap.low, gap.p_value, gap.n_seeds, 0)
    paper = run.paper_gap("table1", subject, "erank_delta", BT, BSR)
    name = "growth on RM-Bench: bt - bt-bsr"
    yield Part(name, subject, "effective rank", ABOVE_0, estimate, paper, reason)


def hard_accuracy(run: Run) -> Parts:
    """C10: RM-Bench's hard accuracy over lambda, in points, on table 2's prompts and seeds.

    The slope over the paper's four lambdas, BT being 0, a step from one to the next; and BSR less
    BT at the larger two, beside it whether that is more than the abstract's five points.
    """
    bench, default = run.settings["rm_bench"], run.settings["bsr"]["weight"]
    names, subject = (bench["objectives"], bench["backbone"]) if bench else ([], "-")
    reason = "the preset lacks a lambda" if bench else "the preset has no RM-Bench"
    ours = {bsr_weight(n, default) or 0.0: n for n in names if n == BT or n.startswith(BSR)}
    hard, published = [], []
    for weight in LAMBDAS:
        name = next((n for w, n in ours.items() if np.isclose(w, weight, atol=0)), None)
        hard.append(_hard(run, name) if name else None)
        theirs = f"{BSR}@{weight:g}" if weight else BT
        published.append(run.paper("table2", subject, theirs, "hard"))
    for name, contrast, side in (
        ("slope over lambda, a step", (-0.3, -0.1, 0.1, 0.3), ABOVE_0),
        ("lambda 0.001: bt-bsr - bt", (-1, 0, 1, 0), ABOVE_0),
        ("lambda 0.001: more than 5", (-1, 0, 1, 0), COMPLEX),
        ("lambda 0.01: bt-bsr - bt", (-1, 0, 0, 1), ABOVE_0),
        ("lambda 0.01: more than 5", (-1, 0, 0, 1), COMPLEX),
    ):
        used = [(weight, own) for weight, own in zip(contrast, hard, strict=True) if weight]
        terms = [weight * own for weight, own in used if own is not None]
        estimate = run.estimate(np.sum(terms, axis=0)) if len(terms) == len(used) else NOTHING
        paper, counts = float(np.dot(contrast, published)), side == ABOVE_0
        yield Part(name, subject, "points", side, estimate, paper, reason, counts)


def _hard(run: Run, method: str) -> Array:
    """Hard accuracy in percent, (seeds, prompts), whose means are those of table 2."""
    about = run.settings["rm_bench"]
    columns = ["prompt_id", "response_id", "domain", "style", "kind"]
    bench = read_frame(bench_path(run.folder), columns)
    folder = run.folder, about["backbone"], method
    paths = [score_path(*folder, seed, "rm_bench") for seed in about["seeds"]]
    frames = [bench_per_prompt(bench, read_scores(path, bench)) for path in paths]
    values = np.stack([percent(frame, "hard") for frame in frames])
    return spread(values, domain_masks("hard", frames[0]["domain"]))


def response_length(run: Run) -> Parts:
    """C11: the change of AlpacaEval's response length from SFT under RLOO with BSR, in %.

    Shorter at all, and by at least half of what the paper's own table 3 gives.
    """
    estimate, subject, reason = NOTHING, "-", "the preset has no AlpacaEval"
    if run.settings["alpaca_eval"]:
        subject, reason = run.settings["alpaca_eval"]["run"], "table 3 has no such number"
        estimate = run.read("table3", "rloo-bt-bsr", "length_change_from_sft", "value")
    methods = ("sft", "rloo-bt-bsr")
    before, after = (run.paper("table3", subject, m, "avg_length_chars") for m in methods)
    paper = 100 * (after / before - 1)
    for name, end in (("shorter at all", 0.0), ("half of the paper's or more", paper / 2)):
        side = (-np.inf, end)
        yield Part(f"change from SFT: {name}", subject, "%", side, estimate, paper, reason)


def win_rate(run: Run) -> Parts:
    """C12: AlpacaEval's length-controlled win rate, RLOO with BSR minus RLOO with BT, in points."""
    judged = run.settings["alpaca_eval"]
    estimate, subject, reason = NOTHING, "-", "the preset has no AlpacaEval"
    if judged:
        subject, reason = judged["run"], "table 3 has no such number"
        estimate = run.read("table3", "rloo-bt-bsr", "lc_win_rate", "difference")
        if judged["judge"] is None:
            reason = "the preset has no judge (`alpaca_eval.judge` is null)"
    paper = run.paper_gap("table3", subject, "lc_win_rate", "rloo-bt-bsr", "rloo-bt")
    yield Part("rloo-bt-bsr - rloo-bt", subject, "points", ABOVE_0, estimate, paper, reason)


def grows_with_size(run: Run) -> Parts:
    """C13: (BSR - BT) of a backbone minus that of the next smaller one of its family."""
    known = run.settings["backbones"]
    families = [[name for name in family if name in known] for family in run.settings["families"]]
    neighbours = [pair for family in families for pair in pairwise(family)]
    if not neighbours:
        reason = "the preset has no two sizes of one family"
        yield Part("larger - smaller", "-", "", ABOVE_0, NOTHING, reason=reason)
    for small, large in neighbours:
        for metric, heading in HEADINGS.items():
            scenario, unit = heading.split(", ")
            ours = [run.gap(name, metric, BSR, BT) for name in (large, small)]
            theirs = [run.paper_gap("table5", b, metric, BSR, BT) for b in (large, small)]
            name, paper = f"{scenario}: gap of {large} - of {small}", theirs[0] - theirs[1]
            estimate, reason = run.estimate(ours[0] - ours[1]), run.lacks(BSR)
            yield Part(name, large, unit, ABOVE_0, estimate, paper, reason)
