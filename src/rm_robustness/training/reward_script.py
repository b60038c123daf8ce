"""Reward models from a YAML file as `trl reward` takes it, with any objective of this package.

    rm-robustness reward --config reward.yaml
    accelerate launch -m rm_robustness reward --config reward.yaml --learning_rate 1e-5

The keys are those of `trl reward` and of `ObjectiveArguments`. What TRL does is left to TRL: data
sets, arguments, adapters, checkpoints. Left out is what runs code of a repository.
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from datasets import load_dataset
from trl import (
    DatasetMixtureConfig,
    ModelConfig,
    RewardConfig,
    ScriptArguments,
    TrlParser,
    get_dataset,
    get_peft_config,
    get_quantization_config,
)

from ..errors import InputError
from ..experiment.config import nearest, read_mapping
from ..objectives import OBJECTIVES
from .loop import gathered_weights
from .reward_trainer import ObjectiveTrainer
from .trl_arguments import check_tracker

FILES = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


@dataclass
class ObjectiveArguments:
    """The objective and its options; an option that is not given has the objective's default."""

    objective: str = field(default="bt-bsr", metadata={"help": ", ".join(OBJECTIVES)})
    weight: float | None = field(default=None, metadata={"help": "of a penalty: lambda"})
    reduction: str | None = field(default=None, metadata={"help": "of it: release, paper, global"})
    margin: float | None = field(default=None, metadata={"help": "of a hinge: the margin"})
    temperature: float | None = field(default=None, metadata={"help": "bt-norm*: the temperature"})
    momentum: float | None = field(default=None, metadata={"help": "norm-bt: of the running mean"})

    def function(self) -> Callable[..., Any]:
        """The objective with its options; InputError for an option that it does not take."""
        if self.objective not in OBJECTIVES:
            known = nearest(self.objective, list(OBJECTIVES))
            raise InputError("objective", f"'{self.objective}'", "a known one", known)
        function = OBJECTIVES[self.objective].function
        names = [option.name for option in fields(self) if option.name != "objective"]
        takes = [name for name in names if name in inspect.signature(function).parameters]
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        for name in given.keys() - {*takes}:
            expected = f"only what '{self.objective}' takes: {', '.join(takes) or 'no option'}"
            raise InputError(name, f"{given[name]}", expected)
        return partial(function, **given)


