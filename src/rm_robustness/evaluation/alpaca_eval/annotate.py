"""AlpacaEval 2.0: annotation with the `alpaca_eval` package through a client with a disk cache.

The package provides the configuration (`ANNOTATORS`), the prompt, the order of the two outputs and
the parsing of log-probabilities. Its client is replaced, because it saves
answers only after every 128 pairs, loses them after a rate limit and drops unreadable ones. Here
every answer is saved as it arrives, and an unusable one is an error.
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

# The package's configuration for each kind of judge. Both have the same prompt and parser.
ANNOTATORS = {
    "gold": "weighted_alpaca_eval_gpt4_turbo",
    "vllm": "weighted_alpaca_eval_vllm_llama3_70b",
    "hosted": "weighted_alpaca_eval_gpt4_turbo",
}
# Strings that would break the package's prompt template.
MARKS = re.compile(r"<\|im_start\|>|<\|im_end\|>|\{output_[12]\}")
COLUMNS = [
    *("policy", "seed", "row", "example_id", "output_1", "output_2", "preference", "annotator")
]


def annotate(
    instructions: Path, outputs: list[Path], settings: Settings, work: Path, output: Path
) -> None:
    """Have the judge compare every policy's answers with the baseline's; write `output`.

    `instructions` is made by `alpaca_eval.instructions`; `outputs` are
    .../{policy}/seed-{seed}.parquet with example_id, prompt and response. `settings` are those of
    `settings.judge`. `output` gets `COLUMNS`, a row per policy, seed and
    instruction: output_1 is the baseline's, preference in [1, 2] is 1 + P(output_2 is better),
    and 1.5, without a request, for two equal texts. Empty answers are judged like the others. The
    judge's answers are cached in `work` as they arrive, so that an interrupted job repeats at
    most `concurrency` requests; those of a model are kept there permanently. Raises `InputError`
    unless each instruction has one answer, for a judge that is unreachable or keeps failing, and
    for unusable log-probabilities.
    """
    instruction_frame = read_frame(instructions, ["example_id", "prompt", "reference"])
    pairs = pd.concat(
        [pairs_with_baseline(instruction_frame, path) for path in outputs], ignore_index=True
    )
    cache = AnswerCache(work / "answers.jsonl")
    with endpoint(settings) as (client, judge_id):
        cached = CachedClient(client, judge_id, settings, cache)
        # A server that is started here knows a model by its name on the hub, not by its folder.
        model = settings["repo"] if settings["kind"] == "vllm" else settings["model"]
        annotated = run_package(pairs, ANNOTATORS[settings["kind"]], model, cached)
    write_frame(annotated[COLUMNS], output)
    if settings["kind"] == "gold":
        cache.path.unlink(missing_ok=True)


def pairs_with_baseline(instructions: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Read one policy's answers as pairs with the baseline's, in the order of the instructions.

    Gives policy and seed (from the path), row (of the instruction), example_id, instruction,
    output_1 (the baseline's) and output_2. Raises `InputError` with file and row unless every
    instruction is answered exactly once, and for a text that would break the package's prompt.
    """
    fix = "generate the answers again"
    seed = re.fullmatch(r"seed-(\d+)", path.stem)
    if seed is None:
        raise InputError(path, f"the name {path.name}", "POLICY/seed-N.parquet")
    frame = read_frame(path, ["example_id", "prompt", "response"])
    rows = pd.Series(range(len(instructions)), index=instructions["example_id"]).reindex(
        frame["example_id"]
    )
    first: dict[int, int] = {}
    for number, row in enumerate(rows):
        where, prompt = f"{path}, row {number}", frame["prompt"].iloc[number]
        if pd.isna(row) or prompt != instructions["prompt"].iloc[int(row)]:
            found = (
                f"example_id {frame['example_id'].iloc[number]} with prompt {str(prompt)[:40]!r}"
            )
            raise InputError(where, found, "one of the instructions", fix)
        if int(row) in first:
            again = f"example_id {frame['example_id'].iloc[number]} again, as in row {first[row]}"
            raise InputError(where, again, "one answer to each instruction", fix)
        first[int(row)] = number
    for row, name in enumerate(instructions["example_id"]):
        if row not in first:
            raise InputError(path, f"no answer to instruction {row} ({name})", "one to each", fix)
    order = [first[row] for row in range(len(instructions))]
    pairs = pd.DataFrame(
        {
            "policy": path.parent.name,
            "seed": int(seed[1]),
            "row": range(len(instructions)),
            "example_id": instructions["example_id"],
            "instruction": instructions["prompt"],
            "output_1": instructions["reference"],
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


def run_package(
    pairs: pd.DataFrame, configuration: str, model: str, client: CachedClient
) -> pd.DataFrame:
    """Run an annotator of the package on `pairs` with `client` instead of the package's client.

    Returns `pairs` with preference and annotator, in the same order. `annotator` is the name of the
    package's configuration, followed by the model's if that differs from the configuration's.
    """
    annotators = package().annotators
    with quiet():
        annotator = annotators.PairwiseAnnotator(annotators_config=configuration, caching_path=None)
        single = annotator.annotators[configuration]
        own_model = single.completions_kwargs["model_name"]
        # Whether the package's own client sends a chat; this one always does.
        single.completions_kwargs.pop("requires_chatml", None)
        single.completions_kwargs["model_name"] = model
        single.fn_completions = client
        annotated = pd.DataFrame(annotator.annotate_pairs(pairs, chunksize=None))
    valid = annotated["preference"].astype(float).between(1, 2)
    if len(annotated) != len(pairs) or not valid.all():
        found = f"{int(valid.sum())} preferences for {len(pairs)} pairs"
        raise InputError(f"alpaca_eval {metadata.version('alpaca_eval')}", found, "one for each")
    annotated["preference"] = annotated["preference"].astype(float)
    own = model == own_model
    annotated["annotator"] = configuration if own else f"{configuration} with {model}"
    return annotated
