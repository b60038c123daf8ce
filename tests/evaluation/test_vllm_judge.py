"""The judge with open weights, served by the real vLLM on this machine's CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import vllm_cpu
from support.judgements import POLICIES, judged, write_run
from support.small_models import CHAT, INIT
from transformers import AutoModelForCausalLM, AutoTokenizer

from rm_robustness.evaluation.alpaca_eval import annotate
from rm_robustness.evaluation.alpaca_eval.judge_client import CachedClient
from rm_robustness.evaluation.alpaca_eval.judge_server import read_prompt
from rm_robustness.evaluation.alpaca_eval.package import package
from rm_robustness.models import chat
from rm_robustness.models.language_model import from_config
from rm_robustness.models.reward_model import save

N = 3
LENGTH = 4096  # AlpacaEval's prompt has about 2,500 characters without its texts
ARGUMENTS = ["--max-model-len", str(LENGTH), "--enforce-eager"]


def write_judge(folder: Path) -> None:
    """A random Llama whose most likely answers are m and M; which one depends on the prompt."""
    init = {**INIT, "hidden_size": 64, "max_length": LENGTH}
    model, tokenizer = from_config(init, ["The quick brown fox", "prefers a model"], seed=0)
    with torch.no_grad():
        for layer in model.model.layers:  # so that the answer depends on the whole prompt
            for name, weight in layer.self_attn.named_parameters():
                weight *= {"q_proj.weight": 40, "k_proj.weight": 40}.get(name, 8)
        model.model.embed_tokens.weight[:, 0] = 2.0  # every state points there, more or less
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(["m", "M"]), 0] = 4.0
        model.lm_head.weight[tokenizer.convert_tokens_to_ids("m")] *= 1.1
    template = CHAT["template"] + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    chat.prepare(tokenizer, {**CHAT, "template": template}, "test")
    save(model, tokenizer, folder)


def log_probabilities(folder: Path, prompt: str) -> torch.Tensor:
    """The log-probabilities of the next token after AlpacaEval's prompt, by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    turns = package().utils.prompt_to_chatml(prompt.strip())
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert ids.shape[1] < LENGTH
    with torch.inference_mode():
        logits = model(ids).logits[0, -1]
    names = tokenizer.convert_tokens_to_ids(["m", "M"])
    return torch.log_softmax(logits.double(), -1)[names]


@pytest.mark.slow
@vllm_cpu.needs_vllm
def test_a_judge_with_open_weights_gives_the_preferences_of_its_log_probabilities(
    tmp_path, monkeypatch
):
    for name, value in vllm_cpu.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "judge"
    write_judge(folder)
    asked: list[tuple[list[str], list[dict]]] = []

    class Kept(CachedClient):
        def __call__(self, prompts, model_name, **sampling):
            answers = super().__call__(prompts, model_name, **sampling)
            asked.append((prompts, answers["completions_all"]))
            return answers

    monkeypatch.setattr(annotate, "CachedClient", Kept)
    runs = write_run(tmp_path / "runs", N)
    settings = {"kind": "vllm", "repo": "some/judge", "revision": "c" * 40, "model": str(folder)}
    settings |= {"dtype": "float32", "tensor_parallel_size": 1, "serve_arguments": ARGUMENTS}
    settings |= {"serve_timeout": 600, "concurrency": 2, "retries": 1}
    frame = judged(runs, settings, POLICIES[:1])
    assert set(frame["annotator"]) == {"weighted_alpaca_eval_vllm_llama3_70b with some/judge"}
    [(prompts, choices)] = asked
    assert len(prompts) == N
    wins: dict[str, float] = {}  # by the policy's answer, which the package shows as m or as M
    for prompt, choice in zip(prompts, choices, strict=True):
        expected = log_probabilities(folder, prompt)
        [token] = choice["logprobs"]["content"]
        top = {entry["token"]: entry["logprob"] for entry in token["top_logprobs"]}
        assert [top["m"], top["M"]] == pytest.approx(expected.tolist(), abs=1e-3)
        first = float(torch.softmax(expected, 0)[0])
        _, m, other = read_prompt(prompt)
        wins |= {m: first, other: 1 - first}
    preferences = frame["preference"].to_numpy() - 1
    assert preferences == pytest.approx([wins[text] for text in frame["output_2"]], abs=1e-3)
    assert np.ptp(abs(preferences - 0.5)) > 1e-3
