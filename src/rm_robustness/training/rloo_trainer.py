"""RLOO, a policy against a reward model: trl.RLOOTrainer with this project's own scorer.

Generation and training alternate (D12): every update is one rollout of `prompts_per_update`
prompts x k completions, trained on in `mini_batches` optimizer steps.
"""

import math
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer
from trl import RLOOConfig, RLOOTrainer

from ..cluster.vllm import require_vllm
from ..errors import InputError
from ..experiment.config import Settings, Strict
from ..frames import read_frame, write_frame
from ..models import chat
from ..models.checkpoint import weight_inputs
from ..models.heads import positions
from ..models.language_model import load_language_model
from ..models.reward_model import save
from .distributed import on_main_process, world_size
from .loop import train_to_end
from .policy_eval import PolicyEval
from .proxy_reward import ProxyReward
from .resume import finalize, finished
from .trl_arguments import check_processes, training_arguments

# TRL still calls this method by its old name.
warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated")


class Trainer(RLOOTrainer):  # type: ignore[misc]
    """trl.RLOOTrainer; `batch_form: release` trains on the completions that the release does.

    Then only the first completion of each prompt is trained on, and the others only contribute to
    its baseline (D9). The loss stays the mean over the completions that are trained on.
    """

    def __init__(self, *args: Any, batch_form: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stride = self.num_generations if batch_form == "release" else 1
        self.chat_template_kwargs = chat.TEMPLATE_VARIABLES  # TRL renders the prompts itself

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Drop the completions that are not trained on, once their advantages are computed.

        A prompt has `num_generations` consecutive rows.
        """
        batch = super()._generate_and_score_completions(inputs)
        return {name: rows[:: self.stride] for name, rows in batch.items()}


def arguments(settings: Settings, work: Path, seed: int) -> dict[str, Any]:
    """Keyword arguments for RLOOConfig (D10, D11, D13); accumulation follows from the rest.

    Raises InputError where k or the batches are impossible. `generation: vllm` runs vLLM in the
    trainer's process; its samples are then vLLM's own and do not repeat bit by bit.
    """
    settings = Strict(settings)
    _check_batches(settings)
    k, parts, micro = settings["k"], settings["mini_batches"], settings["micro_batch"]
    prompts = settings["prompts_per_update"]
    per_step = prompts * k // parts
    check_processes(
        f"rloo: an update of {prompts} prompts x k {k} in {parts} mini-batches of micro-batches "
        f"of {micro}",
        world_size(),
        [n for n in range(1, prompts + 1) if prompts % n == 0 == per_step % (micro * n)],
    )
    shared = training_arguments(
        Strict(
            settings
            # `order` has all the epochs, so the trainer goes once through it.
            | {"global_batch": per_step, "save_steps": settings["save_updates"] * parts}
            | {"epochs": 1}
        ),
        work,
        seed,
    )
    del shared["max_length"]  # D14: prompts are left out before, completions end by themselves
    return shared | {
        "model_init_kwargs": {"dtype": "float32"},
        "shuffle_dataset": False,
        "num_generations": k,
        "steps_per_generation": parts * shared["gradient_accumulation_steps"],
        "num_iterations": 1,
        "max_completion_length": settings["response_length"],
        "mask_truncated_completions": False,
        "temperature": settings["temperature"],
        "top_p": 1.0,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "beta": settings["beta"],
        "epsilon": 0.2,
        "normalize_advantages": False,
        "reward_clip_range": None,
        "disable_dropout": True,
        "use_vllm": settings["generation"] == "vllm",
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": settings["vllm_memory"],
        "vllm_max_model_length": settings["prompt_length"] + settings["response_length"],
    }


def _check_batches(settings: Settings) -> None:
    """Refuse a k without a baseline and micro-batches that do not divide an update."""
    k, parts, micro = settings["k"], settings["mini_batches"], settings["micro_batch"]
    prompts = settings["prompts_per_update"]
    if k < 2:
        raise InputError(
            "rloo.k", f"{k}", "2 or more", "the leave-one-out baseline needs another completion"
        )
    if prompts * k % (parts * micro):
        raise InputError(
            "rloo.micro_batch",
            f"{micro} completions x {parts} mini-batches",
            f"a divisor of {prompts * k} (prompts_per_update x k)",
        )
    if settings["batch_form"] == "release" and micro % k:
        raise InputError(
            "rloo.micro_batch",
            f"{micro} completions",
            f"a multiple of k = {k} (batch_form release)",
        )


def eligible(tokenizer: Any, frame: pd.DataFrame, prompt_length: int) -> tuple[pd.DataFrame, int]:
    """The distinct prompts of a split that fit, in order; and the number of the others (D14).

    A row has prompt_id, prompt and ids: at most `prompt_length` tokens of the prompt in the
    policy's template, with the opening of the assistant's turn.
    """
    prompts = frame.drop_duplicates("prompt_id")[["prompt_id", "prompt"]]
    ids = pd.Series(chat.prompt_ids(tokenizer, list(prompts["prompt"])), prompts.index)
    fits = ids.map(len) <= prompt_length
    return prompts.assign(ids=ids)[fits].reset_index(drop=True), int((~fits).sum())


def order(prompts: int, epochs: float, seed: int) -> list[int]:
    """Rows of the prompts in the order of training: a new permutation for every epoch.

    TRL's sampler would repeat the first epoch's permutation when training is resumed.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = [
        row
        for _ in range(math.ceil(epochs))
        for row in torch.randperm(prompts, generator=generator).tolist()
    ]
    return rows[: round(prompts * epochs)]


def train_policy(
    policy: Path,
    reward_model: Path,
    prompts: Path,
    settings: Settings,
    seed: int,
    work: Path,
    name: str,
) -> Path:
    """Train one policy and return the finished folder, still inside `work`.

    `policy` is the SFT model, from which training starts and which is the reference; `prompts` is
    a split, `settings` the section `rloo` for one run. The folder has the checkpoint,
    samples.parquet, README.md and record.json. A killed run resumes from its last checkpoint, which
    is always between two rollouts, with the same bits; a finished one is returned as it is.
    """
    if settings["generation"] == "vllm":  # TRL asks only after the models are loaded
        require_vllm("rloo.generation: vllm")
    final, started = work / "final", time.time()
    inputs = {
        **weight_inputs("policy", policy),
        **weight_inputs("reward_model", reward_model),
        "prompts": prompts,
    }
    if finished(work, {"settings": settings, "seed": seed, "name": name}, inputs):
        return final
    args = RLOOConfig(**arguments(settings, work, seed))
    tokenizer = AutoTokenizer.from_pretrained(policy)
    split = read_frame(prompts, ["prompt_id", "prompt"])
    eligible_prompts, dropped = eligible(tokenizer, split, settings["prompt_length"])
    texts = _in_order(eligible_prompts, dropped, settings, seed)
    _check_context(settings, "policy", positions(AutoConfig.from_pretrained(policy)))
    reward = ProxyReward(
        reward_model, settings["batch_tokens"], args.device, settings["reward_dtype"]
    )
    _check_context(settings, "reward model", reward.context)
    trainer = _trainer(policy, tokenizer, reward, texts, args, settings["batch_form"])
    reference = trainer.ref_model
    if reference is None:  # with beta 0 only the evaluation needs it
        reference, _ = load_language_model(policy, torch.float32)
        reference.to(args.device)
    policy_eval = PolicyEval(
        work / "evaluations",
        eligible_prompts,
        tokenizer,
        trainer.eos_token_ids,
        reference,
        reward,
        settings,
        seed,
        name,
    )
    trainer.add_callback(policy_eval)
    facts = train_to_end(trainer, work, f"{name} seed {seed}", settings["mini_batches"])

    def finish() -> None:
        draft = work / "draft"
        save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, draft)
        write_frame(policy_eval.results(), draft / "samples.parquet")
        facts.update(policy=name, prompts=len(eligible_prompts), prompts_dropped=dropped)
        facts.update(updates=facts["steps"] // settings["mini_batches"])
        facts.update(chat.clock_fact(tokenizer))
        finalize(work, "policy", settings, seed, started, **facts)

    on_main_process(finish)
    return final


def _in_order(
    eligible_prompts: pd.DataFrame, dropped: int, settings: Settings, seed: int
) -> list[str]:
    """The prompts of all epochs in the order of training; InputError if too few for one update."""
    rows = order(len(eligible_prompts), settings["epochs"], seed)
    if len(rows) < settings["prompts_per_update"]:
        raise InputError(
            "rloo.prompts_per_update",
            f"{len(eligible_prompts)} prompts of at most "
            f"{settings['prompt_length']} tokens, {dropped} longer ones left out",
            f"enough for one update of {settings['prompts_per_update']}",
            "raise rloo.prompt_length or lower rloo.prompts_per_update",
        )
    return [str(eligible_prompts["prompt"][row]) for row in rows]


def _trainer(
    policy: Path,
    tokenizer: Any,
    reward: ProxyReward,
    prompts: list[str],
    args: RLOOConfig,
    batch_form: str,
) -> Trainer:
    """Create the trainer; prompts are one user turn each, in the order of training."""

    def proxy(prompts: Any, completions: Any, **_: Any) -> list[float]:
        texts = [turns[0]["content"] for turns in prompts]
        return reward(texts, [turns[0]["content"] for turns in completions])

    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return Trainer(
        model=str(policy),  # by path: the reference model is read from there too
        reward_funcs=proxy,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": turns}),
        processing_class=tokenizer,
        batch_form=batch_form,
    )


def _check_context(settings: Settings, model: str, context: int | None) -> None:
    """Refuse, before training, lengths that together do not fit the policy or the reward model."""
    prompt, response = settings["prompt_length"], settings["response_length"]
    if context and prompt + response > context:
        raise InputError(
            "rloo.response_length",
            f"{prompt} tokens of a prompt and {response} of a response",
            f"{context} or fewer together, the context of the {model}",
            "lower rloo.prompt_length or rloo.response_length",
        )
