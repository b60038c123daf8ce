import inspect
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import ROOT
from torch import Tensor

from rm_robustness.errors import InputError
from rm_robustness.objectives import (
    OBJECTIVES,
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

reward = st.floats(-20, 20, width=32)
batches = st.lists(st.tuples(reward, reward), min_size=1, max_size=8).map(
    lambda pairs: tuple(torch.tensor(pairs, dtype=torch.float64).T.contiguous())
)


def gradients(objective, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    chosen, rejected = chosen.clone().requires_grad_(), rejected.clone().requires_grad_()
    return torch.autograd.grad(objective(chosen, rejected), (chosen, rejected))


def of_rewards(name):
    """An objective as a function of two pairs' rewards alone."""
    function = OBJECTIVES[name].function
    if name == "norm-bt":
        return partial(function, chosen_hidden=torch.eye(2), rejected_hidden=3 * torch.eye(2))
    return function


def test_values_match_those_worked_by_hand():
    one, zero = torch.tensor([1.0]), torch.tensor([0.0])
    softplus = {x: math.log1p(math.exp(x)) for x in (-1.0, 0.0)}  # -log sigmoid(-x)
    assert bt(one, zero).item() == pytest.approx(softplus[-1.0])
    assert bt_dr(one, zero).item() == pytest.approx(2 * softplus[-1.0] + softplus[0.0])
    assert bt_norm(3 * one, 4 * one).item() == pytest.approx(math.log1p(math.exp(0.2)))
    assert bt_norm(3 * one, 4 * one, temperature=0.5).item() == pytest.approx(
        math.log1p(math.exp(0.4))
    )
    chosen, rejected = torch.tensor([3.0, 1.0]), torch.tensor([0.0, 2.0])
    assert bt_hinge(chosen, rejected).item() == 1.0  # (0 + 2) / 2
    assert bt_hinge(chosen, rejected, margin=4.0).item() == 3.0  # (1 + 5) / 2
    # Two pairs, rewards 3, 1, 0, 2: the mean is 1.5.
    assert bsr(chosen, rejected, weight=0.1).item() == pytest.approx(0.1 * 2 * 2.25)
    assert bsr(chosen, rejected, weight=0.1, reduction="paper").item() == pytest.approx(0.225)
    assert bt_bsr(chosen, rejected, 0.1).item() == pytest.approx(bt(chosen, rejected).item() + 0.45)


def test_penalties_on_other_losses_match_those_worked_by_hand():
    """Two pairs, rewards 3, 1, 0, 2: their mean is 1.5, the mean of their squares 14 / 4."""
    chosen, rejected = torch.tensor([3.0, 1.0]), torch.tensor([0.0, 2.0])
    alone = bt(chosen, rejected).item()
    assert bt_squares(chosen, rejected, 0.1).item() == pytest.approx(alone + 0.1 * 2 * 3.5)
    assert bt_squares(chosen, rejected, 0.1, "paper").item() == pytest.approx(alone + 0.35)
    assert bt_hinge_bsr(chosen, rejected, weight=0.1).item() == pytest.approx(1.0 + 0.45)
    both = bt_hinge_bsr(chosen, rejected, margin=4.0, weight=0.1, reduction="paper")
    assert both.item() == pytest.approx(3.0 + 0.225)
    one, two = torch.tensor([3.0]), torch.tensor([4.0])
    found = bt_norm_bsr(one, two, temperature=0.5, weight=0.1)  # the mean is 3.5
    assert found.item() == pytest.approx(math.log1p(math.exp(0.4)) + 0.1 * 12.25)


@settings(deadline=None)
@given(batches, st.floats(-5, 5))
def test_the_squares_pull_each_reward_by_itself_and_bsr_all_by_their_mean(batch, alone):
    """The prose's reading (D3): of large rewards of opposite signs BSR sees nothing."""
    n, base = len(batch[0]), gradients(bt, *batch)
    found = gradients(partial(bt_squares, weight=0.01), *batch)
    for got, without, rewards in zip(found, base, batch, strict=True):
        torch.testing.assert_close(got - without, 0.01 * rewards)
    squares = bt_squares(*batch, weight=0.01) - bt(*batch)
    assert bsr(*batch, weight=0.01) <= squares + 1e-9
    same = torch.full((n,), alone, dtype=torch.float64)
    equal = bt_squares(same, same, weight=0.01) - bt(same, same)
    torch.testing.assert_close(bsr(same, same, weight=0.01), equal)


def test_the_squares_on_one_process_are_the_same_in_release_and_global():
    chosen, rejected = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])
    values = [bt_squares(chosen, rejected, reduction=name) for name in ("release", "global")]
    assert values[0] == values[1]


