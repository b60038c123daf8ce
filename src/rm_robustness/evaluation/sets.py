"""Sets of prompts and responses that a reward model is evaluated on: a preset's, or real text."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..data import real_text
from ..data.rm_bench import read_benchmark
from ..errors import InputError
from ..experiment.paths import location
from ..experiment.scenarios import IN_DOMAIN, RM_BENCH_DOMAINS, SCENARIOS
from ..frames import check_texts, read_frame

COLUMNS = ["prompt_id", "response_id", "prompt", "response", "response_model", "gold"]
BENCH = "rm_bench"


class EvaluationSet(NamedTuple):
    """A row of `frame` is a response; its columns are `COLUMNS`, of RM-Bench more.

    `earlier`, where it is there, has the turns before each prompt. `title` says what the set is.
    """

    name: str
    title: str
    frame: pd.DataFrame


def sets_of_preset(runs: Path) -> list[EvaluationSet]:
    """Read the four scenarios of a preset's run folder, and RM-Bench if it has been made."""
    sets = []
    for name, scenario in SCENARIOS.items():
        path = runs / location("split", split=name)
        if not path.is_file():
            command = make_command(runs / location("splits_manifest"))
            raise InputError(path, "no such file", "a split", f"make it: {command}")
        what = "pairs" if scenario == IN_DOMAIN else "responses"
        title = f"{scenario.title} {what} of preset {runs.name}"
        sets.append(EvaluationSet(name, title, read_frame(path, COLUMNS)))
    path = runs / location("benchmark", benchmark=BENCH)
    if path.is_file():
        frame = read_frame(path, [*COLUMNS, "domain", "style", "kind"])
        sets.append(EvaluationSet(BENCH, f"RM-Bench of preset {runs.name}", frame))
    return _checked(sets)


def make_command(target: Path) -> str:
    """Shell command that makes RUNS/PRESET/FOLDER/FILE."""
    return f"snakemake --configfile config/{target.parts[-3]}.yaml -- {target}"


def real_sets(data: list[Path]) -> list[EvaluationSet]:
    """Sets of real text with people's names for them: nothing here depends on what was trained on.

    `data` has folders (a checkout of AlpacaEval or of RM-Bench, or a folder that has these in it)
    and files of one's own preferences. Without any, AlpacaEval and RM-Bench are fetched into the
    cache. Raises InputError for what is neither, and for two sets of one name.
    """
    sets: list[EvaluationSet] = []
    names: dict[str, Path] = {}
    for path in data:
        of_path = [_own_set(path)] if path.is_file() else _checkout_sets(_found_in(path))
        for own in of_path:
            if own.name in names:
                found = f"a second set named {own.name}; the first is of {names[own.name]}"
                raise InputError(path, found, "names that differ", "leave one out, or rename it")
            names[own.name] = path
        sets += of_path
    return _checked(sets if data else _checkout_sets(real_text.fetched()))


def _found_in(path: Path) -> real_text.Checkouts:
    if not path.is_dir():
        raise InputError(path, "no such file or folder", "data to evaluate on")
    return real_text.found_in(path)


def _own_set(path: Path) -> EvaluationSet:
    from ..data.preference_file import read_preferences

    name = Path(path.name.removesuffix(".gz")).stem
    if name in (*SCENARIOS, BENCH):
        found = f"a set named {name}, which here is one of AlpacaEval or RM-Bench"
        raise InputError(path, found, "a name of its own", "rename the file")
    frame = read_preferences(path)
    title = f"{path.name}: {len(frame):,} responses to {_prompts(frame):,} prompts"
    return EvaluationSet(name, title, frame)


def _checkout_sets(checkouts: real_text.Checkouts) -> list[EvaluationSet]:
    sets = []
    if checkouts.alpaca_eval:
        for name, frame in real_text.judged(checkouts.alpaca_eval).items():
            sets.append(EvaluationSet(name, _judged_title(name, frame), frame))
    if checkouts.rm_bench:
        frame = read_benchmark(checkouts.rm_bench)
        sets.append(EvaluationSet(BENCH, _bench_title(frame), frame))
    return sets


def _judged_title(name: str, frame: pd.DataFrame) -> str:
    """What a set of AlpacaEval is, without the words of a preset's training."""
    models, prompts = frame["response_model"].nunique(), f"{_prompts(frame):,} instructions"
    if name == IN_DOMAIN.name:
        answers = f"pairs of {models} models' answers"
    else:
        other = "other " if SCENARIOS[name].unseen_models else ""
        answers = f"{len(frame) // _prompts(frame)} answers of {models} {other}models"
    return f"GPT-4's preference: {answers} to {prompts}"


def _bench_title(frame: pd.DataFrame) -> str:
    missing = [domain for domain in RM_BENCH_DOMAINS if domain not in set(frame["domain"])]
    without = f", without {', '.join(missing)}" if missing else ""
    return f"RM-Bench: subtle errors in three styles, {_prompts(frame):,} prompts{without}"


def _prompts(frame: pd.DataFrame) -> int:
    return frame["prompt_id"].nunique()


def _checked(sets: list[EvaluationSet]) -> list[EvaluationSet]:
    """Refuse an empty response, which cannot be scored."""
    for name, _, frame in sets:
        check_texts(frame, ["response"], f"{name}, ", filled=True)
    return sets
