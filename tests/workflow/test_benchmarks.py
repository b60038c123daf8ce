"""Benchmarks of prompt trees: their lengths are what they say, and what is wrong stops them."""

import importlib
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from support.paths import ROOT
from support.presets import parsed

FLOAT32 = Namespace(dtype="float32", device="cpu")


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_lengths_of_alpaca_eval_are_those_of_200_instructions_with_four_answers(module):
    lengths = np.array(module("workload").alpaca_eval(1000))
    assert lengths.shape == (200, 5) and lengths.min() >= 1
    assert lengths.mean(axis=0)[0] == pytest.approx(41, abs=1)  # config/small.yaml has 40
    assert lengths[:, 1:].mean() == pytest.approx(241, abs=1)


def test_drawn_lengths_have_the_means_of_the_paper_preset(module):
    size = parsed("paper")["sizes"]["sources"]["ultrafeedback"]
    prompts, *responses = np.array(module("workload").ultrafeedback(20_000)).T
    assert prompts.mean() == pytest.approx(size["prompt_tokens"], rel=0.03)
    assert np.mean(responses) == pytest.approx(size["response_tokens"], rel=0.03)


def test_sequences_of_a_prompt_share_its_tokens_and_no_others(module):
    ((first, second), (third,)) = module("workload").draw([[5, 3, 4], [6, 2]], 1000)
    assert [len(first), len(second), len(third)] == [8, 9, 8]
    assert first[:5] == second[:5] and first[5] != second[5]
    assert 0 not in first + second + third  # padding


def test_ratios_are_of_the_same_repetition(module):
    workload = module("workload")
    slow, fast = (
        [workload.Clock(2.0, 2.0), workload.Clock(9.0, 3.0)],
        [workload.Clock(1.0, 1.0)] * 2,
    )
    assert workload.faster(slow, fast) == {"wall": "5.50 (2.00-9.00)", "cpu": "2.50 (2.00-3.00)"}


def test_a_reward_that_is_off_ends_the_benchmark_of_scoring(module):
    scoring = module("scoring")
    good = {scoring.LOOP: lambda: np.zeros(2), "trees": lambda: np.full(2, 5e-6)}
    scoring.check("mix", good, FLOAT32)
    with pytest.raises(SystemExit, match="mix, trees: a reward is 0"):
        scoring.check("mix", good | {"trees": lambda: np.array([0, 1e-3])}, FLOAT32)


def test_a_gradient_that_is_off_ends_the_benchmark_of_training(module, monkeypatch):
    training = module("training")
    monkeypatch.setattr(training, "loop_gradients", lambda *_: [torch.ones(3)])
    for off in (1e-6, 1e-3):
        found = Namespace(gradients=[torch.tensor([1, 1, 1 + off])])
        monkeypatch.setattr(training, "train", lambda *_, found=found: found)
        if off < training.TOLERANCE:
            training.check_gradients(None, [[[1, 2], [1, 3]]], FLOAT32)
        else:
            with pytest.raises(SystemExit, match="gradients differ too much: packed"):
                training.check_gradients(None, [[[1, 2], [1, 3]]], FLOAT32)


def test_the_benchmark_of_evaluation_keeps_the_first_prompts_of_every_file(module, tmp_path):
    for name in ("a", "b"):
        path = tmp_path / "data" / "results" / name / "judge" / "annotations.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps([{"instruction": n} for n in range(100)]))
    module("evaluation").cut(tmp_path / "data", tmp_path / "part", 0.1)
    parts = sorted((tmp_path / "part").rglob("annotations.json"))
    assert [len(json.loads(path.read_text())) for path in parts] == [10, 10]
    assert json.loads(parts[0].read_text())[-1] == {"instruction": 9}


def test_the_benchmark_of_objectives_counts_the_bytes_of_their_tensors(module):
    objectives = module("objectives")
    small, large = objectives.rewards(64), objectives.rewards(128)
    grown = objectives.peak_bytes("bt", large) - objectives.peak_bytes("bt", small)
    assert grown > 0 and grown % (4 * 64) == 0  # whole vectors of float32
    extra = objectives.peak_bytes("bt-bsr", large) - objectives.peak_bytes("bt", large)
    assert 0 <= extra <= 4 * 128 + 64


def test_the_pilot_finds_what_normal_theory_says_of_entries_that_alone_vary(module):
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 0.16, (4, 4000))
    # 1.96 + 0.84 standard deviations of a difference of two means over 8 seeds x 4000 prompts.
    expected = 2.8 * np.sqrt(2) * 0.16 / np.sqrt(8 * 4000)
    assert module("pilot").smallest_found(values, 8) == pytest.approx(expected, rel=0.25)
    values += np.array([[-0.02], [-0.01], [0.01], [0.02]])
    assert module("pilot").smallest_found(values, 8) > 5 * expected
