"""AlpacaEval and RM-Bench as preset `small` takes them: from the cache, or from checkouts.

The preset's file is the one place of repositories, commits and response models.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..errors import InputError
from ..experiment import settings
from ..experiment.config import Settings, read_mapping
from ..experiment.package_files import package_file
from ..experiment.scenarios import RM_BENCH_DOMAINS
from . import alpaca_eval, rm_bench
from .cache import cached
from .git_checkout import only
from .gold import add_gold
from .splits import SCENARIOS, build_splits


class Checkouts(NamedTuple):
    """Folders with the files of AlpacaEval and of RM-Bench; None where there is none."""

    alpaca_eval: Path | None
    rm_bench: Path | None


@cache
def preset() -> Settings:
    """The preset whose data these are."""
    return read_mapping(package_file("config/small.yaml"), "the package's preset")


def fetched() -> Checkouts:
    """Both from the cache, where they are fetched if need be; of AlpacaEval the preset's models."""
    config = preset()
    of_responses, of_bench = settings.responses(config), settings.benchmark(config, "rm_bench")
    own = only(of_responses, [*of_responses["train_models"], *of_responses["valid_models"]])
    clones = " and ".join(_clone(source) for source in (of_responses, of_bench))
    without = f"where git and a network are: {clones}; then --data with the two folders"
    return Checkouts(cached(own, without), cached(of_bench, without))


def _clone(source: Settings) -> str:
    """The command that fetches a source by hand."""
    address = source["repository"]
    name = address.rpartition("/")[2].removesuffix(".git")
    folder = source["files"][0].split("/")[1]
    return (
        f"`git clone --filter=blob:none --no-checkout {address} && "
        f"git -C {name} checkout {source['commit']} -- {folder}`"
    )


def found_in(folder: Path) -> Checkouts:
    """What a folder is, or has in it: checkouts of AlpacaEval, of RM-Bench, or of both.

    Of several the first by name is taken, which is said. InputError for a folder without any.
    """
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    both = Checkouts(
        _first([place for place in places if response_models(place)]),
        _first([place for place in places if _has_bench(place)]),
    )
    if both == Checkouts(None, None):
        names = sorted(path.name for path in folder.iterdir())
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
        raise InputError(
            folder,
            listed or "an empty folder",
            f"results/*/{alpaca_eval.ANNOTATIONS} (tatsu-lab/alpaca_eval), data/*_filtered.json "
            "(THU-KEG/RM-Bench), or a folder with such folders",
        )
    return both


def _first(places: list[Path]) -> Path | None:
    for other in places[1:]:
        print(f"{other}: not read, {places[0]} is", file=sys.stderr)
    return places[0] if places else None


def response_models(checkout: Path) -> list[str]:
    """Names of the response models in a checkout of AlpacaEval, sorted."""
    files = (checkout / "results").glob(f"*/{alpaca_eval.ANNOTATIONS}")
    return sorted(path.parents[1].name for path in files)


def _has_bench(place: Path) -> bool:
    names = [rm_bench.TOTAL, *(f"{domain}_filtered.json" for domain in RM_BENCH_DOMAINS)]
    homes = (place, place / "data")
    return any((home / name).is_file() for home in homes for name in names)


def judged(checkout: Path) -> dict[str, pd.DataFrame]:
    """Sets of AlpacaEval's responses with GPT-4's preference as gold: scenario to frame.

    They are the scenarios of the preset where the checkout has its models. Otherwise it is those of
    its models that are there, or all models where none of these is; with too few of one of the
    preset's two groups they are one group, so that only `in_domain` (pairs) and `prompt_disjoint`
    remain. Fewer instructions than AlpacaEval's are split in the same proportion.
    """
    config = preset()
    options = settings.splits(config) | _models(checkout, settings.splits(config))
    models = [*options["train_models"], *options["valid_models"]]
    frame = add_gold(alpaca_eval.responses(checkout, models), settings.gold(config))
    whole = config["sizes"]["sources"]["alpaca_eval"]["rows"]
    instructions = min(frame["example_id"].nunique(), whole)
    options["train_prompts"] = options["train_prompts"] * instructions // whole
    splits, _ = build_splits(frame, options)
    return {name: splits[name] for name in SCENARIOS if len(splits[name])}


def _models(checkout: Path, options: Settings) -> dict[str, Any]:
    """Which of a checkout's models are read, in which group, and how many answers a prompt has."""
    there, enough = response_models(checkout), options["responses_per_prompt"]
    known, unseen = (
        [model for model in options[group] if model in there]
        for group in ("train_models", "valid_models")
    )
    if min(len(known), len(unseen)) < enough:
        known, unseen = [*known, *unseen] or there, []
    if len(known) < 2:
        found = f"judgements of one response model, {known[0]}"
        raise InputError(checkout / "results", found, "two models or more, to compare")
    counts = {"responses_per_prompt": min(enough, len(known))}
    # Nothing is trained on them: where a prompt has few answers, they are its pair instead.
    trained = min(options["train_responses"], len(known) // 2, len(known) - 2)
    counts["train_responses"] = max(0, trained)
    return {"train_models": known, "valid_models": unseen, **counts}
