"""The paper's data sets on the Hugging Face hub, each read at one commit into plain frames."""

import sys
from collections.abc import Iterable
from typing import Any

import pandas as pd

from ..errors import InputError
from ..frames import require_text
from .git_checkout import require_commit
from .hub_errors import explained
from .hub_files import fetch_file

ROLES = ("system", "user", "assistant")


def ultrafeedback(repo: str, revision: str) -> pd.DataFrame:
    """Read UltraFeedback (openbmb/UltraFeedback, paper section 3.1) into the raw frame.

    Returns `example_id, prompt, response, response_model`, a row per completion; `example_id` is
    the row number of the source. `repo` is a hub id or a local folder of the same files,
    `revision` a commit of 40 hex digits. Raises `InputError` when it cannot be read.
    """
    return completions(_open_split(repo, revision, "train", ["instruction", "completions"]), repo)


def ultrachat(repo: str, revision: str, split: str) -> pd.DataFrame:
    """Read conversations for SFT (HuggingFaceH4/ultrachat_200k) as `example_id, messages`.

    `messages` is a list of `{role, content}`. Arguments and errors as in `ultrafeedback`.
    """
    return conversations(_open_split(repo, revision, split, ["messages"]), repo, ["messages"])


def preferences(repo: str, revision: str, split: str) -> pd.DataFrame:
    """Read pairs of conversations (Skywork/Skywork-Reward-Preference-80K-v0.2, section 3.2).

    Returns `example_id, chosen, rejected`, each a list of `{role, content}`. Arguments and errors
    as in `ultrafeedback`.
    """
    columns = ["chosen", "rejected"]
    return conversations(_open_split(repo, revision, split, columns), repo, columns)


def pairs_as_split(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Turn `example_id, chosen, rejected` (lists of `{role, content}`) into a split's columns.

    `prompt` is the last user turn; where any chat has turns before it, they are in one more column,
    `earlier`. Only pairs of chats that differ in their last answer alone are used, and no answer
    may be empty; the numbers are printed to stderr. `InputError` when none is left.
    """
    rows: list[tuple[str, str, str, str, str, float, list[dict[str, str]]]] = []
    longer = 0
    for example_id, *sides in frame.itertuples(index=False):
        (*turns, chosen), (*other_turns, rejected) = map(_role_and_content, sides)
        answers = {"chosen": (chosen, 1.0), "rejected": (rejected, 0.0)}
        asked = [turn["role"] for turn in turns[-1:]] == ["user"] and turns == other_turns
        if not asked or not all(
            answer["role"] == "assistant" and answer["content"].strip()
            for answer, _ in answers.values()
        ):
            continue
        *earlier, prompt = turns
        longer += bool(earlier)
        for name, (answer, gold) in answers.items():
            texts = prompt["content"], answer["content"]
            rows.append((example_id, f"{example_id}-{name}", *texts, name, gold, earlier))
    used = len(rows) // 2
    print(
        f"{where}: {used} pairs, {longer} of more than one turn; {len(frame) - used} left out "
        "(chats that differ before the last answer, or no text)",
        file=sys.stderr,
    )
    if not rows:
        raise InputError(where, "no pair that differs in its last answer alone", "some")
    columns = ["prompt_id", "response_id", "prompt", "response", "response_model", "gold"]
    split = pd.DataFrame(rows, columns=[*columns, "earlier"])
    return split if longer else split[columns]


def _role_and_content(messages: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def completions(rows: Iterable[dict[str, Any]], where: str) -> pd.DataFrame:
    """Turn rows of `instruction` and `completions` (a list of `{model, response}`) into the frame.

    An instruction without completions gives no row; a response that is no text is an `InputError`.
    """
    frame_rows: list[tuple[str, str, str, str]] = []
    for number, row in enumerate(rows):
        here = f"{where} row {number}"
        prompt = require_text(row["instruction"], "instruction", here)
        for completion in row["completions"] or []:
            response, model = completion.get("response"), completion.get("model")
            if not isinstance(response, str) or not isinstance(model, str):
                short = f"model {model!r}, response {response!r:.40}"
                raise InputError(here, short, "texts `model` and `response`")
            require_text(response, f"response of {model!r}", here)
            frame_rows.append((str(number), prompt, response, model))
    return pd.DataFrame(frame_rows, columns=["example_id", "prompt", "response", "response_model"])


def conversations(rows: Iterable[dict[str, Any]], where: str, columns: list[str]) -> pd.DataFrame:
    """Turn rows whose `columns` hold lists of `{role, content}` into a frame with `example_id`."""
    frame_rows: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        for column in columns:
            _require_messages(row[column], f"{where} row {number} column {column}")
        frame_rows.append(
            {"example_id": str(number), **{column: row[column] for column in columns}}
        )
    return pd.DataFrame(frame_rows, columns=["example_id", *columns])


def _require_messages(messages: Any, where: str) -> None:
    """Refuse what is not a conversation."""
    if not isinstance(messages, list) or not messages:
        raise InputError(where, repr(messages)[:40], "a list of messages")
    for message in messages:
        if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
            expected = f"`role` in {ROLES} and a text `content`"
            raise InputError(where, f"the message {repr(message)[:60]}", expected)
        require_text(message["content"], "content", where)


def _open_split(
    repo: str, revision: str, split: str, columns: list[str]
) -> Iterable[dict[str, Any]]:
    """Open one split at one commit, with only the given columns."""
    require_commit(revision, repo)
    # Importing it takes seconds, and most commands never read from the hub.
    import datasets

    where, reason = f"{repo} at {revision}", f"no readable split {split!r}"
    with explained(where, reason, (datasets.exceptions.DatasetsError,)):
        builder = datasets.load_dataset_builder(repo, revision=revision)
        for place in builder.config.data_files.get(split, []):
            if place.startswith("hf://"):
                fetch_file(repo, revision, place.partition(f"@{revision}/")[2])
        builder.download_and_prepare()
        rows = builder.as_dataset(split=split)
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise InputError(repo, f"columns {rows.column_names}", f"also the columns {missing}")
    selected: Iterable[dict[str, Any]] = rows.select_columns(columns)
    return selected
