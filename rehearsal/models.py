"""Tiny random models in the layouts of the paper's, under their names on the hub.

Like the published ones: class and keys of config.json, names and number formats of the tensors,
shards with their index, tied heads, a vocabulary padded beyond the tokenizer, several ends of text
in generation_config.json, chat templates in form, and files that must stay on the hub (code,
pickles). Unlike them: sizes, and values, which are random. Written from public descriptions of the
layouts. A few tokens are made likely, so that answers end and a judge answers with m or M.
"""

import copy
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import trl
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from . import vocabularies

# What a stand-in has instead of the published sizes. A head size of 32 is vLLM's smallest on CPUs.
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
}
HEAD_DIM = 32
# Templates in the published form that are not among those that TRL installs.
OLMO = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% if not loop.last %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}\n<|assistant|>\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 is even) %}"
    "{{ raise_exception('user and assistant take turns') }}{% endif %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %}{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
SMOLLM = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou answer briefly<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>"),
    *("<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
]
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
# Added to the logit of a token, whatever the text before it.
END = 2.5  # of an end of text: about every fortieth token is one
VERDICT = 5.0  # of the answers of a judge


class StandIn(NamedTuple):
    """What a published repository has, but for sizes and weights."""

    tokenizer: Callable[[], Tokenizer]
    tokens: dict[str, Any]  # of tokenizer_config.json: the class, bos_token, ...
    config: dict[str, Any]  # of config.json; names of tokens stand for their ids
    template: str | None = None
    padded_to: int = 1  # rows of the embedding are a multiple of this
    shards: int = 1
    generation: dict[str, Any] | None = None  # generation_config.json, tokens as in `config`
    likely: dict[str, float] | None = None  # what is added to the logits of tokens
    dtype: torch.dtype = torch.bfloat16
    others: tuple[str, ...] = ()  # files that no one downloads


def _installed(name: str) -> str:
    """A published chat template, from TRL's installed copies."""
    folder = Path(trl.__file__).parent / "chat_templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


def _llama_tokens(**more: Any) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "model_max_length": 131072,
        **more,
    }


def _llama_config(**more: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": "<|begin_of_text|>",
        "eos_token_id": "<|eot_id|>",
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": ROPE,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        **more,
    }


def _llama3() -> Tokenizer:
    return vocabularies.llama3(LLAMA3, bos="<|begin_of_text|>")


LLAMA_ENDS = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
LLAMA_BASE = StandIn(
    _llama3,
    _llama_tokens(eos_token="<|end_of_text|>"),
    _llama_config(
        eos_token_id="<|end_of_text|>",
        tie_word_embeddings=True,
        rope_scaling={**ROPE, "factor": 32.0},
    ),
    generation={
        "bos_token_id": "<|begin_of_text|>",
        "eos_token_id": "<|end_of_text|>",
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
    },
    likely={"<|eot_id|>": END},
    others=("original/consolidated.00.pth", "original/params.json"),
)
LLAMA_INSTRUCT = StandIn(
    _llama3,
    _llama_tokens(),
    _llama_config(eos_token_id=LLAMA_ENDS),
    template=_installed("llama3_1"),
    shards=4,
    generation={
        "bos_token_id": "<|begin_of_text|>",
        "eos_token_id": LLAMA_ENDS,
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
    },
    likely={"<|eot_id|>": END},
    others=("original/consolidated.00.pth",),
)
QWEN_BASE = StandIn(
    lambda: vocabularies.qwen2(QWEN),
    {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "model_max_length": 131072,
        "split_special_tokens": False,
    },
    {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": "<|endoftext|>",
        "eos_token_id": "<|endoftext|>",
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 131072,
        "max_window_layers": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "tie_word_embeddings": True,
        "use_mrope": False,
        "use_sliding_window": False,
    },
    template=_installed("qwen2_5"),
    padded_to=128,
    generation={
        "bos_token_id": "<|endoftext|>",
        "eos_token_id": "<|endoftext|>",
        "do_sample": False,
        "max_new_tokens": 2048,
    },
    likely={"<|im_end|>": END},
)

