import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.small_rloo import once, read_tokenizer, rloo_settings
from transformers import AutoModelForCausalLM, GenerationConfig
from trl import RLOOConfig

from rm_robustness.cli.main import main
from rm_robustness.cluster import launch, vllm
from rm_robustness.errors import InputError, StoppedError
from rm_robustness.files import read_json, sha256
from rm_robustness.frames import read_frame
from rm_robustness.models import chat
from rm_robustness.models.reward_model import load, save
from rm_robustness.models.scoring import score, score_ids
from rm_robustness.training import rloo_trainer as rloo
from rm_robustness.training.proxy_reward import ProxyReward

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

RUN = """
import json, sys
from pathlib import Path
import torch
from rm_robustness.training.rloo_trainer import train_policy
torch.set_num_threads(1)
policy, reward_model, prompts, work, settings = sys.argv[1:]
train_policy(Path(policy), Path(reward_model), Path(prompts), json.loads(settings), 0, Path(work),
      "test")
"""


@pytest.fixture(scope="module")
def trained(policy, reward_model, prompts, tmp_path_factory) -> Path:
    return once(policy, reward_model, prompts, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def reward(reward_model) -> ProxyReward:
    return ProxyReward(reward_model, 0, torch.device("cpu"))


# The reward


def test_a_reward_is_the_score_that_the_verb_gives(reward, reward_model, policy, world):
    frame = world.head(12).assign(prompt_id="p", response_id=range(12))
    model, tokenizer = load(reward_model)
    expected = score(model, tokenizer, frame, 0)["reward"].tolist()
    assert reward(list(frame["prompt"]), list(frame["response"])) == expected
    pair = [frame["prompt"].iloc[0]], [frame["response"].iloc[0]]
    assert chat.pair_ids(tokenizer, *pair) != chat.pair_ids(read_tokenizer(policy), *pair)


def test_an_end_token_that_the_policy_left_cannot_move_the_reward(reward):
    assert reward(["list 2 fruits ."], ["pear <|end|>"]) == reward(["list 2 fruits ."], ["pear"])


def test_an_empty_completion_is_scored_as_an_empty_turn(reward, reward_model):
    model, tokenizer = load(reward_model)
    text = "Question : list 2 fruits .\nMy answer : <|endoftext|>\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert reward(["list 2 fruits ."], [""]) == score_ids(model, [ids], 0).rewards.tolist()


def test_a_reward_that_is_not_finite_names_prompt_and_completion(reward_model):
    broken = ProxyReward(reward_model, 0, torch.device("cpu"))
    broken.model.score.weight.data[:] = torch.nan
    with pytest.raises(InputError, match=r"'sort : b a', .*'a b': found a reward of nan"):
        broken(["sort : b a"], ["a b"])


def test_a_completion_beyond_the_reward_models_context_is_named_not_cut(reward):
    with pytest.raises(
        InputError, match=r"prompt 'list'.* tokens with its prompt; expected 96 or .*rloo"
    ):
        reward(["list"], ["pear " * 200])


def test_in_bfloat16_only_the_body_is_rounded(reward, reward_model, world):
    half = ProxyReward(reward_model, 0, torch.device("cpu"), "bfloat16")
    assert torch.equal(half.model.score.weight, reward.model.score.weight)
    assert half.model.get_input_embeddings().weight.dtype == torch.bfloat16
    prompts, completions = list(world["prompt"][:40]), list(world["response"][:40])
    exact, near = (torch.tensor(each(prompts, completions)) for each in (reward, half))
    assert 0.99 < torch.corrcoef(torch.stack([exact, near]))[0, 1] < 1
    assert len(set(near.tolist())) == len(set(exact.tolist()))  # no ties by rounding


# Prompts


def test_prompts_that_do_not_fit_are_left_out_and_counted(policy, prompts):
    tokenizer, split = read_tokenizer(policy), read_frame(prompts)
    everything, none = rloo.eligible(tokenizer, split, 90)
    lengths = everything["ids"].map(len)
    assert none == 0 and list(everything["prompt_id"]) == list(split["prompt_id"].unique())
    limit = int(lengths.median())
    kept, dropped = rloo.eligible(tokenizer, split, limit)
    assert dropped == (lengths > limit).sum() > 0
    assert list(kept["prompt"]) == list(everything["prompt"][lengths <= limit])
    assert list(kept.columns) == ["prompt_id", "prompt", "ids"]


def test_too_few_prompts_for_one_update_are_refused(policy, reward_model, prompts, tmp_path):
    with pytest.raises(InputError, match=r"0 prompts of at most 2 tokens, 20 longer"):
        once(policy, reward_model, prompts, tmp_path, prompt_length=2)
    with pytest.raises(InputError, match=r"20 prompts .* 0 longer.*one update of 60"):
        once(policy, reward_model, prompts, tmp_path, prompts_per_update=60, mini_batches=1)


def test_lengths_that_cannot_fit_are_refused_before_training(
    policy, reward_model, prompts, tmp_path
):
    with pytest.raises(
        InputError, match=r"40 tokens of a prompt and 57 of a response.*96 or fewer"
    ):
        once(policy, reward_model, prompts, tmp_path, response_length=57)


@given(n=st.integers(1, 30), epochs=st.sampled_from([0.5, 1, 2, 2.5]), seed=st.integers(0, 99))
def test_every_epoch_is_a_permutation_and_a_longer_training_begins_alike(n, epochs, seed):
    rows = rloo.order(n, epochs, seed)
    assert len(rows) == round(n * epochs)
    for start in range(0, len(rows) - n + 1, n):
        assert sorted(rows[start : start + n]) == list(range(n))
    assert rloo.order(n, 4, seed)[: len(rows)] == rows


def test_epochs_and_seeds_have_orders_of_their_own():
    rows = rloo.order(50, 2, 0)
    assert rows[:50] != rows[50:]
    assert rows != rloo.order(50, 2, 1)


# Arguments


def test_the_papers_batches_become_rollouts_of_four_steps(tmp_path):
    settings = rloo_settings(prompts_per_update=128, mini_batches=4, micro_batch=8, save_updates=10)
    args = RLOOConfig(**rloo.arguments(settings, tmp_path, 5))
    assert args.generation_batch_size == 128 * 2  # completions
    assert args.gradient_accumulation_steps * 8 == 64  # a step has a quarter of them
    assert args.steps_per_generation == 4 * args.gradient_accumulation_steps
    assert args.save_steps == 40  # always between rollouts
    assert (args.temperature, args.beta, args.num_iterations, args.epsilon) == (0.7, 0.05, 1, 0.2)
    assert not any(
        (args.bf16, args.gradient_checkpointing, args.use_vllm, args.normalize_advantages)
    )
    assert not args.mask_truncated_completions and args.disable_dropout
    assert args.seed == 5


def test_vllm_runs_in_the_trainers_process_with_room_for_both_lengths(tmp_path):
    args = RLOOConfig(**rloo.arguments(rloo_settings(generation="vllm"), tmp_path, 0))
    assert (args.use_vllm, args.vllm_mode, args.vllm_max_model_length) == (True, "colocate", 52)


def test_without_vllm_nothing_is_loaded(policy, reward_model, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm, "installed", lambda: None)
    settings = rloo_settings(generation="vllm")
    work = tmp_path / "work"
    with pytest.raises(InputError, match=r"rloo.generation: vllm: found no vLLM"):
        rloo.train_policy(policy, reward_model, prompts, settings, 0, work, "standard-bt")
    assert not work.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 1}, "rloo.k: found 1; expected 2 or more; the leave-one-out baseline"),
        ({"mini_batches": 5}, "divisor of 12"),
        ({"micro_batch": 3}, "divisor of 12"),
        ({"micro_batch": 1, "batch_form": "release"}, "multiple of k = 2"),
    ],
)
def test_impossible_batches_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        rloo.arguments(rloo_settings(**changes), tmp_path, 0)


