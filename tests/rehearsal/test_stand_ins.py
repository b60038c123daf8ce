"""The stand-ins: one for each repository that is downloaded, in its published layout."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from rehearsal import data, models, stand_ins
from rehearsal.__main__ import PAPER
from rm_robustness.data.download import PATTERNS
from rm_robustness.experiment.checks import read_config
from rm_robustness.experiment.downloads import repositories
from rm_robustness.files import hashes
from rm_robustness.models.armorm import load_armorm


class Published(NamedTuple):
    """What a published repository has, as its files on the hub say."""

    kind: str
    tied: bool = False
    sharded: bool = True
    ends: tuple[str, ...] = ()  # the tokens of generation_config.json that end a text
    template: bool = True
    more_rows: bool = False  # of the embedding than the tokenizer has tokens
    pad: str | None = None
    left_there: str = ""  # a file that is code or a pickle


LLAMA_BASE = Published(
    "LlamaForCausalLM",
    tied=True,
    ends=("<|end_of_text|>",),
    template=False,
    left_there="original/consolidated.00.pth",
)
QWEN = Published(
    "Qwen2ForCausalLM", tied=True, ends=("<|endoftext|>",), more_rows=True, pad="<|endoftext|>"
)
PUBLISHED = {
    "meta-llama/Llama-3.2-1B": LLAMA_BASE._replace(sharded=False),
    "meta-llama/Llama-3.2-3B": LLAMA_BASE,
    "meta-llama/Llama-3.1-8B-Instruct": Published(
        "LlamaForCausalLM",
        ends=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        left_there="original/consolidated.00.pth",
    ),
    "meta-llama/Meta-Llama-3-70B-Instruct": Published(
        "LlamaForCausalLM", ends=("<|end_of_text|>", "<|eot_id|>")
    ),
    "Qwen/Qwen2.5-1.5B": QWEN._replace(sharded=False),
    "Qwen/Qwen2.5-3B": QWEN,
    "google/gemma-2-2b-it": Published(
        "Gemma2ForCausalLM", tied=True, ends=("<eos>", "<end_of_turn>"), pad="<pad>"
    ),
    "allenai/OLMo-2-1124-7B-Instruct": Published(
        "Olmo2ForCausalLM", ends=("<|endoftext|>",), more_rows=True, pad="<|pad|>"
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": Published(
        "LlamaForCausalLM", tied=True, sharded=False, ends=("<|im_end|>",), pad="<|im_end|>"
    ),
    "mistralai/Mistral-7B-Instruct-v0.2": Published(
        "MistralForCausalLM", ends=("</s>",), left_there="pytorch_model-00001-of-00003.bin"
    ),
    "RLHFlow/ArmoRM-Llama3-8B-v0.1": Published(
        "LlamaForRewardModelWithGating", pad="[PAD]", left_there="modeling_custom.py"
    ),
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": Published(
        "LlamaForSequenceClassification", pad="<|finetune_right_pad_id|>"
    ),
}
TEXT = "Größer: 12345 東京  <|im_end|>\n\n<|eot_id|> x <end_of_turn> नमस्ते </s>\t🙂"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stand-ins")
    for repo in models.MODELS:
        models.build(repo, root / repo)
    return {repo: root / repo for repo in models.MODELS}


every_model = pytest.mark.parametrize("repo", PUBLISHED)


def content(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / name).read_text(encoding="utf-8")))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for path in folder.glob("*.safetensors")
        for name, tensor in load_file(path).items()
    }


def load(folder: Path) -> PreTrainedModel:
    """The model by its published class; for ArmoRM, whose class is code, by the product's."""
    kind = content(folder, "config.json")["architectures"][0]
    if kind == "LlamaForRewardModelWithGating":
        return load_armorm(str(folder), "bfloat16")
    auto = AutoModelForCausalLM
    if kind.endswith("ForSequenceClassification"):
        auto = AutoModelForSequenceClassification
    model, report = auto.from_pretrained(folder, output_loading_info=True, use_safetensors=True)
    assert type(model).__name__ == kind
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


def test_every_repository_of_the_paper_s_run_has_a_stand_in_and_no_other():
    config = read_config(PAPER)
    wanted = {(each.kind, each.repo) for each in repositories(config)}
    ours = {("model", repo) for repo in models.MODELS}
    assert wanted == ours | {("dataset", repo) for repo in data.DATASETS}
    assert PUBLISHED.keys() == models.MODELS.keys()
    assert config["sources"]["rm_bench"]["repository"] == f"https://github.com/{stand_ins.GIT}.git"


