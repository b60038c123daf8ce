import json

import numpy as np
import pandas as pd
import pytest
import torch

from rm_robustness.errors import InputError
from rm_robustness.files import sha256
from rm_robustness.frames import read_frame
from rm_robustness.models import chat
from rm_robustness.models.reward_model import initialise, load, save
from rm_robustness.models.scoring import score, score_ids


@pytest.fixture(scope="module")
def trained_folder(backbone, tmp_path_factory):
    """The folder of a reward model with a random head."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("reward-model")
    save(initialise(backbone, seed=1), AutoTokenizer.from_pretrained(backbone), folder)
    return folder


@pytest.fixture(scope="module")
def scorer(trained_folder):
    """The same, loaded as everyone loads one."""
    return load(trained_folder)


@pytest.fixture(scope="module")
def rows(splits):
    return read_frame(splits / "mutual_disjoint.parquet").head(60)


def test_a_batch_gives_what_a_batch_of_one_gives(scorer, rows):
    batched, alone = (score(*scorer, rows, batch_tokens) for batch_tokens in (4096, 0))
    assert rows["response"].str.split().str.len().nunique() > 5
    np.testing.assert_allclose(batched["reward"], alone["reward"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(batched["hidden_norm"], alone["hidden_norm"], rtol=0, atol=1e-5)


def test_batch_composition_cannot_move_a_score(scorer, rows):
    whole = score(*scorer, rows, 4096)
    part = score(*scorer, rows.iloc[7:19][::-1], 4096)[::-1]
    np.testing.assert_allclose(part["reward"], whole["reward"].iloc[7:19], rtol=0, atol=1e-5)


def test_a_score_equals_the_plain_classifier_s_with_and_without_padding(scorer, rows):
    model, tokenizer = scorer
    ids = chat.pair_ids(tokenizer, list(rows["prompt"][:8]), list(rows["response"][:8]))
    ours = score_ids(model, ids, 4096).rewards
    padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**padded).logits[:, 0].numpy()
        single = [model(input_ids=torch.tensor([row])).logits.item() for row in ids]
    assert padded["attention_mask"].min() == 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours, single, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "tail", ["<|end|>", " <|end|> <|endoftext|> <|endoftext|>", "<|endoftext|>", "  \n"]
)
def test_eos_and_pad_left_in_a_response_cannot_move_its_score(scorer, rows, tail):
    clean = score(*scorer, rows, 4096)["reward"]
    left = score(*scorer, rows.assign(response=rows["response"] + tail), 4096)["reward"]
    np.testing.assert_array_equal(clean, left)


def test_a_pad_token_inside_a_response_cannot_move_the_pooled_token(scorer, rows):
    text = rows["response"].str.replace(" ", "<|endoftext|> ", n=1)
    moved = score(*scorer, rows.assign(response=text), 4096)
    np.testing.assert_array_equal(moved["n_tokens"], score(*scorer, rows, 4096)["n_tokens"])


def test_the_pooled_token_is_the_eos_that_ends_the_response(scorer, rows):
    model, tokenizer = scorer
    (ids,) = chat.pair_ids(tokenizer, [rows["prompt"].iloc[0]], [rows["response"].iloc[0]])
    assert tokenizer.convert_ids_to_tokens(ids[-1]) == "<|end|>"
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.bos_token_id is None or tokenizer.bos_token_id not in ids
    with torch.no_grad():
        states = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    scores = score_ids(model, [ids], 4096)
    np.testing.assert_allclose(scores.hidden[0], states[-1].numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        scores.rewards[0], (states[-1] @ model.score.weight[0]).item(), rtol=0, atol=1e-5
    )


def test_the_reward_is_the_head_times_the_pooled_state_and_the_norm_is_its_length(scorer, rows):
    model, tokenizer = scorer
    frame = score(*scorer, rows, 4096)
    ids = chat.pair_ids(tokenizer, list(rows["prompt"]), list(rows["response"]))
    hidden = score_ids(model, ids, 4096).hidden
    np.testing.assert_allclose(frame["hidden_norm"], np.sqrt((hidden**2).sum(1)), rtol=1e-6)
    assert list(frame["response_id"]) == list(rows["response_id"])
    assert list(frame["n_tokens"]) == [len(row) for row in ids]


def test_turns_before_the_prompt_are_read_in_training_and_scoring(scorer, tmp_path):
    """As the file of external pairs has them: a chat of four turns and one of two."""
    from rm_robustness.data.hub_datasets import pairs_as_split
    from rm_robustness.frames import write_frame
    from rm_robustness.training.reward_trainer import Pairs

    model, tokenizer = scorer
    texts = [["a", "b", "list two fruits .", "apple ."], ["list two fruits .", "apple ."]]
    roles = ["user", "assistant"] * 2
    chosen = [
        [{"role": role, "content": text} for role, text in zip(roles, chat_texts, strict=False)]
        for chat_texts in texts
    ]
    rejected = [[*turns[:-1], {"role": "assistant", "content": "no ."}] for turns in chosen]
    frame = pd.DataFrame({"example_id": ["0", "1"], "chosen": chosen, "rejected": rejected})
    write_frame(pairs_as_split(frame, "pairs"), tmp_path / "pairs.parquet")
    split = read_frame(tmp_path / "pairs.parquet")
    data = Pairs(tokenizer, split, 96, None)
    assert data.chosen == chat.ids(tokenizer, chosen)
    assert data.rejected == chat.ids(tokenizer, rejected)
    ids = [data.chosen[0], data.rejected[0], data.chosen[1], data.rejected[1]]
    expected = score_ids(model, ids, 4096)
    near = {"rtol": 0, "atol": 1e-6}
    np.testing.assert_allclose(score(*scorer, split, 4096)["reward"], expected.rewards, **near)
    norms = np.linalg.norm(expected.hidden, axis=1)
    np.testing.assert_allclose(score(*scorer, split, 4096)["hidden_norm"], norms, **near)


def test_a_reward_is_read_before_an_end_token_that_pads(scorer, rows, monkeypatch):
    """As the classifier of transformers does, whose config.json names EOS as padding."""
    model, tokenizer = scorer
    ids = chat.pair_ids(tokenizer, list(rows["prompt"][:8]), list(rows["response"][:8]))
    assert {row[-1] for row in ids} == {tokenizer.eos_token_id}
    monkeypatch.setattr(model.config, "pad_token_id", tokenizer.eos_token_id)
    with torch.no_grad():
        theirs = [model(input_ids=torch.tensor([row])).logits.item() for row in ids]
    ours = score(*scorer, rows.head(8), 4096)["reward"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_training_and_the_scorer_read_the_same_reward(scorer, splits):
    """trl's collator pads and the classifier pools by pad token: same rewards as ours."""
    from trl.trainer.reward_trainer import DataCollatorForPreference

    from rm_robustness.training.reward_trainer import Pairs

    model, tokenizer = scorer
    data = Pairs(tokenizer, read_frame(splits / "train.parquet"), 96, 6)
    collator = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)
    batch = collator(
        [
            {"chosen_ids": c, "rejected_ids": r}
            for c, r in zip(data.chosen, data.rejected, strict=True)
        ]
    )
    with torch.no_grad():
        trained = model(**batch).logits[:, 0].numpy()
    ours = score_ids(model, data.chosen + data.rejected, 4096).rewards
    np.testing.assert_allclose(ours, trained, rtol=0, atol=1e-5)