class _Parser(TrlParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        """Argparse's errors in one line."""
        raise InputError("rm-robustness reward", message, "keys and values of `trl reward`")


def read_arguments(arguments: list[str]) -> tuple[Any, ...]:
    """Script, training, model, data-set and objective arguments, from a YAML file and options."""
    kinds = (ScriptArguments, RewardConfig, ModelConfig, DatasetMixtureConfig, ObjectiveArguments)
    parser = _Parser(dataclass_types=kinds, allow_abbrev=False)
    known = [action.dest for action in parser._actions if action.dest != "help"]
    arguments = [part for each in arguments for part in _split(each)]
    if "--config" in arguments:
        path = Path([*arguments, ""][arguments.index("--config") + 1])
        for key in read_mapping(path, "a YAML file with the keys of `trl reward`"):
            if key not in {*known, "env"}:
                raise InputError(path, f"unknown key '{key}'", "a known one", _near(key, known))
    try:
        *parsed, rest = parser.parse_args_and_config(arguments, return_remaining_strings=True)
    except InputError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        raise _one_line("rm-robustness reward", error) from error
    if rest:
        name = rest[0].removeprefix("--").replace("-", "_")
        raise InputError("rm-robustness reward", f"'{rest[0]}'", "a known key", _near(name, known))
    return tuple(parsed)


def _split(argument: str) -> list[str]:
    """`--config=FILE` as two arguments, which TRL's parser wants."""
    return argument.split("=", 1) if argument.startswith("--config=") else [argument]


def _near(name: str, known: list[str]) -> str:
    """The nearest key; not all of the two hundred."""
    hint = nearest(name, known)
    return hint if hint.startswith("did") else "see https://huggingface.co/docs/trl/reward_trainer"


def _one_line(where: object, error: Exception) -> InputError:
    """An error of TRL, transformers, datasets or peft as one line."""
    cause: BaseException = error
    while cause.__cause__:  # datasets wraps what is wrong with a file
        cause = cause.__cause__
    text = " ".join(str(cause).split())[:300] or type(cause).__name__
    fix = "where there is no GPU set bf16 to false" if "bf16" in text else ""
    return InputError(where, text, "what TRL's RewardTrainer takes", fix)


def read_data(script: ScriptArguments, mixture: DatasetMixtureConfig, evaluated: bool) -> Any:
    """The data for training and, if `evaluated`, for evaluation; local files, or TRL's own ways."""
    name, path = script.dataset_name, Path(script.dataset_name or "")
    if not (name or mixture.datasets):
        raise InputError("dataset_name", "nothing", "a file, a folder, a data set of the hub")
    if not mixture.datasets and path.suffix in FILES and not path.is_file():
        raise InputError("dataset_name", f"no file '{name}'", "a jsonl, json, parquet or csv file")
    try:
        if mixture.datasets:
            data = get_dataset(mixture)
        elif path.is_file():
            kind = FILES.get(path.suffix, "json")
            streaming = script.dataset_streaming
            data = load_dataset(kind, data_files={"train": str(path)}, streaming=streaming)
        else:
            data = load_dataset(
                name, name=script.dataset_config, streaming=script.dataset_streaming
            )
    except Exception as error:  # of a file or a server, of whatever class
        raise _one_line(name or "datasets", error) from error
    wanted = [script.dataset_train_split] + evaluated * [script.dataset_test_split]
    for split in wanted:
        if split not in data:
            found = f"the splits {', '.join(data)}"
            fix = "or set eval_strategy to no" if split != wanted[0] else ""
            raise InputError(name or "datasets", found, f"a split '{split}'", fix)
        columns = data[split].column_names or list(next(iter(data[split]), {}))
        if not {"chosen", "rejected"} <= {*columns} and not {"chosen_ids", "rejected_ids"} <= {
            *columns
        }:
            found = f"the columns {', '.join(columns) or '(none)'}"
            raise InputError(name or "datasets", found, "chosen and rejected, perhaps prompt")
    return [data[split] for split in wanted]


def train(arguments: list[str]) -> None:
    """Train a reward model and save it, with its tokenizer, in `output_dir`."""
    script, training, model, mixture, objective = read_arguments(arguments)
    function = objective.function()
    if not model.model_name_or_path:
        raise InputError("model_name_or_path", "nothing", "a folder or a model of the hub")
    if training.trust_remote_code:
        raise InputError("trust_remote_code", "true", "false", "no code of a repository is run")
    for tracker in training.report_to:
        check_tracker(tracker, "report_to")
    data = read_data(script, mixture, training.eval_strategy != "no")
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "use_safetensors": True,
    } | (training.model_init_kwargs or {})
    if model.use_peft:
        model.lora_task_type = "SEQ_CLS"  # with which peft trains and saves the head too
    try:
        trainer = ObjectiveTrainer(
            model=model.model_name_or_path,
            args=training,
            train_dataset=data[0],
            eval_dataset=data[1] if len(data) > 1 else None,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
            objective=function,
        )
    except InputError:
        raise
    # Of people's models, templates and data: whatever the four libraries raise is the user's.
    except Exception as error:
        raise _one_line(model.model_name_or_path, error) from error
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    weights = gathered_weights(trainer)  # of FSDP2, whose shards TRL's save_model may leave out
    trainer.save_model(training.output_dir)
    if weights is not None and trainer.is_world_process_zero():
        whole = trainer.accelerator.unwrap_model(trainer.model)
        whole.save_pretrained(training.output_dir, state_dict=weights)
    if trainer.is_world_process_zero():
        what = "the adapter (read with its base model, where peft is installed)"
        print(
            f"{what if model.use_peft else 'the reward model'} is in {training.output_dir}; "
            f"rm-robustness evaluate {training.output_dir} measures it",
            file=sys.stderr,
        )
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=script.dataset_name)
