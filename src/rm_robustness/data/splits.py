"""The train split and the four robustness scenarios (paper section 3, docs/DEVIATIONS.md D32-D37).

Every random choice is made by a keyed hash (of seed, prompt, response model, response), so the
splits depend on the seed and the texts alone: not on row order, machine or PYTHONHASHSEED.
"""

import hashlib
import unicodedata
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError, limit_left_out
from ..experiment.config import Settings
from ..experiment.scenarios import GOLD_TRAIN
from ..frames import check_texts

SPLITS = ("train", "in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint")
SCENARIOS = SPLITS[1:]
COLUMNS = ["prompt_id", "response_id", "prompt", "response", "response_model", "gold"]


def normalise(text: str) -> str:
    """Fold case, width and spacing: prompts that are equal then count as the same prompt."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def key(*parts: object) -> str:
    """Hash some parts into 16 hex digits, the same on every machine."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def build_splits(
    frame: pd.DataFrame, settings: Settings
) -> tuple[dict[str, pd.DataFrame], Settings]:
    """Cut labelled responses into the five splits.

    `frame` has a row per response: example_id, prompt, response, response_model, gold. `settings`
    is the config's `splits` section with `train_models` and `valid_models` added, and
    `gold_responses` where a sixth frame, `gold_train`, is wanted (D51). Returns the splits by name,
    a row per prompt and response (`train_responses` per prompt in train, two in in_domain,
    `responses_per_prompt` in the others), and for the manifest the counts and the examples that
    lack responses. Raises InputError when a row is malformed, more examples than `max_left_out`
    lack responses, or prompts run out.
    """
    dropped: Counter[str] = Counter()
    check_texts(frame, ["prompt", "response"], "responses: ")
    frame = _checked(frame, settings)
    frame, left_out = _with_enough_responses(frame, settings)
    frame = _not_empty(frame, settings, dropped)
    frame = _one_example_per_prompt(frame, settings, dropped)
    frame = _distinct_responses(frame, settings, dropped)
    all_prompts = frame["prompt_id"].unique()
    frame = _short_responses(frame, settings, dropped)
    order = [key(settings["seed"], response_id) for response_id in frame["response_id"]]
    frame = frame.assign(order=order).sort_values("order")
    known, unseen = frame[~frame["unseen"]], frame[frame["unseen"]]
    prompts = _usable_prompts(known, all_prompts, settings, dropped)
    train_prompts, valid_prompts = _train_and_valid(prompts, settings)
    known = known[known["prompt_id"].isin(prompts)]
    splits = _known_models(known, train_prompts, valid_prompts, settings, dropped)
    splits |= _unseen_models(unseen, train_prompts, valid_prompts, settings, dropped)
    for name in ("train", "in_domain"):
        tied = splits[name].groupby("prompt_id")["gold"].transform("nunique") < 2
        untold = splits[name].loc[tied, "prompt_id"].nunique()
        dropped[f"{name}: prompts without two different golds"] = int(untold)
        splits[name] = splits[name][~tied].reset_index(drop=True)
    check_leakage(splits, settings)
    if "gold_responses" in settings:
        splits[GOLD_TRAIN] = _gold_train(frame, train_prompts, settings["gold_responses"])
    facts = {"counts": counts(splits), "dropped": {k: v for k, v in dropped.items() if v}}
    return splits, {**facts, "left_out": left_out}


def _known_models(
    known: pd.DataFrame,
    train_prompts: list[str],
    valid_prompts: list[str],
    settings: Settings,
    dropped: Counter[str],
) -> dict[str, pd.DataFrame]:
    """The splits with responses of M_train: of a trained prompt some train, two more evaluate."""
    rank = known.groupby("prompt_id").cumcount()
    per_prompt, limit = settings["responses_per_prompt"], settings["evaluation_prompts"]
    trained = settings["train_responses"]
    more = known[(rank >= trained) & (rank < trained + 2)]
    two = more.groupby("prompt_id")["response_id"].transform("size") == 2
    in_domain = _responses_to(more[two], train_prompts[:limit])
    fewer = len(train_prompts[:limit]) - in_domain["prompt_id"].nunique()
    dropped["in_domain: prompts without two more responses"] = fewer
    return {
        "train": _responses_to(known[rank < trained], train_prompts),
        "in_domain": in_domain,
        "prompt_disjoint": _responses_to(known[rank < per_prompt], valid_prompts[:limit]),
    }


