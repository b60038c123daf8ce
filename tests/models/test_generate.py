import shutil

import pandas as pd
import pytest
import torch
from scipy.stats import chisquare
from support.ten_words import frame_of, make_ten_words
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from rm_robustness.errors import InputError
from rm_robustness.models.answer_log import AnswerLog
from rm_robustness.models.generate import (
    Gumbel,
    complete,
    generate,
    generate_to,
    prompt_seed,
    sample,
)

PROMPTS = ["a b", "c d e f", "g", "h a c", "b b b b b", "f g h"]


# --- transformers, with a tiny model made here ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_ten_words(tmp_path_factory.mktemp("model"))


def here(folder, **change):
    sampling = {"temperature": 1.0, "max_new_tokens": 12, "batch_size": 3, "seed": 5}
    return {"kind": "transformers", "model": str(folder), **sampling, **change}


def test_an_answer_is_the_same_alone_and_in_any_batch(folder):
    answers = generate(PROMPTS, here(folder))
    assert len(set(answers)) == len(PROMPTS)
    assert generate(PROMPTS[::-1], here(folder))[::-1] == answers
    assert [generate([prompt], here(folder))[0] for prompt in PROMPTS] == answers
    assert generate(PROMPTS, here(folder, seed=6)) != answers


def test_without_temperature_an_answer_is_the_most_likely_token_each_time(folder):
    settings = here(folder, temperature=0, max_new_tokens=6)
    model = LlamaForCausalLM.from_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    expected = []
    for prompt in PROMPTS:
        tokens, new = tokenizer.encode("user: " + prompt), []
        while len(new) < 6:
            with torch.inference_mode():
                token = int(model(torch.tensor([tokens + new])).logits[0, -1].argmax())
            if token == 1:
                break
            new.append(token)
        expected.append(tokenizer.decode(new, skip_special_tokens=True))
    assert generate(PROMPTS, settings) == expected


def test_the_noise_makes_tokens_as_frequent_as_their_probabilities():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    sampler = Gumbel([3], torch.device("cpu"))
    draws = [int(sampler(None, probabilities.log()[None]).argmax()) for _ in range(2000)]
    counts = [draws.count(token) for token in range(5)]
    assert counts[4] == 0
    assert chisquare(counts[:4], [1000, 600, 300, 100]).pvalue > 1e-3


def test_top_p_rules_out_the_unlikely_tokens(folder):
    narrow = generate(PROMPTS, here(folder, top_p=1e-6))
    assert narrow == generate(PROMPTS, here(folder, temperature=0))


def test_the_models_own_generation_config_has_no_say_and_stays(folder):
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    sampling = {"ends": [1], "pad": 0, "max_new_tokens": 12, "temperature": 1.0}
    answers = sample(model, [[2, 3], [2, 4, 5]], [0, 1], **sampling)
    model.generation_config.update(repetition_penalty=9.0, min_new_tokens=12, num_beams=2)
    own = model.generation_config
    assert sample(model, [[2, 3], [2, 4, 5]], [0, 1], **sampling) == answers
    assert model.generation_config is own


def test_the_frame_says_which_answers_came_to_an_end(folder, tmp_path):
    output = tmp_path / "out.parquet"
    generate_to(frame_of(PROMPTS), here(folder, max_new_tokens=4, name="tiny"), output)
    frame = pd.read_parquet(output)
    columns = ["example_id", "prompt", "response", "response_model", "finished"]
    assert list(frame.columns) == columns
    assert frame["prompt"].tolist() == PROMPTS
    assert set(frame["response_model"]) == {"tiny"}
    assert set(frame["finished"]) == {True, False}
    longer = generate(PROMPTS, here(folder, max_new_tokens=12))
    for short, whole, finished in zip(frame["response"], longer, frame["finished"], strict=True):
        assert short == whole if finished else (short != whole and whole.startswith(short))
    assert not output.with_suffix(".jsonl").exists()


def test_an_interrupted_run_goes_on_to_the_same_file(folder, tmp_path, monkeypatch):
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    generate_to(frame_of(PROMPTS), here(folder, batch_size=2), whole)
    append = AnswerLog.append

    def interrupted(log, batch):
        append(log, batch)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AnswerLog, "append", interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                generate_to(frame_of(PROMPTS), here(folder, batch_size=2), output)
    assert len(output.with_suffix(".jsonl").read_text().splitlines()) == 1 + 4
    generate_to(frame_of(PROMPTS), here(folder, batch_size=2), output)
    assert output.read_bytes() == whole.read_bytes()


def test_answers_of_another_model_in_the_same_folder_are_not_mixed_in(
    folder, tmp_path, monkeypatch
):
    """As when the commit of a downloaded model changes while its answers are half done."""
    output, model = tmp_path / "out.parquet", tmp_path / "model"
    shutil.copytree(folder, model)
    with monkeypatch.context() as patch:
        patch.setattr("rm_robustness.models.generate.write_frame", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate_to(frame_of(PROMPTS), here(model), output)
    template = model / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(InputError, match="found a run of other prompts or settings"):
        generate_to(frame_of(PROMPTS), here(model), output)
    shutil.copy(folder / template.name, template)
    generate_to(frame_of(PROMPTS), here(model), output)


def test_a_prompt_that_does_not_fit_is_named(folder):
    with pytest.raises(InputError, match="prompt 1: found 21 tokens; expected at most 12"):
        generate(["a", "b " * 20], here(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "generator.kind: found 'magic'"),
        ({"temprature": 1.0}, r"unknown keys \['temprature'\]"),
        ({"model": None}, r"generator\.model"),
        ({"model": "some/model"}, "some/model: found no such folder"),
        ({"revision": "a" * 40}, r"unknown keys \['revision'\]"),
    ],
)
def test_a_wrong_setting_is_named(folder, change, message):
    with pytest.raises(InputError, match=message):
        generate(["a"], {**here(folder), **change})


def test_a_tokenizer_without_a_chat_template_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        if "template" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="no chat template"):
        generate(["a"], here(tmp_path))


def test_no_prompts_give_no_answers_and_load_nothing():
    assert generate([], here("no/such/model")) == []


def test_seeds_differ_between_prompts_and_never_change():
    assert len({prompt_seed(s, p) for s in (0, 1) for p in PROMPTS}) == 12
    # printf "0\nhello" | sha256sum | cut -c1-8
    assert prompt_seed(0, "hello") == 0xF6C5C364 >> 1


def test_the_settings_are_complete_with_the_release_s_sampling():
    settings = complete({"kind": "vllm", "model": "m"})
    chosen = (settings["temperature"], settings["top_p"], settings["max_new_tokens"])
    assert chosen == (0.8, 1.0, 512)
