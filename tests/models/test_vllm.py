"""Generation by the real vLLM, on a CPU: one server for all of these tests."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from support import vllm_cpu
from transformers import AutoTokenizer

from rm_robustness.frames import read_frame, write_frame
from rm_robustness.models import chat
from rm_robustness.models.generate import DEFAULTS, generate, generate_to, sample
from rm_robustness.models.language_model import load_language_model
from rm_robustness.models.openai_server import serve, server_answers

pytestmark = [pytest.mark.slow, vllm_cpu.needs_vllm]
PROMPTS = ["Name a tree .", "Which is heavier , iron or wool ?", "Count to three ."]


@pytest.fixture(scope="module")
def model(world, tmp_path_factory):
    return vllm_cpu.make_model(world, tmp_path_factory.mktemp("vllm") / "model")


@pytest.fixture(scope="module")
def asked(model):
    """Settings of a generation by a server that the product itself has started."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in vllm_cpu.ENVIRONMENT.items():
            patch.setenv(name, value)
        settings = {**DEFAULTS, **vllm_cpu.SERVER, "model": str(model)}
        with serve(settings) as url:
            yield {
                "kind": "vllm",
                "model": str(model),
                "base_url": url,
                "dtype": "float32",
                "max_new_tokens": 12,
            }


def test_greedy_answers_are_those_of_transformers(asked, model):
    greedy = {**asked, "temperature": 0}
    here = {"kind": "transformers", "model": str(model), "temperature": 0, "max_new_tokens": 12}
    answers = generate(PROMPTS, greedy)
    assert answers == generate(PROMPTS, here)
    assert len(set(answers)) > 1 and all(answers)


def test_a_prompt_rendered_here_is_answered_as_by_transformers(asked, model):
    """The token ids that a server started by a job gets, with the date of every rendering."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{{ strftime_now('%d %B') }}" + tokenizer.chat_template
    ids = chat.prompt_ids(tokenizer, PROMPTS)
    settings = {**DEFAULTS, **asked, "temperature": 0}
    served = {
        answer.row: answer.response
        for batch in server_answers(ids, [0, 0, 0], [0, 1, 2], settings)
        for answer in batch
    }
    language_model, _ = load_language_model(model, "float32")
    ends, pad = [tokenizer.eos_token_id], tokenizer.pad_token_id
    tokens = sample(
        language_model, ids, [0, 0, 0], ends=ends, pad=pad, max_new_tokens=12, temperature=0
    )
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
    assert [served[row] for row in range(3)] == texts


def test_a_sample_depends_on_its_own_seed_alone(asked, tmp_path):
    prompts = pd.DataFrame({"example_id": [3, 1, 2], "prompt": PROMPTS})
    for name, frame in (("all", prompts), ("last", prompts.tail(1))):
        generate_to(frame, {**asked, "name": "tiny"}, tmp_path / f"{name}.parquet")
    whole, last = (read_frame(tmp_path / f"{name}.parquet") for name in ("all", "last"))
    assert list(whole["response_model"]) == ["tiny"] * 3
    assert whole["response"].iloc[-1] == last["response"].item()
    assert not (tmp_path / "all.jsonl").exists()


def test_a_policy_answers_the_instructions_of_alpaca_eval(asked, model, tmp_path):
    instructions, output = tmp_path / "instructions.parquet", tmp_path / "sft" / "seed-0.parquet"
    write_frame(pd.DataFrame({"example_id": [0, 1, 2], "prompt": PROMPTS}), instructions)
    settings = {name: asked[name] for name in asked if name != "model"} | {"temperature": 0}
    command = [sys.executable, "-m", "rm_robustness", "answers", "--settings", json.dumps(settings)]
    files = ["--model", model, "--instructions", instructions, "--output", output]
    subprocess.run([*command, *map(str, files)], check=True)
    assert list(read_frame(output)["response"]) == generate(PROMPTS, {**asked, "temperature": 0})