def test_a_missing_key_is_named(tmp_path):
    settings = rloo_settings()
    del settings["max_grad_norm"]
    with pytest.raises(InputError, match="max_grad_norm"):
        rloo.arguments(settings, tmp_path, 0)


# Batches


class Rollout(NamedTuple):
    trainer: Any
    turns: list[dict[str, Any]]
    batch: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def rollouts(policy, tmp_path_factory) -> dict[str, Rollout]:
    """Of each form a rollout of 4 prompts x 3, with rewards 0, 1, 4, 9, ... as they come."""
    texts = [f"list {n} fruits ." for n in (2, 3, 4, 5)]
    turns = [{"prompt": [{"role": "user", "content": text}]} for text in texts for _ in range(3)]

    def squares(prompts: list[str], completions: list[str]) -> list[float]:
        assert prompts == [text for text in texts for _ in range(3)]
        return [float(n * n) for n in range(12)]

    made = {}
    for form in ("fixed", "release"):
        settings = rloo_settings(k=3, prompts_per_update=4, mini_batches=2, micro_batch=3)
        args = RLOOConfig(**rloo.arguments(settings, tmp_path_factory.mktemp(form), 0))
        trainer = rloo._trainer(policy, read_tokenizer(policy), squares, texts, args, form)
        trainer.model.train()
        torch.manual_seed(0)
        made[form] = Rollout(trainer, turns, trainer._generate_and_score_completions(turns))
    return made


