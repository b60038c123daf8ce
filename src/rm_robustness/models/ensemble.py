"""Gold of new responses: the mean reward of reward models that this run trained (D51)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import Progress
from . import chat
from .reward_model import load
from .scoring import plan_for, scores_of


def mean_rewards(
    prompts: list[str], responses: list[str], settings: dict[str, Any]
) -> NDArray[np.float64]:
    """Mean over reward models of their rewards of each response to its prompt (N,).

    `settings`: `models`, the folders, `batch_tokens` and `dtype`, as of RLOO's reward model. Each
    model renders the chat itself, and its rewards enter as they are: the seeds of one objective
    have about one scale, and the zero of each cancels in gains. Raises InputError for a response
    that does not fit a model and for a reward that is not finite.
    """
    rewards = np.empty((len(settings["models"]), len(prompts)))
    for row, folder in enumerate(map(Path, settings["models"])):
        model, tokenizer = load(folder, settings["dtype"])
        sequences = chat.pair_ids(tokenizer, prompts, responses)
        fix = "lower rloo.prompt_length or rloo.response_length"
        plan = plan_for(model, sequences, settings["batch_tokens"], prompts, fix=fix)
        label = "gold of " + "/".join(folder.parts[-3:])
        rewards[row] = scores_of(model, plan, Progress(label, plan.tokens, "tokens")).rewards
        if not np.isfinite(rewards[row]).all():
            raise InputError(folder, "a reward that is not finite", "finite rewards")
    return np.asarray(rewards.mean(axis=0))
