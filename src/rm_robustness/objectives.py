"""The objectives: from rewards of the chosen and rejected responses to one scalar loss.

Every function takes two float tensors of shape (B,) and computes in float32 at least: bfloat16
keeps eight bits, too few for a difference of rewards, and `log(sigmoid(x))` overflows where
`logsigmoid` does not (D8). The release's Bradley-Terry with a constant margin and its
centring of rewards are left out on purpose: they are not in the paper's grid (D6).

An objective may have more than rewards: one with the parameters `chosen_hidden` and
`rejected_hidden` gets the states that the reward head read (B, H), one with `state` a dict of
tensors that lasts from step to step and is saved with the checkpoints, both from
`ObjectiveTrainer`; `norm_bt` is the example.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from .errors import InputError

NORM_EPS = 1e-8  # under the root of bt_norm: keeps value and gradient finite at rewards of 0 (D7)
REDUCTIONS = ("release", "paper", "global")


def _pairs(chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """Refuse shapes that would broadcast silently, and compute in float32 or wider."""
    if chosen.ndim != 1 or chosen.shape != rejected.shape or not len(chosen):
        raise InputError(
            "rewards",
            f"chosen of shape {tuple(chosen.shape)} and rejected of {tuple(rejected.shape)}",
            "two tensors of one shape (B,), B > 0",
            "squeeze the head's last dimension",
        )
    dtype = torch.promote_types(chosen.dtype, torch.float32)
    return chosen.to(dtype), rejected.to(dtype)


def bt(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Bradley-Terry, -log sigmoid(r_w - r_l), mean over the pairs (paper, section 2).

    `chosen` and `rejected` are (B,) float tensors; the scalar is float32 or wider. Raises
    `InputError` when the shapes differ.
    """
    chosen, rejected = _pairs(chosen, rejected)
    return -logsigmoid(chosen - rejected).mean()


def bt_hinge(chosen: Tensor, rejected: Tensor, margin: float = 1.0) -> Tensor:
    """Hinge, max(0, margin - (r_w - r_l)), mean over the pairs, with no Bradley-Terry term (D5).

    `chosen` and `rejected` are (B,) float tensors. The paper does not give the margin and the
    release defaults to 0, where the loss vanishes as soon as the order is right; 1 is used here.
    """
    chosen, rejected = _pairs(chosen, rejected)
    return relu(margin - (chosen - rejected)).mean()


def bt_norm(chosen: Tensor, rejected: Tensor, temperature: float = 1.0) -> Tensor:
    """Bradley-Terry on normalised rewards, -log sigmoid(dr / (temperature * |(r_w, r_l)|)) (D7).

    `chosen` and `rejected` are (B,) float tensors; the norm is taken per pair, with 1e-8 under the
    root. At temperature 1 the margin is at most sqrt 2, so the loss is never below 0.2176.
    """
    chosen, rejected = _pairs(chosen, rejected)
    # Keeps the squares from overflow; the value does not depend on it, so it may be detached.
    scale = torch.maximum(chosen.abs(), rejected.abs()).detach().clamp(min=1.0)
    chosen, rejected = chosen / scale, rejected / scale
    norm = torch.sqrt(chosen.square() + rejected.square() + NORM_EPS / scale / scale)
    return -logsigmoid((chosen - rejected) / (temperature * norm)).mean()


