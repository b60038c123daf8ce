"""Reward-model training objectives, out-of-distribution splits, exact scoring and statistics.

The public API is importable from here, lazily, because torch and TRL take seconds to import:
`ObjectiveTrainer`, a `trl.RewardTrainer` with another loss; the objectives `bt`, `bt_hinge`,
`bt_norm`, `bt_dr`, `bt_bsr`, `norm_bt`, `bt_squares`, `bt_hinge_bsr`, `bt_norm_bsr`, and `bsr`,
which can be added to any; `load` and `score`, a reward model and its exact rewards.
`rm_robustness.evaluation.evaluate` measures one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models.reward_model import load
    from .models.scoring import score
    from .objectives import (
        bsr,
        bt,
        bt_bsr,
        bt_dr,
        bt_hinge,
        bt_hinge_bsr,
        bt_norm,
        bt_norm_bsr,
        bt_squares,
        norm_bt,
    )
    from .training.reward_trainer import ObjectiveTrainer

__all__ = [
    "ObjectiveTrainer",
    "bsr",
    "bt",
    "bt_bsr",
    "bt_dr",
    "bt_hinge",
    "bt_hinge_bsr",
    "bt_norm",
    "bt_norm_bsr",
    "bt_squares",
    "load",
    "norm_bt",
    "score",
]

_MODULES = {
    "ObjectiveTrainer": "training.reward_trainer",
    "load": "models.reward_model",
    "score": "models.scoring",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first access (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES.get(name, 'objectives')}", __name__), name)


def __dir__() -> list[str]:
    return __all__
