"""Reward-model training: trl.RewardTrainer with a custom objective, evaluated on held-out pairs."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback, TrainerControl, TrainerState
from trl import RewardConfig, RewardTrainer

from ..data.splits import pairs
from ..errors import InputError
from ..experiment.config import Settings
from ..frames import check_texts, read_frame, write_frame
from ..models import chat
from ..models.reward_model import initialise, save
from ..models.scoring import is_sharded, score_ids, whole_weight
from ..objectives import OBJECTIVES
from .distributed import on_main_process
from .loop import gathered_weights, train_to_end
from .resume import finalize, finished
from .trl_arguments import WholeBatches, training_arguments

Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class ObjectiveTrainer(WholeBatches, RewardTrainer):  # type: ignore[misc]
    """trl.RewardTrainer that minimises a given objective of (chosen, rejected) rewards (B,)."""

    def __init__(self, *args: Any, objective: Objective, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.objective = objective
        if self.args.center_rewards_coefficient:
            raise InputError(
                "center_rewards_coefficient",
                f"{self.args.center_rewards_coefficient}",
                "none",
                "the objective replaces the whole loss: add the term to it, as bt_bsr does",
            )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Run TRL's forward pass and metrics; replace only the loss."""
        _, outputs = super().compute_loss(model, inputs, return_outputs=True)
        loss = self.objective(*outputs.logits.squeeze(-1).float().chunk(2))
        return (loss, outputs) if return_outputs else loss


class Probe(TrainerCallback):  # type: ignore[misc]
    """Evaluate held-out pairs during training, at evenly spaced steps from the first to the last.

    Each evaluation is a parquet file with a row per pair: rewards, ||h|| of both responses,
    ||h_w - h_l|| and ||W_p|| (paper figures 1 and 2).
    """

    def __init__(self, folder: Path, held_out: "Pairs", times: int, batch_tokens: int) -> None:
        self.folder, self.held_out = folder, held_out
        self.times, self.batch_tokens = times, batch_tokens

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Choose the steps; evaluate the untrained model unless training is resumed."""
        self.steps = set(np.linspace(0, state.max_steps, self.times).round().astype(int).tolist())
        if state.global_step == 0:
            self.evaluate(kwargs["model"], state)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate at the chosen steps."""
        if state.global_step in self.steps:
            self.evaluate(kwargs["model"], state)

    def evaluate(self, model: Any, state: TrainerState) -> None:
        """Score the held-out pairs and write a row per pair.

        Where processes share the weights all of them must score, in the precision of training.
        """
        if not (state.is_world_process_zero or is_sharded(model)):
            return
        n = len(self.held_out.prompt_ids)
        scores = score_ids(model, self.held_out.chosen + self.held_out.rejected, self.batch_tokens)
        hidden = scores.hidden.astype(np.float64)
        frame = pd.DataFrame(
            {
                "step": state.global_step,
                "epoch": state.epoch or 0.0,
                "prompt_id": self.held_out.prompt_ids,
                "chosen_reward": scores.rewards[:n].astype(np.float64),
                "rejected_reward": scores.rewards[n:].astype(np.float64),
                "chosen_norm": np.linalg.norm(hidden[:n], axis=1),
                "rejected_norm": np.linalg.norm(hidden[n:], axis=1),
                "difference_norm": np.linalg.norm(hidden[:n] - hidden[n:], axis=1),
                "weight_norm": float(whole_weight(model.score.weight).double().norm()),
            }
        )
        if state.is_world_process_zero:
            write_frame(frame, self.folder / f"{state.global_step:08d}.parquet")


class Pairs:
    """Tokenised pairs that fit the length; the others are dropped and counted, never cut (D19)."""

    def __init__(self, tokenizer: Any, split: pd.DataFrame, max_length: int, limit: int | None):
        frame = pairs(split)
        prompts = list(frame["prompt"])
        # Of external pairs: the turns before the prompt, the same of both responses.
        earlier = list(frame["chosen_earlier"]) if "chosen_earlier" in frame else None
        chosen = chat.pair_ids(tokenizer, prompts, list(frame["chosen_response"]), earlier)
        rejected = chat.pair_ids(tokenizer, prompts, list(frame["rejected_response"]), earlier)
        fits = [n for n in range(len(frame)) if max(len(chosen[n]), len(rejected[n])) <= max_length]
        self.dropped = len(frame) - len(fits)
        if not fits:
            raise InputError(
                "train pairs",
                f"all {len(frame)} longer than {max_length} tokens",
                "some that fit",
                "raise reward_models.max_length",
            )
        fits = fits[:limit]
        self.chosen = [chosen[n] for n in fits]
        self.rejected = [rejected[n] for n in fits]
        self.prompt_ids = [str(frame["prompt_id"].iloc[n]) for n in fits]


@functools.cache
def tokenised(backbone: Path, split: Path, max_length: int, limit: int | None) -> tuple[Any, Pairs]:
    """Read and tokenise a split's pairs, once for all the seeds of a process."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    frame = read_frame(split, ["prompt_id", "prompt", "response", "gold"])
    check_texts(frame, ["response"], f"{split}, ", filled=True)
    return tokenizer, Pairs(tokenizer, frame, max_length, limit)


def train_reward_model(
    backbone: Path,
    train_split: Path,
    held_out_split: Path,
    settings: Settings,
    seed: int,
    work: Path,
    label: str,
) -> Path:
    """Train one reward model and return the finished folder, still inside `work`.

    The folder has the checkpoint, its card, probes.parquet and record.json. A killed run resumes
    from its last checkpoint with the same bits; a finished one is returned as it is.
    """
    final, started = work / "final", time.time()
    inputs = {
        "backbone": backbone / "model.safetensors",
        "train": train_split,
        "held_out": held_out_split,
    }
    if finished(work, {"settings": settings, "seed": seed}, inputs):
        return final
    reduction = settings["options"].get("reduction")
    arguments = training_arguments(settings, work, seed)
    if reduction == "global" and arguments["gradient_accumulation_steps"] > 1:
        raise InputError(
            "reward_models.objectives.bt-bsr.reduction",
            "'global' with gradient accumulation",
            "the whole global batch at once",
            "set micro_batch x processes to global_batch",
        )
    length = settings["max_length"]
    tokenizer, data = tokenised(backbone, train_split, length, None)
    _, held_out = tokenised(backbone, held_out_split, length, settings["probe_pairs"])
    trainer = ObjectiveTrainer(
        model=initialise(backbone, seed),
        args=RewardConfig(**arguments),
        train_dataset=Dataset.from_dict({"chosen_ids": data.chosen, "rejected_ids": data.rejected}),
        processing_class=tokenizer,
        callbacks=[
            Probe(work / "probes", held_out, settings["probe_evals"], settings["batch_tokens"])
        ],
        objective=functools.partial(
            OBJECTIVES[settings["objective"]].function, **settings["options"]
        ),
    )
    facts = train_to_end(trainer, work, label)
    weights = gathered_weights(trainer)

    def finish() -> None:
        draft = work / "draft"
        save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, draft, weights)
        probes = [read_frame(path) for path in sorted((work / "probes").glob("*.parquet"))]
        write_frame(pd.concat(probes, ignore_index=True), draft / "probes.parquet")
        facts.update(pairs=len(data.chosen), pairs_dropped=data.dropped)
        facts.update(chat.clock_fact(tokenizer))
        finalize(work, "reward_model", settings, seed, started, **facts)

    on_main_process(finish)
    return final