def bt_dr(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Bradley-Terry plus direct rewards, bt - log sigmoid(r_w) - log sigmoid(-r_l) (Eurus; D8).

    `chosen` and `rejected` are (B,) float tensors; each of the three terms is a mean over pairs.
    """
    chosen, rejected = _pairs(chosen, rejected)
    direct = logsigmoid(chosen) + logsigmoid(-rejected)
    return -(logsigmoid(chosen - rejected) + direct).mean()


def bsr(
    chosen: Tensor, rejected: Tensor, weight: float = 1e-3, reduction: str = "release"
) -> Tensor:
    """Batch-sum regularisation, a penalty on the square of the mean m of a batch's 2B rewards (D1).

    `chosen` and `rejected` are (B,) float tensors. `reduction` says over what and with what
    constant: "release" is weight * B * m^2 on this process's micro-batch, as the authors' code has
    it; "paper" is weight * m^2; "global" is the release form on the pairs of all processes, whose
    gradient is right once DDP has averaged it over them (unequal B allowed, every process must
    call), and which equals "release" on one process. None of them spans accumulation steps. Raises
    `InputError` on another reduction.
    """
    chosen, rejected = _pairs(chosen, rejected)
    mean, factor = _batch_mean(chosen + rejected, reduction)
    return weight * mean.square() * factor


def _batch_mean(sums: Tensor, reduction: str) -> tuple[Tensor, int | Tensor]:
    """The mean of a batch's 2B values, from the sums of its pairs (B,), and the factor B or 1."""
    if reduction not in REDUCTIONS:
        raise InputError("bsr reduction", repr(reduction), f"one of {', '.join(REDUCTIONS)}")
    total = sums.sum()
    pairs: int | Tensor = len(sums)
    if reduction == "global" and dist.is_available() and dist.is_initialized():
        total, pairs = _over_processes(total, len(sums))
    return total / (2 * pairs), 1 if reduction == "paper" else pairs


def _over_processes(total: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Sum rewards and pairs over processes; this process's rewards keep a gradient x world size.

    The factor undoes DDP's division, so that the averaged gradient is that of the joined batch.
    """
    sums = torch.stack([total.detach(), total.new_tensor(float(pairs))])
    dist.all_reduce(sums)
    return sums[0] + dist.get_world_size() * (total - total.detach()), sums[1]


def bt_bsr(
    chosen: Tensor, rejected: Tensor, weight: float = 1e-3, reduction: str = "release"
) -> Tensor:
    """Bradley-Terry plus batch-sum regularisation, bt + bsr (paper, section 2; D1-D4).

    `chosen` and `rejected` are (B,) float tensors; `weight` is the paper's lambda and `reduction`
    is explained at `bsr`.
    """
    return bt(chosen, rejected) + bsr(chosen, rejected, weight, reduction)


def bt_squares(
    chosen: Tensor, rejected: Tensor, weight: float = 1e-3, reduction: str = "release"
) -> Tensor:
    """Bradley-Terry plus a penalty on the mean q of the squared rewards, the paper's prose (D3).

    `chosen` and `rejected` are (B,) float tensors. `reduction` is that of `bsr`, with q in place of
    m^2: "release" is weight * B * q, half of weight times the sum of the 2B squares, "paper" is
    weight * q. m^2 is at most q, and equals it where all rewards are equal.
    """
    chosen, rejected = _pairs(chosen, rejected)
    mean, factor = _batch_mean(chosen.square() + rejected.square(), reduction)
    return bt(chosen, rejected) + weight * mean * factor


def bt_hinge_bsr(
    chosen: Tensor,
    rejected: Tensor,
    margin: float = 1.0,
    weight: float = 1e-3,
    reduction: str = "release",
) -> Tensor:
    """Hinge plus batch-sum regularisation, bt_hinge + bsr; not in the paper (D50).

    `chosen` and `rejected` are (B,) float tensors; the options are those of the two terms.
    """
    return bt_hinge(chosen, rejected, margin) + bsr(chosen, rejected, weight, reduction)


def bt_norm_bsr(
    chosen: Tensor,
    rejected: Tensor,
    temperature: float = 1.0,
    weight: float = 1e-3,
    reduction: str = "release",
) -> Tensor:
    """Normalised rewards plus batch-sum regularisation, bt_norm + bsr; not in the paper (D50).

    `chosen` and `rejected` are (B,) float tensors; the options are those of the two terms. bt_norm
    does not see the scale of the rewards, so bsr alone decides what a reward of 0 means.
    """
    return bt_norm(chosen, rejected, temperature) + bsr(chosen, rejected, weight, reduction)


def norm_bt(
    chosen: Tensor,
    rejected: Tensor,
    momentum: float = 0.9,
    *,
    chosen_hidden: Tensor,
    rejected_hidden: Tensor,
    state: dict[str, Tensor] | None = None,
) -> Tensor:
    """NormBT, w * -log sigmoid(r_w - r_l), a mean over the pairs, w = mean(d) / d (D49).

    `chosen` and `rejected` are (B,) float tensors, the hidden states (B, H), d their distance
    ||h_w - h_l||, through which no gradient flows: the weight takes the distance out of the size of
    a pair's gradient. The mean is a running one, momentum * before + (1 - momentum) * that of the
    pairs of all processes (every process must call), kept in `state["mean"]`; without a state it is
    the batch's. A pair of equal states has the weight 0: nothing can be learned from it.
    """
    chosen, rejected = _pairs(chosen, rejected)
    shapes = tuple(chosen_hidden.shape), tuple(rejected_hidden.shape)
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != len(chosen):
        raise InputError(
            "hidden states", " and ".join(map(str, shapes)), f"two of shape ({len(chosen)}, H)"
        )
    with torch.no_grad():
        distance = (chosen_hidden.to(chosen.dtype) - rejected_hidden.to(chosen.dtype)).norm(dim=1)
        mean = _mean_over_processes(distance)
        if state is not None:
            if "mean" in state:
                mean = momentum * state["mean"] + (1 - momentum) * mean
            state["mean"] = mean
        weight = torch.where(distance > 0, mean / distance, 0.0)
    return -(weight * logsigmoid(chosen - rejected)).mean()


def _mean_over_processes(values: Tensor) -> Tensor:
    """The mean of the values of all processes, which need not have equally many."""
    sums = torch.stack([values.sum(), values.new_tensor(float(len(values)))])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    return sums[0] / sums[1]


class Objective(NamedTuple):
    """An objective, and how model cards and figures show it.

    `formula` is the loss of a pair, in Python, with the function's options (and `strength`, the
    factor of m**2 in BSR) as placeholders; `colour` is one of Okabe and Ito's, and of an objective
    with BSR that of the one it is added to.
    """

    function: Callable[..., Tensor]
    formula: str
    label: str
    colour: str
    marker: str


OBJECTIVES: dict[str, Objective] = {
    "bt": Objective(bt, "-logsigmoid(r_w - r_l)", "BT", "#000000", "o"),
    "bt-hinge": Objective(bt_hinge, "max(0, {margin:g} - (r_w - r_l))", "BT-Hinge", "#56B4E9", "s"),
    "bt-norm": Objective(
        bt_norm,
        "-logsigmoid((r_w - r_l) / ({temperature:g} * sqrt(r_w**2 + r_l**2)))",
        "BT-Norm",
        "#E69F00",
        "^",
    ),
    "bt-dr": Objective(
        bt_dr,
        "-logsigmoid(r_w - r_l) - logsigmoid(r_w) - logsigmoid(-r_l)",
        "BT-DR",
        "#009E73",
        "v",
    ),
    "bt-bsr": Objective(
        bt_bsr, "-logsigmoid(r_w - r_l) + {strength:g} * m**2", "BT-BSR", "#D55E00", "X"
    ),
    "norm-bt": Objective(
        norm_bt,
        "-logsigmoid(r_w - r_l) * running_mean(norm(h_w - h_l)) / norm(h_w - h_l)",
        "NormBT",
        "#F0E442",
        "D",
    ),
    "bt-squares": Objective(
        bt_squares,
        "-logsigmoid(r_w - r_l) + {strength:g} * (r_w**2 + r_l**2) / 2",
        "BT-Squares",
        "#0072B2",
        "*",
    ),
    "bt-hinge-bsr": Objective(
        bt_hinge_bsr,
        "max(0, {margin:g} - (r_w - r_l)) + {strength:g} * m**2",
        "BT-Hinge-BSR",
        "#56B4E9",
        ">",
    ),
    "bt-norm-bsr": Objective(
        bt_norm_bsr,
        "-logsigmoid((r_w - r_l) / ({temperature:g} * sqrt(r_w**2 + r_l**2)))"
        " + {strength:g} * m**2",
        "BT-Norm-BSR",
        "#E69F00",
        "d",
    ),
}
