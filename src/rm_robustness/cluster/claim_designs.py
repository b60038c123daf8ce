"""What a preset's seeds and prompts can find of the paper's claims C1 to C13, before it is run.

For each claim there is the smallest difference found with 80% at 5% (`pivot.Spread`), beside the
paper's own. Nothing is measured: how much a seed and a prompt differ is assumed in `CLAIMS`, each
with its source. Only what is computed imports numpy, so that the rules can warn of a hopeless one.
"""

import csv
from collections.abc import Sequence
from functools import cache
from itertools import product
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from ..experiment.catalog import PUBLISHED
from ..experiment.config import Settings
from ..experiment.grid import BSR, BT, benchmark_seeds, neighbouring_sizes
from ..experiment.package_files import package_file
from ..experiment.scenarios import MUTUAL_DISJOINT, PROMPT_DISJOINT, SCENARIOS
from ..progress import aligned
from .job_cost import benchmark_rows, prompts_of, rows_of

if TYPE_CHECKING:
    from ..pivot import Spread

HINGE, NORM, DR = "bt-hinge", "bt-norm", "bt-dr"
SEED_SD = 0.01  # of tau and accuracy, between two close objectives; unknown for models of 1 to 3B
FACTORS = (0.5, 1.0, 2.0)  # of that and of the other seeds' sds in CLAIMS, as none is known there
MOST_SEEDS = 16


class Claim(NamedTuple):
    """A comparison, the sds of a seed, a prompt and an entry in its unit, and what it needs."""

    compared: str
    unit: str
    seed_sd: float
    prompt_sd: float
    noise_sd: float
    source: str  # of the three
    section: str = "grid"  # of the configuration, which has its seeds and its objectives
    objectives: tuple[str, ...] = (BT,)
    digits: int = 4


# Two close objectives (BSR, hinge, BT), and two that are far apart (DR, Norm against BT), whose
# seeds differ twice as much; a pair's difference of an entry.
CLOSE, FAR = (SEED_SD, 0.05, 0.25), (2 * SEED_SD, 0.2, 0.37)
DEMO = "the demo's own"
PAIRS = "the demo's pairs of objectives; its seeds' sd is 0 to .014 for close ones, .02 to .06 else"
CLAIMS = {
    "C1": Claim("bt: growth of ||h_w - h_l||", "norm", 0.27, 0.86, 0.61, f"{DEMO}, at H = 64"),
    "C2": Claim("bt: norm of the head within 10 %", "%", 0.6, 0, 0, DEMO, digits=1),
    "C3": Claim("bt-bsr - bt: range of ||h||", "% of mean", 0.09, 0, 0, DEMO, "grid", (BT, BSR), 2),
    "C4": Claim(
        "bt-bsr - the closest other", "tau", *CLOSE, PAIRS, "grid", (BT, HINGE, NORM, DR, BSR)
    ),
    "C5": Claim("bt-dr - bt", "tau", *FAR, PAIRS, "grid", (BT, DR)),
    "C6": Claim("bt-norm - bt", "tau", *FAR, PAIRS, "grid", (BT, NORM)),
    # The demo's 139 and 95 at a tau of .33 are these at the paper's of .62, and 2 SEED_SD is 3.2.
    "C7": Claim("bt: loss beyond 10 %", "%", 3.2, 75, 50, f"{DEMO}, at the paper's tau", digits=1),
    "C8": Claim("bt-bsr - bt: gold, last half", "gold", 0.005, 0, 0.26, DEMO, "rloo", digits=3),
    "C9": Claim(
        "bt - bt-bsr: growth of rank", "rank", 1.2, 0, 0, DEMO, "rm_bench", (BT, BSR), digits=2
    ),
    "C10": Claim(
        *("bt-bsr - bt: hard accuracy", "points", 200 * SEED_SD, 5, 25),
        "a prompt's as in the demo; its seeds' sd is 11 to 13, of models of 0.3M parameters",
        *("rm_bench", (BT, f"{BSR}@1e-4", BSR, f"{BSR}@1e-2"), 1),
    ),
    "C11": Claim("bt-bsr - sft, - bt: length", "%", 10.7, 26, 33, DEMO, "alpaca_eval", digits=1),
    "C12": Claim(
        *("bt-bsr - bt: LC win rate", "points", 0.3, 17.5, 17.5),
        "assumed: 25 points an instruction; the demo's soft judge has 10",
        *("alpaca_eval", (BT,), 2),
    ),
    "C13": Claim("gap of larger - of smaller", "tau", *CLOSE, PAIRS, "grid", (BT, BSR)),
}
AVERAGED = ("C4", "C5", "C6", "C13")  # over backbones (C13: pairs of them) and the four scenarios
COUNTED = {"C4": (BT, HINGE, NORM, DR), "C5": (BT,), "C6": (BT,)}  # shown in half of the cells too
MARGIN = 10.0  # %, within which the head's norm is the same (C2)


