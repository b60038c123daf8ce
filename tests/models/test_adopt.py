"""What others published, in the form that ours has: models, and the authors' splits."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from support.cut_demo import DEMO, clone, snakemake
from support.hub import COMMIT, environment, serve
from support.small_models import CHAT
from transformers import AutoModelForCausalLM, AutoTokenizer

from rm_robustness.data.released_splits import split
from rm_robustness.data.splits import COLUMNS, SPLITS
from rm_robustness.errors import InputError
from rm_robustness.files import hashes, read_json, write_json
from rm_robustness.models import chat
from rm_robustness.models.adopt import adopt
from rm_robustness.models.reward_model import initialise, load
from rm_robustness.models.scoring import score_ids


def downloaded(folder: Path) -> Path:
    """Write the manifest of a downloaded model, which is in `folder`/model."""
    init = {"kind": "hub", "repo": "some/model", "revision": COMMIT}
    manifest = {"init": init, "resolved": COMMIT, "files": hashes(folder / "model")}
    write_json(manifest, folder / "manifest.json")
    return folder / "manifest.json"


def settings(kind: str, *needs: str) -> dict[str, Any]:
    return {"kind": kind, "chat": CHAT, "needs": list(needs)}


@pytest.fixture
def classifier(llama, tmp_path):
    """A downloaded reward model in several files, as big ones are, its config naming code."""
    model, tokenizer = initialise(llama, seed=4), AutoTokenizer.from_pretrained(llama)
    folder = tmp_path / "pretrained/model"
    model.config.auto_map = {"AutoModelForSequenceClassification": "modeling.Other"}
    model.save_pretrained(folder, max_shard_size="60KB")
    tokenizer.save_pretrained(folder)
    (folder / "probes.parquet").write_bytes(b"probes")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return model, tokenizer, downloaded(folder.parent)


def test_a_reward_model_comes_out_as_one_of_ours_with_the_same_scores(classifier, world, tmp_path):
    model, tokenizer, manifest = classifier
    final = adopt(settings("reward_models", "probes.parquet"), manifest, tmp_path / "work")
    assert (final / "model.safetensors").is_file()
    assert (final / "probes.parquet").read_bytes() == b"probes"
    made = read_json(final / "record.json")
    assert made["source"] == {
        "repo": "some/model",
        "commit": COMMIT,
        "sha256": hashes(manifest.parent / "model"),
    }
    assert made["files"] == {k: v for k, v in hashes(final).items() if k != "record.json"}
    assert "auto_map" not in read_json(final / "config.json")
    assert "template_clock" not in made
    dated = settings("reward_models")
    dated["chat"] = CHAT | {"template": "{{ strftime_now('%Y') }}" + CHAT["template"]}
    again = read_json(adopt(dated, manifest, tmp_path / "again") / "record.json")
    assert again["template_clock"] == "2024-07-26"
    ids = chat.pair_ids(tokenizer, list(world["prompt"][:5]), list(world["response"][:5]))
    loaded, _ = load(final)
    weights = loaded.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    # Not to the last bit: some processors add in another order where a weight lies otherwise.
    expected = score_ids(model, ids, 512).rewards.tolist()
    assert score_ids(loaded, ids, 512).rewards.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_backbone_comes_out_with_its_weights_and_the_configured_format(llama, tmp_path):
    shutil.copytree(llama, tmp_path / "model")
    manifest = downloaded(tmp_path)
    other = {**settings("backbones"), "chat": CHAT | {"template": "{{ messages[0]['content'] }}"}}
    final = adopt(other, manifest, tmp_path / "work")
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (llama, final))
    assert all((a == b).all() for a, b in zip(before.parameters(), after.parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(final)
    assert tokenizer.chat_template == other["chat"]["template"]
    assert after.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("kind", "words"), [("reward_models", "no weights of a reward head"), ("backbones", "score")]
)
def test_a_model_of_the_other_kind_is_refused(kind, words, llama, classifier, tmp_path):
    (tmp_path / "language").mkdir()
    (tmp_path / "language/model").symlink_to(llama)
    manifest = downloaded(tmp_path / "language") if kind == "reward_models" else classifier[2]
    with pytest.raises(InputError, match=words):
        adopt(settings(kind), manifest, tmp_path / "work")
    assert not (tmp_path / "work/final").exists()


@pytest.mark.parametrize("change", ["another byte", "a file more", "a file less"])
def test_a_download_that_is_not_what_its_manifest_says_is_refused(classifier, tmp_path, change):
    manifest = classifier[2]
    path = manifest.parent / "model/config.json"
    if change == "a file more":
        path.with_name("more.json").write_text("{}")
    elif change == "a file less":
        path.unlink()
    else:
        path.write_text(path.read_text() + " ")
    with pytest.raises(InputError, match=r"(config|more)\.json: found sha256 .*manifest"):
        adopt(settings("reward_models"), manifest, tmp_path / "work")


def published(splits: Path, name: str) -> pd.DataFrame:
    """A split of ours as the authors published theirs."""
    rows = []
    for prompt, own in pd.read_parquet(splits / f"{name}.parquet").groupby("prompt", sort=False):
        own = own.sort_values("gold", ascending=False)
        if name in ("train", "in_domain"):
            turns = [
                [{"content": prompt, "role": "user"}, {"content": text, "role": "assistant"}]
                for text in own["response"]
            ]
            rows.append({"prompt": prompt, "chosen": turns[0], "rejected": turns[1]})
        else:
            texts = {f"response_{n}_text": text for n, text in enumerate(own["response"], 1)}
            rows.append({"instruction": prompt, **texts, "all_scores": list(own["gold"])})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", SPLITS)
def test_the_authors_splits_are_read_into_the_columns_of_ours(splits, tmp_path, name):
    frame = published(splits, name)
    (tmp_path / "data").mkdir()
    half = len(frame) // 2
    for n, part in enumerate((frame[:half], frame[half:])):
        part.to_parquet(tmp_path / f"data/train-0000{n}-of-00002.parquet")
    read = split(tmp_path, name)
    assert list(read.columns) == COLUMNS
    ours = pd.read_parquet(splits / f"{name}.parquet")
    assert set(zip(read["prompt"], read["response"], strict=True)) == set(
        zip(ours["prompt"], ours["response"], strict=True)
    )
    assert read["prompt_id"].nunique() == ours["prompt_id"].nunique()
    both = read.merge(ours, on=["prompt", "response"], suffixes=("", "_ours"))
    ranks = both.groupby("prompt_id")[["gold", "gold_ours"]].rank()
    assert (ranks["gold"] == ranks["gold_ours"]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"all_scores": [1.0, 2.0, 3.0]}, "row 1: found all_scores .*; expected four finite"),
        ({"all_scores": [1.0, 2.0, 3.0, float("nan")]}, "row 1: found all_scores"),
        ({"response_2_text": None}, "row 1: found a prompt or response that is no text"),
    ],
)
def test_a_row_that_cannot_be_a_split_s_is_refused(splits, tmp_path, change, words):
    rows = published(splits, "prompt_disjoint").to_dict("records")
    rows[1] |= change
    pd.DataFrame(rows).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(InputError, match=words):
        split(tmp_path, "prompt_disjoint")


def test_a_prompt_with_an_empty_response_is_left_out_and_counted(splits, tmp_path, capsys):
    rows = published(splits, "mutual_disjoint").to_dict("records")
    rows[0]["response_3_text"] = " "
    pd.DataFrame(rows).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    assert split(tmp_path, "mutual_disjoint")["prompt_id"].nunique() == len(rows) - 1
    assert f"{len(rows) - 1} prompts, 1 left out" in capsys.readouterr().err


@pytest.mark.slow
def test_published_splits_and_a_model_become_scores_and_nothing_is_trained(
    classifier, splits, tmp_path, monkeypatch
):
    """From the hub through Snakemake, as a record of each step says."""
    model, repositories = tmp_path / "pretrained/model", {}
    for name in SPLITS:
        data = tmp_path / name / "data"
        data.mkdir(parents=True)
        published(splits, name).to_parquet(data / "train-00000-of-00001.parquet")
        repositories[f"datasets/authors/{name}"] = tmp_path / name
    entry = {"source": "released", "revision": COMMIT, "sha256": {}}
    artifacts = {f"splits/{name}": entry | {"repo": f"authors/{name}"} for name in SPLITS}
    weights = {name: sum_ for name, sum_ in hashes(model).items() if name.endswith("safetensors")}
    for seed in (0, 1):
        theirs = entry | {"repo": "some/model", "sha256": weights, "chat": CHAT}
        artifacts[f"reward_models/llama/bt/seed-{seed}"] = theirs
    folder = clone(tmp_path / "clone")
    (folder / "released.yaml").write_text(
        yaml.safe_dump({"artifacts": artifacts, "rm_bench": None, "ranks": None})
    )
    run, target = folder / "runs/cut", "runs/cut/scores/llama/bt/seed-0/in_domain.parquet"
    with serve({**repositories, "some/model": model}) as hub:
        for key, value in environment(hub, tmp_path).items():
            monkeypatch.setenv(key, value)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        answer = snakemake(folder, "--cores", "1", *DEMO, "released.yaml", "--", target)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert not (run / "raw").exists() and not (run / "backbones").exists()
    scores = pd.read_parquet(folder / target)
    assert len(scores) == len(pd.read_parquet(splits / "in_domain.parquet"))
    read = read_json(folder / target.replace("in_domain.parquet", "record.json"))["inputs"]
    adopted = read_json(run / "reward_models/llama/bt/seed-0/record.json")
    assert adopted["source"]["repo"] == "some/model" and adopted["source"]["commit"] == COMMIT
    assert adopted["source"]["sha256"].items() >= weights.items()
    by_name = {Path(entry["path"]).name: entry["sha256"] for entry in read.values()}
    assert by_name["model.safetensors"] == adopted["files"]["model.safetensors"]
    manifest = read_json(run / "splits/manifest.json")
    assert manifest["released"]["train"] == {"repo": "authors/train", "commit": COMMIT}
    assert manifest["sha256"]["in_domain"] == by_name["in_domain.parquet"]
    assert manifest["counts"]["mutual_disjoint"]["responses"] > 0
    assert manifest["prompts_of_train"]["prompt_disjoint"] == 0
