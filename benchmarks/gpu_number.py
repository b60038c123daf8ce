"""What the checks of gpu.py give: numbers with bounds, or what is missing for them."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch


class SkippedError(Exception):
    """A check cannot run here; the message says what is missing."""


class Number(NamedTuple):
    """What a check measured, and from where to where it is right; without bounds it only informs.

    A NaN is in no bounds.
    """

    what: str
    value: float
    least: float = -math.inf
    most: float = math.inf

    @property
    def right(self) -> bool:
        """Whether the value is within its bounds."""
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        bounds = [("at least", self.least), ("at most", self.most)]
        stated = " and ".join(f"{word} {bound:g}" for word, bound in bounds if math.isfinite(bound))
        return f"{self.what}: {self.value:.3g}" + (f" ({stated})" if stated else "")


def flat(tensors: Iterable[Any]) -> torch.Tensor:
    """Tensors or arrays as one of shape (N,), in float64 on the CPU."""
    return torch.cat([torch.as_tensor(x).detach().double().cpu().flatten() for x in tensors])


def relative(found: Iterable[Any], exact: Iterable[Any]) -> float:
    """|found - exact| / |exact|, Euclidean norms over all of the tensors."""
    right = flat(exact)
    return float((flat(found) - right).norm() / right.norm())