class Design(NamedTuple):
    """What can be found of a claim: `found` for each of `seed_sds`, empty where nothing can be."""

    claim: str
    seeds: int
    prompts: list[int]
    seed_sds: list[float]
    found: list[float]
    paper: float | None
    verdict: str


def designs(config: Settings, seed_sd: float | None = None) -> list[Design]:
    """The design of every claim; `seed_sd` replaces half, once and twice `SEED_SD`."""
    factors = FACTORS if seed_sd is None else (seed_sd / SEED_SD,)
    effects = paper_effects()
    return [_design(config, name, factors, effects) for name in CLAIMS]


def _design(config: Settings, name: str, factors: Sequence[float], effects: "Effects") -> Design:
    sds = [factor * CLAIMS[name].seed_sd for factor in factors]
    paper = effects.size.get(name)
    if reason := lacks(config, name):
        seeds = n_seeds(config, name) if config[CLAIMS[name].section] else 0
        return Design(name, seeds, [], sds, [], paper, f"cannot: {reason}")
    seeds = n_seeds(config, name)
    found = [smallest_found(config, name, seeds, factor) for factor in factors]
    if paper is None:
        verdict = "the paper has a figure alone"
    else:
        can = [
            size <= paper and shows_half(config, name, seeds, factor, effects)
            for size, factor in zip(found, factors, strict=True)
        ]
        largest = max((sd for sd, enough in zip(sds, can, strict=True) if enough), default=None)
        verdict = "can"
        if largest is None:
            verdict = "cannot: the paper's is smaller"
            if found[0] <= paper:
                verdict = "cannot: the mean perhaps, not half of the cells"
        elif not all(can):
            verdict = f"only if seeds' sd is at most {largest:g}"
    return Design(name, seeds, prompts(config, name), sds, found, paper, verdict)


def lacks(config: Settings, name: str) -> str:
    """Why a preset can give no verdict on a claim, whatever it measures; "" for none."""
    claim, section = CLAIMS[name], config[CLAIMS[name].section]
    if not section:
        return {
            "rm_bench": "the preset has no RM-Bench",
            "rloo": "the preset has no RLOO",
            "alpaca_eval": "the preset has no AlpacaEval",
        }[claim.section]
    has = section.get("objectives", claim.objectives)  # RLOO and AlpacaEval have BT and BSR
    if missing := [each for each in claim.objectives if each not in has]:
        return f"the preset lacks {' and '.join(missing)}"
    if name == "C9" and not config["ranks"]:
        return "the preset measures no effective ranks"
    if name == "C12" and not section["judge"]:
        return "the preset has no judge (config/judge.yaml)"
    if name == "C13" and not _neighbours(config):
        return "the preset has no two sizes of one family"
    return "one seed" if n_seeds(config, name) == 1 else ""


def warning(config: Settings) -> str:
    """The warning that no claim can be decided; "" where one can."""
    reasons = {name: lacks(config, name) for name in CLAIMS}
    if not all(reasons.values()):
        return ""
    told = "; ".join(dict.fromkeys(reasons.values()))
    return f"warning: preset {config['preset']} cannot decide any of the paper's claims: {told}"


def n_seeds(config: Settings, name: str) -> int:
    """The number of seeds that a claim is judged on."""
    claim = CLAIMS[name]
    if claim.section == "rm_bench":
        listed = [benchmark_seeds(config, "rm_bench", each) for each in claim.objectives]
        return min(map(len, listed))
    return len(config[claim.section]["seeds"])


