"""Estimated cost of each kind of job: model parameters, floating-point operations, bytes.

The sizes of data that are not downloaded yet come from the section `sizes` of the config, which no
job depends on.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ..experiment.config import Settings
from ..experiment.grid import (
    backbone_of,
    gold_models,
    judge_kind,
    judged_policies,
    policies,
    released,
    samples_gold,
)
from ..experiment.scenarios import BENCHMARKS
from .model_cost import (
    Parts,
    forward_flops,
    generation_memory,
    inference_memory,
    parameters,
    prompt_trees,
    sequences,
    shape_of,
    training_flops,
    training_memory,
)

VLLM_CACHE = 4e9  # bytes of vLLM's key-value cache, the least that it can work with
PADDING = 3.0  # longest of 32 sequences over their mean, measured on AlpacaEval's responses: 3.0
GENERATION = 8.0  # time to generate a token, in tokens of prefill by the same model
# Parameters below which models run on a CPU: of any preset, and of one that trains in float32.
CPU_ONLY, CPU_FLOAT32 = 50e6, 200e6
# Slowdown of a format against bfloat16 on a GPU: TF32's peak is 1/2, that of float32 without tensor
# cores 1/15, at a higher MFU.
SLOWDOWN = {"bfloat16": 1.0, "tf32": 2.0, "float32": 10.0}
WIDTH = {"bfloat16": 2, "tf32": 4, "float32": 4}  # bytes of a number
DECODING = 1e-3  # seconds a layer and token of transformers' generate(), whatever the batch
GOLD_STATES = 60000  # peak activations of a layer of an 8B model, numbers a token
JUDGE_PROMPT = 350  # tokens of AlpacaEval's prompt without the texts that are compared
READING = 2e8  # bytes a second of weights from a shared file system
TEXT = 4.0  # bytes a token takes as text
CHECKPOINT = 12 * 3  # bytes a parameter: weights and two moments; two are kept, a third is written
TOKEN_BYTES = 40  # bytes a token takes in a Python list


class JobCost(NamedTuple):
    """Cost of a job, independent of the number of GPUs that it will run on."""

    parameters: float  # of its largest model
    flops: float  # of a model that runs on a GPU in bfloat16 equivalents, by SLOWDOWN
    memory: Callable[[int], Parts]  # number of GPUs -> peak bytes of each, by part
    weight_bytes: float  # of main memory, for the weights that each process reads
    data_bytes: float = 0.0  # of main memory, for the data that each process reads
    gpu_counts: tuple[int, ...] = (1,)  # numbers of GPUs that its batch size divides into
    serial_seconds: float = 0.0  # time in which a single GPU computes, whatever their number
    advice: str = "a GPU with more memory"
    one_node: bool = False  # its GPUs must be of one node


def cost_of(config: Settings, kind: str, name: str, gpu_memory: float) -> JobCost:
    """Estimate a job's cost, for GPUs of `gpu_memory` GB; kinds as in `resources.resources_of`."""
    match kind:
        case "backbone":
            return _backbone(config, name)
        case "reward_model":
            return _reward_model(config, name)
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
            return _judge(config)
    what = kind.split("+")
    if {*what} <= {"scenarios", *BENCHMARKS, "ranks"}:
        return _measurements(config, name, what)
    raise ValueError(f"no kind of job '{kind}'")


def stored(config: Settings, kind: str, name: str) -> tuple[float, float]:
    """Bytes on disk of the model that a job writes, and of its checkpoints while it trains."""
    backbones, rloo = config["backbones"], config["rloo"]
    match kind:
        case "backbone":
            size = parameters(shape_of(config, name))
            return 4 * size, CHECKPOINT * size if backbones[name]["sft"] else 0
        case "reward_model":
            size = parameters(shape_of(config, name), reward=True)
            return 4 * size, CHECKPOINT * size
        case "released":
            return 4 * released_size(config, name), 0
        case "rloo":
            run = name.partition("-")[0]
            size = parameters(shape_of(config, rloo["runs"][run]["policy"]))
            return 4 * size, CHECKPOINT * size
    return 0, 0


def _copy(weight_bytes: float) -> JobCost:
    """Cost of a job that only copies or converts files, on a CPU."""
    return JobCost(0, 0.0, lambda _: {}, weight_bytes)


