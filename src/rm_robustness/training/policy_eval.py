"""Evaluation of a policy during RLOO: sampled responses, proxy reward, KL to the reference."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import PartialState
from accelerate.utils import gather_object
from numpy.typing import NDArray
from transformers import TrainerCallback, TrainerControl, TrainerState

from ..frames import read_frame, write_frame
from ..models.batching import equal_length_batches
from ..models.generate import prompt_seed, sample

Reward = Callable[[list[str], list[str]], list[float]]


class PolicyEval(TrainerCallback):  # type: ignore[misc]
    """Evaluate the policy on a fixed set of prompts: before, every n-th update, and after.

    One completion per prompt at the training temperature, with noise that is seeded by the prompt
    and the training's seed alone: every evaluation, and every policy trained with that seed, draws
    the same noise, so that evaluations are paired. The trainer's random state is left as it was
    (D17). Each evaluation is a parquet file with a row per prompt: update, epoch, example_id,
    prompt, response, response_model, reward (the proxy), kl (nats), n_tokens (with the end token)
    and finished.
    """

    def __init__(
        self,
        folder: Path,
        prompts: pd.DataFrame,
        tokenizer: Any,
        end_tokens: list[int],
        reference: Any,
        reward: Reward,
        settings: Mapping[str, Any],
        seed: int,
        name: str,
    ) -> None:
        """Take all eligible prompts (prompt_id, prompt, ids); the first `eval_prompts` are used."""
        self.folder, self.tokenizer, self.end_tokens = folder, tokenizer, end_tokens
        self.reference, self.reward, self.settings = reference, reward, settings
        self.seed, self.name = seed, name
        self.prompts = prompts.head(settings["eval_prompts"]).reset_index(drop=True)
        self.seeds = [prompt_seed(seed, prompt) for prompt in self.prompts["prompt"]]
        self.updates_per_epoch = len(prompts) / settings["prompts_per_update"]

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate the SFT policy unless training is resumed."""
        if state.global_step == 0:
            self.evaluate(kwargs["model"], state)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate at the end of every `eval_every`-th update, and of the last."""
        update, rest = divmod(state.global_step, self.settings["mini_batches"])
        last = state.global_step == state.max_steps
        if last or (rest == 0 and update % self.settings["eval_every"] == 0):
            self.evaluate(kwargs["model"], state)

    def evaluate(self, model: Any, state: TrainerState) -> None:
        """Evaluate the policy and write the rows; each process has its share of the prompts."""
        update = state.global_step // self.settings["mini_batches"]
        processes = PartialState()
        share = self.prompts[processes.process_index :: processes.num_processes]
        frames = gather_object([self.measure(model, share, update)] if len(share) else [])
        if state.is_world_process_zero:
            write_frame(pd.concat(frames).sort_index(), self.folder / f"{update:08d}.parquet")

    def measure(self, model: Any, prompts: pd.DataFrame, update: int) -> pd.DataFrame:
        """Sample a response to each of some prompts, with its reward and KL; keeps their index."""
        training = model.training
        model.eval()  # also keeps gradient checkpointing out of generation
        completions = self.sample(model, prompts)
        kl = sequence_kl(
            model,
            self.reference,
            list(prompts["ids"]),
            completions,
            self.settings["temperature"],
            self.settings["batch_tokens"],
        )
        model.train(training)
        responses = self.tokenizer.batch_decode(completions, skip_special_tokens=True)
        return pd.DataFrame(
            {
                "update": update,
                "epoch": update / self.updates_per_epoch,
                "example_id": prompts["prompt_id"],
                "prompt": prompts["prompt"],
                "response": responses,
                "response_model": self.name,
                "reward": self.reward(list(prompts["prompt"]), responses),
                "kl": kl,
                "n_tokens": [len(tokens) for tokens in completions],
                "finished": [tokens[-1] in self.end_tokens for tokens in completions],
            }
        )

    def sample(self, model: Any, prompts: pd.DataFrame) -> list[list[int]]:
        """Completion tokens of every prompt, up to and with the end token where there is one."""
        chats = list(prompts["ids"])
        seeds = [self.seeds[row] for row in prompts.index]
        rows = sorted(range(len(chats)), key=lambda row: (-len(chats[row]), row))
        completions: dict[int, list[int]] = {}
        for start in range(0, len(rows), self.settings["batch_size"]):
            batch = rows[start : start + self.settings["batch_size"]]
            sampled = sample(
                model,
                [chats[row] for row in batch],
                [seeds[row] for row in batch],
                ends=self.end_tokens,
                pad=self.tokenizer.pad_token_id,
                max_new_tokens=self.settings["response_length"],
                temperature=self.settings["temperature"],
            )
            completions |= dict(zip(batch, map(self._without_padding, sampled), strict=True))
        return [completions[row] for row in range(len(chats))]

    def _without_padding(self, tokens: list[int]) -> list[int]:
        """Cut a completion after its end token."""
        end = next((i for i, token in enumerate(tokens) if token in self.end_tokens), len(tokens))
        return tokens[: end + 1]

    def results(self) -> pd.DataFrame:
        """All evaluations so far, those before a restart too, with the seed as first column."""
        evaluations = [read_frame(path) for path in sorted(self.folder.glob("*.parquet"))]
        frame = pd.concat(evaluations, ignore_index=True)
        frame.insert(0, "seed", self.seed)
        return frame


@torch.no_grad()
def sequence_kl(
    policy: Any,
    reference: Any,
    prompts: list[list[int]],
    completions: list[list[int]],
    temperature: float,
    batch_tokens: int,
) -> NDArray[np.float64]:
    """Estimate KL(policy || reference) of whole completions, in nats, one value a prompt (N,).

    KL of sequences is, by the chain rule, the expectation over the policy's completions of the
    sum over their positions of the KL between the two next-token distributions. So for a
    completion drawn from the policy the sum of these full-vocabulary KLs is an unbiased estimate:
    the usual log(policy / reference) of the drawn tokens with each token's own chance averaged
    out, which leaves less variance and never a negative value. Both distributions are those at
    the training temperature, the ones that the reward's penalty compares (D11).

    Sequences of equal length share a batch of at most `batch_tokens` tokens, so nothing is padded;
    a batch holds two tensors of logits (tokens x vocabulary), one row more of each in float64.
    """
    sequences = [
        prompt + completion for prompt, completion in zip(prompts, completions, strict=True)
    ]
    kl = np.empty(len(sequences), np.float64)
    for batch in equal_length_batches([len(tokens) for tokens in sequences], batch_tokens):
        tokens = torch.tensor([sequences[row] for row in batch], device=policy.device)
        logits = [m(input_ids=tokens, use_cache=False).logits for m in (policy, reference)]
        for place, row in enumerate(batch):
            # The logits at a position are those of the token after it.
            positions = slice(len(prompts[row]) - 1, -1)
            p, q = (
                F.log_softmax(both[place, positions].double() / temperature, dim=-1)
                for both in logits
            )
            by_position = F.kl_div(q, p, log_target=True, reduction="none").sum(dim=-1)
            kl[row] = by_position.clamp(min=0).sum().item()  # rounding alone is below zero
    return kl