def test_an_empty_response_is_refused(scorer, rows):
    rows = rows.assign(response=["", *rows["response"][1:]])
    with pytest.raises(InputError, match=f"{rows['response_id'].iloc[0]}: found an empty response"):
        score(*scorer, rows, 4096)


def test_a_response_that_alone_exceeds_the_length_is_refused_not_cut(scorer, rows):
    rows = rows.assign(response=["word " * 200, *rows["response"][1:]])
    with pytest.raises(
        InputError, match=r"2\d\d tokens with its prompt; expected 96 or fewer.*never cut"
    ):
        score(*scorer, rows, 4096)


def test_the_command_scores_every_split_and_records_what_it_read(trained_folder, splits, tmp_path):
    from rm_robustness.cli.main import main

    data = [splits / f"{name}.parquet" for name in ("in_domain", "mutual_disjoint")]
    outputs = [tmp_path / f"{n}.parquet" for n in range(2)]
    main(
        [
            "score",
            "--model",
            str(trained_folder),
            "--data",
            *map(str, data),
            "--output",
            *map(str, outputs),
        ]
    )
    for path, source in zip(outputs, data, strict=True):
        scores, split = read_frame(path), read_frame(source)
        assert list(scores["response_id"]) == list(split["response_id"])
        np.testing.assert_array_equal(scores["gold"], split["gold"])
    made = json.loads((tmp_path / "record.json").read_text())
    assert made["files"] == {path.name: sha256(path) for path in outputs}
    read = {each["path"]: each["sha256"] for each in made["inputs"].values()}
    assert read == {str(p): sha256(p) for p in [*data, trained_folder / "model.safetensors"]}


def test_the_command_wants_an_output_for_each_split(trained_folder, splits, tmp_path, capsys):
    from rm_robustness.cli.main import main

    with pytest.raises(SystemExit) as end:
        main(
            [
                "score",
                "--model",
                str(trained_folder),
                "--data",
                str(splits / "in_domain.parquet"),
                str(splits / "train.parquet"),
                "--output",
                str(tmp_path / "a"),
            ]
        )
    assert end.value.code == 2
    assert "found 1 files; expected one for each of 2 of --data" in capsys.readouterr().err


def test_the_command_refuses_a_parquet_without_responses(trained_folder, tmp_path, capsys):
    from rm_robustness.cli.main import main
    from rm_robustness.frames import write_frame

    write_frame(pd.DataFrame({"prompt": ["a"]}), tmp_path / "data.parquet")
    with pytest.raises(SystemExit) as end:
        main(
            [
                "score",
                "--model",
                str(trained_folder),
                "--data",
                str(tmp_path / "data.parquet"),
                "--output",
                str(tmp_path / "out.parquet"),
            ]
        )
    assert end.value.code == 2
    assert "data.parquet" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()
