"""AlpacaEval 2.0: the `alpaca_eval` package's annotator, asked through a client that keeps answers.

The package owns the configuration (weighted_alpaca_eval_gpt4_turbo), the prompt, the order of the
two outputs and the reading of log-probabilities. Its own client is replaced: that one keeps answers
only after every 128 pairs, gives none at all after a rate limit, and what it cannot read is left
out. Here an answer is on the disk when the next is asked for, and what is no answer is an error.
"""

import re
from importlib import metadata
from pathlib import Path

import pandas as pd

from ...errors import InputError
from ...experiment.config import Settings
from ...frames import read_frame, write_frame
from ...models.answer_log import AnswerCache
from .judge_client import CachedClient, endpoint
from .package import package, quiet

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
# Texts that would cut the package's prompt short, or take an output's place in it.
MARKS = re.compile(r"<\|im_start\|>|<\|im_end\|>|\{output_[12]\}")
COLUMNS = [
    *("policy", "seed", "row", "example_id", "output_1", "output_2", "preference", "annotator")
]


def annotate(
    instructions: Path, outputs: list[Path], settings: Settings, work: Path, output: Path
) -> None:
    """Let the judge compare every policy's answers with the baseline's; write `output`.

    `instructions` is made by `sources.instructions`, `outputs` are .../{policy}/seed-{seed}.parquet
    with example_id, prompt and response. `settings` has serve, model, base_url_env, api_key_env,
    concurrency, retries, price_per_1000_input_tokens, price_per_1000_output_tokens and gold.
    `output` gets `COLUMNS`, a row per policy, seed and instruction: output_1 is the baseline's,
    preference in [1, 2] is 1 + P(output_2 is better), and 1.5, without a question, for two equal
    texts. An empty answer is judged as it is. Answers are kept in `work` as they come, so that a
    job that was stopped asks again for at most `concurrency` of them; those of a judge elsewhere
    stay there for good. Raises `InputError` for answers that are not one per instruction, a judge
    that is not there or keeps failing, and answers without usable log-probabilities.
    """
    asked = read_frame(instructions, ["example_id", "prompt", "reference"])
    pairs = pd.concat([read_answers(asked, path) for path in outputs], ignore_index=True)
    cache = AnswerCache(work / "answers.jsonl")
    with endpoint(settings) as (client, judge_id):
        cached = CachedClient(client, judge_id, settings, cache)
        annotated = run_package(pairs, settings["model"], cached)
    write_frame(annotated[COLUMNS], output)
    if settings["serve"]:
        cache.path.unlink(missing_ok=True)


def read_answers(asked: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Read one policy's answers as pairs with the baseline's, in the order of the instructions.

    Gives policy and seed (from the path), row (of the instruction), example_id, instruction,
    output_1 (the baseline's) and output_2. Raises `InputError` with file and row unless every
    instruction is answered exactly once, and for a text that the package's prompt cannot hold.
    """
    fix = "let the policy answer again"
    seed = re.fullmatch(r"seed-(\d+)", path.stem)
    if seed is None:
        raise InputError(path, f"the name {path.name}", "POLICY/seed-N.parquet")
    frame = read_frame(path, ["example_id", "prompt", "response"])
    rows = pd.Series(range(len(asked)), index=asked["example_id"]).reindex(frame["example_id"])
    first: dict[int, int] = {}
    for number, row in enumerate(rows):
        where, prompt = f"{path}, row {number}", frame["prompt"].iloc[number]
        if pd.isna(row) or prompt != asked["prompt"].iloc[int(row)]:
            found = (
                f"example_id {frame['example_id'].iloc[number]} with prompt {str(prompt)[:40]!r}"
            )
            raise InputError(where, found, "one of the instructions", fix)
        if int(row) in first:
            again = f"example_id {frame['example_id'].iloc[number]} again, as in row {first[row]}"
            raise InputError(where, again, "one answer to each instruction", fix)
        first[int(row)] = number
    for row, name in enumerate(asked["example_id"]):
        if row not in first:
            raise InputError(path, f"no answer to instruction {row} ({name})", "one to each", fix)
    order = [first[row] for row in range(len(asked))]
    pairs = pd.DataFrame(
        {
            "policy": path.parent.name,
            "seed": int(seed[1]),
            "row": range(len(asked)),
            "example_id": asked["example_id"],
            "instruction": asked["prompt"],
            "output_1": asked["reference"],
            "output_2": frame["response"].iloc[order].to_numpy(),
        }
    )
    for column in ("instruction", "output_1", "output_2"):
        for row, text in enumerate(pairs[column]):
            mark = MARKS.search(text) if isinstance(text, str) else None
            if mark or not isinstance(text, str):
                found = f"{mark[0]!r} in the {column}" if mark else f"the {column} {text!r}"
                expected = f"a text without the marks of the prompt ({MARKS.pattern})"
                raise InputError(f"{path}, instruction {row}", found, expected)
    return pairs


def run_package(pairs: pd.DataFrame, model: str, client: CachedClient) -> pd.DataFrame:
    """Run the package's annotator on `pairs`, with `client` in place of its own.

    Returns `pairs` with preference and annotator, in the same order. `annotator` is the name of the
    package's configuration, with the model's where that is another than the configuration's.
    """
    annotators = package().annotators
    with quiet():
        annotator = annotators.PairwiseAnnotator(annotators_config=ANNOTATOR, caching_path=None)
        single = annotator.annotators[ANNOTATOR]
        own_model = single.completions_kwargs["model_name"]
        single.completions_kwargs["model_name"] = model
        single.fn_completions = client
        annotated = pd.DataFrame(annotator.annotate_pairs(pairs, chunksize=None))
    valid = annotated["preference"].astype(float).between(1, 2)
    if len(annotated) != len(pairs) or not valid.all():
        found = f"{int(valid.sum())} preferences for {len(pairs)} pairs"
        raise InputError(f"alpaca_eval {metadata.version('alpaca_eval')}", found, "one for each")
    annotated["preference"] = annotated["preference"].astype(float)
    annotated["annotator"] = ANNOTATOR if model == own_model else f"{ANNOTATOR} with {model}"
    return annotated