# A reward less the mean of the other two, as the policy is still its own reference: 0 - (1 + 4)/2.
ADVANTAGES = [-2.5, -1, 3.5, -11.5, -1, 12.5, -20.5, -1, 21.5, -29.5, -1, 30.5]
STRIDE = {"fixed": 1, "release": 3}


@pytest.mark.parametrize("form", STRIDE)
def test_all_samples_are_trained_on_or_as_in_the_release_the_first_of_each_prompt(rollouts, form):
    trainer, turns, batch = rollouts[form]
    assert batch["advantages"].tolist() == pytest.approx(ADVANTAGES[:: STRIDE[form]])
    ids = trainer._tokenize_prompts([turn["prompt"] for turn in turns])[0][:: STRIDE[form]]
    rows = zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)
    assert [row[mask.bool()].tolist() for row, mask in rows] == ids
    assert torch.equal(
        batch["completion_ids"], rollouts["fixed"].batch["completion_ids"][:: STRIDE[form]]
    )


@pytest.mark.parametrize("form", STRIDE)
def test_a_rollout_is_cut_into_equal_micro_batches(rollouts, form):
    trainer, turns, _ = rollouts[form]
    trainer._prepare_inputs(turns)
    parts = [part["advantages"] for part in trainer._buffered_inputs]
    assert [len(part) for part in parts] == [3 // STRIDE[form]] * 4
    seen = sorted(torch.cat(parts).tolist())
    assert seen == pytest.approx(sorted(ADVANTAGES[:: STRIDE[form]]))


def test_the_release_form_is_the_mean_loss_over_the_first_samples(rollouts):
    """Its gradient is that of all samples with the others' advantages taken away, times k.

    The ratio to the policy that generated is still 1, so each loss is minus the advantage.
    """
    trainer, _, batch = rollouts["fixed"]
    assert trainer._compute_loss(trainer.model, batch).item() == pytest.approx(0, abs=1e-4)
    first = torch.tensor([3.0, 0, 0] * 4)
    losses, gradients = [], []
    weighted = batch | {"advantages": batch["advantages"] * first}
    for form, rows in (("fixed", weighted), ("release", rollouts["release"].batch)):
        model = rollouts[form].trainer.model
        loss = rollouts[form].trainer._compute_loss(model, rows)
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.lm_head.weight.grad)
    assert losses == pytest.approx([(2.5 + 11.5 + 20.5 + 29.5) / 4] * 2)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-4)
    assert gradients[0].abs().max() > 0.01