def prompts(config: Settings, name: str) -> list[int]:
    """The number of prompts of each independent set that a claim is judged on; none for seeds."""
    counts = prompts_of(config)
    if name in AVERAGED:  # two scenarios each have the prompts of X_train and of X_valid
        return [counts["evaluated"], counts["valid"]]
    match name:
        case "C1":
            return [int(config["reward_models"]["probe_pairs"])]
        case "C7":
            return [counts["valid"]]
        case "C8":
            return [int(config["rloo"]["eval_prompts"])]
        case "C10":
            return [benchmark_rows(config, "rm_bench")]
        case "C11" | "C12":
            return [rows_of(config, config["alpaca_eval"]["source"], "instructions")]
    return []


def _neighbours(config: Settings) -> list[tuple[str, str]]:
    return neighbouring_sizes(config["grid"]["families"], config["grid"]["backbones"])


def spread(config: Settings, name: str, seeds: int, factor: float, cell: bool = False) -> "Spread":
    """The assumed spread of a claim's estimate; `cell`: of one backbone and scenario alone."""
    from ..pivot import Spread

    claim, sets, weights, scenarios = CLAIMS[name], prompts(config, name), [1.0], 1
    if name in AVERAGED and not cell:
        scenarios = len(SCENARIOS)
        weights = [1 / len(config["grid"]["backbones"])] * len(config["grid"]["backbones"])
        if name == "C13":  # a larger and a smaller backbone a pair; three sizes are two pairs
            weights = [1 / len(_neighbours(config))] * 2 * len(_neighbours(config))
    # Each backbone has seeds of its own, which its scenarios share: they average over backbones
    # alone. Prompts are shared by all backbones and by two scenarios each: they average over the
    # two sets, and a larger backbone's are taken to differ from a smaller one's (C13). Single
    # entries average over all. A cell has the smaller of the two sets.
    sets = [min(sets)] if cell else sets
    squares = sum(weight**2 for weight in weights)
    inverse = mean(1 / count for count in sets) if sets else 0.0
    noise = claim.noise_sd**2 * squares * inverse / seeds / scenarios
    shared = 2 if name == "C13" and not cell else 1
    by_prompt = shared * claim.prompt_sd**2 * inverse / len(sets) if sets else 0.0
    return Spread.of_components(
        seeds=(factor * claim.seed_sd) ** 2 * squares / seeds,
        prompts=by_prompt,
        noise=noise,
        seeds_df=len(weights) * (seeds - 1),
        prompts_df=sum(sets) - len(sets),
    )


def smallest_found(config: Settings, name: str, seeds: int, factor: float) -> float:
    """The smallest difference found with 80% at 5%, in the claim's unit.

    Of C2 it is the smallest margin within which equal norms are shown to be: both ends of the
    interval must lie within, each with 90%.
    """
    power = 0.9 if name == "C2" else 0.8
    return spread(config, name, seeds, factor).smallest_found(power)


def finds(config: Settings, name: str, seeds: int, factor: float, effects: "Effects") -> bool:
    """Whether an effect of the paper's size is found; of C4 to C6 also in half of the cells."""
    found = smallest_found(config, name, seeds, factor)
    return found <= effects.size[name] and shows_half(config, name, seeds, factor, effects)