def on_cpu(config: Settings, n_parameters: float) -> bool:
    """Whether a job runs on a CPU, by the parameters of its largest model."""
    return n_parameters < (CPU_ONLY if config["reward_models"]["bf16"] else CPU_FLOAT32)


def _slowdown(config: Settings, dtype: str, n_parameters: float) -> float:
    """Slowdown of a format; 1 for a model that runs on a CPU, whose rate is that of float32."""
    return 1.0 if on_cpu(config, n_parameters) else SLOWDOWN[dtype]


def released_size(config: Settings, name: str) -> float:
    """Number of parameters of a downloaded model, named by its folder under runs/PRESET."""
    shape = shape_of(config, backbone_of(config, name))
    return parameters(shape, reward=name.startswith("reward_models/"))


def _counts(batches: int) -> tuple[int, ...]:
    """Numbers of GPUs that share the micro-batches evenly: the powers of two that divide them."""
    return tuple(2**power for power in range(batches.bit_length()) if batches % 2**power == 0)


def tokens_of(config: Settings, source: str) -> tuple[float, float]:
    """Mean tokens of a prompt and of a response of a source; of a chat, of user and assistant."""
    sizes = config["sizes"]["sources"][source]
    return sizes["prompt_tokens"], sizes["response_tokens"]


def rows_of(config: Settings, source: str, part: str) -> int:
    """Number of rows of a source (prompts, chats, pairs, instructions); a synthetic one sets it."""
    section = config["sources"][source]
    rows = section[part] if section["kind"] == "synthetic" else None
    return int(config["sizes"]["sources"][source]["rows"] if rows is None else rows)


def benchmark_rows(config: Settings, benchmark: str) -> int:
    """Number of prompts of a benchmark, or of those of its parts that are taken, of one size."""
    section = config[benchmark]
    source = section["source"]
    key, domains = BENCHMARKS[benchmark].synthetic
    synthetic = config["sources"][source]["kind"] == "synthetic"
    rows = rows_of(config, source, key) * (domains if synthetic else 1)
    parts = len(section["parts"] or range(domains))
    taken = section["prompts"] * domains if section["prompts"] else rows
    return min(rows, taken) * parts // domains


def prompts_of(config: Settings) -> dict[str, int]:
    """Number of prompts: of X_train, and of X_valid and X_train capped at `evaluation_prompts`."""
    splits, source = config["splits"], config["responses"]["source"]
    everything = rows_of(config, source, "prompts")
    train = min(splits["train_prompts"], everything)
    valid = min(splits["valid_prompts"] or everything, everything - train)
    whole = released(config, "splits/")  # downloaded splits are not cut
    cap = everything if whole else splits["evaluation_prompts"] or everything
    return {"train": train, "valid": min(valid, cap), "evaluated": min(train, cap)}


def split_bytes(config: Settings, split: str) -> float:
    """Bytes of text of a downloaded split."""
    prompts, responses_per_prompt = prompts_of(config), config["responses"]["responses_per_prompt"]
    side = "valid" if split in ("prompt_disjoint", "mutual_disjoint") else "evaluated"
    n_responses = 2 if split == "in_domain" else responses_per_prompt
    if split == "train":
        n_responses = config["splits"]["train_responses"]
    prompt, response = tokens_of(config, config["responses"]["source"])
    return TEXT * prompts["train" if split == "train" else side] * (prompt + n_responses * response)


def _backbone(config: Settings, name: str) -> JobCost:
    """SFT on packed blocks of max_length tokens, or a copy of the pretrained model."""
    shape, sft = shape_of(config, name), config["sft"]
    source, n = config["backbones"][name]["sft"], parameters(shape)
    if not source:
        return _copy(5 * n)
    length = sft["max_length"]
    chats = rows_of(config, source, "chats") * sum(tokens_of(config, source))
    batches = sft["global_batch"] // sft["micro_batch"]
    reading = sequences(sft["epochs"] * chats, length)
    flops = training_flops(shape, reading, False, sft["gradient_checkpointing"])

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
    return JobCost(n, flops, memory, 4 * n, data, _counts(batches), advice=advice)


