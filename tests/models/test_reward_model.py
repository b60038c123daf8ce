import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from rm_robustness.cli.evaluation import FORMATS as CHOICES
from rm_robustness.errors import InputError
from rm_robustness.experiment.checks import SCHEMA
from rm_robustness.frames import read_frame
from rm_robustness.models import chat
from rm_robustness.models.reward_model import FORMATS, initialise, load, save
from rm_robustness.models.scoring import score


@pytest.fixture
def checkpoint(llama, tmp_path):
    from transformers import AutoTokenizer

    save(initialise(llama, seed=1), AutoTokenizer.from_pretrained(llama), tmp_path / "model")
    return tmp_path / "model"


def test_the_head_is_drawn_as_the_paper_says(llama):
    heads = torch.cat([initialise(llama, seed).score.weight for seed in range(60)])
    assert heads.shape == (60, 32)
    assert heads.std().item() == pytest.approx(33**-0.5, rel=0.05)
    assert abs(heads.mean().item()) < 0.02


def test_the_head_depends_on_the_seed_alone(llama):
    torch.manual_seed(7)
    one = initialise(llama, seed=3).score.weight
    torch.manual_seed(8)
    torch.rand(5)
    assert torch.equal(one, initialise(llama, seed=3).score.weight)
    assert not torch.equal(one, initialise(llama, seed=4).score.weight)


