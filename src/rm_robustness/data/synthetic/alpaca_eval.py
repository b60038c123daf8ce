"""Synthetic AlpacaEval of the demo: instructions, baseline answers, and the data of the GLM."""

from dataclasses import replace

import numpy as np
import pandas as pd

from .responders import TRAIN_ROWS, TRAIN_STYLE, respond, responders
from .responses import draw_prompts
from .tasks import gold

# Inverse temperature of the synthetic judge: P(a beats b) = sigmoid(SCALE x (gold of a - gold of
# b)), where gold lies between -1 and 1.
SCALE = 4.0
GAMED_COLUMNS = [
    *("index", "model", "preference", "std_delta_len", "instruction_difficulty"),
    "not_gamed_baseline",
]
REFERENCE = TRAIN_ROWS[0][0]  # the synthetic world's best responder


def instructions(seed: int, count: int, correlation: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw `count` instructions of the synthetic world, and compute their `df_gamed`.

    The prompts come from a stream of their own; some may be prompts of the training set, as the
    world is small. The baseline is the best responder. Gamed, it gives the same items with almost
    no talk, or with the most. `preference` is the probability of the judge's rule that
    the gamed answer wins, `std_delta_len` (baseline - gamed, characters) over its standard
    deviation, and `instruction_difficulty` the mean log-odds of all other training responders.
    """
    world = responders(TRAIN_ROWS, [TRAIN_STYLE], correlation)
    prompts = draw_prompts(seed, "instructions", count, 0.0)
    reference = [respond(seed, prompt, world[REFERENCE]) for prompt in prompts]
    reference_gold = _gold(prompts, reference)
    others = [
        _gold(prompts, [respond(seed, prompt, responder) for prompt in prompts])
        for name, responder in world.items()
        if name != REFERENCE
    ]
    frame = pd.DataFrame(
        {
            "example_id": [f"instruction-{i:04}" for i in range(count)],
            "prompt": prompts,
            "reference": reference,
            "reference_model": REFERENCE,
        }
    )
    parts = []
    for style, talk in (("concise", 0.0), ("verbose", 1.0)):
        responder = replace(world[REFERENCE], talk=talk)
        gamed = [respond(seed, prompt, responder) for prompt in prompts]
        shorter = frame["reference"].str.len() - pd.Series(gamed).str.len()
        # All of one model, then all of the other: the package finds a difficulty by row number.
        part = {
            "index": range(count),
            "model": f"{REFERENCE}_{style}",
            "preference": 1 / (1 + np.exp(-SCALE * (_gold(prompts, gamed) - reference_gold))),
            "std_delta_len": shorter / shorter.std(),
            "instruction_difficulty": SCALE * (np.mean(others, axis=0) - reference_gold),
            "not_gamed_baseline": False,
        }
        parts.append(pd.DataFrame(part))
    return frame, pd.concat(parts, ignore_index=True)[GAMED_COLUMNS]


def _gold(prompts: list[str], answers: list[str]) -> np.ndarray:
    """The gold reward of each answer, shape (N,)."""
    return np.array([gold(p, a) for p, a in zip(prompts, answers, strict=True)])
