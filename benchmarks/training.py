"""How fast reward models train: `python benchmarks/training.py`; with --device cuda on a GPU.

The same pairs with UltraFeedback's lengths, or AlpacaEval's (--lengths alpaca_eval), go through
several trainers in turns, each of them a real `transformers.Trainer` with AdamW: two forward passes
over padded batches, as the authors' trainer runs them; TRL's RewardTrainer, in random order or with
pairs of like length in a batch (sorted); and this project's ObjectiveTrainer, each response for
itself (packed) or as prompt trees. `passes` is collating, forward and backward; `steps` is that and
AdamW. A second table has all six pairs of four responses, which trees read once each. The exit
status is 1 if a gradient differs by more than 1e-4, relative to its norm, from that of sequences
one at a time, for any objective (float32; in bfloat16 the differences are printed). Learning rate 0
keeps the weights as they are.

Predictions for one thread of a CPU, written before the first run:

- Passes, times as fast as the authors': TRL 0.9, as it pads to the longest of 32 sequences and not
  of 16; sorted 1.2; packed 1.8; trees 2.1, the limit of sharing being 1.23 for two responses.
  With AlpacaEval's lengths 2.3: less to share, more padding.
- AdamW adds 0.2 s to a step of some 5 to 10 s (28 of the 35 million weights are embeddings), so
  the ratios of steps are 2% smaller.
- All six pairs of four responses: trees 6 times as fast as TRL (3 for responses that are read
  once and not three times, 1.4 for prompts, 1.4 for padding).
- Peak memory: trees need half of TRL's activations. Gradients: all within 1e-5 of the loop's.
- On a GPU (never run): trees 1.5 to 2 times as fast as TRL.
"""

import copy
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from typing import Any

import torch
import workload
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from transformers.utils import logging
from trl import RewardConfig, RewardTrainer

from rm_robustness.models.packing import row_of, take_rows
from rm_robustness.objectives import OBJECTIVES
from rm_robustness.training.reward_trainer import ObjectiveTrainer

Examples = list[dict[str, Any]]
BATCH = 16  # pairs
SORTED = 8  # steps below which transformers' sampler sorts within a batch only; best from 200
TOLERANCE = 1e-4
# With its usual weight of 0.001 an error of the penalty would not show.
LOSSES = {name: objective.function for name, objective in OBJECTIVES.items()}
LOSSES["bt-bsr"] = partial(LOSSES["bt-bsr"], weight=10.0)


class Authors(RewardTrainer):  # type: ignore[misc]
    """Two forward passes, over the padded chosen responses and over the padded rejected ones."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Bradley-Terry."""
        rewards = [model(**inputs[name], use_cache=False).logits for name in ("chosen", "rejected")]
        return -torch.nn.functional.logsigmoid(rewards[0] - rewards[1]).mean()


def padded_halves(examples: Examples) -> dict[str, dict[str, torch.Tensor]]:
    """Collate pairs for `Authors`."""
    halves = {}
    for name in ("chosen", "rejected"):
        ids = [torch.tensor(example[f"{name}_ids"]) for example in examples]
        padded = pad_sequence(ids, batch_first=True)
        halves[name] = {"input_ids": padded, "attention_mask": padded.ne(0).long()}
    return halves


