"""How fast rewards are read: `python benchmarks/scoring.py`; with --device cuda on a GPU.

Six ways to score the same sequences by the same model, timed in turns: one at a time, which is the
authors' way and the baseline; padded batches of 8, in the given order or sorted by length; batches
of equal length; rows of many sequences without padding (packed); and prompt trees, which read each
prompt once for all of its responses. The two last are `models.scoring.score_ids`. `of limit` is
what the trees gain of what they can: the tokens of whole sequences / those of the trees. The exit
status is 1 if any reward of any way is more than 1e-5 from the baseline's in float32; in bfloat16
the differences are printed. Eight minutes on one core, with 2 of SmolLM2's 30 layers.

Predictions for one thread of a CPU, written before the first run (times as fast as the baseline):

- Padded batches: 0.5 to 0.8 in the given order, 0.7 to 1.0 sorted. Equal lengths: 1.0, as hardly
  any two are equal; in the mixes, whose lengths are all equal, 1.1. Packed: 1.0 to 1.1.
- Trees reach 0.9 to 1.0 of the limit, which is 1.12 for AlpacaEval's short prompts, 1.4 for
  UltraFeedback's and 1.16 to 2.5 in the mixes; less of it with longer sequences, as attention
  computes a prompt once for each response: 0.95 at P = 50, 0.85 at P = 800.
- With 1, 2, 4 and 8 responses of 305 tokens to a prompt of 185: 1.0, 1.2, 1.35 and 1.45.
- A row's budget hardly matters: within 10% from 512 to 16384 tokens, slower where a row no longer
  fits the cache.
- Peak memory: the loop 30 MB, padded batches 150 MB, rows of 4096 tokens 150 MB.
- On a GPU (never run): the loop waits for the launches of kernels, so rows of 16384 tokens are 10
  times as fast or more for SmolLM2, 5 times for 1B; padded batches 3 to 6 times.
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import workload

from rm_robustness.models.batching import equal_length_batches
from rm_robustness.models.packing import tree_tokens
from rm_robustness.models.scoring import score_ids

Rewards = Any  # numpy, (N,)
Way = Callable[[], Rewards]
LOOP = "loop"


@torch.no_grad()
def stock(model: Any, sequences: list[list[int]], batches: list[list[int]]) -> Rewards:
    """Rewards by transformers' own classifier and attention, of padded batches of sequences."""
    rewards = torch.empty(len(sequences))
    for rows in batches:
        ids = [torch.tensor(sequences[row]) for row in rows]
        inputs = {"input_ids": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)}
        if len(set(map(len, ids))) > 1:
            inputs["attention_mask"] = inputs["input_ids"].ne(model.config.pad_token_id).long()
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        rewards[rows] = model(**inputs, use_cache=False).logits[:, 0].float().cpu()
    return rewards.numpy()


def ways(model: Any, prompts: workload.Prompts, budget: int) -> dict[str, Way]:
    """Every way to score the sequences of these prompts."""
    sequences = [sequence for each in prompts for sequence in each]
    owners = [number for number, each in enumerate(prompts) for _ in each]
    lengths = [len(sequence) for sequence in sequences]
    given = list(range(len(sequences)))
    by_length = sorted(given, key=lengths.__getitem__)

    def cut(rows: list[int], size: int) -> list[list[int]]:
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    equal = list(equal_length_batches(lengths, budget))
    return {
        LOOP: lambda: stock(model, sequences, cut(given, 1)),
        "padded 8": lambda: stock(model, sequences, cut(given, 8)),
        "sorted 8": lambda: stock(model, sequences, cut(by_length, 8)),
        "equal lengths": lambda: stock(model, sequences, equal),
        "packed": lambda: score_ids(model, sequences, budget).rewards,
        "trees": lambda: score_ids(model, sequences, budget, owners).rewards,
    }