def _unseen_models(
    unseen: pd.DataFrame,
    train_prompts: list[str],
    valid_prompts: list[str],
    settings: Settings,
    dropped: Counter[str],
) -> dict[str, pd.DataFrame]:
    """The splits with responses of M_valid, to the prompts that have enough of them."""
    per_prompt = settings["responses_per_prompt"]
    unseen = unseen[unseen.groupby("prompt_id").cumcount() < per_prompt]
    size = unseen.groupby("prompt_id")["response_id"].transform("size")
    splits = {}
    for name, prompts in (("response_disjoint", train_prompts), ("mutual_disjoint", valid_prompts)):
        whole = unseen[(size == per_prompt) & unseen["prompt_id"].isin(prompts)]
        complete = set(whole["prompt_id"])
        eligible = [prompt_id for prompt_id in prompts if prompt_id in complete]
        too_few = len(prompts) - len(eligible)
        dropped[f"{name}: prompts with too few valid-model responses left"] = too_few
        splits[name] = _responses_to(whole, eligible[: settings["evaluation_prompts"]])
    return splits


def _gold_train(frame: pd.DataFrame, prompts: list[str], limit: int) -> pd.DataFrame:
    """Up to `limit` responses to each prompt of X_train, of all response models (D51).

    Prompts whose responses all have the same gold are left out: they have no pair.
    """
    drawn = frame[frame.groupby("prompt_id").cumcount() < limit]
    differ = drawn.groupby("prompt_id")["gold"].transform("nunique") > 1
    return _responses_to(drawn[differ], prompts)


def counts(splits: dict[str, pd.DataFrame]) -> dict[str, dict[str, int]]:
    """Number of prompts and responses of each split."""
    return {
        name: {"prompts": int(split["prompt_id"].nunique()), "responses": len(split)}
        for name, split in splits.items()
    }


def check_leakage(splits: dict[str, pd.DataFrame], settings: Settings) -> None:
    """Raise InputError when a scenario has trained prompts or responses (paper, section 3)."""
    train = splits["train"]
    seen = set(train["prompt_id"]) | set(splits["in_domain"]["prompt_id"])
    texts = set(zip(train["prompt_id"], train["response"].map(normalise), strict=True))
    for name, split in splits.items():
        models = settings["valid_models" if name in SCENARIOS[2:] else "train_models"]
        others = set(split["response_model"]) - set(models)
        if others:
            raise InputError(name, f"responses of {sorted(others)}", f"only of {models}")
        if name in ("prompt_disjoint", "mutual_disjoint"):
            leaked = seen & set(split["prompt_id"])
            if leaked:
                raise InputError(name, f"prompt {min(leaked)} of the train split", "unseen prompts")
        if name != "train":
            repeated = texts & set(
                zip(split["prompt_id"], split["response"].map(normalise), strict=True)
            )
            if repeated:
                raise InputError(name, f"a trained response to {min(repeated)[0]}", "unseen ones")
        if split["response_id"].duplicated().any():
            raise InputError(name, "a response twice", "every response once")


def pairs(split: pd.DataFrame) -> pd.DataFrame:
    """Pair the two responses of each prompt: a row per prompt with chosen_* and rejected_* columns.

    The chosen response is the one with more gold; rows keep the split's order of prompts.
    """
    ranked = split.sort_values("gold", ascending=False, kind="stable")
    chosen = ranked.drop_duplicates("prompt_id", keep="first").set_index("prompt_id")
    rejected = ranked.drop_duplicates("prompt_id", keep="last").set_index("prompt_id")
    both = chosen.add_prefix("chosen_").join(rejected.add_prefix("rejected_"))
    both = both.loc[split["prompt_id"].unique()].reset_index()
    return both.rename(columns={"chosen_prompt": "prompt"}).drop(columns="rejected_prompt")