def test_weights_are_float32_and_the_body_is_the_backbone_s(llama):
    model = initialise(llama, seed=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    saved = load_file(llama / "model.safetensors")
    assert torch.equal(model.model.embed_tokens.weight, saved["model.embed_tokens.weight"])


def test_a_saved_model_is_an_ordinary_classifier(checkpoint):
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    model, tokenizer = load(checkpoint)
    assert plain.config.num_labels == 1
    assert torch.equal(plain.score.weight, model.score.weight)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def edit(checkpoint, change):
    weights = load_file(checkpoint / "model.safetensors")
    change(weights)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_head_is_refused(checkpoint):
    edit(checkpoint, lambda w: w.pop("score.weight"))
    with pytest.raises(InputError, match=r"score\.weight.*never drawn at random"):
        load(checkpoint)


def test_a_renamed_head_is_refused(checkpoint):
    edit(checkpoint, lambda w: w.update({"reward_head.weight": w.pop("score.weight")}))
    with pytest.raises(InputError, match="reward_head"):
        load(checkpoint)


def test_a_causal_language_model_is_refused(llama):
    with pytest.raises(InputError, match=r"no weights of a reward head.*as in a language model"):
        load(llama)


def test_more_than_one_label_is_refused(checkpoint):
    edit(checkpoint, lambda w: w.update({"score.weight": w["score.weight"].repeat(3, 1)}))
    config = json.loads((checkpoint / "config.json").read_text())
    names = {str(n): f"LABEL_{n}" for n in range(3)}
    config |= {"id2label": names, "label2id": {name: int(n) for n, name in names.items()}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model: found 3 labels; expected one reward"):
        load(checkpoint)


def test_a_head_that_is_no_linear_layer_is_refused(checkpoint, monkeypatch):
    from transformers import LlamaForSequenceClassification

    build = LlamaForSequenceClassification.__init__

    def two_layers(self, config):
        build(self, config)
        self.score = torch.nn.Sequential(self.score, torch.nn.Linear(1, 1))

    monkeypatch.setattr(LlamaForSequenceClassification, "__init__", two_layers)
    with pytest.raises(InputError, match="with 2 linear layers of one output as its head"):
        load(checkpoint)


def test_code_beside_a_checkpoint_is_not_run(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "own.py").write_text(f"open({str(checkpoint / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match="custom code"):
        load(checkpoint)
    assert not (checkpoint / "ran").exists()


@pytest.fixture
def hub(checkpoint, tmp_path, monkeypatch):
    """A cache of the hub and no network: two revisions of team/model that differ in their head."""
    cache = tmp_path / "hub" / "models--team--model"
    for name, commit in (("main", "a" * 40), ("old", "b" * 40)):
        (cache / "refs").mkdir(parents=True, exist_ok=True)
        (cache / "refs" / name).write_text(commit)
        shutil.copytree(checkpoint, cache / "snapshots" / commit)
        edit(checkpoint, lambda w: w.update({"score.weight": 2 * w["score.weight"]}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache.parent))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_model_of_the_hub_is_loaded_at_its_revision(hub):
    (newest, _), (old, tokenizer) = load("team/model"), load("team/model", revision="old")
    assert torch.equal(old.score.weight, 2 * newest.score.weight)
    assert tokenizer.chat_template


def test_a_model_of_the_hub_without_safetensors_is_refused(hub, tmp_path):
    for path in (tmp_path / "hub").rglob("model.safetensors"):
        path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(InputError, match=r"^team/model: found no weights as safetensors"):
        load("team/model")


@pytest.mark.parametrize("name", ["team/no-such-model", "no/such/folder"])
def test_what_is_neither_a_folder_nor_on_the_hub_is_refused(hub, name):
    with pytest.raises(InputError, match=f"^{name}: found no folder, and no model of the hub"):
        load(name)


def test_a_folder_may_be_given_as_a_text(checkpoint):
    assert torch.equal(load(str(checkpoint))[0].score.weight, load(checkpoint)[0].score.weight)


def test_a_cut_file_is_refused(checkpoint):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{checkpoint.name}.*unreadable checkpoint"):
        load(checkpoint)


def resized(checkpoint, rows):
    """Give a checkpoint more embeddings, or fewer."""

    def resize(weights):
        old = weights["model.embed_tokens.weight"]
        weights["model.embed_tokens.weight"] = (
            old[:rows].clone() if rows < 0 else torch.cat([old, old[:rows]])
        )

    edit(checkpoint, resize)
    config = json.loads((checkpoint / "config.json").read_text())
    words = config["vocab_size"]
    (checkpoint / "config.json").write_text(json.dumps(config | {"vocab_size": words + rows}))
    return words


def test_embeddings_of_no_token_move_no_score(checkpoint, splits):
    frame = read_frame(splits / "in_domain.parquet").head(8)
    expected = score(*load(checkpoint), frame, 4096)
    resized(checkpoint, 3)
    assert score(*load(checkpoint), frame, 4096).equals(expected)


def test_a_token_without_an_embedding_is_refused_and_no_other(checkpoint, splits):
    frame = read_frame(splits / "in_domain.parquet").head(8)
    expected = score(*load(checkpoint), frame, 4096)
    _, tokenizer = load(checkpoint)
    used = max(max(ids) for ids in chat.frame_ids(tokenizer, frame))
    words = resized(checkpoint, used + 1 - len(tokenizer))
    assert score(*load(checkpoint), frame, 4096).equals(expected)
    assert words > used + 1
    resized(checkpoint, -1)
    with pytest.raises(InputError, match=f"response .*: found token {used} for a model of {used} "):
        score(*load(checkpoint), frame, 4096)


def test_weights_that_are_not_the_config_s_are_refused(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"vocab_size": 999}))
    with pytest.raises(InputError, match="checkpoint"):
        load(checkpoint)


def test_the_wrong_folder_is_refused(tmp_path, checkpoint):
    with pytest.raises(InputError, match=r"no config\.json"):
        load(tmp_path)
    shutil.rmtree(checkpoint)
    with pytest.raises(InputError, match="model"):
        load(checkpoint)


# Formats


def test_the_formats_are_those_of_the_schema_and_of_the_command_line():
    scoring = yaml.safe_load(SCHEMA.read_text())["properties"]["scoring"]["properties"]
    assert list(FORMATS) == CHOICES == scoring["dtype"]["enum"]


@pytest.mark.parametrize("dtype", ["float16", torch.bfloat16])
def test_another_format_is_refused(checkpoint, dtype):
    with pytest.raises(InputError, match=r"dtype: found .*; expected one of float32, tf32, bf"):
        load(checkpoint, dtype)


def formats(model):
    """The format of each weight, by name."""
    return {name: weight.dtype for name, weight in model.named_parameters()}


@pytest.mark.parametrize("shards", [1, 4])
def test_bfloat16_rounds_all_but_the_final_norm_and_the_head(backbone, tmp_path, shards):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = initialise(backbone, seed=1)
    model.model.norm.weight.data += 0.1 * torch.randn(32)  # no longer ones, which never round
    size = sum(weight.nbytes for weight in model.parameters())
    model.save_pretrained(tmp_path, max_shard_size=size // shards)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(tmp_path)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards > 1)
    rounded, _ = load(tmp_path, "bfloat16")
    exact = {"model.norm.weight", "score.weight"}
    for name, weight in rounded.named_parameters():
        before = model.get_parameter(name)
        assert torch.equal(weight, before if name in exact else before.bfloat16()), name
    assert rounded.model.rotary_emb.inv_freq.dtype == torch.float32
    logits = rounded(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert logits.dtype == torch.float32
    rounded.save_pretrained(tmp_path / "again")
    saved = load_file(tmp_path / "again" / "model.safetensors")
    assert {name: weight.dtype for name, weight in saved.items()} == formats(rounded)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    assert type(again) is type(model)


@pytest.mark.parametrize("dtype", ["float32", "tf32"])
def test_float32_weights_stay_as_stored(checkpoint, dtype):
    model, _ = load(checkpoint, dtype)
    stored = load_file(checkpoint / "model.safetensors")
    for name, weight in model.named_parameters():
        assert torch.equal(weight, stored[name]), name


def test_bfloat16_rewards_are_close_and_tie_no_more_often(checkpoint, splits):
    """Within a tenth of their sd, the norms of states within 1 %; rounded whole, many tie."""
    frame = read_frame(splits / "prompt_disjoint.parquet")
    exact, near = (
        score(*load(checkpoint, dtype), frame, 4096) for dtype in ("float32", "bfloat16")
    )
    moved = (near["reward"] - exact["reward"]).abs()
    assert 0 < moved.max() < 0.1 * exact["reward"].std()
    assert near["hidden_norm"].to_numpy() == pytest.approx(exact["hidden_norm"], rel=0.01)
    assert near["reward"].nunique() == exact["reward"].nunique()
    model, tokenizer = load(checkpoint)
    whole = score(model.bfloat16(), tokenizer, frame, 4096)  # its norm rounds, its head does not
    assert (whole["reward"] - exact["reward"]).abs().mean() > moved.mean()


def test_without_a_final_norm_the_head_alone_is_exact(checkpoint, monkeypatch):
    monkeypatch.setattr("rm_robustness.models.reward_model.FINAL_NORMS", {"ln_f"})
    model, _ = load(checkpoint, "bfloat16")
    assert [name for name, dtype in formats(model).items() if dtype == torch.float32] == [
        "score.weight"
    ]
    assert model(input_ids=torch.tensor([[5, 6, 7]])).logits.dtype == torch.float32


def test_a_model_of_the_hub_is_rounded_too(hub):
    model, _ = load("team/model", "bfloat16", "old")
    assert model.score.weight.dtype == torch.float32
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16


def test_the_command_scores_in_the_format_and_records_it(checkpoint, splits, tmp_path):
    from rm_robustness.cli.main import main

    split, output = splits / "in_domain.parquet", tmp_path / "scores" / "in_domain.parquet"
    main(
        [
            *("score", "--model", str(checkpoint), "--data", str(split), "--output", str(output)),
            *("--dtype", "bfloat16"),
        ]
    )
    expected = score(*load(checkpoint, "bfloat16"), read_frame(split), 8192)
    assert read_frame(output)["reward"].to_list() == expected["reward"].to_list()
    settings = json.loads(output.with_suffix(".record.json").read_text())["settings"]
    assert settings == {"batch_tokens": 8192, "dtype": "bfloat16"}
