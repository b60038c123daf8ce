"""Being told to stop, and being killed: what a training does about both.

SIGTERM comes when a job's time is nearly over, when it is pre-empted and from `scancel`; SIGINT
from a keyboard. A training then saves at the next step and ends with status 75; the same command
goes on from there. A kill cannot be answered, but it leaves traces: a training that was killed
twice at the same step says so instead of trying for ever.
"""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import InputError
from ..files import read_json, write_json


class Interruption(TrainerCallback):  # type: ignore[misc]
    """Save and stop at the next step that can be resumed exactly: every `every`-th one."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.asked: str | None = None

    def __enter__(self) -> "Interruption":
        """Listen to the signals."""
        self.before = {each: signal.signal(each, self._ask) for each in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Leave them to whoever listened before."""
        for each, handler in self.before.items():
            signal.signal(each, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save and stop, all processes together, when one of them was told to."""
        if state.global_step % self.every == 0 and self._agreed(args):
            control.should_save = control.should_training_stop = True

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second time somebody means it
        self.asked = signal.Signals(number).name

    def _agreed(self, args: TrainingArguments) -> bool:
        """Tell whether any process was asked: one alone would leave the others waiting."""
        if args.world_size == 1:
            return self.asked is not None
        asked = torch.tensor(float(self.asked is not None), device=args.device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        if asked.item() and not self.asked:
            self.asked = "a signal to another process"
        return bool(asked.item())


SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Attempts(TrainerCallback):  # type: ignore[misc]
    """The attempts at a training, in its work folder: how far each came and whether it was killed.

    Each is {"step": the last step that it made (None: none), "killed": until it says otherwise}.
    """

    def __init__(self, work: Path) -> None:
        self.path = work / "attempts.json"
        self.attempts = read_json(self.path) if self.path.is_file() else []

    def begin(self) -> None:
        """Begin one. Raises InputError when the last two were both killed at one step."""
        killed = [attempt["step"] for attempt in self.attempts[-2:] if attempt["killed"]]
        if len(killed) == 2 and killed[0] == killed[1]:
            where = "before the first step" if killed[0] is None else f"at step {killed[0]}"
            raise InputError(
                self.path.parent,
                f"two attempts that were killed {where}",
                "some progress",
                f"see the logs (out of memory?), mend that, then remove {self.path} to try again",
            )
        self.attempts.append({"step": None, "killed": True})
        write_json(self.attempts, self.path)

    def end(self) -> None:
        """Note that the last one was not killed: it is done, or was told to stop."""
        if self.attempts:
            self.attempts[-1]["killed"] = False
            write_json(self.attempts, self.path)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the step."""
        if state.is_world_process_zero:
            self.attempts[-1]["step"] = state.global_step
            write_json(self.attempts, self.path)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the end, which a training also reaches that was told to stop and has saved."""
        if state.is_world_process_zero:
            self.end()