def all_pairs(split: pd.DataFrame) -> pd.DataFrame:
    """Pair every two responses of a prompt that differ in gold (D47): rows as in `pairs`.

    Pairs of a prompt follow each other, the prompts in the split's order.
    """
    rows = split.set_index("prompt_id").drop(columns="prompt")
    both = rows.add_prefix("chosen_").join(rows.add_prefix("rejected_"))
    both = both[both["chosen_gold"] > both["rejected_gold"]]
    prompts = split.drop_duplicates("prompt_id").set_index("prompt_id")["prompt"]
    both = prompts.to_frame().join(both, how="inner")
    return both.loc[prompts.index.intersection(both.index)].reset_index()


def _checked(frame: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Check the rows of the listed models and give them their prompt ids."""
    models = [*settings["train_models"], *settings["valid_models"]]
    absent = [model for model in models if model not in set(frame["response_model"])]
    if absent:
        raise InputError("responses", f"none of response model '{absent[0]}'", "some of each")
    frame = frame[frame["response_model"].isin(models)]
    bad = ~np.isfinite(frame["gold"].astype(float))
    if bad.any():
        row = frame[bad].iloc[0]
        raise InputError(_name(row), f"gold {row['gold']}", "a finite number")
    twice = frame.duplicated(["example_id", "response_model"])
    if twice.any():
        raise InputError(_name(frame[twice].iloc[0]), "two responses", "one per model and prompt")
    prompt_ids = frame["prompt"].map(lambda prompt: key(normalise(prompt)))
    return frame.assign(prompt_id=prompt_ids)


def _with_enough_responses(
    frame: pd.DataFrame, settings: Settings
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Leave out examples that lack responses in the source; return why, by example.

    Too few of M_train: the whole example. Too few of M_valid: it has no place in the scenarios of
    unseen models (`_unseen_models`), and keeps the others. With an empty M_valid nothing has. Done
    before anything else is dropped: a source that lacks many responses is a broken source.
    """
    trained = frame["response_model"].isin(settings["train_models"])
    examples, few = frame["example_id"].unique(), {}
    for part, side in ((frame[~trained], "valid"), (frame[trained], "train")):
        size = part.groupby("example_id").size().reindex(examples, fill_value=0)
        needed = settings["responses_per_prompt"] if settings[f"{side}_models"] else 0
        short = size[size < needed]
        for example, number in short.items():
            few[str(example)] = InputError(
                f"responses: example {example}",
                f"{number} responses of {side}_models",
                f"{needed} (responses.responses_per_prompt)",
            )
    left_out = limit_left_out(few, len(examples), settings["max_left_out"], "splits.max_left_out")
    return frame[~frame["example_id"].isin(short.index)], left_out


def _not_empty(frame: pd.DataFrame, settings: Settings, dropped: Counter[str]) -> pd.DataFrame:
    """Drop empty responses where the settings say so; otherwise one is an error."""
    empty = frame["response"].str.strip() == ""
    if empty.any():
        if settings["empty_responses"] == "error":
            raise InputError(
                _name(frame[empty].iloc[0]),
                "an empty response",
                "some text",
                "set splits.empty_responses to 'drop' to leave such responses out and count them",
            )
        dropped["responses: empty"] += int(empty.sum())
        frame = frame[~empty]
    return frame


def _one_example_per_prompt(
    frame: pd.DataFrame, settings: Settings, dropped: Counter[str]
) -> pd.DataFrame:
    """Of the examples with the same prompt keep one, or none (D35)."""
    examples = frame[["example_id", "prompt_id"]].drop_duplicates()
    repeated = examples["prompt_id"].duplicated(keep=False)
    order = examples["example_id"].map(lambda example: key(settings["seed"], example))
    examples = examples.assign(order=order).sort_values("order")
    if settings["repeated_prompts"] == "drop_all":
        distinct = examples[~repeated.loc[examples.index]]
    else:
        distinct = examples.drop_duplicates("prompt_id")
    dropped["examples: repeated prompt"] += len(examples) - len(distinct)
    return frame[frame["example_id"].isin(distinct["example_id"])]


def _distinct_responses(
    frame: pd.DataFrame, settings: Settings, dropped: Counter[str]
) -> pd.DataFrame:
    """Drop responses that repeat another one of their prompt, or such prompts as a whole (D35)."""
    trained = frame["response_model"].isin(settings["train_models"])
    text = frame["response"].map(normalise)
    ids = [key(*row) for row in zip(frame["prompt_id"], frame["response_model"], text, strict=True)]
    frame = frame.assign(text=text, response_id=ids, unseen=~trained)
    # Train models first: a response that repeats a trained one does not count as unseen.
    frame = frame.sort_values(["unseen", "response_id"])
    repeats = frame.duplicated(["prompt_id", "text"])
    if settings["identical_responses"] == "drop_prompt":
        repeating = set(frame.loc[repeats & ~frame["unseen"], "prompt_id"])
        dropped["prompts: identical responses"] += len(repeating)
        keep = ~frame["prompt_id"].isin(repeating)
        frame, repeats = frame[keep], repeats[keep]
    dropped["responses: identical to another of the prompt"] += int(repeats.sum())
    return frame[~repeats]


def _short_responses(
    frame: pd.DataFrame, settings: Settings, dropped: Counter[str]
) -> pd.DataFrame:
    """Drop responses that with their prompt have more than `max_characters`; null keeps all."""
    if not settings["max_characters"]:
        return frame
    length = frame["prompt"].str.len() + frame["response"].str.len()
    short: pd.Series[bool] = length <= settings["max_characters"]
    dropped["responses: longer than max_characters"] += int((~short).sum())
    return frame[short]


def _usable_prompts(
    known: pd.DataFrame, all_prompts: np.ndarray, settings: Settings, dropped: Counter[str]
) -> list[str]:
    """The prompts with enough responses of M_train left, in an order drawn by the seed."""
    left = known.groupby("prompt_id").size().reindex(all_prompts, fill_value=0)
    enough = left >= max(settings["responses_per_prompt"], settings["train_responses"] + 2)
    dropped["prompts: too few train-model responses left"] += int((~enough).sum())
    return sorted(left[enough].index, key=lambda prompt_id: key(settings["seed"], prompt_id))


def _train_and_valid(prompts: list[str], settings: Settings) -> tuple[list[str], list[str]]:
    """Cut the ordered prompts into X_train and X_valid; null takes all that remain (D32)."""
    train, valid = settings["train_prompts"], settings["valid_prompts"]
    needed = train + (valid or 1)
    if len(prompts) < needed:
        raise InputError(
            "splits",
            f"{len(prompts)} usable prompts",
            f"{needed} or more",
            "lower splits.train_prompts or splits.valid_prompts",
        )
    return prompts[:train], prompts[train : train + valid if valid else None]


def _responses_to(frame: pd.DataFrame, prompts: list[str]) -> pd.DataFrame:
    """The rows of some prompts, in the prompts' order and then the responses'."""
    place = {prompt_id: n for n, prompt_id in enumerate(prompts)}
    frame = frame[frame["prompt_id"].isin(place)]
    frame = frame.assign(place=frame["prompt_id"].map(place)).sort_values(["place", "order"])
    return frame[COLUMNS].reset_index(drop=True)


def _name(row: Any) -> str:
    """Name one response for an error."""
    return f"responses: example {row['example_id']}, model {row['response_model']}"
