"""Length-controlled wins by instruction, from the `alpaca_eval` package's GLM (D44)."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from ...errors import InputError
from ...frames import read_csv
from ...pivot import Array
from .package import package, quiet

# The package's names of its GLM's weights, in the order of the feature columns below.
GLM = ["np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"]
GAMED = ["index", "model", "preference", "std_delta_len", "instruction_difficulty"]


def lengths(responses: pd.Series) -> Array:
    """Count the characters of each response (N,), as the package's leaderboard does."""
    return np.asarray(responses.str.len(), np.float64)


def length_controlled_wins(annotations: pd.DataFrame, gamed: Path) -> Array:
    """Compute each instruction's contribution (N,) to the length-controlled win rate, in percent.

    `annotations` are those of one policy and seed, in the order of the instructions, with
    output_1, output_2 and preference; `gamed` is the package's df_gamed.csv, read here instead of
    downloaded. The mean is the package's `length_controlled_winrate`. An entry is the GLM's
    prediction plus the instruction's influence on the fit (see `fit_influence`): predictions alone
    hardly vary, so that their spread, which the package reports as the standard error, would ignore
    the uncertainty of the fit. NaN where all differences in length are equal, which the GLM cannot
    use. Raises `InputError` when `gamed` belongs to other instructions.
    """
    baselines = read_csv(gamed)
    if missing := [column for column in GAMED if column not in baselines]:
        raise InputError(gamed, f"columns {list(baselines)}", f"also the columns {missing}")
    # The package looks up an instruction's difficulty by the number of its first row.
    if baselines.drop_duplicates("index").index.tolist() != list(range(len(annotations))):
        found = f"{baselines['index'].nunique()} instructions, or not all of them first"
        fix = "make df_gamed.csv and the instructions again, from one source"
        raise InputError(gamed, found, f"the {len(annotations)} of the annotations, in order", fix)
    columns = annotations[["output_1", "output_2", "preference"]].reset_index(drop=True)
    length_difference = lengths(columns["output_1"]) - lengths(columns["output_2"])
    if np.ptp(length_difference) == 0:
        return np.full(len(columns), np.nan)
    columns = columns.assign(generator_1="baseline", generator_2="policy")
    with _without_download(gamed) as get_metrics, TemporaryDirectory() as folder:
        get_metrics(columns, save_weights_dir=folder, is_warn_extreme_changes=False)
        (saved,) = Path(folder).rglob("*.csv")
        weights = pd.read_csv(saved, index_col=0).loc["policy", GLM].to_numpy(np.float64)
    # Columns as in `GLM`: tanh of the standardised difference in length, difficulty, constant. The
    # package adds the gamed baselines, whose constant is 0, as a weak prior.
    ones, difficulty = (
        np.ones(len(columns)),
        baselines["instruction_difficulty"].to_numpy(np.float64),
    )
    features = np.column_stack(
        [np.tanh(length_difference / length_difference.std(ddof=1)), difficulty[: len(ones)], ones]
    )
    gamed_features = np.column_stack(
        [np.tanh(baselines["std_delta_len"]), difficulty, 0 * difficulty]
    )
    predicted = columns["glm_preference"].to_numpy(np.float64)
    influence = fit_influence(
        features, columns["preference"].to_numpy(float) - 1, gamed_features, weights
    )
    return 100 * (predicted + influence)


def fit_influence(features: Array, outcomes: Array, gamed_features: Array, weights: Array) -> Array:
    """Compute each instruction's influence (N,) on the mean prediction through the GLM's weights.

    `features` (N, 3) are tanh of the difference in length, difficulty and constant of the pairs
    that were annotated with `outcomes` (N,) in [0, 1]; `gamed_features` (G, 3) those of the gamed
    baselines, with weight 0.1 in the fit; `weights` (3,) the fitted ones. Predictions are at equal
    length. With H the information matrix and g the gradient of the summed predictions, this is
    g' H^-1 x_i (y_i - p_i): N times the first-order change of the mean if instruction i were
    counted once more, centred, because the penalty leaves a mean.
    """

    def logistic(features: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-np.einsum("nk,k->n", features, weights))))

    all_features = np.concatenate([features, gamed_features])
    counts = np.repeat([1.0, 0.1], [len(features), len(gamed_features)])
    p = logistic(all_features)
    # Not `@`: the last bits of a BLAS product depend on the number of threads.
    information = np.einsum("ni,nj,n->ij", all_features, all_features, counts * p * (1 - p))
    equal_length = features * [0.0, 1.0, 1.0]
    p_equal = logistic(equal_length)
    direction = np.linalg.pinv(information) @ np.einsum(
        "nk,n->k", equal_length, p_equal * (1 - p_equal)
    )
    influence = np.einsum("nk,k->n", features, direction) * (outcomes - p[: len(features)])
    return np.asarray(influence - influence.mean())


@contextmanager
def _without_download(gamed: Path) -> Iterator[Callable[..., dict[str, float]]]:
    """Yield the package's GLM, silenced, reading `gamed` instead of downloading it."""
    metrics = package().metrics
    before = metrics.glm_winrate.hf_hub_download
    metrics.glm_winrate.hf_hub_download = lambda **_: str(gamed)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations of scikit-learn
            yield metrics.get_length_controlled_winrate
    finally:
        metrics.glm_winrate.hf_hub_download = before