def apart(examples: Examples) -> dict[str, Any]:
    """Collate pairs to one row in which each response has its own copy of the prompt."""
    row = row_of([[each[name]] for name in ("chosen_ids", "rejected_ids") for each in examples])
    inputs = row.inputs() | {"ends": torch.tensor(row.ends)}
    return inputs | {"attention_mask": torch.ones_like(inputs["input_ids"])}


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Time of a training in passes and in all, its weights, and the gradients of its last step."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.passes = workload.Clock(0.0, 0.0)

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.start = self.last = workload.Clock.now(self.device)

    def on_pre_optimizer_step(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        """Passes are done."""
        step = workload.Clock.now(self.device).since(self.last)
        self.passes = workload.Clock(self.passes.wall + step.wall, self.passes.cpu + step.cpu)
        self.weights = list(model.parameters())
        self.gradients = [p.grad for p in self.weights]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """AdamW is done."""
        self.last = workload.Clock.now(self.device)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop."""
        self.steps = workload.Clock.now(self.device).since(self.start)


def train(
    way: str,
    base: Any,
    examples: Examples,
    options: Namespace,
    batch: int = BATCH,
    objective: str = "bt",
    learning_rate: float = 0.0,
) -> Stopwatch:
    """Train a copy of the model for an epoch, one of the ways."""
    stopwatch, model = Stopwatch(options.device), copy.deepcopy(base)
    words = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")
    ours = partial(ObjectiveTrainer, objective=LOSSES[objective])
    kinds: dict[str, Any] = {"authors": Authors, "packed": ours, "trees": ours}
    if way == "packed":
        take_rows(model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=learning_rate,
            max_grad_norm=0.0,
            max_length=None,
            optim="adamw_torch",
            bf16=options.dtype == "bfloat16",
            use_cpu=options.device == "cpu",
            gradient_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,  # `length`, for the sorter
            train_sampling_strategy="group_by_length" if way == "sorted" else "random",
        )
        trainer = kinds.get(way, RewardTrainer)(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(examples),
            processing_class=tokenizer,
            data_collator={"authors": padded_halves, "packed": apart}.get(way),
            callbacks=[stopwatch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return stopwatch


def pair(chosen: list[int], rejected: list[int]) -> dict[str, Any]:
    """A row of a data set; `length` is what sorting goes by."""
    length = max(len(chosen), len(rejected))
    return {"chosen_ids": chosen, "rejected_ids": rejected, "length": length}


def loop_gradients(base: Any, examples: Examples, objective: str) -> list[torch.Tensor]:
    """Gradients of a batch of pairs whose sequences are read one at a time."""
    model = copy.deepcopy(base).train()
    rewards: dict[str, list[torch.Tensor]] = {"chosen_ids": [], "rejected_ids": []}
    for name, half in rewards.items():
        for each in examples:
            ids = torch.tensor([each[name]], device=model.device)
            half.append(model(input_ids=ids).logits[0].float())
    torch.autograd.backward(LOSSES[objective](*map(torch.cat, rewards.values())))
    return [p.grad for p in model.parameters()]


def check_gradients(base: Any, prompts: workload.Prompts, options: Namespace) -> None:
    """Print the relative difference of every way's gradients; too large a one ends the program."""
    print("gradients: |difference from one at a time| / |gradient|")
    pairs = [pair(*each[:2]) for each in prompts[:4]]
    together, apart_pairs = all_pairs(prompts[:1])
    cases = [(way, name, pairs, pairs) for name in LOSSES for way in ("packed", "trees")]
    cases += [(way, "bt", pairs, pairs) for way in ("authors", "trl")]
    cases += [("trees", "bt-bsr", together, apart_pairs)]
    for way, objective, examples, each_pair in cases:
        exact = loop_gradients(base, each_pair, objective)
        found = train(way, base, examples, options, len(examples), objective).gradients
        exact_row, found_row = (torch.cat([g.flatten() for g in each]) for each in (exact, found))
        difference = float((found_row - exact_row).norm() / exact_row.norm())
        line = f"{way:8} {objective:9} {len(each_pair)} pairs: {difference:.1e}"
        print(line, flush=True)
        if options.dtype == "float32" and not difference < TOLERANCE:
            sys.exit(f"gradients differ too much: {line}")


def all_pairs(prompts: workload.Prompts) -> tuple[Examples, Examples]:
    """All pairs of each prompt: an example a prompt, for trees, and an example a pair."""
    pairs = [list(combinations(each, 2)) for each in prompts]
    together = [
        {"chosen_ids": [a for a, _ in each], "rejected_ids": [b for _, b in each]} for each in pairs
    ]
    return together, [pair(*two) for each in pairs for two in each]


def compare(works: Mapping[str, Callable[[], Stopwatch]], options: Namespace) -> workload.Rows:
    """Rows of a table: for passes and for whole steps, times as fast as each baseline."""
    runs, rows = workload.interleaved(works, options.repetitions), []
    for part in ("passes", "steps"):
        times = {name: [getattr(run, part) for run in found] for name, found in runs.items()}
        for name, found in times.items():
            row = {"part": part, "way": name}
            for base in [base for base in ("authors", "trl") if base in works]:
                ratios = workload.faster(times[base], found)
                row |= {f"{clock} / {base}": ratio for clock, ratio in ratios.items()}
            rows.append(row)
    return rows


def main() -> None:
    """Print memory, the gradients' differences and two tables of times."""
    arguments = workload.parser(__doc__)
    arguments.add_argument("--steps", type=int, default=2, help="of 16 pairs")
    lengths = {"ultrafeedback": workload.ultrafeedback, "alpaca_eval": workload.alpaca_eval}
    arguments.add_argument("--lengths", choices=list(lengths), default="ultrafeedback")
    options = arguments.parse_args()
    logging.set_verbosity_error()
    base = workload.make_model(options, torch.float32)  # bfloat16 is autocast, as in training
    print(workload.machine(options, base))
    drawn = lengths[options.lengths](BATCH * options.steps)
    prompts = workload.draw(drawn, base.config.vocab_size)
    examples = [pair(*each[:2]) for each in prompts]
    ways = ["authors", "trl", "sorted", "packed", "trees"]
    if options.steps < SORTED:
        ways.remove("sorted")
        print(f"sorted: left out, with fewer than {SORTED} steps it sorts nothing")
    works = {way: partial(train, way, base, examples[:BATCH], options) for way in ways}
    rows = workload.memory(works, options.device)  # before any backward pass
    workload.show("peak memory: a copy of the model, gradients, AdamW's states, activations", rows)
    check_gradients(base, prompts, options)
    works = {way: partial(train, way, base, examples, options) for way in ways}
    workload.show("times as fast: median (least-most)", compare(works, options))
    together, apart_pairs = all_pairs(prompts[:4])
    works = {
        "trl": partial(train, "trl", base, apart_pairs, options, len(apart_pairs)),
        "trees": partial(train, "trees", base, together, options, len(together)),
    }
    workload.show("all six pairs of four responses", compare(works, options))


if __name__ == "__main__":
    main()
