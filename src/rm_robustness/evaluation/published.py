"""Published RM-Bench accuracies of other reward models, beside those measured on the same data.

They are the paper's own (table 2) and those of RM-Bench's leaderboard, as printed there: without
intervals, and scored by other code. How its padding, number formats and chat templates differ from
the scorer here is not known, so a gap of some tenths of a percent says nothing.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import pandas as pd

from ..experiment.catalog import PUBLISHED
from ..experiment.package_files import package_file
from ..frames import read_csv
from ..objectives import OBJECTIVES
from .rm_bench import DIFFICULTIES, FILES, METRICS
from .sets import BENCH, EvaluationSet

LEADERBOARD = "data/paper/rm_bench_leaderboard.csv"
COLUMNS = ["set", "title", "statistic", "metric", "kind", "name", "value", "source"]
# Of RM-Bench at 73c52d7: `_fingerprint` of each file. That of math could not be had when this was
# written, so there the number of prompts must do: 1,327 in all, less those of the others.
FINGERPRINTS = {
    "chat": "edfb175f823788582aa02f3ce609eff4b302920f1c2b7e1e792569ccad8bcb6f",
    "code": "d7f450e34be9bc5fdbc9d92bf177f6bd47b30ad9ee444577f3ef6750157d1968",
    "safety-refuse": "764ae1e3fc77a4b42e1ae2386692b54b443aeb1543ca63841d2ab8e002ba8bce",
    "safety-response": "219dac94d843e7439428b768ac9564ecefc65f018736baa68661e991017b74e8",
}
MATH_PROMPTS = 529
AVERAGES_DIFFER = 0.3  # percent; more than the rounding of seven printed numbers can explain


def published(sets: Sequence[EvaluationSet]) -> pd.DataFrame:
    """Rows of `evaluate`, of kind "published": a model and a metric each, the best model first.

    Only what was measured on the same data is given: the metric of a domain where its prompts and
    responses are those of RM-Bench, of math where there are as many prompts; hard, normal, easy,
    overall and style_gap (easy minus hard) where all domains are. `source` says who published it.
    Without RM-Bench among the sets the frame is empty, with the columns `COLUMNS`.
    """
    rows: list[dict[str, Any]] = []
    for of_set in sets:
        if of_set.name != BENCH:
            continue
        real = _real_domains(of_set.frame)
        metrics = [*METRICS, "style_gap"] if set(FILES) <= set(real) else real
        for model in _models():
            values = model | {"style_gap": model["easy"] - model["hard"]}
            rows += [
                {
                    "set": BENCH,
                    "title": of_set.title,
                    "statistic": metric,
                    "metric": metric,
                    "kind": "published",
                    "name": model["name"],
                    "value": values[metric],
                    "source": model["source"],
                }
                for metric in metrics
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _real_domains(bench: pd.DataFrame) -> list[str]:
    """Domains of table 2 of which every file is RM-Bench's own."""
    parts = bench.groupby("domain", sort=False)
    real = {
        str(part)
        for part, rows in parts
        if _fingerprint(rows) == FINGERPRINTS.get(str(part))
        or (part == "math" and rows["prompt_id"].nunique() == MATH_PROMPTS)
    }
    return [domain for domain, files in FILES.items() if set(files) <= real]


def _fingerprint(rows: pd.DataFrame) -> str:
    """Sum of a file's ids, prompts and responses, whatever their order."""
    digest = sha256()
    for texts in sorted(
        rows[["prompt_id", "response_id", "prompt", "response"]].to_numpy().tolist()
    ):
        digest.update("\0".join(map(str, texts)).encode() + b"\0")
    return digest.hexdigest()


def _models() -> list[dict[str, Any]]:
    """Name, source and the eight numbers of each published model, the best first."""
    return sorted([*_paper(), *_leaderboard()], key=lambda model: -model["overall"])


def _paper() -> Iterator[dict[str, Any]]:
    table = read_csv(package_file(PUBLISHED)).query("artifact == 'table2'")
    for (backbone, method, weight), rows in table.groupby(["model", "method", "lambda"]):
        name = f"{backbone} {OBJECTIVES[str(method)].label}"
        name += f", λ = {weight:g}" if weight else ""
        values = rows.set_index("metric")["value"]
        yield {"name": name, "source": "paper, table 2", **{m: values[m] for m in METRICS}}


def _leaderboard() -> Iterator[dict[str, Any]]:
    for _, row in read_csv(package_file(LEADERBOARD)).iterrows():
        source = "RM-Bench's leaderboard"
        if abs(row[list(DIFFICULTIES)].mean() - row["overall"]) > AVERAGES_DIFFER:
            source += ", where the averages of this row differ"
        yield {"name": row["model"], "source": source, **{m: row[m] for m in METRICS}}
