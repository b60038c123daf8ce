"""Responses of a model to prompts: by transformers in this process, or an OpenAI-compatible server.

Every prompt has its own seed, a hash of `seed` and its text, so an answer does not depend on the
other prompts of its batch, or on an interruption. What remains is rounding: left padding moves
logits by about 1e-6 in float32 and visibly in bfloat16, and a server chooses its own batches. Left
out: tensor parallelism, and vLLM in this process (it has no CPU build; `serve: true` starts it as
a server).
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from ..errors import InputError, limit_left_out
from ..files import hashes, model_folder
from ..frames import write_frame
from ..progress import Progress
from .answer_log import Answer, AnswerLog
from .chat import prompt_ids
from .heads import positions
from .language_model import explained_loading, load_language_model

# Sampling: the release's defaults, since the paper gives none (docs/DEVIATIONS.md D36).
DEFAULTS: dict[str, Any] = {
    "name": None,  # what the frame calls the model; None: `model`
    "dtype": "float32",
    "temperature": 0.8,
    "top_p": 1.0,
    "max_new_tokens": 512,
    "seed": 0,
    "batch_size": 16,
    "base_url": None,
    "base_url_env": None,  # the environment variable that holds it, in place of `base_url`
    "api_key_env": None,  # the environment variable that holds the key; without one, "EMPTY"
    "concurrency": 64,
    "retries": 5,
    "timeout": 600.0,
    "serve": False,
    "serve_arguments": [],
    "serve_timeout": 1800.0,
    "port": 0,  # 0: any free port
    "max_left_out": 0.0,  # the share of prompts that may go without a response
}
Chats = list[list[int]] | None  # token ids of every prompt; None where they are not rendered here
SHARE = "responses.generate.max_left_out"
# What an answer depends on: an answer log is resumed only with the same values.
IDENTITY = ("kind", "model", "dtype", "temperature", "top_p", "max_new_tokens", "seed")


def generate(prompts: list[str], settings: dict[str, Any]) -> list[str]:
    """Return a response per prompt, in order.

    `settings`: `kind` (`transformers` or `vllm`), `model` and any of `DEFAULTS`. The model is a
    folder, or for an external server its name there; nothing is downloaded. Each prompt is
    one user turn in the model's own chat template. Temperature 0 is greedy. Raises `InputError` for
    an unknown key, a model that cannot be loaded, a prompt that does not fit, or a server that
    keeps failing.
    """
    settings = complete(settings) | {"max_left_out": 0.0}
    if not prompts:
        return []
    chats = rendered(prompts, settings)
    limit_left_out(too_long(chats, settings), len(prompts), 0.0, SHARE)
    progress = Progress("generate", len(prompts), "responses")
    responses: dict[int, str] = {}
    for batch in answers(prompts, chats, settings, frozenset()):
        responses |= {answer.row: answer.response for answer in batch}
        progress.update(len(responses))
    return [responses[row] for row in range(len(prompts))]


def generate_to(prompts: pd.DataFrame, settings: dict[str, Any], output: Path) -> dict[str, Any]:
    """Answer `example_id, prompt` and write `output`, a parquet file that is whole or absent.

    The raw frame has `example_id, prompt, response, response_model, finished`, in the order of
    `prompts`. Answers are logged in `output` with the ending `.jsonl` as they arrive, so that an
    interrupted run resumes and generates nothing twice; the log is removed at the end. Prompts that
    do not fit the model's context are left out before any is answered, and those that a server
    refuses, as long as they are at most the share `max_left_out`. Returns what to record: left_out,
    the reasons by example_id, and replaced_characters. Arguments and errors otherwise as in
    `generate`.
    """
    settings = complete(settings)
    texts, names = prompts["prompt"].tolist(), prompts["example_id"].tolist()
    chats = rendered(texts, settings)
    unanswered = too_long(chats, settings)
    share = settings["max_left_out"]
    limit_left_out(unanswered, len(texts), share, SHARE)
    log = AnswerLog(output.with_suffix(".jsonl"), fingerprint(prompts, settings))
    answered = log.read(len(texts))
    progress = Progress("generate", len(texts) - len(unanswered), "responses", len(answered))
    unanswered |= _refused(answered.values())
    for batch in answers(texts, chats, settings, answered.keys() | unanswered.keys()):
        log.append(batch)
        answered |= {answer.row: answer for answer in batch}
        unanswered |= _refused(batch)
        limit_left_out(unanswered, len(texts), share, SHARE)
        progress.update(len(answered))
    left_out = limit_left_out(unanswered, len(texts), share, SHARE)
    rows = [row for row in range(len(texts)) if row not in left_out]
    frame = prompts[["example_id", "prompt"]].iloc[rows].reset_index(drop=True)
    frame["response"] = [answered[row].response for row in rows]
    frame["response_model"] = settings["name"] or settings["model"]
    frame["finished"] = [answered[row].finished for row in rows]
    write_frame(frame, output)
    log.path.unlink(missing_ok=True)
    return {
        "left_out": {str(names[row]): left_out[row] for row in sorted(left_out)},
        "replaced_characters": sum(answered[row].replaced for row in rows),
    }


def _refused(batch: Iterable[Answer]) -> dict[int, InputError]:
    """The prompts of a batch that the server refused, as errors by row."""
    return {
        answer.row: InputError(f"prompt {answer.row}", answer.refused, "an answer")
        for answer in batch
        if answer.refused is not None
    }


def rendered(prompts: list[str], settings: dict[str, Any]) -> Chats:
    """Token ids of each prompt by the model's own tokenizer and template.

    None for an external server, which renders the prompts itself. One that is started here gets
    the ids, as a server takes the time of day for a template that asks (chat.CLOCK).
    """
    if settings["kind"] == "vllm" and not settings["serve"]:
        return None
    return prompt_ids(_tokenizer(str(model_folder(settings["model"]))), prompts)


def too_long(chats: Chats, settings: dict[str, Any]) -> dict[int, InputError]:
    """The prompts that leave too little of the model's context for a response, as errors by row.

    `chats` is what `rendered` returned. Empty for an external server, and for a folder in a format
    that only vLLM reads.
    """
    name, folder = settings["model"], Path(settings["model"])
    if chats is None or (settings["kind"] == "vllm" and not (folder / "config.json").is_file()):
        return {}
    with explained_loading(name, "a causal language model"):
        context = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    room = _context(context, settings) - settings["max_new_tokens"]
    expected = f"at most {room} (the context of {name} less max_new_tokens)"
    return {
        row: InputError(f"prompt {row}", f"{len(ids)} tokens", expected, "lower max_new_tokens")
        for row, ids in enumerate(chats)
        if len(ids) > room
    }


def _context(config: Any, settings: dict[str, Any]) -> float:
    """Tokens of the context: the last --max-model-len of `serve_arguments`, or the model's own."""
    words = [word for argument in settings["serve_arguments"] for word in str(argument).split("=")]
    given = [
        value
        for option, value in itertools.pairwise(words)
        if option.replace("_", "-") == "--max-model-len" and value.isdecimal()
    ]
    if settings["serve"] and given:
        return int(given[-1])
    return positions(config) or math.inf


