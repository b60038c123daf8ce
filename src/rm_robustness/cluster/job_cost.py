"""What each kind of job does: parameters, floating-point operations, bytes. Estimates, all of them.

Data that are not there yet are described by the section `sizes`, which no job depends on.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ..experiment.config import Settings
from ..experiment.grid import backbone_of, policies
from .model_cost import (
    Parts,
    forward_flops,
    generation_memory,
    inference_memory,
    parameters,
    shape_of,
    training_flops,
    training_memory,
)

VLLM_CACHE = 4e9  # bytes beside the weights, the least that a server can work with
PADDING = 3.0  # longest of 32 sequences over their mean, measured on AlpacaEval's responses: 3.0
GENERATION = 8.0  # generating a token takes as long as so many tokens read by the same model
FLOAT32 = 10.0  # the same for float32 without tensor cores: its peak is 1/15, but better used
DECODING = 1e-3  # seconds a layer and token of transformers' own generation, whatever the batch
GOLD_STATES = 60000  # numbers a token that a layer of an 8B model holds at its widest place
TEXT = 4.0  # bytes of a token, as text
TOKEN_BYTES = 40  # of one token in a Python list


class Work(NamedTuple):
    """What a job does, before it is known on how many GPUs."""

    parameters: float  # of its largest model
    flops: float  # as if all were bfloat16
    memory: Callable[[int], Parts]  # of one of so many GPUs
    load: float  # bytes of main memory, for the weights that each process reads
    data: float = 0.0  # bytes of main memory, for the data that each process reads
    counts: tuple[int, ...] = (1,)  # of GPUs that its batches allow
    idle: float = 0.0  # seconds in which only one GPU works
    advice: str = "a GPU with more memory"


def work_of(config: Settings, kind: str, name: str, gpu_memory: float) -> Work:
    """What a job of a kind does (see `needs.needs`), on GPUs of so many GB."""
    match kind:
        case "backbone":
            return _backbone(config, name)
        case "reward_model":
            return _reward_model(config, name)
        case "scores" | "rm_bench_scores" | "ranks":
            return _scores(config, name, kind)
        case "released":
            return _copy(5 * released_size(config, name))
        case "rloo":
            return _rloo(config, gpu_memory, name)
        case "generate":
            return _generate(config, name)
        case "answers":
            return _answers(config, name)
        case "gold" | "policy_gold":
            return _gold(config, kind)
        case "judge":
            return _copy(0)
    raise ValueError(f"no kind of job '{kind}'")


def _copy(load: float) -> Work:
    """A job that computes next to nothing, on a CPU."""
    return Work(0, 0.0, lambda _: {}, load)


def released_size(config: Settings, name: str) -> float:
    """Parameters of a model that is fetched, by its folder under runs/PRESET."""
    shape = shape_of(config, backbone_of(config, name))
    return parameters(shape, reward=name.startswith("reward_models/"))


def _counts(batches: int) -> tuple[int, ...]:
    """The powers of two that divide a number of micro-batches."""
    return tuple(2**power for power in range(batches.bit_length()) if batches % 2**power == 0)


def tokens_of(config: Settings, source: str) -> tuple[float, float]:
    """Mean tokens of a prompt and of a response in a source (of a chat: of its two sides)."""
    sizes = config["sizes"]["sources"][source]
    return sizes["prompt_tokens"], sizes["response_tokens"]


def rows_of(config: Settings, source: str, part: str) -> int:
    """Rows of a source: prompts, chats, pairs or instructions; a synthetic one says it itself."""
    section = config["sources"][source]
    if section["kind"] != "synthetic":
        return int(config["sizes"]["sources"][source]["rows"])
    # Its RM-Bench is five files of `subtle_prompts`.
    return int(5 * section["subtle_prompts"] if part == "subtle_prompts" else section[part])


def prompts_of(config: Settings) -> dict[str, int]:
    """Prompts of the train set, of X_valid, and of both at most so many as evaluation takes."""
    splits, source = config["splits"], config["responses"]["source"]
    everything = rows_of(config, source, "prompts")
    train = min(splits["train_prompts"], everything)
    valid = min(splits["valid_prompts"] or everything, everything - train)
    cap = splits["evaluation_prompts"] or everything
    return {"train": train, "valid": min(valid, cap), "evaluated": min(train, cap)}


def split_bytes(config: Settings, split: str) -> float:
    """Bytes of the text of a split that is fetched."""
    prompts, wanted = prompts_of(config), config["responses"]["responses_per_prompt"]
    side = "valid" if split in ("prompt_disjoint", "mutual_disjoint") else "evaluated"
    responses = 2 if split in ("train", "in_domain") else wanted
    prompt, response = tokens_of(config, config["responses"]["source"])
    return TEXT * prompts["train" if split == "train" else side] * (prompt + responses * response)


def _backbone(config: Settings, name: str) -> Work:
    """SFT on packed blocks of max_length tokens, or a copy of the pretrained model."""
    shape, sft = shape_of(config, name), config["sft"]
    source, n = config["backbones"][name]["sft"], parameters(shape)
    if not source:
        return _copy(5 * n)
    length = sft["max_length"]
    chats = rows_of(config, source, "chats") * sum(tokens_of(config, source))
    batches = sft["global_batch"] // sft["micro_batch"]
    flops = training_flops(
        shape, sft["epochs"] * chats, length, False, sft["gradient_checkpointing"]
    )

    def memory(gpus: int) -> Parts:
        return training_memory(
            shape,
            reward=False,
            sequences=sft["micro_batch"],
            length=length,
            masked=False,
            bf16=sft["bf16"],
            checkpointing=sft["gradient_checkpointing"],
            optimizer=sft["optimizer"],
            processes=gpus,
            sharded=True,
            accumulating=batches > gpus,
        )

    advice = "a GPU with more memory, or a smaller sft.micro_batch"
    data = TOKEN_BYTES * chats
    return Work(n, flops, memory, 4 * n, data, _counts(batches), advice=advice)


def _reward_model(config: Settings, name: str) -> Work:
    """Pairs, padded to the longest of a micro-batch, of which the longest can be max_length."""
    shape, settings = shape_of(config, name), config["reward_models"]
    own, n = config["backbones"][name]["reward_models"], parameters(shape, reward=True)
    source = own["preferences"] or config["responses"]["source"]
    pairs = rows_of(config, source, "pairs") if own["preferences"] else prompts_of(config)["train"]
    longest = own["max_length"]
    mean = min(longest, sum(tokens_of(config, source)))
    padded = min(longest, PADDING * mean)
    batches = settings["global_batch"] // settings["micro_batch"]
    flops = training_flops(
        shape,
        settings["epochs"] * 2 * pairs * padded,
        padded,
        True,
        settings["gradient_checkpointing"],
    )
    probed = 2 * settings["probe_pairs"] * settings["probe_evals"] * mean
    flops += FLOAT32 * forward_flops(shape, probed, mean)

    def memory(gpus: int) -> Parts:
        return training_memory(
            shape,
            reward=True,
            sequences=2 * settings["micro_batch"],
            length=longest,
            masked=True,
            bf16=settings["bf16"],
            checkpointing=settings["gradient_checkpointing"],
            optimizer=settings["optimizer"],
            processes=gpus,
            sharded=True,
            accumulating=batches > gpus,
        )

    data = TOKEN_BYTES * 2 * pairs * mean
    advice = (
        "a GPU with more memory, or a shorter backbones.*.reward_models.max_length "
        "(reward_models.micro_batch is part of the experiment, D1)"
    )
    # BSR over the whole global batch has no accumulation: one micro-batch on each GPU.
    whole = settings["objectives"]["bt-bsr"]["reduction"] == "global"
    counts = (batches,) if whole else _counts(batches)
    return Work(n, flops, memory, 4 * n, data, counts, advice=advice)


def _scores(config: Settings, name: str, kind: str) -> Work:
    """Scoring in float32, one model after another, on one GPU."""
    shape, budget = shape_of(config, name), config["scoring"]["batch_tokens"]
    n, prompts = parameters(shape, reward=True), prompts_of(config)
    wanted = config["responses"]["responses_per_prompt"]
    parts = {config["responses"]["source"]: wanted * (prompts["evaluated"] + 2 * prompts["valid"])}
    parts[config["responses"]["source"]] += 2 * prompts["evaluated"]
    if kind != "scores":
        bench = config["rm_bench"]["source"]
        parts = {bench: 6 * rows_of(config, bench, "subtle_prompts")}
    if kind == "ranks":
        parts = {source: 2 * max(config["ranks"]["rows"]) for source in parts}
    mean = {source: sum(tokens_of(config, source)) for source in parts}
    flops = sum(forward_flops(shape, parts[s] * mean[s], mean[s]) for s in parts)
    rows = max(parts.values())
    data = rows * (TOKEN_BYTES * max(mean.values()) + 12 * shape.hidden_size)
    tokens = max(budget, int(PADDING * max(mean.values())))
    return Work(n, FLOAT32 * flops, lambda _: inference_memory(shape, tokens, 4), 4 * n, data)


def _rloo(config: Settings, gpu_memory: float, name: str) -> Work:
    """Rollouts, rewards, training and evaluations take turns; DDP has every model on each GPU."""
    rloo, policy = config["rloo"], policies(config)[name]
    shape = shape_of(config, policy["policy"])
    judge = shape_of(config, policy["reward_models"][rloo["seeds"][0]].split("/")[0])
    width = 2 if rloo["reward_dtype"] == "bfloat16" else 4
    longest = rloo["prompt_length"] + rloo["response_length"]
    prompt, response = tokens_of(config, config["responses"]["source"])
    prompt, response = min(prompt, rloo["prompt_length"]), min(response, rloo["response_length"])
    mean, padded = prompt + response, min(longest, PADDING * (prompt + response))
    asked = prompts_of(config)["valid"] * rloo["epochs"]
    completions, updates = asked * rloo["k"], asked / rloo["prompts_per_update"]
    trained = completions / (rloo["k"] if rloo["batch_form"] == "release" else 1)
    flops = training_flops(shape, trained * padded, padded, False, rloo["gradient_checkpointing"])
    flops += 2 * forward_flops(shape, completions * padded, padded, False)  # policy, reference
    cost = 1.0 if width == 2 else FLOAT32
    flops += cost * forward_flops(judge, completions * mean, mean)
    flops += GENERATION * forward_flops(shape, completions * response, mean, False)
    per_step = rloo["prompts_per_update"] * rloo["k"] // rloo["mini_batches"]
    rounds = math.ceil(rloo["eval_prompts"] / rloo["batch_size"])
    evaluations = 2 + updates / rloo["eval_every"]
    idle = evaluations * rounds * rloo["response_length"] * shape.layers * DECODING

    def memory(gpus: int) -> Parts:
        parts = training_memory(
            shape,
            reward=False,
            sequences=rloo["micro_batch"],
            length=longest,
            masked=True,
            bf16=rloo["bf16"],
            checkpointing=rloo["gradient_checkpointing"],
            optimizer=rloo["optimizer"],
            processes=gpus,
        )
        scored = inference_memory(judge, min(rloo["batch_tokens"], 2 * longest), width)
        parts["reference"] = 4 * parameters(shape)
        parts["reward_model"] = scored["weights"]
        drawn = generation_memory(shape, rloo["batch_size"], longest, 4)
        # An evaluation compares all logits of policy and reference: few sequences have one length,
        # so that two of the longest are the most that it holds at once.
        compared = min(rloo["batch_tokens"], 2 * longest) * shape.vocabulary * (4 + 4 + 2)
        rest = [scored["activations"], drawn, compared]
        parts["activations"] = max(parts["activations"], *rest)
        if rloo["generation"] == "vllm":
            parts["vllm"] = rloo["vllm_memory"] * gpu_memory * 1e9
        return parts

    possible = _counts(per_step // rloo["micro_batch"])
    counts = tuple(n for n in possible if rloo["prompts_per_update"] % n == 0)
    largest = max(parameters(shape), parameters(judge))
    load = 8 * parameters(shape) + width * parameters(judge)
    advice = "a GPU with more memory, rloo.optimizer adamw_8bit, or a smaller reward model"
    return Work(largest, flops, memory, load, 0.0, counts, idle, advice)


def _answering(n: float, rows: float, tokens: tuple[float, float], options: Settings) -> Work:
    """A model of n parameters answers prompts, on one GPU."""
    prompt, response = tokens[0], min(tokens[1], options.get("max_new_tokens", 512))
    width = 2 if options.get("dtype") == "bfloat16" else 4
    flops = 2 * n * rows * (prompt + GENERATION * response)
    parts = {"weights": width * n, "cache": VLLM_CACHE}
    return Work(n, flops, lambda _: parts, width * n, 4000 * rows)


def _generate(config: Settings, name: str) -> Work:
    """A response model answers every prompt."""
    source = config["responses"]["source"]
    options = config["responses"]["generate"]["options"]
    rows = rows_of(config, source, "prompts")
    return _answering(
        config["sizes"]["models"][name] * 1e9, rows, tokens_of(config, source), options
    )


def _answers(config: Settings, name: str) -> Work:
    """A policy answers AlpacaEval's instructions; `sft` is the backbone that it started from."""
    judged = config["alpaca_eval"]
    run = config["rloo"]["runs"][judged["run"]]["policy"]
    policy = run if name == "sft" else policies(config)[name]["policy"]
    source = judged["source"]
    rows = rows_of(config, source, "instructions")
    n = parameters(shape_of(config, policy))
    return _answering(n, rows, tokens_of(config, source), judged["generation"])


def _gold(config: Settings, kind: str) -> Work:
    """The gold of all responses, or of what a policy of one seed said in its evaluations."""
    gold, rloo, responses = config["gold"], config["rloo"], config["responses"]
    tokens = sum(tokens_of(config, responses["source"]))
    if kind == "policy_gold":
        updates = prompts_of(config)["valid"] * rloo["epochs"] / rloo["prompts_per_update"]
        rows = (2 + updates / rloo["eval_every"]) * rloo["eval_prompts"]
    else:
        models = len(responses["generate"]["models"]) if responses["generate"] else 0
        wanted = responses["responses_per_prompt"] + models
        rows = wanted * rows_of(config, responses["source"], "prompts")
    if gold["kind"] != "model":
        return _copy(rows * 4 * tokens * 10)
    n, narrow = config["sizes"]["models"]["gold"] * 1e9, gold["dtype"] == "bfloat16"
    width, cost = (2, 1.0) if narrow else (4, FLOAT32)
    parts = {"weights": width * n, "activations": width * gold["batch_tokens"] * GOLD_STATES}
    flops = cost * 2 * n * rows * tokens
    return Work(n, flops, lambda _: parts, width * n, TOKEN_BYTES * rows * tokens)