@settings(deadline=None)
@given(batches, st.floats(-50, 50))
def test_bt_and_hinge_ignore_a_shift_of_all_rewards(batch, shift):
    chosen, rejected = batch
    for objective in (bt, bt_hinge):
        shifted = objective(chosen + shift, rejected + shift)
        assert shifted.item() == pytest.approx(objective(chosen, rejected).item(), abs=1e-9)


@pytest.mark.parametrize(
    ("objective", "change"),
    [
        (bt_dr, 2 * math.log(math.cosh(0.5))),  # -log s(1) - log s(-1) + 2 log s(0)
        (partial(bt_bsr, weight=0.1), 0.1),
    ],
)
def test_dr_and_bsr_feel_a_shift_of_all_rewards(objective, change):
    zero = torch.zeros(1, dtype=torch.float64)
    moved = objective(zero + 1, zero + 1) - objective(zero, zero)
    assert moved.item() == pytest.approx(change)


@settings(deadline=None)
@given(batches, st.floats(1e-2, 1e3))
def test_norm_ignores_a_scale_of_all_rewards_and_never_fits(batch, scale):
    chosen, rejected = batch
    value = bt_norm(chosen, rejected).item()
    assert value >= math.log1p(math.exp(-math.sqrt(2))) - 1e-9  # 0.2176...
    if torch.maximum(chosen.abs(), rejected.abs()).min() * min(scale, 1) > 0.5:
        assert bt_norm(chosen * scale, rejected * scale).item() == pytest.approx(value, abs=1e-7)


def test_norm_reaches_its_bound_at_opposite_rewards():
    assert bt_norm(torch.tensor([5.0]), torch.tensor([-5.0])).item() == pytest.approx(0.21762, 1e-4)


@settings(deadline=None)
@given(batches)
def test_gradients_equal_the_closed_forms(batch):
    chosen, rejected = batch
    n, delta = len(chosen), chosen - rejected
    inside = ((1 - delta) > 0).double()
    expected = {
        bt: (-torch.sigmoid(-delta), torch.sigmoid(-delta)),
        bt_hinge: (-inside, inside),
        bt_dr: (
            -torch.sigmoid(-delta) - torch.sigmoid(-chosen),
            torch.sigmoid(-delta) + torch.sigmoid(rejected),
        ),
    }
    for objective, sides in expected.items():
        for got, want in zip(gradients(objective, chosen, rejected), sides, strict=True):
            torch.testing.assert_close(got, want / n)


