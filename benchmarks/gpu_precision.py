"""Checks of bfloat16 and of packed rows: one process, random tokens, random weights."""

from argparse import Namespace
from typing import Any, NamedTuple

import torch
import training
import workload
from gpu_number import Number, flat, relative
from torch import Tensor

from rm_robustness.models.packing import take_rows
from rm_robustness.objectives import OBJECTIVES
from rm_robustness.training.reward_trainer import PairsInRows

FIVE = workload.preset("demo")["grid"]["objectives"]  # of the paper
SIZE = 512  # of the matrices
PAIRS = 4
# Measured on a CPU: float32 1e-6 and less; bfloat16, which keeps eight bits, a few percent.
FLOAT32, BFLOAT16 = 1e-4, 0.05


class Passes(NamedTuple):
    """A forward and a backward pass: rewards (2B,), chosen first, and gradients."""

    rewards: Tensor
    gradients: list[Tensor]


def reward_model(options: Namespace) -> Any:
    """A model with random weights in float32, its head drawn as the product does (D20)."""
    model = workload.make_model(options, torch.float32)
    torch.nn.init.normal_(model.score.weight, 0.0, (model.config.hidden_size + 1) ** -0.5)
    return model


def pairs(model: Any, count: int = PAIRS) -> list[dict[str, Any]]:
    """Pairs with AlpacaEval's lengths, the first two responses of each prompt."""
    prompts = workload.draw(workload.alpaca_eval(count), model.config.vocab_size)
    return [training.pair(*each[:2]) for each in prompts]


def passes(model: Any, examples: list[dict[str, Any]], packed: bool, dtype: torch.dtype) -> Passes:
    """Bradley-Terry on `examples` in one packed row or, one response a row, by the stock attention.

    `model` is in float32 and takes rows; bfloat16 is autocast, as in training.
    """
    model.zero_grad()
    with torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        if packed:
            row = PairsInRows(model.config.pad_token_id)(examples)
            inputs = {
                name: value.to(model.device) if isinstance(value, Tensor) else value
                for name, value in row.items()
            }
            rewards = model(**inputs, use_cache=False).logits
        else:
            sequences = [each[name] for name in ("chosen_ids", "rejected_ids") for each in examples]
            rows = [torch.tensor([sequence], device=model.device) for sequence in sequences]
            rewards = torch.cat([model(input_ids=row, use_cache=False).logits for row in rows])
    rewards = rewards[:, 0].float()
    torch.autograd.backward(OBJECTIVES["bt"].function(*rewards.chunk(2)))
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return Passes(rewards.detach(), gradients)


def bfloat16(options: Namespace) -> list[Number]:
    """A product and the five losses in bfloat16 and in float32, which must not be TF32."""
    torch.manual_seed(0)
    a, b = torch.randn(2, SIZE, SIZE, dtype=torch.float64).to(options.device)
    exact = [a @ b]
    products = [a.float() @ b.float()], [a.bfloat16() @ b.bfloat16()]
    numbers = [
        Number("float32 product, error", relative(products[0], exact), most=1e-5),
        Number("bfloat16 product, error", relative(products[1], exact), most=2**-7),
    ]
    model = reward_model(options)
    take_rows(model)
    examples = pairs(model)
    read = [
        passes(model, examples, True, dtype).rewards for dtype in (torch.float32, torch.bfloat16)
    ]
    numbers.append(Number("rewards, error", relative(read[1:], read[:1]), most=BFLOAT16))
    halves = [rewards.chunk(2) for rewards in read]
    for name in FIVE:
        loss, rounded = (float(OBJECTIVES[name].function(*half)) for half in halves)
        numbers.append(Number(f"loss of {name}, error", abs(rounded / loss - 1), most=0.05))
    return numbers


def packing(options: Namespace) -> list[Number]:
    """One packed row against one response a row: rewards and gradients, in either format."""
    model = reward_model(options)
    take_rows(model)
    examples, numbers = pairs(model), []
    for dtype, bound in ((torch.float32, FLOAT32), (torch.bfloat16, BFLOAT16)):
        alone, packed = (passes(model, examples, way, dtype) for way in (False, True))
        name = str(dtype).removeprefix("torch.")
        differences = {
            "rewards": relative([packed.rewards], [alone.rewards]),
            "gradients": relative(packed.gradients, alone.gradients),
        }
        for what, found in differences.items():
            numbers.append(Number(f"{name} {what}", found, most=bound))
    return numbers


def step(options: Namespace) -> list[Number]:
    """One step of AdamW by the product's trainer: bfloat16 against float32, every objective.

    AdamW's first step is the sign of each gradient, which rounding flips where it is near 0: so the
    steps are compared by the cosine of their angle.
    """
    base = reward_model(options)
    before, examples, numbers = flat(base.parameters()), pairs(base), []
    for name in OBJECTIVES:
        exact, rounded = (
            training.train(
                "trees",
                base,
                examples,
                Namespace(device=options.device, dtype=dtype),
                len(examples),
                name,
                learning_rate=1e-3,
            )
            for dtype in ("float32", "bfloat16")
        )
        error = relative(rounded.gradients, exact.gradients)
        steps = [flat(run.weights) - before for run in (exact, rounded)]
        cosine = float(torch.nn.functional.cosine_similarity(*steps, dim=0))
        numbers.append(Number(f"{name} gradient, error", error, most=BFLOAT16))
        numbers.append(Number(f"{name} step, cosine", cosine, least=0.8))
    return numbers