def test_the_trainer_reads_prompts_as_the_looks_do(policy, prompts, rollouts):
    kept, _ = rloo.eligible(read_tokenizer(policy), read_frame(prompts), 40)
    turns = [[{"role": "user", "content": prompt}] for prompt in kept["prompt"]]
    assert rollouts["fixed"].trainer._tokenize_prompts(turns)[0] == list(kept["ids"])


def test_the_trainer_renders_prompts_at_the_clock_of_every_rendering(rollouts, monkeypatch):
    trainer = rollouts["fixed"].trainer
    tokenizer = trainer.processing_class
    dated = "{{ strftime_now('%Y') }}" + tokenizer.chat_template
    monkeypatch.setattr(tokenizer, "chat_template", dated)
    turns = [[{"role": "user", "content": "list two fruits ."}]]
    ids = trainer._tokenize_prompts(turns)[0]
    assert ids == chat.prompt_ids(tokenizer, ["list two fruits ."])
    assert tokenizer.decode(ids[0]).startswith("2024")


# Training


def test_a_policy_is_a_checkpoint_with_its_record_and_card(trained, policy, prompts):
    record = read_json(trained / "record.json")
    assert (record["updates"], record["steps"], record["prompts"]) == (6, 18, 20)
    assert record["inputs"]["prompts"]["sha256"] == sha256(prompts)
    assert set(record["files"]) > {"model.safetensors", "tokenizer.json", "samples.parquet"}
    assert "standard-bt" in (trained / "README.md").read_text()
    after, before = (AutoModelForCausalLM.from_pretrained(f) for f in (trained, policy))
    assert not torch.equal(after.lm_head.weight, before.lm_head.weight)
    after, before = (GenerationConfig.from_pretrained(f).to_dict() for f in (trained, policy))
    assert after.pop("eos_token_id") in ([before["eos_token_id"]], before.pop("eos_token_id"))
    assert after == before


def test_two_runs_give_the_same_bits_and_another_seed_other_ones(
    trained, policy, reward_model, prompts, tmp_path
):
    again = once(policy, reward_model, prompts, tmp_path / "again")
    other = once(policy, reward_model, prompts, tmp_path / "other", seed=1)
    for name in ("model.safetensors", "samples.parquet"):
        assert sha256(again / name) == sha256(trained / name)
        assert sha256(other / name) != sha256(trained / name)


def test_the_seeds_of_one_job_have_the_bits_of_a_job_each_and_models_of_their_own(
    trained, policy, reward_model, prompts, tmp_path, monkeypatch
):
    """Seeds 1 and 0, against another reward model and this one; killed after the first."""
    monkeypatch.setattr(launch, "launch_processes", lambda kind: None)  # it changes the environment
    other = tmp_path / "other-model"
    shutil.copytree(reward_model, other)
    model, tokenizer = load(other)
    model.score.weight.data.mul_(-1)
    save(model, tokenizer, other)
    single = once(policy, other, prompts, tmp_path / "single", seed=1)
    words = ["rloo", "--settings", json.dumps(rloo_settings()), "--policy", policy]
    words += ["--reward-models", other, reward_model, "--prompts", prompts, "--seeds", 1, 0]
    words += ["--work", tmp_path / "work", "--output", tmp_path / "standard-bt"]
    command, train = [str(word) for word in words], rloo.train_policy

    def stopped(*arguments):
        if arguments[4] == 0:
            raise StoppedError("SIGTERM")
        return train(*arguments)

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="75"):
        patch.setattr(rloo, "train_policy", stopped)
        main(command)
    stamp = (tmp_path / "work/seed-1/final/model.safetensors").stat().st_mtime_ns
    assert not (tmp_path / "standard-bt").exists()  # none before all are finished
    main(command)
    assert (tmp_path / "standard-bt/seed-1/model.safetensors").stat().st_mtime_ns == stamp
    for seed, alone in ((0, trained), (1, single)):
        for name in ("model.safetensors", "samples.parquet"):
            assert sha256(tmp_path / f"standard-bt/seed-{seed}" / name) == sha256(alone / name)


