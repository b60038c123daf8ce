"""Reward-model training: trl.RewardTrainer with a custom objective, evaluated on held-out pairs."""

import functools
import inspect
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, TrainerCallback, TrainerControl, TrainerState
from trl import RewardConfig, RewardTrainer

from ..data.splits import all_pairs, pairs
from ..errors import InputError
from ..experiment.config import Settings
from ..frames import check_texts, read_frame, write_frame
from ..models import chat
from ..models.checkpoint import weight_inputs
from ..models.packing import packs, row_of, rows_by_prompt, take_rows, without_padding
from ..models.reward_model import initialise, save
from ..models.scoring import is_sharded, score_ids, whole_weight
from ..objectives import OBJECTIVES
from .distributed import is_rank_0, on_main_process
from .loop import gathered_weights, train_to_end
from .resume import finalize, finished
from .trl_arguments import WholeBatches, training_arguments

Objective = Callable[..., torch.Tensor]  # (chosen, rejected) rewards, and what it declares
HIDDEN, STATE = ("chosen_hidden", "rejected_hidden"), "state"  # what an objective may declare
SAVED = "objective.safetensors"  # an objective's state in a checkpoint


class PairsInRows:
    """Collator: the pairs of a micro-batch as one row of prompt trees, nothing padded.

    An example has the tokens of one pair, `chosen_ids` and `rejected_ids`, or of every pair of one
    prompt as lists of these (D47); a response in several pairs is read once. The order of `ends` is
    that of trl's collator: all chosen responses, then all rejected ones.
    """

    def __init__(self, pad: int | None) -> None:
        self.pad = pad

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs of `packing.take_rows`; attention_mask has the tokens that trl counts."""
        prompts = [
            without_padding(
                [*_nested(example["chosen_ids"]), *_nested(example["rejected_ids"])], self.pad
            )
            for example in examples
        ]
        row = row_of(prompts)
        left, inputs = iter(row.ends), row.inputs()
        halves: tuple[list[int], list[int]] = ([], [])
        for sequences in prompts:
            for half in halves:
                half += itertools.islice(left, len(sequences) // 2)
        ends = torch.tensor([*halves[0], *halves[1]])
        return inputs | {"ends": ends, "attention_mask": torch.ones_like(inputs["input_ids"])}


def _nested(ids: Any) -> list[list[int]]:
    """Token ids of several responses; of one, a list of one."""
    return ids if isinstance(ids[0], list) else [ids]


class ObjectiveTrainer(RewardTrainer):  # type: ignore[misc]
    """trl.RewardTrainer that minimises a given objective of (chosen, rejected) rewards (B,).

    An objective with the parameters `chosen_hidden` and `rejected_hidden` also gets the states that
    the reward head read (B, H), and one with `state` a dict of tensors of its own, which is saved
    with the checkpoints and restored (`objectives.norm_bt`).
    """

    def __init__(
        self,
        model: Any,
        args: RewardConfig | None = None,
        data_collator: Any = None,
        *others: Any,
        objective: Objective,
        **kwargs: Any,
    ) -> None:
        if args and args.center_rewards_coefficient:
            raise InputError(
                "center_rewards_coefficient",
                f"{args.center_rewards_coefficient}",
                "none",
                "the objective replaces the whole loss: add the term to it, as bt_bsr does",
            )
        super().__init__(model, args, data_collator, *others, **kwargs)
        self.objective = objective
        self._wanted = {*HIDDEN, STATE} & inspect.signature(objective).parameters.keys()
        self._state: dict[str, torch.Tensor] = {}
        self._classifier = self.model.get_base_model() if is_peft_model(self.model) else self.model
        if self._wanted & {*HIDDEN} and not hasattr(self._classifier, "score"):
            found = f"a {type(self._classifier).__name__}, which has no head `score`"
            raise InputError("model", found, "one, whose hidden states the objective wants")
        if self._margins():
            _say("the column margin has no effect: the objective replaces the loss that it is in")
        if data_collator is None and self._reads_trees():
            take_rows(self._classifier)
            self.data_collator = PairsInRows(self._classifier.config.get_text_config().pad_token_id)
            # Of a stream, process 0 would read for all and cut the row as if its tokens were pairs.
            self.accelerator.dataloader_config.dispatch_batches = False

    def _margins(self) -> bool:
        """Whether the training data have a column `margin`, a term of TRL's own loss."""
        return "margin" in (getattr(self.train_dataset, "column_names", None) or [])

    def _reads_trees(self) -> bool:
        """Whether a micro-batch can be one row of prompt trees; if not, a line says why."""
        if is_peft_model(self.model) and self.model.active_peft_config.is_prompt_learning:
            _say("a learned prompt: trained on padded batches")
            return False
        config = self._classifier.config.get_text_config()
        # A response's own noise would differ from that of the prompt that it shares.
        if getattr(config, "attention_dropout", 0.0) or any(
            isinstance(module, torch.nn.Dropout) and module.p for module in self.model.modules()
        ):
            _say("dropout: trained on padded batches, slower, each response with noise of its own")
            return False
        return packs(self._classifier)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        try:
            return super()._get_train_sampler(train_dataset)
        except ValueError as error:  # of TRL's trainer too, whose data have no lengths
            raise InputError(
                "train_sampling_strategy",
                f"'{self.args.train_sampling_strategy}' without lengths of the pairs",
                "random or sequential",
                f"or give the data a column {self.args.length_column_name} and set "
                "remove_unused_columns to false",
            ) from error

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Run TRL's forward pass and metrics; replace only the loss."""
        inputs.pop("margin", None)
        with self._head_inputs() as read:
            _, outputs = super().compute_loss(model, inputs, return_outputs=True)
        extra: dict[str, Any] = {}
        if read:
            pad = self._classifier.config.get_text_config().pad_token_id
            halves = _pooled(read[0], inputs["input_ids"], pad).float().chunk(2)
            extra = {name: half for name, half in zip(HIDDEN, halves, strict=True)}
        if STATE in self._wanted:  # an evaluation must not change it
            extra[STATE] = self._state if self.model.training else dict(self._state)
        extra = {name: value for name, value in extra.items() if name in self._wanted}
        loss = self.objective(*outputs.logits.squeeze(-1).float().chunk(2), **extra)
        return (loss, outputs) if return_outputs else loss

    @contextmanager
    def _head_inputs(self) -> Iterator[list[torch.Tensor]]:
        """Collect what the reward head reads in a forward pass, where the objective wants it."""
        read: list[torch.Tensor] = []
        if not self._wanted & {*HIDDEN}:
            yield read
            return
        hook = self._classifier.score.register_forward_pre_hook(
            lambda _, inputs: read.append(inputs[0])
        )
        try:
            yield read
        finally:
            hook.remove()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self._state and self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            save_file({name: tensor.cpu() for name, tensor in self._state.items()}, folder / SAVED)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint and (Path(checkpoint) / SAVED).is_file():
            self._state = load_file(Path(checkpoint) / SAVED, str(self.args.device))