def test_norm_gradient_equals_numerical_differentiation():
    chosen = torch.tensor([0.0, 2.0, -1e3, 0.3], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([1.0, -3.0, 2e3, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bt_norm, (chosen, rejected))


@settings(deadline=None)
@given(batches)
def test_release_bsr_pulls_every_reward_by_weight_times_the_batch_mean(batch):
    mean = torch.cat(batch).mean()
    for got in gradients(partial(bsr, weight=0.01), *batch):
        torch.testing.assert_close(got, (0.01 * mean).expand_as(got))


@settings(deadline=None)
@given(reward, reward)
def test_bsr_of_one_pair_is_the_centering_of_trl_at_a_quarter_of_the_weight(r_c, r_r):
    chosen, rejected = torch.tensor([r_c]), torch.tensor([r_r])
    centering = (0.02 / 4) * torch.mean((chosen + rejected) ** 2)
    torch.testing.assert_close(bsr(chosen, rejected, weight=0.02), centering)


def test_trl_centres_as_the_formula_above_says():
    from trl import RewardTrainer

    line = "center_rewards_coefficient * torch.mean((rewards_chosen + rewards_rejected) ** 2)"
    assert line in inspect.getsource(RewardTrainer.compute_loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_values_and_gradients_stay_finite(name, dtype):
    for r_c in (0.0, 1e4, -1e4):
        for r_r in (0.0, 1e4, -1e4):
            chosen = torch.tensor([r_c, 0.5], dtype=dtype)
            rejected = torch.tensor([r_r, 0.5], dtype=dtype)
            assert of_rewards(name)(chosen, rejected).isfinite()
            for gradient in gradients(of_rewards(name), chosen, rejected):
                assert gradient.dtype == dtype
                assert gradient.isfinite().all()


def test_norm_does_not_overflow_where_squares_do():
    huge = torch.tensor([1e30])
    assert bt_norm(huge, -huge).item() == pytest.approx(0.21762, 1e-4)
    assert all(gradient.isfinite().all() for gradient in gradients(bt_norm, huge, -huge))


def test_half_precision_rewards_are_compared_in_single_precision():
    chosen, rejected = torch.tensor([256.0]).bfloat16(), torch.tensor([1.0]).bfloat16()
    assert bt_hinge(rejected, chosen).item() == 256.0  # 255 + 1; bfloat16 would round 255 first
    assert bt(chosen, rejected).dtype == torch.float32


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2, 1), (2, 1)), ((2,), (2, 1)), ((0,), (0,))])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_rewards_of_another_shape_are_refused(name, shapes):
    with pytest.raises(InputError, match="shape"):
        of_rewards(name)(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_an_unknown_reduction_is_refused_by_name():
    with pytest.raises(InputError, match=r"'sum'; expected one of release, paper, global"):
        bt_bsr(torch.zeros(1), torch.zeros(1), reduction="sum")


def test_global_equals_release_on_one_process():
    chosen, rejected = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])
    assert bsr(chosen, rejected, reduction="global") == bsr(chosen, rejected)


def test_norm_bt_weighs_a_pair_by_the_running_mean_distance_over_its_own():
    """The formula step by step: w = m / ||h_w - h_l||, m a running mean from the first one on."""
    generator, state, mean = torch.Generator().manual_seed(0), {}, None
    for _ in range(3):
        rewards = torch.randn(2, 4, generator=generator, dtype=torch.float64)
        hidden = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
        distances = [
            math.dist(one.tolist(), two.tolist()) for one, two in zip(*hidden, strict=True)
        ]
        now = sum(distances) / 4
        mean = now if mean is None else 0.75 * mean + 0.25 * now
        losses = [math.log1p(math.exp(low - high)) for high, low in zip(*rewards, strict=True)]
        expected = sum(mean / d * loss for d, loss in zip(distances, losses, strict=True)) / 4
        found = norm_bt(
            *rewards, momentum=0.75, chosen_hidden=hidden[0], rejected_hidden=hidden[1], state=state
        )
        assert found.item() == pytest.approx(expected)
        assert state["mean"].item() == pytest.approx(mean)


def test_norm_bt_takes_the_distance_out_of_the_gradient_of_a_head():
    """BT's is sigmoid(-dr) ||h_w - h_l|| for a pair; here every pair has the mean for its own."""
    head = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    states = torch.tensor(JOINED, dtype=torch.float64)
    for scale in (1e-3, 1.0, 1e3):
        chosen, rejected = states, states - scale * states.flip(0)
        distance = (chosen - rejected).norm(dim=1)
        rewards = chosen @ head, rejected @ head
        loss = norm_bt(*rewards, chosen_hidden=chosen, rejected_hidden=rejected)
        (gradient,) = torch.autograd.grad(loss, head)
        difference = chosen - rejected
        error = torch.sigmoid(rewards[1] - rewards[0]).detach()
        units = difference / distance[:, None]
        expected = -(error[:, None] * units).mean(dim=0) * distance.mean()
        torch.testing.assert_close(gradient, expected)