def test_a_reward_model_too_few_is_refused(policy, reward_model, prompts, tmp_path, capsys):
    words = ["rloo", "--settings", "{}", "--policy", policy, "--prompts", prompts]
    words += ["--reward-models", reward_model, "--seeds", 0, 1]
    words += ["--work", tmp_path / "work", "--output", tmp_path / "policy"]
    with pytest.raises(SystemExit, match="2"):
        main([str(word) for word in words])
    assert "--reward-models: found 1 folders; expected one for each of 2" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_looks_do_not_disturb_the_training(trained, policy, reward_model, prompts, tmp_path):
    often = once(policy, reward_model, prompts, tmp_path, eval_every=1, eval_prompts=20)
    assert sha256(often / "model.safetensors") == sha256(trained / "model.safetensors")


@pytest.mark.parametrize("step", [12, 18])
def test_a_training_that_goes_on_from_a_checkpoint_ends_with_the_same_bits(
    step, trained, policy, reward_model, prompts, tmp_path
):
    """After 4 of 6 updates, in the second epoch, whose order must be found again; or after all."""
    work = tmp_path / "work"
    shutil.copytree(trained.parent, work)
    shutil.rmtree(work / "final")
    for path in (
        [*work.glob("checkpoint-18"), *work.glob("evaluations/*06.parquet")] if step < 18 else []
    ):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = once(policy, reward_model, prompts, work)
    assert read_json(again / "record.json")["resumed_from"] == f"checkpoint-{step}"
    for name in ("model.safetensors", "samples.parquet"):
        assert sha256(again / name) == sha256(trained / name), name


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fixed", "release"])
def test_a_killed_training_goes_on_and_ends_with_the_same_bits(
    form, policy, reward_model, prompts, tmp_path
):
    """kill -9 after a checkpoint, then the same command again."""
    settings = json.dumps(rloo_settings(epochs=6, save_updates=4, batch_form=form))
    straight, killed = tmp_path / "straight", tmp_path / "killed"

    def command(work: Path) -> list[str]:
        inputs = map(str, (policy, reward_model, prompts, work))
        return [sys.executable, "-c", RUN, *inputs, settings]

    subprocess.run(command(straight), check=True, capture_output=True)
    process = subprocess.Popen(command(killed), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoint-*/complete")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)  # somewhere in a rollout
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "final").exists()
    subprocess.run(command(killed), check=True, capture_output=True)
    assert read_json(killed / "final/record.json")["resumed_from"] is not None
    for name in ("model.safetensors", "samples.parquet"):
        assert sha256(straight / "final" / name) == sha256(killed / "final" / name), name


def test_a_finished_training_is_not_run_again(trained, policy, reward_model, prompts):
    stamp = (trained / "model.safetensors").stat().st_mtime_ns
    assert once(policy, reward_model, prompts, trained.parent) == trained
    assert (trained / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_training_raises_the_reward_and_leaves_the_reference(
    policy, reward_model, prompts, tmp_path
):
    final = once(policy, reward_model, prompts, tmp_path, epochs=8, eval_prompts=20)
    samples = read_frame(final / "samples.parquet")
    gain = (
        samples.groupby("example_id")["reward"].last()
        - samples.groupby("example_id")["reward"].first()
    )
    assert gain.mean() > 4 * gain.std() / math.sqrt(len(gain))
    assert samples.groupby("update")["kl"].mean().iloc[-1] > 1