def complete(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill in `DEFAULTS`; an unknown key or kind is an `InputError`."""
    unknown = sorted(settings.keys() - DEFAULTS.keys() - {"kind", "model"})
    if unknown:
        raise InputError("generator", f"unknown keys {unknown}", f"some of {sorted(DEFAULTS)}")
    if settings.get("kind") not in ("transformers", "vllm"):
        raise InputError("generator.kind", repr(settings.get("kind")), "transformers or vllm")
    if not isinstance(settings.get("model"), str):
        raise InputError("generator.model", repr(settings.get("model")), "a folder or a name")
    return DEFAULTS | settings


def fingerprint(prompts: pd.DataFrame, settings: dict[str, Any]) -> str:
    """Hash the prompts, the model's files and every setting that an answer depends on."""
    identity = {key: settings[key] for key in IDENTITY}
    identity["files"] = hashes(Path(settings["model"]))
    rows = prompts[["example_id", "prompt"]].values.tolist()
    return hashlib.sha256(json.dumps([identity, rows], sort_keys=True).encode()).hexdigest()


def prompt_seed(seed: int, prompt: str) -> int:
    """Return a prompt's own seed, 31 bits, equal on every machine."""
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def answers(
    prompts: list[str], chats: Chats, settings: dict[str, Any], done: Set[int]
) -> Iterator[list[Answer]]:
    """Yield batches of answers to the prompts whose row is not in `done`, in any order.

    `chats` is what `rendered` returned for the prompts.
    """
    rows = [row for row in range(len(prompts)) if row not in done]
    if not rows:
        return
    seeds = [prompt_seed(settings["seed"], prompt) for prompt in prompts]
    if settings["kind"] == "transformers":
        assert chats is not None
        yield from _local_answers(chats, seeds, rows, settings)
        return
    from .openai_server import server_answers  # its client is an extra (pyproject.toml)

    yield from server_answers(prompts if chats is None else chats, seeds, rows, settings)


class Gumbel:
    """A logits processor that makes the greedy choice a sample, with one generator per row.

    argmax(log p + Gumbel noise) is distributed as p, and each row's noise comes from its own seed:
    `generate` itself samples a batch from one stream, where every row moves every other.
    """

    def __init__(self, seeds: list[int], device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Add noise to log-probabilities (B, V); -inf, a token ruled out, stays -inf."""
        noise = scores.new_empty(scores.shape).float()
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() - noise.log()


def _tokenizer(folder: str) -> Any:
    """Load the tokenizer of a model in a folder; without a chat template it is refused."""
    with explained_loading(folder, "a causal language model"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    _require_template(tokenizer, folder)
    return tokenizer


def _require_template(tokenizer: Any, folder: str) -> None:
    """Refuse a tokenizer that cannot render a chat."""
    if tokenizer.chat_template is None:
        raise InputError(folder, "no chat template", "one in the tokenizer", "save one with it")


def _load(settings: dict[str, Any]) -> tuple[Any, Any, list[int]]:
    """Load a model for generation, with its tokenizer and end tokens."""
    name = settings["model"]
    model, tokenizer = load_language_model(name, settings["dtype"])
    _require_template(tokenizer, name)
    ends = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    if not ends:
        raise InputError(name, "no end-of-text token", "one in the tokenizer", "set its eos_token")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), tokenizer, sorted(ends)


def _local_answers(
    chats: list[list[int]], seeds: list[int], rows: list[int], settings: dict[str, Any]
) -> Iterator[list[Answer]]:
    """Answer with transformers, in batches of similar lengths, the longest first."""
    model, tokenizer, ends = _load(settings)
    pad = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    rows = sorted(rows, key=lambda row: (-len(chats[row]), row))
    for start in range(0, len(rows), settings["batch_size"]):
        batch = rows[start : start + settings["batch_size"]]
        outputs = sample(
            model,
            [chats[row] for row in batch],
            [seeds[row] for row in batch],
            ends=ends,
            pad=pad,
            max_new_tokens=settings["max_new_tokens"],
            temperature=settings["temperature"],
            top_p=settings["top_p"],
        )
        batch_answers: list[Answer] = []
        for row, tokens in zip(batch, outputs, strict=True):
            stop = next((i for i, token in enumerate(tokens) if token in ends), None)
            response = tokenizer.decode(tokens[:stop], skip_special_tokens=True)
            batch_answers.append(Answer(row, response, stop is not None))
        yield batch_answers


@torch.inference_mode()
def sample(
    model: Any,
    chats: list[list[int]],
    seeds: list[int],
    *,
    ends: list[int],
    pad: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
) -> list[list[int]]:
    """Return the new tokens of every chat (a list of token ids), each with noise of its own seed.

    A row ends with one of `ends`, filled with `pad` to the longest, or after `max_new_tokens`.
    Temperature 0 is greedy. The model's generation config is left as it was.
    """
    width = max(map(len, chats))
    tokens = torch.tensor([[pad] * (width - len(chat)) + chat for chat in chats])
    mask = torch.tensor([[0] * (width - len(chat)) + [1] * len(chat) for chat in chats])
    processors = LogitsProcessorList()
    if temperature > 0:
        processors.append(TemperatureLogitsWarper(float(temperature)))
        if top_p < 1:
            processors.append(TopPLogitsWarper(float(top_p)))
        processors.append(Gumbel(seeds, model.device))
    previous = model.generation_config
    # Replaces the model's own, which may bring a top-k or a repetition penalty: as an argument of
    # `generate` it would be completed from the model's own.
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=pad
    )
    try:
        output = model.generate(
            input_ids=tokens.to(model.device),
            attention_mask=mask.to(model.device),
            logits_processor=processors,
        )
    finally:
        model.generation_config = previous
    new: list[list[int]] = output[:, width:].tolist()
    return new