@every_model
def test_a_model_loads_by_its_published_class(folders, repo):
    model = load(folders[repo])
    assert content(folders[repo], "config.json")["architectures"] == [PUBLISHED[repo].kind]
    assert {each.dtype for each in model.base_model.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        states = model.base_model(torch.tensor([[5, 6, 7]])).last_hidden_state
    assert torch.isfinite(states).all()


@every_model
def test_token_ids_are_those_of_the_raw_tokenizer_file(folders, repo):
    tokenizer = AutoTokenizer.from_pretrained(folders[repo])
    raw = Tokenizer.from_file(str(folders[repo] / "tokenizer.json"))
    for special in (True, False):
        ids = tokenizer(TEXT, add_special_tokens=special)["input_ids"]
        assert ids == raw.encode(TEXT, add_special_tokens=special).ids
    assert len(tokenizer) == raw.get_vocab_size()
    assert tokenizer.decode(ids).split() == TEXT.split()


@every_model
def test_a_repository_has_the_published_files_and_oddities(folders, repo):
    folder, published = folders[repo], PUBLISHED[repo]
    config, tokenizer = content(folder, "config.json"), AutoTokenizer.from_pretrained(folder)
    weights, causal = tensors(folder), published.kind.endswith("ForCausalLM")
    shards = list(folder.glob("*.safetensors"))
    assert (len(shards) > 1) == published.sharded
    assert (folder / "model.safetensors.index.json").is_file() == published.sharded
    assert ("lm_head.weight" in weights) == (causal and not published.tied)
    assert load(folder).config.tie_word_embeddings == published.tied
    rows = len(weights["model.embed_tokens.weight"])
    assert rows == config["vocab_size"] >= len(tokenizer)
    assert (rows > len(tokenizer)) == published.more_rows
    assert (tokenizer.chat_template is not None) == published.template
    assert tokenizer.pad_token == published.pad
    if published.ends:
        ends = content(folder, "generation_config.json")["eos_token_id"]
        ends = ends if isinstance(ends, list) else [ends]
        assert ends == tokenizer.convert_tokens_to_ids(list(published.ends))
    if published.left_there:
        path = folder / published.left_there
        assert path.is_file()
        assert not any(path.match(pattern) for pattern in PATTERNS["hub"])


def test_armorm_s_heads_are_float32_beside_a_body_in_bfloat16(folders):
    for repo, folder in folders.items():
        for name, tensor in tensors(folder).items():
            body = name.startswith(("model.", "lm_head.", "score."))
            assert tensor.dtype == (torch.bfloat16 if body else torch.float32), (repo, name)
            assert body or repo == "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    heads = {name.split(".")[0] for name in tensors(folders["RLHFlow/ArmoRM-Llama3-8B-v0.1"])}
    assert heads == {"model", "gating", "regression_layer", "reward_transform_matrix"}


def test_gemma_has_soft_caps_and_a_window(folders):
    config = load(folders["google/gemma-2-2b-it"]).config
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (50.0, 30.0)
    assert config.sliding_window == 4096
    assert config.layer_types == ["sliding_attention", "full_attention"]


def test_only_the_smollm_s_pad_is_its_end_of_text(folders):
    for repo, folder in folders.items():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        same = tokenizer.pad_token is not None and tokenizer.pad_token == tokenizer.eos_token
        # Qwen2.5's base models too, whose eos the paper's preset replaces.
        assert same == repo.startswith(("HuggingFaceTB/", "Qwen/")), repo


@every_model
def test_a_model_built_twice_has_the_same_bytes(folders, tmp_path, repo):
    models.build(repo, tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(folders[repo])


def test_data_built_twice_have_the_same_bytes(tmp_path):
    for attempt in ("first", "second"):
        for repo, write in data.DATASETS.items():
            folder = tmp_path / attempt / repo
            folder.mkdir(parents=True)
            write(folder)
        (tmp_path / f"git-{attempt}").mkdir()
    assert hashes(tmp_path / "first") == hashes(tmp_path / "second")
    assert data.rm_bench(tmp_path / "git-first") == data.rm_bench(tmp_path / "git-second")