def shows_half(config: Settings, name: str, seeds: int, factor: float, effects: "Effects") -> bool:
    """Whether more than half of the paper's cells are found; true of a claim that has none."""
    if name not in COUNTED:
        return True
    # More than half must have p below Holm's bound for the one that just makes it.
    cells = len(config["grid"]["backbones"]) * len(SCENARIOS) * len(COUNTED[name])
    alpha = 0.05 / (cells - cells // 2)
    bounds = {
        far: spread(config, "C5" if far else "C4", seeds, factor, cell=True).smallest_found(
            alpha=alpha
        )
        for far in {_is_far(name, other) for other in COUNTED[name]}
    }
    shown = [
        effect >= bounds[_is_far(name, other)]
        for other in COUNTED[name]
        for effect in effects.cells[name, other]
    ]
    return mean(shown) > 0.5


def _is_far(name: str, other: str) -> bool:
    return name != "C4" or other in (NORM, DR)


class Effects(NamedTuple):
    """The paper's own effects, positive in the claim's direction, from its tables."""

    size: dict[str, float]
    cells: dict[tuple[str, str], list[float]]  # C4 to C6, for each other objective


@cache
def paper_effects() -> Effects:
    """Read the paper's effects; of a claim with several parts the smallest."""
    with package_file(PUBLISHED).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    five = {
        (row["model"], row["method"], row["metric"]): float(row["value"])
        for row in rows
        if row["artifact"] == "table5"
    }
    at = {
        (row["method"], float(row["lambda"] or 0), row["metric"]): float(row["value"])
        for row in rows
        if row["artifact"] != "table5"
    }
    models = list(dict.fromkeys(model for model, _, _ in five))
    metrics = [scenario.metric for scenario in SCENARIOS.values()]

    def gaps(above: str, below: str) -> dict[tuple[str, str], float]:
        return {
            (model, metric): five[model, above, metric] - five[model, below, metric]
            for model, metric in product(models, metrics)
        }

    cells = {("C4", other): list(gaps(BSR, other).values()) for other in COUNTED["C4"]}
    cells |= {(name, BT): list(gaps(BT, m).values()) for name, m in (("C5", DR), ("C6", NORM))}
    families: dict[str, list[str]] = {}
    for model in sorted(models, key=lambda name: float(name.rpartition("-")[2].rstrip("B"))):
        families.setdefault(model.rpartition("-")[0], []).append(model)
    pairs = neighbouring_sizes(families.values(), models)
    of_size = gaps(BSR, BT)
    seen, mutual = PROMPT_DISJOINT.metric, MUTUAL_DISJOINT.metric
    length, wins = "avg_length_chars", "lc_win_rate"
    bsr, others = ("rloo-bt-bsr", 1e-3), (("sft", 0.0), ("rloo-bt", 0.0))
    size = {
        "C2": MARGIN,
        "C4": min(mean(values) for (name, _), values in cells.items() if name == "C4"),
        "C5": mean(cells["C5", BT]),
        "C6": mean(cells["C6", BT]),
        "C7": min(100 * (1 - five[m, BT, mutual] / five[m, BT, seen]) - 10 for m in models),
        "C9": at[BT, 0.0, "erank_delta"] - at[BSR, 1e-3, "erank_delta"],
        "C10": at[BSR, 1e-3, "hard"] - at[BT, 0.0, "hard"],
        "C11": min(100 * (1 - at[*bsr, length] / at[*other, length]) for other in others),
        "C12": at[*bsr, wins] - at["rloo-bt", 0.0, wins],
        "C13": mean(
            of_size[large, metric] - of_size[small, metric]
            for (small, large), metric in product(pairs, metrics)
        ),
    }
    return Effects(size, cells)


def as_text(listed: list[Design]) -> str:
    """Format the designs as text: a line a claim, then what is assumed and where it is from."""
    headings = ["claim", "comparison", "seeds x prompts", "seeds' sd", "smallest found"]
    cells = [[*headings, "the paper's", "unit", "verdict on the design"]]
    for each in listed:
        claim = CLAIMS[each.claim]
        counts = " / ".join(f"{count:,}" for count in dict.fromkeys(each.prompts))
        sizes = "" if each.paper is None else f"{each.paper:.{claim.digits}f}"
        cells.append(
            [
                each.claim,
                claim.compared,
                f"{each.seeds} x {counts}" if counts else str(each.seeds or "-"),
                ", ".join(f"{sd:g}" for sd in each.seed_sds),
                ", ".join(f"{found:.{claim.digits}f}" for found in each.found) or "-",
                *(sizes or "-", claim.unit, each.verdict),
            ]
        )
    sources: dict[str, list[str]] = {}
    for name, claim in CLAIMS.items():
        prompt = f", prompt {claim.prompt_sd:g}" * bool(claim.prompt_sd)
        noise = f", single entry {claim.noise_sd:g}" * bool(claim.noise_sd)
        sources.setdefault(f"{claim.source}{prompt}{noise}", []).append(name)
    return "\n".join(
        [
            "What this design can find: the smallest difference found with 80% at 5%, for each",
            "seeds' sd of the difference (C4 to C6, C13: of the mean over all cells)",
            "",
            *aligned(cells, left=len(cells[0])),
            "",
            "Assumed, as no model of these sizes has been run: sds of a seed, as listed; the rest",
            *(f"  {', '.join(names)}: {text}" for text, names in sources.items()),
            "C4 to C6 also want more than half of the cells shown, which enters the verdict. The",
            "paper's: the size of its own effect, of the smallest part; of C2 the margin of 10 %.",
        ]
    )