def _reward_model(config: Settings, name: str) -> JobCost:
    """Training on pairs, a micro-batch in one row, a prompt once for all of its responses."""
    shape, settings = shape_of(config, name), config["reward_models"]
    overrides, n = config["backbones"][name]["reward_models"], parameters(shape, reward=True)
    source = overrides["preferences"] or config["responses"]["source"]
    pairs = (
        rows_of(config, source, "pairs")
        if overrides["preferences"]
        else prompts_of(config)["train"]
    )
    n_responses, gold = 2, samples_gold(config)
    if settings["pairs"] == "all" and not overrides["preferences"]:
        own = gold is not None and gold["backbone"] == name  # D51
        n_responses = gold["responses"] if gold and own else config["splits"]["train_responses"]
    longest = overrides["max_length"]
    mean = sum(tokens_of(config, source))
    prompt, response = (min(1, longest / mean) * each for each in tokens_of(config, source))
    batches = settings["global_batch"] // settings["micro_batch"]
    trained = prompt_trees(settings["epochs"] * pairs, prompt, n_responses, response)
    flops = training_flops(shape, trained, True, settings["gradient_checkpointing"])
    probed = settings["probe_pairs"] * settings["probe_evals"]
    flops += forward_flops(shape, prompt_trees(probed, prompt, 2, response))
    flops *= _slowdown(config, "bfloat16" if settings["bf16"] else "float32", n)  # D25

    def memory(gpus: int) -> Parts:
        return training_memory(
            shape,
            reward=True,
            sequences=n_responses * settings["micro_batch"],
            length=longest,
            masked=False,
            bf16=settings["bf16"],
            checkpointing=settings["gradient_checkpointing"],
            optimizer=settings["optimizer"],
            processes=gpus,
            sharded=True,
            accumulating=batches > gpus,
        )

    data = TOKEN_BYTES * n_responses * pairs * (prompt + response)
    advice = (
        "a GPU with more memory, or a shorter backbones.*.reward_models.max_length "
        "(reward_models.micro_batch is part of the experiment, D1)"
    )
    # BSR over the whole global batch has no accumulation: one micro-batch on each GPU.
    one_step = settings["objectives"]["bt-bsr"]["reduction"] == "global"
    counts = (batches,) if one_step else _counts(batches)
    return JobCost(n, flops, memory, 4 * n, data, counts, advice=advice)


def _measurements(config: Settings, name: str, what: list[str]) -> JobCost:
    """Measurements of a reward model that is loaded once, one after another."""
    costs = []
    for each in what:
        if each == "scenarios":
            costs.append(_scenario_scores(config, name))
        elif each == "ranks":
            costs.append(_ranks(config, name))
        else:
            costs.append(_benchmark_scores(config, name, each))

    def memory(gpus: int) -> Parts:
        return max((cost.memory(gpus) for cost in costs), key=lambda parts: sum(parts.values()))

    flops, data = sum(cost.flops for cost in costs), sum(cost.data_bytes for cost in costs)
    return costs[0]._replace(flops=flops, memory=memory, data_bytes=data)


def _scenario_scores(config: Settings, name: str) -> JobCost:
    """Scoring of the four scenarios, and of a sample of each in float32 (D48)."""
    n_responses, prompts = config["responses"]["responses_per_prompt"], prompts_of(config)
    evaluated, valid = prompts["evaluated"], prompts["valid"]
    sets = [(evaluated, 2), (evaluated, n_responses), (valid, n_responses), (valid, n_responses)]
    scoring = config["scoring"]
    sample = scoring["float32_prompts"] if scoring["dtype"] != "float32" else 0
    return _scores(config, name, config["responses"]["source"], sets, sample)


def _benchmark_scores(config: Settings, name: str, benchmark: str) -> JobCost:
    """Scoring of a benchmark."""
    sets = [(benchmark_rows(config, benchmark), BENCHMARKS[benchmark].responses_per_prompt)]
    return _scores(config, name, config[benchmark]["source"], sets)


def _ranks(config: Settings, name: str) -> JobCost:
    """Hidden states of as many rows of two sets as the largest effective rank takes."""
    rows = max(config["ranks"]["rows"])
    return _scores(config, name, config["rm_bench"]["source"], [(2 * rows, 1)])