def _pooled(states: torch.Tensor, tokens: torch.Tensor, pad: int | None) -> torch.Tensor:
    """The states (N, H) whose rewards a classifier returns, from what its head read.

    Of a row of trees it read those alone; of a padded batch all of them, and the reward is that of
    the last token that is no padding, as transformers has it.
    """
    if states.ndim == 2:
        return states
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return states[torch.arange(len(tokens)), (places * (tokens != pad)).argmax(-1)]


def _say(why: str) -> None:
    if is_rank_0():
        print(f"ObjectiveTrainer: {why}", file=sys.stderr)


class WorkflowTrainer(WholeBatches, ObjectiveTrainer):
    """The trainer of a preset's reward models: every step is one whole global batch."""


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
        sequences = self.held_out.chosen + self.held_out.rejected
        scores = score_ids(model, sequences, self.batch_tokens, self.held_out.prompt_ids * 2)
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
    """Tokenised pairs that fit the length; the others are dropped and counted, never cut (D19).

    Of each prompt its best and worst response or, `every` one, all that differ in gold (D47).
    """

    def __init__(
        self,
        tokenizer: Any,
        split: pd.DataFrame,
        max_length: int,
        limit: int | None,
        every: bool = False,
    ):
        self.every = every
        frame = all_pairs(split) if every else pairs(split)
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

    def dataset(self) -> Dataset:
        """A row a pair or, of every pair, a row a prompt with the tokens of all its pairs."""
        columns = {"chosen_ids": self.chosen, "rejected_ids": self.rejected}
        if not self.every:
            return Dataset.from_dict(columns)
        rows = rows_by_prompt(self.prompt_ids)
        return Dataset.from_dict(
            {name: [[ids[n] for n in row] for row in rows] for name, ids in columns.items()}
        )


@functools.cache
def tokenised(
    backbone: Path, split: Path, max_length: int, limit: int | None, every: bool = False
) -> tuple[Any, Pairs]:
    """Read and tokenise a split's pairs, once for all the seeds of a process."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    frame = read_frame(split, ["prompt_id", "prompt", "response", "gold"])
    check_texts(frame, ["response"], f"{split}, ", filled=True)
    return tokenizer, Pairs(tokenizer, frame, max_length, limit, every)


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
        **weight_inputs("backbone", backbone),
        "train": train_split,
        "held_out": held_out_split,
    }
    if finished(work, {"settings": settings, "seed": seed}, inputs):
        return final
    reduction = settings["options"].get("reduction")
    arguments = training_arguments(settings, work, seed)
    if reduction == "global" and arguments["gradient_accumulation_steps"] > 1:
        raise InputError(
            f"reward_models.objectives.{settings['objective']}.reduction",
            "'global' with gradient accumulation",
            "the whole global batch at once",
            "set micro_batch x processes to global_batch",
        )
    length = settings["max_length"]
    every = settings["pairs"] == "all"
    tokenizer, data = tokenised(backbone, train_split, length, None, every)
    _, held_out = tokenised(backbone, held_out_split, length, settings["probe_pairs"])
    trainer = WorkflowTrainer(
        model=initialise(backbone, seed),
        args=RewardConfig(**arguments),
        train_dataset=data.dataset(),
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
        facts.update(prompts=len(set(data.prompt_ids)))
        facts.update(chat.clock_fact(tokenizer))
        finalize(work, "reward_model", settings, seed, started, **facts)

    on_main_process(finish)
    return final