def mix(prompt: int, response: int, n: int, sequences: int) -> workload.Lengths:
    """Sequences of one length, n of each prompt."""
    return [[prompt] + [response] * n] * max(1, sequences // n)


def check(title: str, work: dict[str, Way], options: Namespace) -> None:
    """Compare rewards with the loop's; a float32 one that is too far off ends the program."""
    rewards = {name: way() for name, way in work.items()}
    differences = {name: abs(found - rewards[LOOP]).max() for name, found in rewards.items()}
    for name, difference in differences.items():
        if options.dtype == "bfloat16":
            print(f"{title}, {name}: rewards within {difference:.2g} of the loop's")
        elif not difference < 1e-5:
            sys.exit(f"{title}, {name}: a reward is {difference:.2g} from the loop's")


def compare(
    model: Any,
    title: str,
    lengths: workload.Lengths,
    options: Namespace,
    only: tuple[str, ...] = (),
) -> workload.Rows:
    """A row of the table for each way to score sequences of these lengths."""
    prompts = workload.draw(lengths, model.config.vocab_size)
    work = ways(model, prompts, options.row_tokens)
    work = {name: way for name, way in work.items() if not only or name in only}
    check(title, work, options)
    tokens = sum(len(sequence) for each in prompts for sequence in each)
    limit = tokens / sum(map(tree_tokens, prompts))
    timed = {name: partial(workload.timed, way, options.device) for name, way in work.items()}
    times = workload.interleaved(timed, options.repetitions)
    rows = []
    for name, found in times.items():
        row = {"lengths": title, "way": name, **workload.faster(times[LOOP], found)}
        row["tokens/s"] = f"{tokens / workload.seconds(found, options):.0f}"
        reached = workload.seconds(times[LOOP], options) / workload.seconds(found, options) / limit
        row["of limit"] = f"{reached:.2f} of {limit:.2f}" if name == "trees" else ""
        rows.append(row)
    return rows


def growth(model: Any, options: Namespace) -> workload.Rows:
    """Trees against the loop, with more responses, longer prompts and longer rows."""
    only, rows = (LOOP, "trees"), []
    sets = [(185, 305, n) for n in (1, 2, 4, 8)] + [(prompt, 200, 4) for prompt in (50, 200, 800)]
    for prompt, response, n in sets:
        lengths = mix(prompt, response, n, options.prompts)
        rows += compare(model, f"P {prompt}, R {response}, n {n}", lengths, options, only)
    for budget in (512, 4096, 16384):
        title = f"UltraFeedback, rows of {budget}"
        other = Namespace(**vars(options) | {"row_tokens": budget})
        rows += compare(model, title, workload.ultrafeedback(options.prompts), other, only)
    return [row for row in rows if row["way"] == "trees"]


def main() -> None:
    """Print three tables: memory, all ways, growth of the trees."""
    arguments = workload.parser(__doc__)
    arguments.add_argument("--prompts", type=int, default=8, help="and sequences of a mix")
    arguments.add_argument("--row-tokens", type=int, default=4096, help="scoring.batch_tokens")
    options = arguments.parse_args()
    model = workload.make_model(options, getattr(torch, options.dtype)).eval()
    print(workload.machine(options, model))
    sets = {
        "AlpacaEval": workload.alpaca_eval(options.prompts),
        "UltraFeedback": workload.ultrafeedback(options.prompts),
    }
    prompts = workload.draw(sets["UltraFeedback"], model.config.vocab_size)
    rows = workload.memory(ways(model, prompts, options.row_tokens), options.device)
    workload.show("peak memory beyond the model, UltraFeedback", rows)
    for n in (2, 4):
        for prompt, response in ((150, 100), (150, 400), (400, 100), (400, 400)):
            sets[f"P {prompt}, R {response}, n {n}"] = mix(prompt, response, n, options.prompts)
    rows = [row for title, each in sets.items() for row in compare(model, title, each, options)]
    workload.show("times as fast as the loop: median (least-most)", rows)
    workload.show("growth of the trees, times as fast as the loop", growth(model, options))


if __name__ == "__main__":
    main()