def _scores(
    config: Settings, name: str, source: str, sets: list[tuple[int, int]], sample: int = 0
) -> JobCost:
    """Scoring of sets of prompts on one GPU; `sets` has their prompts and responses a prompt.

    The first `sample` prompts of each are scored in float32 too.
    """
    shape, scoring = shape_of(config, name), config["scoring"]
    n, (prompt, response) = parameters(shape, reward=True), tokens_of(config, source)
    flops = data = 0.0
    for prompts, responses in sets:
        for count, dtype in ((prompts, scoring["dtype"]), (min(sample, prompts), "float32")):
            reading = prompt_trees(count, prompt, responses, response)
            flops += _slowdown(config, dtype, n) * forward_flops(shape, reading)
        data += prompts * responses * (TOKEN_BYTES * (prompt + response) + 12 * shape.hidden_size)
    tokens = max(scoring["batch_tokens"], int(prompt + response))
    width = WIDTH["float32" if sample else scoring["dtype"]]
    return JobCost(n, flops, lambda _: inference_memory(shape, tokens, width), 4 * n, data)


def _rloo(config: Settings, gpu_memory: float, name: str) -> JobCost:
    """Rollouts, rewards, updates and evaluations in turn; DDP replicates all models on each GPU."""
    rloo, policy = config["rloo"], policies(config)[name]
    shape = shape_of(config, policy["policy"])
    judge = shape_of(config, policy["reward_models"][rloo["seeds"][0]].split("/")[0])
    width = WIDTH[rloo["reward_dtype"]]
    longest = rloo["prompt_length"] + rloo["response_length"]
    prompt, response = tokens_of(config, config["responses"]["source"])
    prompt, response = min(prompt, rloo["prompt_length"]), min(response, rloo["response_length"])
    padded = min(longest, PADDING * (prompt + response))
    n_prompts = prompts_of(config)["valid"] * rloo["epochs"]
    completions, updates = n_prompts * rloo["k"], n_prompts / rloo["prompts_per_update"]
    trained = completions / (rloo["k"] if rloo["batch_form"] == "release" else 1)
    updated = sequences(trained * padded, padded)
    flops = training_flops(shape, updated, False, rloo["gradient_checkpointing"])
    read = sequences(completions * padded, padded)
    flops += 2 * forward_flops(shape, read, False)  # policy, reference
    rewarded = prompt_trees(n_prompts, prompt, rloo["k"], response)
    slowdown = _slowdown(config, rloo["reward_dtype"], max(parameters(shape), parameters(judge)))
    flops += slowdown * forward_flops(judge, rewarded)
    drawn = sequences(completions * response, prompt + response)
    flops += GENERATION * forward_flops(shape, drawn, False)
    per_step = rloo["prompts_per_update"] * rloo["k"] // rloo["mini_batches"]
    rounds = math.ceil(rloo["eval_prompts"] / rloo["batch_size"])
    evaluations = 2 + updates / rloo["eval_every"]
    serial_seconds = evaluations * rounds * rloo["response_length"] * shape.layers * DECODING

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
        # Reference and reward model stay on the GPU all the time. Activations of scoring, sampling,
        # evaluation and training are never there at once: the largest of them counts.
        parts["reference"] = 4 * parameters(shape)
        parts["reward_model"] = scored["weights"]
        drawn = generation_memory(shape, rloo["batch_size"], longest, 4)
        # The KL of an evaluation needs all logits of policy and reference at once. Batches hold
        # sequences of one length, and few are among the longest: two are assumed to coincide.
        compared = min(rloo["batch_tokens"], 2 * longest) * shape.vocabulary * (4 + 4 + 2)
        rest = [scored["activations"], drawn, compared]
        parts["activations"] = max(parts["activations"], *rest)
        if rloo["generation"] == "vllm":  # it reserves a share of the GPU when it starts
            parts["vllm"] = rloo["vllm_memory"] * gpu_memory * 1e9
        return parts

    powers = _counts(per_step // rloo["micro_batch"])
    counts = tuple(n for n in powers if rloo["prompts_per_update"] % n == 0)
    largest = max(parameters(shape), parameters(judge))
    weight_bytes = 8 * parameters(shape) + 4 * parameters(judge)  # rounded after it is read
    advice = "a GPU with more memory, rloo.optimizer adamw_8bit, or a smaller reward model"
    return JobCost(largest, flops, memory, weight_bytes, 0.0, counts, serial_seconds, advice)


def _response_cost(
    n_parameters: float, rows: float, tokens: tuple[float, float], options: Settings
) -> JobCost:
    """Generation of a response to each of `rows` prompts, on one GPU."""
    prompt, response = tokens[0], min(tokens[1], options.get("max_new_tokens", 512))
    width = 2 if options.get("dtype") == "bfloat16" else 4
    flops = 2 * n_parameters * rows * (prompt + GENERATION * response)
    parts = {"weights": width * n_parameters, "cache": VLLM_CACHE}
    return JobCost(n_parameters, flops, lambda _: parts, width * n_parameters, 4000 * rows)


def _generate(config: Settings, name: str) -> JobCost:
    """Generation of one response model's responses to every prompt."""
    source = config["responses"]["source"]
    options = config["responses"]["generate"]["options"]
    rows = rows_of(config, source, "prompts")
    return _response_cost(
        config["sizes"]["models"][name] * 1e9, rows, tokens_of(config, source), options
    )


def _answers(config: Settings, name: str) -> JobCost:
    """Generation of a policy's answers to AlpacaEval; `sft` is the policies' initial backbone."""
    judged = config["alpaca_eval"]
    run = config["rloo"]["runs"][judged["run"]]["policy"]
    policy = run if name == "sft" else policies(config)[name]["policy"]
    source = judged["source"]
    rows = rows_of(config, source, "instructions")
    n = parameters(shape_of(config, policy))
    return _response_cost(n, rows, tokens_of(config, source), judged["generation"])


def _judge(config: Settings) -> JobCost:
    """One token for each pair by a model that vLLM splits over GPUs of a node; else no model."""
    if judge_kind(config) != "vllm":
        return _copy(0)
    judged = config["alpaca_eval"]
    judge, n = judged["judge"], config["sizes"]["models"]["judge"] * 1e9
    answers = 1 + len(judged_policies(config)) * len(judged["seeds"])
    pairs = answers * rows_of(config, judged["source"], "instructions")
    prompt, response = tokens_of(config, judged["source"])
    flops = 2 * n * pairs * (JUDGE_PROMPT + prompt + 2 * response)
    weights = (2 if judge["dtype"] == "bfloat16" else 4) * n
    gpus = judge["tensor_parallel_size"]
    return JobCost(
        n,
        flops,
        lambda _: {"weights": weights / gpus, "cache": VLLM_CACHE},
        weights / gpus,
        4000 * pairs,
        (gpus,),
        weights / READING,
        advice="a larger alpaca_eval.judge.tensor_parallel_size",
        one_node=True,
    )


def _gold(config: Settings, kind: str) -> JobCost:
    """Gold rewards of all responses, or of the samples of one policy's evaluations."""
    gold, rloo, responses = config["gold"], config["rloo"], config["responses"]
    tokens = sum(tokens_of(config, responses["source"]))
    if kind == "policy_gold":
        updates = prompts_of(config)["valid"] * rloo["epochs"] / rloo["prompts_per_update"]
        rows = (2 + updates / rloo["eval_every"]) * rloo["eval_prompts"]
        if samples_gold(config):
            return _samples_gold(config, rows)
    else:
        models = len(responses["generate"]["models"]) if responses["generate"] else 0
        n_responses = responses["responses_per_prompt"] + models
        rows = n_responses * rows_of(config, responses["source"], "prompts")
    if gold["kind"] != "model":
        return _copy(rows * 4 * tokens * 10)
    n = config["sizes"]["models"]["gold"] * 1e9
    width, cost = WIDTH[gold["dtype"]], SLOWDOWN[gold["dtype"]]
    parts = {"weights": width * n, "activations": width * gold["batch_tokens"] * GOLD_STATES}
    flops = cost * 2 * n * rows * tokens
    return JobCost(n, flops, lambda _: parts, width * n, TOKEN_BYTES * rows * tokens)


def _samples_gold(config: Settings, rows: float) -> JobCost:
    """Rewards of the samples of one policy by every model of `rloo.gold`, one after another."""
    models, rloo = gold_models(config), config["rloo"]
    shape, dtype = shape_of(config, models[0][0]), rloo["reward_dtype"]
    prompt, response = tokens_of(config, config["responses"]["source"])
    length = min(prompt, rloo["prompt_length"]) + min(response, rloo["response_length"])
    n = parameters(shape, reward=True)
    flops = forward_flops(shape, sequences(rows * length, length)) * _slowdown(config, dtype, n)
    longest = rloo["prompt_length"] + rloo["response_length"]
    parts = inference_memory(shape, max(rloo["batch_tokens"], longest), WIDTH[dtype])
    return JobCost(n, len(models) * flops, lambda _: parts, 4 * n, TOKEN_BYTES * rows * length)