MODELS: dict[str, StandIn] = {
    "meta-llama/Llama-3.2-1B": LLAMA_BASE,
    "meta-llama/Llama-3.2-3B": LLAMA_BASE._replace(shards=2),
    "meta-llama/Llama-3.1-8B-Instruct": LLAMA_INSTRUCT,
    # The judge answers with one token, m or M; its own end of text is not likely.
    "meta-llama/Meta-Llama-3-70B-Instruct": LLAMA_INSTRUCT._replace(
        config=_llama_config(
            eos_token_id="<|end_of_text|>", rope_scaling=None, max_position_embeddings=8192
        ),
        template=_installed("llama3"),
        shards=3,
        generation={
            "bos_token_id": "<|begin_of_text|>",
            "eos_token_id": ["<|end_of_text|>", "<|eot_id|>"],
            "max_length": 4096,
            "do_sample": True,
            "temperature": 0.6,
            "top_p": 0.9,
        },
        likely={"m": VERDICT, "M": VERDICT},
    ),
    "Qwen/Qwen2.5-1.5B": QWEN_BASE,
    "Qwen/Qwen2.5-3B": QWEN_BASE._replace(shards=2),
    "google/gemma-2-2b-it": StandIn(
        lambda: vocabularies.sentencepiece(
            ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"],
            bos="<bos>",
            prefix=False,
        ),
        {
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
        {
            "model_type": "gemma2",
            "architectures": ["Gemma2ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": 50.0,
            "bos_token_id": "<bos>",
            "cache_implementation": "hybrid",
            "eos_token_id": ["<eos>", "<end_of_turn>"],
            "final_logit_softcapping": 30.0,
            "head_dim": HEAD_DIM,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "initializer_range": 0.02,
            "max_position_embeddings": 8192,
            "pad_token_id": "<pad>",
            "query_pre_attn_scalar": HEAD_DIM,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
        },
        template=_installed("gemma"),
        shards=2,
        generation={
            "bos_token_id": "<bos>",
            "cache_implementation": "hybrid",
            "eos_token_id": ["<eos>", "<end_of_turn>"],
            "pad_token_id": "<pad>",
        },
        likely={"<end_of_turn>": END},
    ),
    "allenai/OLMo-2-1124-7B-Instruct": StandIn(
        lambda: vocabularies.llama3(["<|endoftext|>", "<|pad|>"]),
        {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": False,
            "bos_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|pad|>",
            "unk_token": "<|endoftext|>",
        },
        {
            "model_type": "olmo2",
            "architectures": ["Olmo2ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "eos_token_id": "<|endoftext|>",
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "max_position_embeddings": 4096,
            "num_key_value_heads": 4,
            "pad_token_id": "<|pad|>",
            "rms_norm_eps": 1e-6,
            "rope_scaling": None,
            "rope_theta": 500000,
            "tie_word_embeddings": False,
        },
        template=OLMO,
        padded_to=64,
        shards=3,
        generation={"eos_token_id": "<|endoftext|>", "pad_token_id": "<|pad|>"},
        likely={"<|endoftext|>": END},
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": StandIn(
        lambda: vocabularies.smollm2(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": False,
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "model_max_length": 8192,
        },
        _llama_config(
            bos_token_id="<|im_start|>",
            eos_token_id="<|im_end|>",
            pad_token_id="<|im_end|>",
            max_position_embeddings=8192,
            num_key_value_heads=4,
            rope_scaling=None,
            rope_theta=130000,
            tie_word_embeddings=True,
        ),
        template=SMOLLM,
        generation={
            "bos_token_id": "<|im_start|>",
            "eos_token_id": "<|im_end|>",
            "pad_token_id": "<|im_end|>",
        },
        likely={"<|im_end|>": END},
    ),
    "mistralai/Mistral-7B-Instruct-v0.2": StandIn(
        lambda: vocabularies.sentencepiece(["<unk>", "<s>", "</s>"], bos="<s>", prefix=True),
        {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": None,
            "legacy": False,
            "sp_model_kwargs": {},
            "spaces_between_special_tokens": False,
        },
        {
            "model_type": "mistral",
            "architectures": ["MistralForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": "<s>",
            "eos_token_id": "</s>",
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0,
            "sliding_window": None,
            "tie_word_embeddings": False,
        },
        template=MISTRAL,
        shards=3,
        generation={"bos_token_id": "<s>", "eos_token_id": "</s>"},
        likely={"</s>": END},
        others=("pytorch_model-00001-of-00003.bin",),
    ),
    "RLHFlow/ArmoRM-Llama3-8B-v0.1": StandIn(
        lambda: vocabularies.llama3([*LLAMA3, "[PAD]"], bos="<|begin_of_text|>"),
        _llama_tokens(pad_token="[PAD]"),
        _llama_config(
            architectures=["LlamaForRewardModelWithGating"],
            auto_map={
                "AutoModelForSequenceClassification": (
                    "modeling_custom.LlamaForRewardModelWithGating"
                )
            },
            gating_hidden_dim=64,
            gating_n_hidden=3,
            gating_temperature=10,
            id2label={str(i): f"LABEL_{i}" for i in range(19)},
            label2id={f"LABEL_{i}": i for i in range(19)},
            max_position_embeddings=8192,
            num_objectives=19,
            pad_token_id="[PAD]",
            rope_scaling=None,
        ),
        template=_installed("llama3"),
        shards=4,
        others=("modeling_custom.py",),
    ),
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": StandIn(
        _llama3,
        _llama_tokens(pad_token="<|finetune_right_pad_id|>"),
        _llama_config(
            architectures=["LlamaForSequenceClassification"],
            eos_token_id=LLAMA_ENDS,
            id2label={"0": "LABEL_0"},
            label2id={"LABEL_0": 0},
            pad_token_id="<|finetune_right_pad_id|>",
        ),
        template=_installed("llama3_1"),
        shards=4,
    ),
}


def build(repo: str, folder: Path) -> None:
    """Write the stand-in of a repository into a new folder; the same bytes each time."""
    stand_in = MODELS[repo]
    folder.mkdir(parents=True)
    tokenizer = stand_in.tokenizer()
    _write_tokenizer(tokenizer, stand_in, folder)
    config = _config(tokenizer, stand_in)
    _write_json(config, folder / "config.json")
    if stand_in.generation:
        generation = _with_ids(stand_in.generation, tokenizer)
        _write_json(
            {**generation, "transformers_version": "4.43.1"}, folder / "generation_config.json"
        )
    # Each of its own: two backbones of one family must not be one model.
    seed = int(hashlib.sha256(repo.encode()).hexdigest()[:8], 16)
    likely = {tokenizer.token_to_id(token): more for token, more in (stand_in.likely or {}).items()}
    _write_weights(_weights(config, stand_in.dtype, seed, likely), stand_in.shards, folder)
    (folder / "README.md").write_text(f"A stand-in of {repo}: random weights.\n", encoding="utf-8")
    for name in stand_in.others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("This file must stay on the hub.\n", encoding="utf-8")


def _config(tokenizer: Tokenizer, stand_in: StandIn) -> dict[str, Any]:
    """config.json, in the words of the transformers 4 that the published ones were saved by."""
    step = stand_in.padded_to
    rows = -(-tokenizer.get_vocab_size() // step) * step
    sizes = SIZES | {"vocab_size": rows + (step if step > 1 else 0)}
    dtype = str(stand_in.dtype).removeprefix("torch.")
    config = _with_ids(stand_in.config, tokenizer)
    more = {"torch_dtype": dtype, "transformers_version": "4.43.1", "use_cache": True}
    return sizes | config | more


def _with_ids(section: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """A section with ids in place of the names of tokens."""

    def id_of(value: Any) -> Any:
        return [id_of(each) for each in value] if isinstance(value, list) else ids[value]

    ids = tokenizer.get_vocab()
    return {
        key: id_of(value) if key.endswith("_token_id") and value is not None else value
        for key, value in section.items()
    }


def _write_tokenizer(tokenizer: Tokenizer, stand_in: StandIn, folder: Path) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    added = {
        str(number): {"content": token.content, **flags, "special": True}
        for number, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    settings: dict[str, Any] = {"added_tokens_decoder": added}
    settings |= {"clean_up_tokenization_spaces": False, **stand_in.tokens}
    if stand_in.template:
        settings["chat_template"] = stand_in.template
    _write_json(settings, folder / "tokenizer_config.json")
    named = {key: value for key, value in stand_in.tokens.items() if key.endswith("_token")}
    special = {key: value for key, value in named.items() if isinstance(value, str)}
    _write_json(special, folder / "special_tokens_map.json")


def _weights(
    config: dict[str, Any], dtype: torch.dtype, seed: int, likely: dict[int, float]
) -> dict[str, Tensor]:
    """Random tensors with the published names and number formats."""
    torch.manual_seed(seed)
    kind = config["architectures"][0]
    # A copy: transformers adds keys to the sections of what it is given.
    plain = copy.deepcopy({key: value for key, value in config.items() if key != "auto_map"})
    auto = AutoModelForCausalLM
    if kind.endswith("ForSequenceClassification"):
        auto = AutoModelForSequenceClassification
    # `architectures` and the version are what the published files say, not arguments.
    for key in ("architectures", "transformers_version", "torch_dtype"):
        plain.pop(key)
    model = auto.from_config(AutoConfig.for_model(**plain)).requires_grad_(False)
    if auto is AutoModelForCausalLM:
        _make_likely(model, likely)
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    tensors = {name: tensor.to(dtype) for name, tensor in state.items()}
    if "Gating" in kind:
        del tensors["lm_head.weight"]
        tensors |= _armorm_heads(config)
    return tensors


def _make_likely(model: Any, likely: dict[int, float]) -> None:
    """Add about so much to the logits of tokens (by id), whatever the text before them.

    The first number of the residual stream is kept constant, and large beside the others.
    """
    for name, tensor in model.named_parameters():
        if name.endswith("proj.weight"):
            tensor *= 4  # so that an answer depends on more than the token before it
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor[0] = 0.0
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    spread = 0.03 if head is embedding else 0.1  # tied, a model would repeat each token
    for weight in (embedding,) if head is embedding else (embedding, head):
        weight[:, 1:] *= spread / weight[:, 1:].std()
    embedding[:, 0] = 4 * spread
    some = torch.arange(len(embedding))[None]
    constant = model.model(some).last_hidden_state[..., 0].mean()
    for token, more in likely.items():
        head[token, 0] += more / constant


def _armorm_heads(config: dict[str, Any]) -> dict[str, Tensor]:
    """ArmoRM's regression and gating, in float32 beside a body in bfloat16."""
    hidden, objectives = config["hidden_size"], config["num_objectives"]
    inner = [config["gating_hidden_dim"]] * config["gating_n_hidden"]
    sizes = [hidden, *inner, objectives]
    heads = {
        "gating.logit_scale": torch.tensor([1.3]),
        "regression_layer.weight": 0.2 * torch.randn(objectives, hidden),
        "reward_transform_matrix": torch.eye(objectives)
        - 0.2 * torch.rand(objectives, objectives).triu(1),
    }
    for layer, (width, out) in enumerate(itertools.pairwise(sizes)):
        heads[f"gating.layers.{layer}.weight"] = 2 * torch.randn(out, width) * width**-0.5
        heads[f"gating.layers.{layer}.bias"] = 0.1 * torch.randn(out)
    return heads


def _write_weights(tensors: dict[str, Tensor], shards: int, folder: Path) -> None:
    """Save model.safetensors, or so many shards with their index."""
    names = sorted(tensors)
    tensors = {name: tensors[name].contiguous().clone() for name in names}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(index, folder / "model.safetensors.index.json")


def _write_json(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
