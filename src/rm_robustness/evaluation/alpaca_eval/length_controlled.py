"""Wins at equal length: the `alpaca_eval` package's GLM, an entry for each instruction."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from ...errors import InputError
from ...frames import read_csv
from ...statistics import Array
from .package import package, quiet

# The weights of the package's GLM, by the names that it gives them.
GLM = ["np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"]
GAMED = ["index", "model", "preference", "std_delta_len", "instruction_difficulty"]


def lengths(responses: pd.Series) -> Array:
    """Count the characters of each response (N,), as the package's leaderboard does."""
    return np.asarray(responses.str.len(), np.float64)


def length_controlled_wins(annotations: pd.DataFrame, gamed: Path) -> Array:
    """Give each instruction (N,) its part of the package's length-controlled win rate, in percent.

    `annotations` are those of one policy and seed, in the order of the instructions, with
    output_1, output_2 and preference; `gamed` is the package's df_gamed.csv, read here instead of
    downloaded. The mean is the package's `length_controlled_winrate`. An entry is the GLM's
    prediction with the instruction's own influence on the GLM (see `fit_influence`): predictions
    alone hardly vary, so that their spread, which the package gives as the standard error, would
    leave out that the GLM is fitted. NaN where all differences in length are equal: the GLM has no
    use of them then. Raises `InputError` when `gamed` is that of other instructions.
    """
    known = read_csv(gamed)
    if missing := [column for column in GAMED if column not in known]:
        raise InputError(gamed, f"columns {list(known)}", f"also the columns {missing}")
    # The package finds an instruction's difficulty by the number of the row it first stands in.
    if known.drop_duplicates("index").index.tolist() != list(range(len(annotations))):
        found = f"{known['index'].nunique()} instructions, or not all of them first"
        fix = "make df_gamed.csv and the instructions again, from one source"
        raise InputError(gamed, found, f"the {len(annotations)} of the annotations, in order", fix)
    columns = annotations[["output_1", "output_2", "preference"]].reset_index(drop=True)
    shorter = lengths(columns["output_1"]) - lengths(columns["output_2"])
    if np.ptp(shorter) == 0:
        return np.full(len(columns), np.nan)
    columns = columns.assign(generator_1="baseline", generator_2="policy")
    with _without_download(gamed) as get_metrics, TemporaryDirectory() as folder:
        get_metrics(columns, save_weights_dir=folder, is_warn_extreme_changes=False)
        (saved,) = Path(folder).rglob("*.csv")
        weights = pd.read_csv(saved, index_col=0).loc["policy", GLM].to_numpy(np.float64)
    ones, difficulty = np.ones(len(columns)), known["instruction_difficulty"].to_numpy(np.float64)
    own = np.column_stack([np.tanh(shorter / shorter.std(ddof=1)), difficulty[: len(ones)], ones])
    regular = np.column_stack([np.tanh(known["std_delta_len"]), difficulty, 0 * difficulty])
    predicted = columns["glm_preference"].to_numpy(np.float64)
    influence = fit_influence(own, columns["preference"].to_numpy(float) - 1, regular, weights)
    return 100 * (predicted + influence)


def fit_influence(own: Array, outcomes: Array, regular: Array, weights: Array) -> Array:
    """Give each instruction's influence (N,) on the mean prediction through the GLM's weights.

    `own` (N, 3) are the features (tanh of the difference in length, difficulty, constant) of what
    was annotated with `outcomes` (N,) in [0, 1], `regular` (G, 3) those of the gamed baselines,
    which weigh 0.1 each in the fit, `weights` (3,) what was fitted. The prediction is at equal
    length. With H the information and g the gradient of the summed predictions this is g' H^-1 x_i
    (y_i - p_i), the first order of what the mean over N would move by, times N, if instruction i
    counted once more; less its mean, which the penalty leaves. Its mean is 0.
    """

    def logistic(features: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-np.einsum("nk,k->n", features, weights))))

    everything = np.concatenate([own, regular])
    counts = np.repeat([1.0, 0.1], [len(own), len(regular)])
    p = logistic(everything)
    # Not `@`: the last bits of a BLAS product depend on the number of threads.
    information = np.einsum("ni,nj,n->ij", everything, everything, counts * p * (1 - p))
    even = own * [0.0, 1.0, 1.0]
    q = logistic(even)
    direction = np.linalg.pinv(information) @ np.einsum("nk,n->k", even, q * (1 - q))
    influence = np.einsum("nk,k->n", own, direction) * (outcomes - p[: len(own)])
    return np.asarray(influence - influence.mean())


@contextmanager
def _without_download(gamed: Path) -> Iterator[Callable[..., dict[str, float]]]:
    """Yield the package's GLM, quiet, with a file in place of what it fetches from the hub."""
    metrics = package().metrics
    before = metrics.glm_winrate.hf_hub_download
    metrics.glm_winrate.hf_hub_download = lambda **_: str(gamed)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arguments that scikit-learn is about to drop
            yield metrics.get_length_controlled_winrate
    finally:
        metrics.glm_winrate.hf_hub_download = before
