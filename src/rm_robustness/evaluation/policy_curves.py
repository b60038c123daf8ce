"""Training curves of policies: proxy reward, gold reward and KL at every evaluation of RLOO.

Rewards of two reward models are not on one scale: Bradley-Terry identifies neither offset nor scale
of a reward, and the heads are initialised at random. The proxy reward is therefore reported as the
gain over the SFT policy, in standard deviations of that reward model's rewards of the SFT policy.
This affine map keeps the shape of a curve; the raw rewards are reported too.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..experiment.grid import BSR, BT
from ..experiment.paths import location
from ..frames import read_frame
from ..pivot import Array
from ..statistics import seed_mean

KEYS = ["seed", "update", "example_id"]
MEASURED = ["reward", "gold", "kl", "n_tokens", "finished"]
RANGES = {"kl": (0, np.inf), "n_tokens": (0, np.inf), "unfinished": (0, 1)}
QUANTITIES = ["kl", "reward", "reward_gain", "gold", "gold_gain", "n_tokens", "unfinished"]


def read_evaluations(runs: Path, policy: str) -> pd.DataFrame:
    """Read all seeds' evaluations of a policy, a row a seed, update and prompt, in that order.

    Raises `InputError` unless every seed was evaluated on the same prompts at the same updates, of
    which the first is 0, the SFT policy.
    """
    path = runs / location("policy_gold", policy=policy)
    frame = read_frame(path, [*KEYS, "epoch", *MEASURED])
    frame = frame.sort_values(KEYS, kind="stable", ignore_index=True)
    sizes = [frame[key].nunique() for key in KEYS]
    if frame.empty or frame.duplicated(KEYS).any() or len(frame) != np.prod(sizes):
        grid = " x ".join(
            f"{n} {k}s" for n, k in zip(sizes, ("seed", "update", "prompt"), strict=True)
        )
        found = f"{len(frame)} evaluations for {grid}"
        raise InputError(path, found, "one of each", "train and evaluate the seeds alike")
    if (first := frame["update"].iloc[0]) != 0:
        raise InputError(
            path, f"update {first} first", "update 0, the SFT policy", "evaluate it too"
        )
    return frame


def training_curves(runs: Path, run: str) -> pd.DataFrame:
    """Compute the training curves of RLOO with the Bradley-Terry and with the BSR reward model.

    The frame has a row a run, reward_model (bt, bt-bsr), seed and update, with epoch and n_prompts,
    and a row with seed "mean" for the mean over seeds, where each of `QUANTITIES` has its 95%
    interval over prompts and seeds (`_low`, `_high`). Means over prompts of: kl to the SFT policy
    (nats a sequence), reward (proxy, as the model gives it), reward_gain (reward less the same
    seed's at update 0, by its standard deviation there; NaN where that is 0), gold, gold_gain
    (gold less that at update 0), n_tokens, unfinished (the share of truncated responses, D13). Both
    gains are paired by prompt.
    """
    rows: list[dict[str, Any]] = []
    for method in (BT, BSR):
        samples = read_evaluations(runs, f"{run}-{method}")
        seeds, updates = samples["seed"].unique(), samples.drop_duplicates("update")
        quantities = _quantities(samples, (len(seeds), len(updates), -1))
        for i, (update, epoch) in enumerate(updates[["update", "epoch"]].itertuples(index=False)):
            values = {name: quantities[name][:, i] for name in QUANTITIES}
            at = {"run": run, "reward_model": method, "update": update, "epoch": epoch}
            at["n_prompts"] = values["reward"].shape[1]
            for j, seed in enumerate(seeds):
                rows.append(at | {"seed": seed} | {q: values[q][j].mean() for q in QUANTITIES})
            over_seeds: dict[str, Any] = {"seed": "mean"}
            for name in QUANTITIES:
                mean = seed_mean(values[name])
                # With three seeds intervals are wide: clip them to the range of the quantity.
                low, high = np.clip([mean.low, mean.high], *RANGES.get(name, (-np.inf, np.inf)))
                over_seeds |= {name: mean.value, f"{name}_low": low, f"{name}_high": high}
            rows.append(at | over_seeds)
    keys = ["run", "reward_model", "seed", "update", "epoch", "n_prompts"]
    return pd.DataFrame(rows)[
        keys + [f"{q}{end}" for q in QUANTITIES for end in ("", "_low", "_high")]
    ]


def _quantities(samples: pd.DataFrame, shape: tuple[int, int, int]) -> dict[str, Array]:
    """Reshape samples to arrays (seeds, updates, prompts), with the gains over update 0."""
    arrays = {name: samples[name].to_numpy(np.float64).reshape(shape) for name in MEASURED}
    start = arrays["reward"][:, :1]
    spread = start.std(axis=2, keepdims=True)
    spread[np.ptp(start, axis=2, keepdims=True) == 0] = np.nan  # equal rewards have no scale
    return arrays | {
        "reward_gain": (arrays["reward"] - start) / spread,
        "gold_gain": arrays["gold"] - arrays["gold"][:, :1],
        "unfinished": 1 - arrays["finished"],
    }