def test_norm_bt_of_equal_states_is_no_nan_and_other_shapes_are_refused():
    states = torch.ones(2, 3)
    rewards = torch.ones(2)
    assert norm_bt(rewards, rewards, chosen_hidden=states, rejected_hidden=states) == 0
    with pytest.raises(InputError, match=r"hidden states: found \(2, 3\) and \(1, 3\)"):
        norm_bt(rewards, rewards, chosen_hidden=states, rejected_hidden=states[:1])


JOINED = [[0.3, -1.0, 2.0], [1.5, 0.2, -0.7], [-0.4, 0.9, 0.1], [2.2, 1.1, 0.6]]
SIZES = {"even": (2, 2), "uneven": (3, 1)}  # pairs on each process


def features() -> tuple[Tensor, Tensor]:
    chosen = torch.tensor(JOINED, dtype=torch.float64)
    return chosen, chosen.flip(0) * 0.5 + 1


def model() -> torch.nn.Linear:
    head = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    torch.nn.init.constant_(head.weight, 0.7)
    return head


def one_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    for case, sizes in SIZES.items():
        head = torch.nn.parallel.DistributedDataParallel(model())
        own = slice(0, sizes[0]) if rank == 0 else slice(sizes[0], None)
        chosen, rejected = (head(side[own]).squeeze(-1) for side in features())
        loss = bsr(chosen, rejected, weight=0.1, reduction="global")
        loss.backward()
        weight = head.module.weight.grad.clone()
        head.zero_grad()
        chosen, rejected = (head(side[own]).squeeze(-1) for side in features())
        penalty = bt_squares(chosen, rejected, 0.1, "global") - bt(chosen, rejected)
        penalty.backward()
        squares = head.module.weight.grad
        chosen, rejected = (side[own] for side in features())
        state: dict[str, Tensor] = {}
        rewards = chosen[:, 0], rejected[:, 0]
        norm_bt(*rewards, chosen_hidden=chosen, rejected_hidden=rejected, state=state)
        values = {"loss": loss.detach(), "gradient": weight, "squares": squares, **state}
        np.savez(f"{folder}/{case}-{rank}.npz", **values)
    dist.destroy_process_group()


def test_global_penalties_on_two_processes_have_the_gradients_of_the_joined_batch(tmp_path: Path):
    torch.multiprocessing.spawn(one_process, args=(str(tmp_path),), nprocs=2)
    head = model()
    chosen, rejected = (head(side).squeeze(-1) for side in features())
    loss = bsr(chosen, rejected, weight=0.1)
    loss.backward()
    squares = model()
    chosen, rejected = (squares(side).squeeze(-1) for side in features())
    (bt_squares(chosen, rejected, 0.1) - bt(chosen, rejected)).backward()
    for case in SIZES:
        for rank in range(2):
            saved = np.load(tmp_path / f"{case}-{rank}.npz")
            assert saved["loss"] == pytest.approx(loss.item())
            np.testing.assert_allclose(saved["gradient"], head.weight.grad)
            np.testing.assert_allclose(saved["squares"], squares.weight.grad)
            chosen, rejected = features()  # and norm_bt's running mean is that of all pairs
            assert saved["mean"] == pytest.approx((chosen - rejected).norm(dim=1).mean().item())


def test_the_schema_has_every_objective_with_its_options():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text("utf-8"))
    named = schema["properties"]["reward_models"]["properties"]["objectives"]["properties"]
    options = {
        name: [
            p.name
            for p in inspect.signature(objective.function).parameters.values()
            if p.kind is not p.KEYWORD_ONLY  # which the trainer gives, not the configuration
        ][2:]
        for name, objective in OBJECTIVES.items()
    }
    assert {name: list(section.get("properties", {})) for name, section in named.items()} == options
