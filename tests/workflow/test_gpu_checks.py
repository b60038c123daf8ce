"""The checks for a GPU: on a CPU they run with tiny models, and what is wrong fails."""

import importlib
import math

import pytest
import torch
from support.paths import ROOT
from torch.nn.functional import scaled_dot_product_attention

from rm_robustness.errors import InputError
from rm_robustness.models import packing


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # gpu.py sets it: not for the tests after it
    return importlib.import_module("gpu")


def test_what_a_cpu_can_check_passes_and_what_it_cannot_is_skipped(gpu, capsys):
    assert gpu.main(["--device", "cpu", "--only", "bfloat16", "packing", "fsdp2", "plan"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[:-1]]
    verdicts = {(words[1], words[0]) for words in lines if words[0] in ("pass", "skipped:", "fail")}
    assert verdicts == {
        ("bfloat16", "pass"),
        ("packing", "pass"),
        ("fsdp2", "skipped:"),
        ("plan", "skipped:"),
    }


def test_the_scorer_is_checked_in_every_format(gpu, capsys):
    assert gpu.main(["--device", "cpu", "--only", "batches", "scoring"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name}," in said for name in ("float32", "tf32", "bfloat16"))


def test_attention_that_sees_what_comes_later_fails(gpu, capsys, monkeypatch):
    def everything(queries, keys, values, scaling):
        """Attention without causality."""
        rows = zip(queries, keys, values, strict=True)
        return [scaled_dot_product_attention(*row, scale=scaling, enable_gqa=True) for row in rows]

    monkeypatch.setattr(packing, "_one_by_one", everything)
    assert gpu.main(["--device", "cpu", "--only", "packing", "fsdp2"]) == 1
    said = capsys.readouterr().out
    assert "fail     packing" in said and "pass" not in said
    assert "skipped: fsdp2" in said and said.endswith("failed: packing\n")


@pytest.mark.parametrize(
    ("value", "bounds", "right"),
    [
        (0.1, {"most": 0.1}, True),
        (0.11, {"most": 0.1}, False),
        (0.9, {"least": 1.0}, False),
        (math.nan, {"least": 0.0, "most": 1.0}, False),
        (7.0, {}, True),
    ],
)
def test_a_number_is_right_within_its_bounds(gpu, value, bounds, right):
    number = importlib.import_module("gpu_number").Number("error", value, **bounds)
    assert number.right is right


def test_a_difference_is_relative_to_the_norm_of_what_is_exact(gpu):
    relative = importlib.import_module("gpu_number").relative
    found, exact = [torch.tensor([3.0]), torch.tensor([[4.5]])], [[3.0], [4.0]]
    assert relative(found, map(torch.tensor, exact)) == pytest.approx(0.1)


def test_a_check_that_there_is_not_is_one_line(gpu):
    with pytest.raises(InputError, match=r"^--only: found 'vlm'; .* did you mean 'vllm'\?$"):
        gpu.main(["--only", "vlm", "--device", "cpu"])


def test_every_check_says_what_it_is(gpu, capsys):
    assert gpu.main(["--list"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(listed) == list(gpu.CHECKS) and all(listed.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_way_to_check_a_cpu_is_said(gpu):
    with pytest.raises(InputError, match=r"GPU: found none .* --device cpu checks what a CPU can"):
        gpu.main([])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("step", "norm-bt step, cosine"),
        ("resume", "a resumed run, weights move by: 0 "),
        ("ddp", "bt-bsr global, float32 gradient"),
    ],
)
def test_steps_resuming_and_two_processes_are_checked_on_a_cpu(gpu, capsys, check, words):
    assert gpu.main(["--device", "cpu", "--only", check]) == 0
    assert words in capsys.readouterr().out
