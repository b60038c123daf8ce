"""Read a source of any kind (synthetic, local, hub) into one raw frame.

Raw frame: a row per response with example_id (the row of the source), prompt, response,
response_model and, where the source has its own judgements, preference.
"""

from pathlib import Path

import pandas as pd

from ..experiment.config import Settings


def read_responses(settings: Settings, folder: Path) -> pd.DataFrame:
    """Read responses into the raw frame.

    `settings` is a source with train_models and valid_models of the section `responses`. A git
    checkout goes into `folder`, unless the source names a path of its own.
    """
    if settings["kind"] == "synthetic":
        from .synthetic import responses as synthetic

        return synthetic.responses(
            seed=settings["seed"],
            prompts=settings["prompts"],
            train_models=settings["train_models"],
            valid_models=settings["valid_models"],
            responses_per_prompt=settings["responses_per_prompt"],
            length_quality_correlation=settings["length_quality_correlation"],
            valid_length_quality_correlation=settings["valid_length_quality_correlation"],
        )
    if settings["kind"] == "local":
        from . import alpaca_eval
        from .git_checkout import checkout, only

        models = [*settings["train_models"], *settings["valid_models"]]
        files = checkout(only(settings, models), folder / "checkout" / "responses")
        return alpaca_eval.responses(files, models)
    from . import hub_datasets as hub

    return hub.ultrafeedback(settings["repo"], settings["revision"])


def read_chats(settings: Settings) -> pd.DataFrame:
    """Read conversations for SFT: a row each with a column `messages` (role, content)."""
    if settings["kind"] == "synthetic":
        from .synthetic import responses as synthetic

        frame = synthetic.chats(settings["seed"], settings["chats"])
        turns = zip(frame["prompt"], frame["response"], strict=True)
        messages = [
            [{"role": "user", "content": p}, {"role": "assistant", "content": r}] for p, r in turns
        ]
        return pd.DataFrame({"example_id": frame["example_id"], "messages": messages})
    from . import hub_datasets as hub

    return hub.ultrachat(settings["repo"], settings["revision"], settings["split"])


def read_preferences(settings: Settings) -> pd.DataFrame:
    """Read an external preference data set into the columns of a split: gold 1 chosen, 0 rejected.

    A column `earlier` has the turns before a prompt, if any has some. Only pairs of chats that
    differ in their last answer alone are used; the number of the others is printed.
    """
    from . import hub_datasets as hub

    frame = hub.preferences(settings["repo"], settings["revision"], settings["split"])
    return hub.pairs_as_split(frame, settings["repo"])
