"""A cut of the rehearsal, every kind of job once, with the real vLLM: `python -m rehearsal`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.cut_demo import clone
from support.vllm_cpu import needs_vllm

from rm_robustness.files import read_json
from rm_robustness.frames import read_frame

# Seven minutes alone on two cores, twice as long beside other tests.
LIMIT = 1700  # seconds
pytestmark = [pytest.mark.slow, pytest.mark.rehearsal, pytest.mark.timeout(LIMIT + 100), needs_vllm]
CUT = {
    "grid": {
        "backbones": ["Qwen2.5-3B"],  # the one that two processes train
        "objectives": ["bt", "bt-bsr"],
        "seeds": [0],
        "families": [],
    },
    "rm_bench": {"objectives": ["skywork", "bt", "bt-bsr"]},
    "ranks": {"objectives": ["skywork", "bt", "bt-bsr"]},
    "rloo": {
        "runs": {"standard": {"policy": "Qwen2.5-1.5B-tulu3", "reward_model_seeds": [0]}},
        "seeds": [0],
    },
    "alpaca_eval": {"seeds": [0]},
}
RUN = Path("runs/stand-ins")


def rehearsal(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rehearsal", "--override", "cut.yaml", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}/src:{folder}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The folder of a finished rehearsal, and what it printed."""
    folder = clone(tmp_path_factory.mktemp("rehearsal"))
    (folder / "cut.yaml").write_text(yaml.safe_dump(CUT))
    done = rehearsal(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return folder, done


def test_every_result_is_there_and_the_claims_say_what_they_are_of(rehearsed):
    folder, done = rehearsed
    assert "12 results in results/" in done.stdout
    page = (folder / "results/claims.md").read_text()
    assert page.startswith(
        "# The paper's claims in preset `stand-ins`\n\nThese are random stand-ins"
    )


def test_the_table_has_every_rule_and_every_changed_key(rehearsed):
    _, done = rehearsed
    rules = dict(re.findall(r"^(\w+) +(\d+) +\d+(?:  .+)?$", done.stdout, re.MULTILINE))
    kinds = {"pretrained": 10, "generate": 4, "rloo_0": 4, "answers": 3, "judge": 1}
    kinds["measure_scenarios_0"] = 2
    assert {rule: int(rules[rule]) for rule in kinds} == kinds
    assert {"gold", "splits", "backbone", "reward_models_0", "reward_models_90"} <= rules.keys()
    assert re.search(r"^sft\.global_batch +512 +16$", done.stdout, re.MULTILINE)


def test_what_failed_on_purpose_was_resumed(rehearsed):
    folder, done = rehearsed
    assert "model-00002-of-00003.safetensors ended after 20000 of" in done.stdout
    assert "the hub was down for 3 s at mistralai/" in done.stdout
    assert not list((folder / RUN / "pretrained").rglob("*.part"))


def test_two_processes_trained_one_model_and_vllm_generated(rehearsed):
    folder, _ = rehearsed
    trained = read_json(folder / RUN / "reward_models/Qwen2.5-3B/bt-bsr/seed-0/record.json")
    tuned = read_json(folder / RUN / "backbones/Qwen2.5-3B/record.json")
    assert (trained["processes"], tuned["processes"]) == (2, 2)
    assert trained["settings"]["bf16"] is True
    for record in ("raw/generated/gemma-2-2b-it", "alpaca_eval/annotations"):
        assert "vllm-cpu" in read_json(folder / RUN / f"{record}.record.json")["packages"]


def test_odd_rows_are_left_out_with_their_reasons(rehearsed):
    folder, _ = rehearsed
    left_out = {
        path.name.removesuffix(".record.json"): read_json(path)["left_out"]
        for path in (folder / RUN / "raw/generated").glob("*.record.json")
    }
    (reason,) = left_out.pop("OLMo-2-1124-7B-Instruct").values()
    assert "at most 4080" in reason
    assert [*left_out.values()] == [{}, {}, {}]
    manifest = read_json(folder / RUN / "splits/manifest.json")
    assert len(manifest["left_out"]) == 2  # too few completions, and too few responses to it
    assert {"responses: empty", "examples: repeated prompt"} <= manifest["dropped"].keys()
    texts = read_frame(folder / RUN / "splits/train.parquet")["response"]
    assert texts.str.strip().all()


def test_a_job_cannot_reach_the_hub(rehearsed):
    """The guard, which had nothing to end in the rehearsal."""
    folder, _ = rehearsed
    connections = folder / ".rehearsal/connections.log"
    assert not connections.exists()
    program = "import huggingface_hub; huggingface_hub.HfApi().model_info('Qwen/Qwen2.5-3B')"
    done = rehearsal(folder, "--", sys.executable, "-c", program)
    assert done.returncode == 1 and "must be offline" in done.stderr
    assert "127.0.0.1:" in connections.read_text()


def test_check_finds_everything_in_order_under_the_rehearsal_s_hub(rehearsed):
    folder, _ = rehearsed
    done = rehearsal(folder, "--", "rm-robustness", "check")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ok   hub: all \d+ repositories can be read$", done.stdout, re.MULTILINE)
    assert "\n--" not in done.stdout
