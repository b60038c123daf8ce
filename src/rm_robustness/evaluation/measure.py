"""Everything that is measured of a reward model, loaded once: scores, and effective ranks."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from ..cluster.lease import hold_lease
from ..data.preference_file import read_responses
from ..experiment.config import Settings
from ..experiment.scenarios import SCENARIOS
from ..frames import read_frame, write_frame
from ..models.checkpoint import weight_files
from ..models.reward_model import load
from ..models.score_log import ScoreLog
from ..models.scoring import Plan, plan_frame, score_plan, scores_of
from ..progress import Progress
from ..provenance.record import write_record
from .effective_rank import drawn_rows, rank_curve
from .float32_sample import with_float32

Set = tuple[Path, pd.DataFrame, Path]  # the file of an evaluation set, its rows, the scores' file
COLUMNS = ["prompt_id", "response_id", "prompt", "response"]  # of the sets of effective ranks
TOKENIZER = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def measure(
    settings: Settings,
    models: Path,
    seeds: Sequence[int],
    data: list[Path],
    ranked: dict[str, Path],
    scores: Path,
    ranks: Path,
) -> None:
    """Measure the reward models of some seeds, one after another.

    `models` has a folder seed-N for each. The scores on each set of `data` are written to
    scores/seed-N under its name; effective ranks on the sets `ranked`, by name, to
    ranks/seed-N.parquet. `settings` is the section `scoring` and, with `ranked`, has the section
    `ranks`. A record is written for the scores of a model, and one for its ranks. Raises InputError
    for what cannot be read, before anything is measured, and for a response that does not fit the
    model.
    """
    logs, measuring = [], Measuring(settings, len(seeds))
    for seed in seeds:
        folder, output = models / f"seed-{seed}", ranks / f"seed-{seed}.parquet"
        outputs = [scores / folder.name / path.name for path in data]
        weights = weight_files(folder)
        with hold_lease([*outputs, output][0]), ExitStack() as records:
            if data:
                to = scores / folder.name / "record.json"
                scoring = {name: value for name, value in settings.items() if name != "ranks"}
                record = write_record(scoring, outputs, weights, to)
                records.enter_context(record)["seed"] = seed
            sets = list(zip(data, map(read_responses, data), outputs, strict=True))
            if ranked:
                records.enter_context(write_record(settings, [output], weights))["seed"] = seed
            frames = {name: read_frame(path, COLUMNS) for name, path in ranked.items()}
            logs += measuring.score(folder, sets, frames, output)
    for log in logs:  # kept until all is done: Snakemake deletes a killed job's outputs
        log.remove()


class Measuring:
    """Measures models, whose texts are tokenised once where tokenizers are alike; one progress."""

    def __init__(self, settings: Settings, models: int) -> None:
        """Take the section `scoring`, that may have `ranks`, and the number of models."""
        self.settings, self.models = settings, models
        self.tokenizer: list[bytes] = []
        self.plans: dict[str, Plan] = {}
        self.progress: Progress | None = None

    def score(
        self,
        folder: Path,
        sets: list[Set],
        ranked: dict[str, pd.DataFrame] | None = None,
        ranks: Path | None = None,
    ) -> list[ScoreLog]:
        """Measure one model: write the scores of each set, and effective ranks on those `ranked`.

        Returns the logs of the scores, to be removed at the end of the job.
        """
        settings = self.settings
        model, tokenizer = load(folder, settings["dtype"])
        drawn = (
            drawn_rows(ranked, settings["ranks"]["rows"], settings["ranks"]["seed"])
            if ranked
            else {}
        )
        self._plan(folder, model, tokenizer, sets, drawn)
        label = "/".join(folder.parts[-3:])
        total = self.models * sum(plan.tokens for plan in self.plans.values())
        self.progress = self.progress or Progress(label, total, "tokens")
        self.progress.label = label
        scoring = {name: settings[name] for name in ("batch_tokens", "dtype")}
        logs, scores = [], []
        for path, frame, output in sets:
            with ScoreLog(output, scoring, [path], folder) as log:
                plan = self.plans[f"scores {path}"]
                scores.append(score_plan(model, plan, frame, self.progress, log))
            logs.append(log)
        curves = []
        for name in drawn:
            hidden = scores_of(model, self.plans[f"ranks {name}"], self.progress).hidden
            options = settings["ranks"]["rows"], settings["ranks"]["seed"]
            curves.append(rank_curve(hidden, *options).assign(set=name))
        del model
        if settings["dtype"] != "float32" and settings.get("float32_prompts"):
            scores = self._sampled(folder, sets, scores)
        for (_, _, output), frame in zip(sets, scores, strict=True):
            write_frame(frame, output)
        if ranks and curves:
            write_frame(pd.concat(curves)[["set", "n", "effective_rank"]], ranks)
        return logs

    def _plan(
        self,
        folder: Path,
        model: Any,
        tokenizer: Any,
        sets: list[Set],
        drawn: dict[str, pd.DataFrame],
    ) -> None:
        """Tokenise the texts and cut them into batches, unless the last model's serve this one."""
        files = [folder / name for name in TOKENIZER]
        read = [path.read_bytes() for path in files if path.is_file()]
        if read == self.tokenizer:
            return
        tokens = self.settings["batch_tokens"]
        self.tokenizer = read
        self.plans = {
            f"scores {path}": plan_frame(model, tokenizer, frame, tokens) for path, frame, _ in sets
        } | {
            f"ranks {name}": plan_frame(model, tokenizer, frame, tokens)
            for name, frame in drawn.items()
        }

    def _sampled(
        self, folder: Path, sets: list[Set], scores: list[pd.DataFrame]
    ) -> list[pd.DataFrame]:
        """Scores with those of a sample in float32, where a set is a scenario (D48)."""
        model, tokenizer = load(folder)
        options = self.settings["float32_prompts"], self.settings["batch_tokens"]
        return [
            with_float32(frame, split, model, tokenizer, *options, f"{path.stem} in float32")
            if path.stem in SCENARIOS
            else frame
            for (path, split, _), frame in zip(sets, scores, strict=True)
        ]
