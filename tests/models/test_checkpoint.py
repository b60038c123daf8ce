"""What makes a folder unreadable is one line by cause, and what does not is read."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rm_robustness.errors import InputError
from rm_robustness.frames import read_frame
from rm_robustness.models import checkpoint, reward_model
from rm_robustness.models.checkpoint import size, tensors, weight_files, weight_inputs
from rm_robustness.models.reward_model import initialise, load, save
from rm_robustness.models.scoring import score

LINE = r"^[^\n]*: found [^\n]*; expected [^\n]*$"


@pytest.fixture(scope="module")
def made(backbone_folder, tmp_path_factory):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("made")
    save(initialise(backbone_folder, 1), AutoTokenizer.from_pretrained(backbone_folder), folder)
    return folder


@pytest.fixture(scope="module")
def backbone_folder(world, tmp_path_factory):
    from support.small_models import make_backbone

    return make_backbone("llama", world, tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "model")
    return tmp_path / "model"


def config(folder, **changes):
    """Change config.json; None removes a key."""
    path = folder / "config.json"
    merged = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in merged.items() if value is not None})
    )


def weights(folder, change):
    stored = load_file(folder / "model.safetensors")
    change(stored)
    stored = {name: weight.contiguous().clone() for name, weight in stored.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def rename(folder, name, other):
    (folder / name).rename(folder / other)


def only(folder, name):
    """Replace the weights by a file of another format."""
    rename(folder, "model.safetensors", name)


def pointer(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def shards(folder):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")


def lose_a_shard(folder):
    shards(folder)
    next(folder.glob("model-00002*")).unlink()


def cut(folder, name="model.safetensors"):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])


def move(stored, name, other):
    stored[other] = stored.pop(name)


REFUSED = {
    "no folder": (lambda f: shutil.rmtree(f), "no such folder"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "broken config": (lambda f: cut(f, "config.json"), "broken JSON"),
    "a list as config": (lambda f: (f / "config.json").write_text("[]"), "no object"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "a pickle": (lambda f: only(f, "pytorch_model.bin"), "weights only as a pickle"),
    "GGUF": (lambda f: only(f, "model-q4.gguf"), "weights only as model-q4.gguf"),
    "GGUF alone": (lambda f: (only(f, "m.gguf"), (f / "config.json").unlink()), "only as m.gguf"),
    "Flax": (lambda f: only(f, "flax_model.msgpack"), "weights only as flax_model.msgpack"),
    "a pointer": (lambda f: pointer(f, "model.safetensors"), "is a git-lfs pointer.*git lfs pull"),
    "a pointer to words": (lambda f: pointer(f, "tokenizer.json"), "tokenizer.json is a git-lfs"),
    "a missing shard": (lose_a_shard, "names model-00002.*, which is missing"),
    "a cut file": (cut, r"model.safetensors has [\d,]+ bytes of [\d,]+"),
    "an empty file": (
        lambda f: (f / "model.safetensors").write_bytes(b""),
        "has 0 bytes without a header",
    ),
    "no model_type": (lambda f: config(f, model_type=None), "no model_type"),
    "own code": (
        lambda f: config(f, model_type="own", auto_map={"AutoConfig": "own.Config"}),
        "custom code for 'own'.*never run",
    ),
    "unknown": (lambda f: config(f, model_type="llama9"), "unknown architecture 'llama9'"),
    "no classifier": (lambda f: config(f, model_type="mamba"), "the architecture 'mamba'"),
    "quantised": (
        lambda f: config(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        r"a quantised checkpoint \(gptq\).*dequantize",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
    "a broken tokenizer": (lambda f: cut(f, "tokenizer.json"), "unreadable checkpoint"),
    "a value head": (
        lambda f: weights(f, lambda w: move(w, "score.weight", "v_head.summary.weight")),
        r"another name or form \(v_head.summary.weight\).*save the weights with that name",
    ),
    "a bias": (
        lambda f: weights(f, lambda w: w.update({"score.bias": torch.ones(1)})),
        r"a bias of the reward head \(score.bias\).*one number to every reward",
    ),
    "a head of own code": (
        lambda f: (
            config(f, auto_map={"AutoModelForSequenceClassification": "own.Model"}),
            weights(f, lambda w: move(w, "score.weight", "score.0.weight")),
        ),
        "custom code for its reward head",
    ),
    "two models": (
        lambda f: (f / "adapter_config.json").write_text("{}"),
        "an adapter and a whole model",
    ),
    "other sizes": (lambda f: config(f, intermediate_size=65), "of shape .* in config.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_says_the_cause(case, folder):
    damage, line = REFUSED[case]
    damage(folder)
    with pytest.raises(InputError, match=line) as refusal:
        load(folder)
    refusal.match(LINE)
    assert str(folder) in str(refusal.value)


READ = {
    "shards": shards,
    "two labels in the configuration": lambda f: config(f, num_labels=None, id2label=None),
    "two named labels": lambda f: config(
        f, id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1}
    ),
    "a left-over head": lambda f: weights(
        f, lambda w: w.update({"lm_head.weight": torch.ones(3, 32), "lm_head.bias": torch.ones(3)})
    ),
    "old buffers": lambda f: weights(
        f,
        lambda w: w.update(
            {
                "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
                "model.layers.0.attn.masked_bias": torch.ones(1),
                "model.layers.0.attn.bias": torch.ones(1, 1, 4, 4),
            }
        ),
    ),
    "code that is not needed": lambda f: config(f, auto_map={"AutoConfig": "own.Config"}),
    "files of no concern": lambda f: (f / "model.onnx").write_bytes(b"x"),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_sound_is_read(case, folder, splits):
    rows = read_frame(splits / "in_domain.parquet").head(6)
    expected = score(*load(folder), rows, 4096)
    READ[case](folder)
    found = score(*load(folder), rows, 4096)
    # A header of another length moves the weights in memory, and with it the last bits of sums.
    np.testing.assert_allclose(found["reward"], expected["reward"], rtol=0, atol=1e-6)


def test_every_file_of_the_weights_is_named(folder):
    assert weight_files(folder) == [folder / "model.safetensors"]
    whole = tensors(folder)
    assert whole == {k: list(w.shape) for k, w in load_file(folder / "model.safetensors").items()}
    assert size(folder) == sum(w.numel() for w in load_file(folder / "model.safetensors").values())
    shards(folder)
    files = weight_files(folder)
    assert files[0].name == "model.safetensors.index.json"
    assert files[1:] == sorted(folder.glob("model-*.safetensors"))
    assert tensors(folder) == whole
    inputs = weight_inputs("policy", folder)
    assert list(inputs.values()) == files
    assert next(iter(inputs)) == "policy"


def test_sentencepiece_alone_names_its_package(folder, monkeypatch):
    rename(folder, "tokenizer.json", "tokenizer.model")
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tokenizer.model alone; .*pip install sentencepiece"):
        load(folder)


def test_a_model_that_does_not_fit_the_memory_is_refused_before_it_is_loaded(folder, monkeypatch):
    class Memory:
        available = 4 * size(folder) - 1

    monkeypatch.setattr(reward_model.psutil, "virtual_memory", lambda: Memory)
    monkeypatch.setattr(reward_model, "_read", lambda folder: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=r"weights of 0\.0 GB, and 0\.0 GB of free memory"):
        load(folder)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
def test_too_little_memory_while_loading_is_one_line(folder, monkeypatch, error):
    def read(folder):
        raise error

    monkeypatch.setattr(reward_model, "_read", read)
    with pytest.raises(InputError, match="no memory to load it"):
        load(folder)


def test_a_stop_while_loading_is_a_stop(folder, monkeypatch):
    from rm_robustness.errors import StoppedError

    def read(folder):
        raise StoppedError("SIGTERM")

    monkeypatch.setattr(reward_model, "_read", read)
    with pytest.raises(StoppedError):
        load(folder)
