"""The model card in every checkpoint: a README.md for the hub, with code that runs.

It is a function of record.json alone, without dates, machines or paths outside the project, so that
equal checkpoints have equal cards.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..experiment.config import Settings
from ..experiment.scenarios import GOLD_TRAIN
from ..objectives import OBJECTIVES, REDUCTIONS

SCORE = """
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

name = "."  # this folder, or its id on the hub
model = AutoModelForSequenceClassification.from_pretrained(name).eval()
tokenizer = AutoTokenizer.from_pretrained(name)


def reward(prompt: str, response: str) -> float:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids).logits.item()


print(reward("list three colors .", "red , green , blue ."))
""".strip()

ANSWER = """
from transformers import AutoModelForCausalLM, AutoTokenizer

name = "."  # this folder, or its id on the hub
model = AutoModelForCausalLM.from_pretrained(name).eval()
tokenizer = AutoTokenizer.from_pretrained(name)
turns = [{"role": "user", "content": "list three colors ."}]
text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt", return_token_type_ids=False)
output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
""".strip()

GOLD = """

It is the gold of policies' samples (D51), trained on judgements of all response models' answers to
the train prompts. It stands in for whoever judged these, such as GPT-4, and is not that judge:
where it errs, the curves that it labels err too. No other number of the run comes from it."""

LIMITS = """
- Only differences between responses to one prompt mean anything: zero and scale are this model's
  own, and so is what it prefers, which is what the labels of its training data prefer.
- Away from that data it ranks worse (`rm-robustness evaluate` says how much), and a policy that is
  optimised against it finds where: watch the divergence, and another judge.
- It is no safety filter and no judge of facts, and not for decisions about people.
""".strip()


def card(kind: str, record: Mapping[str, Any]) -> str:
    """Write the card of a checkpoint: YAML front matter, then Markdown.

    `kind` is reward_model, backbone or policy; `record` is what record.json beside it holds:
    settings, seed, inputs {name: {path, sha256}}, a reward model's number of processes, a
    policy's name.
    """
    describe = {"reward_model": _reward_model, "backbone": _backbone, "policy": _policy}[kind]
    title, front, body = describe(record)
    scores = kind == "reward_model"
    task = "text-classification" if scores else "text-generation"
    front = {"library_name": "transformers", "pipeline_tag": task, **front}
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {title}",
        body,
        f"```python\n{SCORE if scores else ANSWER}\n```",
        *([_clock(record["template_clock"])] if "template_clock" in record else []),
        *([f"## Limits\n\n{LIMITS}"] if scores else []),
        f"## Made from\n\n{_made_from(record)}",
    ]
    return "\n\n".join(parts) + "\n"


def _reward_model(record: Mapping[str, Any]) -> tuple[str, Settings, str]:
    settings = record["settings"]
    objective, batch = settings["objective"], settings["micro_batch"]
    options = _defaults(objective) | settings["options"]
    note, unit, pairs_in = "", "pairs", float(batch)
    if settings["pairs"] == "all":  # a batch is of prompts (D47)
        unit = "prompts with all their pairs"
        pairs_in = batch * record["pairs"] / record["prompts"]
    if "weight" in options and options.get("reduction") in REDUCTIONS:  # a penalty of a batch
        # Its factor that acts: `release` and `global` multiply lambda by a number of pairs.
        counted = {"release": pairs_in, "paper": 1, "global": pairs_in * record["processes"]}
        options["strength"] = options["weight"] * counted[options["reduction"]]
        mean = ", m the mean reward of a batch" if "m**2" in OBJECTIVES[objective].formula else ""
        note = (
            f"{mean} (lambda {options['weight']:g}, micro-batch {batch} {unit}, "
            f"reduction `{options['reduction']}`)"
        )
    body = (
        f"Objective, a mean over pairs: `{_formula(objective, options)}`, with r_w and "
        f"r_l the rewards of the chosen and the rejected response{note}.\n\n"
        f"Learning rate {settings['learning_rate']:g}, {settings['global_batch']} {unit} a step, "
        f"epochs {settings['epochs']:g}. The model has one label, the reward, which is read at the "
        "last token of the chat template's rendering: add nothing to it and cut nothing."
    )
    if Path(record["inputs"]["train"]["path"]).stem == GOLD_TRAIN:
        body += GOLD
    tags = ["reward-model", "trl", objective, "rm-robustness"]
    return f"Reward model, {objective}", {"tags": tags}, body


def _formula(objective: str, options: Settings) -> str:
    """The loss of a pair with its options filled in; unformatted if a placeholder is no option."""
    # A card is written when a training has finished: no formula may make that fail.
    formula = OBJECTIVES[objective].formula
    try:
        return formula.format(**options)
    except (LookupError, ValueError, TypeError):
        return formula


def _defaults(objective: str) -> Settings:
    """The options of an objective with their defaults."""
    parameters = inspect.signature(OBJECTIVES[objective].function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _backbone(record: Mapping[str, Any]) -> tuple[str, Settings, str]:
    init, sft = record["settings"]["init"], record["settings"]["sft"]
    front: Settings = {"tags": ["trl", "rm-robustness"]}
    if init["kind"] == "hub":
        front["base_model"] = init["repo"]
    tuned = "not tuned further"
    if sft:
        tuned = (
            f"tuned on chats: learning rate {sft['learning_rate']:g}, batches of "
            f"{sft['global_batch']}, epochs {sft['epochs']:g}"
        )
    return "Backbone", front, f"The language model that reward models start from, {tuned}."


def _policy(record: Mapping[str, Any]) -> tuple[str, Settings, str]:
    settings = record["settings"]
    body = (
        f"Trained by RLOO against the reward model below: k {settings['k']}, beta "
        f"{settings['beta']:g}, learning rate {settings['learning_rate']:g}, "
        f"{settings['prompts_per_update']} prompts an update, epochs {settings['epochs']:g}. Its "
        "answers have more of that reward, which is not the same as being better."
    )
    return f"Policy {record['policy']}", {"tags": ["rloo", "trl", "rm-robustness"]}, body


def _clock(date: str) -> str:
    """How to render a template that writes a date as it was rendered in training."""
    year, month, day = map(int, date.split("-"))
    return (
        "The chat template writes the day's date; in training it was always the same: pass "
        f"`strftime_now=datetime({year}, {month}, {day}).strftime` to `apply_chat_template`."
    )


def _made_from(record: Mapping[str, Any]) -> str:
    """List seed and inputs; of an absolute path, which differs between machines, only the name."""
    lines = [f"- seed {record['seed']}"]
    for name, file in record["inputs"].items():
        path = Path(file["path"])
        shown = path.name if path.is_absolute() else path.as_posix()
        lines.append(f"- {name}: `{shown}`, sha256 `{file['sha256']}`")
    lines.append("- `record.json` has every setting, the code's revision and the packages")
    return "\n".join(lines)
