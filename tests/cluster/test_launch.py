"""Trainings of several processes: how they are started, and that they are those of one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file
from support.paths import ROOT
from support.small_models import CHAT, training_settings
from support.small_rloo import make_policy, make_prompts, make_reward_model, rloo_settings

from rm_robustness.cluster import launch
from rm_robustness.errors import InputError
from rm_robustness.files import read_json, sha256
from rm_robustness.frames import read_frame, write_frame
from rm_robustness.training import rloo_trainer as rloo
from rm_robustness.training.trl_arguments import training_arguments

ON_CPU = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
MODEL, LOOKS = "model.safetensors", "samples.parquet"


# What is started, of what Slurm gave


class Replaced(Exception):  # noqa: N818
    """Carries the command that would have replaced this process."""


@pytest.fixture
def given(monkeypatch):
    """Set Slurm's variables and answers; return the command that is executed, or None."""

    def command(config: str = "fsdp2", answers: dict[str, str] | None = None, **variables: str):
        for name in [n for n in os.environ if n.startswith(("SLURM_", "ACCELERATE_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv(
            "CUDA_VISIBLE_DEVICES", ""
        )  # `launch_processes` may set it: it is put back
        for name in ("RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        def replace(words: list[str]) -> None:
            raise Replaced(words)

        monkeypatch.setattr(launch, "_replace", replace)
        monkeypatch.setattr(launch, "_query", lambda *words: (answers or {})[" ".join(words)])
        monkeypatch.setattr(sys, "argv", ["rm-robustness", "train", "--seeds", "1"])
        try:
            launch.launch_processes(config)
        except Replaced as replaced:
            return " ".join(replaced.args[0])
        return None

    return command


CPU = {"ACCELERATE_USE_CPU": "true"}


def test_no_gpu_starts_nothing_and_one_starts_a_process_where_fsdp_sets_the_number_format(given):
    assert given() is None
    assert given("ddp", **CPU, CUDA_VISIBLE_DEVICES="3") is None
    assert "--num_processes 1 --num_machines 1" in given(**CPU, CUDA_VISIBLE_DEVICES="3")
    assert given(**CPU, CUDA_VISIBLE_DEVICES="") is None
    assert given(**CPU, CUDA_VISIBLE_DEVICES="NoDevFiles", SLURM_JOB_ID="7") is None
    assert given(SLURM_JOB_ID="7", SLURM_JOB_NUM_NODES="2") is None  # nodes without GPUs


def test_a_process_that_was_launched_launches_nothing(given):
    assert given(**CPU, CUDA_VISIBLE_DEVICES="0,1", RANK="1", WORLD_SIZE="2") is None


def test_a_process_a_gpu_of_one_node(given):
    command = given(**CPU, CUDA_VISIBLE_DEVICES="4,5,6", SLURM_JOB_ID="7", SLURM_JOB_NUM_NODES="1")
    assert "-m rm_robustness.cluster.launch --config_file" in command
    assert "--num_processes 3 --num_machines 1 --main_process_port 0" in command
    assert command.endswith("--module rm_robustness train --seeds 1")
    assert "fsdp2.yaml" in command and "ddp.yaml" in given(
        "ddp", **CPU, SLURM_GPUS_ON_NODE="2", SLURM_JOB_ID="7", SLURM_JOB_NUM_NODES="1"
    )


def test_several_nodes_are_found_though_snakemake_hides_slurms_variables(given):
    squeue_answers = {
        "squeue --noheader --jobs 7 --format %D": "2\n",
        "squeue --noheader --jobs 7 --format %C": "64\n",
    }
    command = given(answers=squeue_answers, **CPU, CUDA_VISIBLE_DEVICES="0,1,2,3", SLURM_JOB_ID="7")
    assert command.startswith("srun --nodes 2 --ntasks 2 --ntasks-per-node 1 --cpus-per-task 32 ")
    assert command.endswith("-m rm_robustness train --seeds 1")


@pytest.mark.parametrize(
    ("answer", "address"), [("localhost", "127.0.0.1"), ("no-such-name.invalid", "10.1.2.3")]
)
def test_each_node_of_a_step_starts_its_own_processes(given, answer, address):
    """The first node's address is that of its name or, where it has none, the one Slurm knows."""
    command = given(
        answers={
            "scontrol show hostnames n[4-5]": f"{answer}\nn5\n",
            f"scontrol show node {answer} --oneliner": "NodeName=n4 NodeAddr=10.1.2.3 Port=1",
        },
        **CPU,
        CUDA_VISIBLE_DEVICES="0,1,2,3",
        SLURM_JOB_ID="20007",
        SLURM_JOB_NUM_NODES="2",
        SLURM_STEP_NUM_NODES="2",
        SLURM_STEP_NUM_TASKS="2",
        SLURM_NODEID="1",
        SLURM_STEP_NODELIST="n[4-5]",
    )
    assert "--num_processes 8 --num_machines 2 --machine_rank 1" in command
    assert f"--main_process_ip {address} --main_process_port 12007" in command


def test_gpus_that_torch_does_not_see_are_refused_with_what_to_do(given, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=r"found 0 .* of 2 allocated .*=0,1.*nvidia-smi.*USE_CPU"):
        given(CUDA_VISIBLE_DEVICES="0,1")


def test_slurm_that_does_not_answer_is_named():
    with pytest.raises(InputError, match=r"no-such-squeue --jobs 7: found .*No such file"):
        launch._query("no-such-squeue", "--jobs", "7")


def test_of_gpus_that_nobody_gave_one_is_used(given, monkeypatch):
    """Or a demo on a workstation of eight would be refused, and two jobs would share them all."""
    assert given() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)  # the one that is visible then
    assert "--num_processes 1 --num_machines 1" in given()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


# Batches


@pytest.mark.parametrize("processes", ["3", "16"])
def test_processes_that_do_not_divide_the_batch_are_refused_with_numbers_that_do(
    tmp_path, monkeypatch, processes
):
    monkeypatch.setenv("WORLD_SIZE", processes)
    settings = training_settings(global_batch=128, micro_batch=16)
    with pytest.raises(InputError, match=rf"128 .* over {processes} processes.*works: 1, 2, 4, 8;"):
        training_arguments(settings, tmp_path, 0)
    settings = rloo_settings(prompts_per_update=128, mini_batches=4, micro_batch=8)
    with pytest.raises(InputError, match=rf"128 prompts .*{processes} proc.*works: 1, 2, 4, 8;"):
        rloo.arguments(settings, tmp_path, 0)


def test_the_global_batch_is_the_same_for_every_count_that_works(tmp_path, monkeypatch):
    settings = training_settings(global_batch=128, micro_batch=16)
    for processes in (1, 2, 4, 8):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        arguments = training_arguments(settings, tmp_path, 0)
        micro = arguments["per_device_train_batch_size"]
        assert (micro, micro * arguments["gradient_accumulation_steps"] * processes) == (16, 128)


# Trainings of two processes


def command(config: str | None, *words: Any, processes: int = 2) -> list[str]:
    """tests/support/processes.py in one process, or in some by a file of config/accelerate."""
    program = [str(ROOT / "tests/support/processes.py"), *map(str, words)]
    if config is None:
        return [sys.executable, *program]
    return [
        *(sys.executable, "-m", "rm_robustness.cluster.launch"),
        *("--config_file", str(ROOT / f"config/accelerate/{config}.yaml")),
        *("--num_processes", str(processes), "--num_machines", "1"),
        *("--main_process_port", "0", *program),
    ]


def run(config: str | None, kind: str, work: Path, *inputs: Any, processes: int = 2) -> Path:
    answer = subprocess.run(
        command(config, kind, work, *inputs, processes=processes),
        env=ON_CPU,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert read_json(work / "final/record.json")["processes"] == (processes if config else 1)
    return work / "final"


def difference(one: Path, two: Path) -> float:
    """The largest difference of the weights, relative to each tensor's largest."""
    a, b = load_file(one / MODEL), load_file(two / MODEL)
    assert a.keys() == b.keys() and all(a[name].dtype == b[name].dtype for name in a)
    return max(((a[name] - b[name]).abs().max() / a[name].abs().max()).item() for name in a)


def numbers(final: Path) -> pd.DataFrame:
    return read_frame(final / "probes.parquet").select_dtypes("number")


REWARD_MODEL = json.dumps(training_settings(micro_batch=4, save_steps=5))


@pytest.fixture(scope="module")
def alone(llama, splits, tmp_path_factory) -> Path:
    """A reward model that one process trained in two micro-batches a step."""
    work = tmp_path_factory.mktemp("alone") / "work"
    return run(None, "reward_model", work, llama, splits, REWARD_MODEL)


@pytest.mark.slow
@pytest.mark.parametrize(("config", "apart"), [("ddp", 1e-6), ("fsdp2", 1e-5)])
def test_a_reward_model_does_not_depend_on_how_many_trained_it(
    config, apart, alone, llama, splits, tmp_path
):
    """The same from the first step to the last, and once more from the last checkpoint but one."""
    work = tmp_path / "work"
    final = run(config, "reward_model", work, llama, splits, REWARD_MODEL)
    assert difference(alone, final) < apart
    assert (numbers(alone) - numbers(final)).abs().max().max() < 1e-5
    one, two = (read_json(folder / "record.json") for folder in (alone, final))
    assert one["steps"] == two["steps"] == 16
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-6)

    before = {name: sha256(final / name) for name in (MODEL, "probes.parquet")}
    for path in (final, work / "checkpoint-16"):
        shutil.rmtree(path)
    (work / "probes/00000016.parquet").unlink()
    (work / "checkpoint-99").mkdir()  # a kill left it without its mark
    run(config, "reward_model", work, llama, splits, REWARD_MODEL)
    assert read_json(final / "record.json")["resumed_from"] == "checkpoint-15"
    assert {name: sha256(final / name) for name in before} == before


@pytest.mark.slow
def test_an_objective_sees_the_same_states_where_the_weights_are_shared(llama, splits, tmp_path):
    """NormBT of two processes with whole weights, and with weights that FSDP2 shares."""
    options = {"objective": "norm-bt", "options": {"momentum": 0.9}}
    settings = json.dumps(training_settings(micro_batch=4, save_steps=5, **options))
    ddp, fsdp2 = (
        run(config, "reward_model", tmp_path / config, llama, splits, settings)
        for config in ("ddp", "fsdp2")
    )
    assert difference(ddp, fsdp2) < 1e-5


@pytest.mark.slow
def test_one_gpu_trains_in_the_number_format_of_several(llama, splits, tmp_path):
    """bfloat16 between the layers too (FSDP2), where autocast alone would keep float32 there.

    One step: later ones differ by the order in which two gradients in bfloat16 are added up.
    """
    settings = json.dumps(training_settings(micro_batch=4, epochs=0.125, bf16=True))
    losses, probes = [], []
    for config, processes in (("fsdp2", 1), ("fsdp2", 2), (None, 1)):
        work = tmp_path / f"{config}-{processes}"
        final = run(config, "reward_model", work, llama, splits, settings, processes=processes)
        losses.append(read_json(final / "record.json")["train_loss"])
        probes.append(numbers(final).query("step == 0"))
    one, two, autocast = losses
    assert one == two and probes[0].equals(probes[1])
    assert abs(one - autocast) > 1e-4 and not probes[0].equals(probes[2])


@pytest.mark.slow
def test_a_backbone_does_not_depend_on_how_many_trained_it(world, tmp_path):
    from support.small_models import INIT, SFT

    turns = [
        [{"role": "user", "content": p}, {"role": "assistant", "content": r}]
        for p, r in zip(world["prompt"], world["response"], strict=True)
    ]
    write_frame(pd.DataFrame({"messages": turns}), tmp_path / "chats.parquet")
    section = {"init": INIT, "chat": CHAT, "keep_layers": None}
    settings = json.dumps({"backbone": section, "sft": SFT | {"micro_batch": 4}})
    one, two = (
        run(config, "backbone", tmp_path / f"{config}", tmp_path / "chats.parquet", settings)
        for config in (None, "fsdp2")
    )
    assert difference(one, two) < 1e-5


@pytest.mark.slow
def test_two_processes_share_the_evaluation_of_a_policy_and_go_on_after_a_kill(
    world, splits, tmp_path
):
    """Each has samples of its own, so only the first evaluation, of the SFT policy, agrees."""
    policy = make_policy(world, tmp_path / "policy")
    inputs = [policy, make_reward_model(world, tmp_path / "rm"), make_prompts(splits, tmp_path)]
    settings = json.dumps(rloo_settings(mini_batches=1))
    one, two = (
        read_frame(run(config, "policy", tmp_path / str(config), *inputs, settings) / LOOKS)
        for config in (None, "ddp")
    )
    assert list(one["example_id"]) == list(two["example_id"])
    assert list(one["update"]) == list(two["update"])
    columns = ["response", "n_tokens", "finished"]
    assert one[one["update"] == 0][columns].equals(two[two["update"] == 0][columns])
    assert (two.groupby("update")["kl"].mean().drop(0) > 0).all()

    work = tmp_path / "ddp"
    before = {name: sha256(work / "final" / name) for name in (MODEL, LOOKS)}
    for path in (work / "final", work / "checkpoint-6"):
        shutil.rmtree(path)
    again = run("ddp", "policy", work, *inputs, settings)
    assert read_json(again / "record.json")["resumed_from"] == "checkpoint-4"
    assert {name: sha256(again / name) for name in before} == before


@pytest.mark.slow
def test_a_mistake_that_one_process_finds_ends_all_at_once(tmp_path):
    """Rank 0 alone reads files; rank 1 gets its error and does not wait for a SIGKILL."""
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit\n"
        "import torch\n"
        "from rm_robustness.cli import main as cli\n"
        "from rm_robustness.training.distributed import on_main_process\n"
        "from rm_robustness.errors import InputError\n"
        "def prepare():\n"
        "    raise InputError('work', 'a mistake', 'none')\n"
        "history = cli.COMMANDS['history']\n"
        "body = lambda options: on_main_process(prepare)\n"
        "cli.COMMANDS['history'] = history._replace(body=body)\n"
        "atexit.register(lambda: print('left', not torch.distributed.is_initialized()))\n"
        "cli.main(['history', '--runs', 'runs'])\n"
    )
    words = command("ddp")[:-1]
    started = time.monotonic()
    answer = subprocess.run(
        [*words, str(program)], env=ON_CPU, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.count("error: work: found a mistake") >= 1
    assert "left True" in answer.stdout  # or a thread of torch's may abort what ends (SIGABRT)
    assert "left False" not in answer.stdout
    assert time.monotonic() - started < 25


@pytest.mark.slow
def test_the_launcher_hands_sigterm_on_and_waits_for_the_trainers(tmp_path):
    """torch's own would send SIGKILL 30 seconds later; here its patience is 1 second."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys, time\n"
        "def save(*_):\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    time.sleep(4)\n"
        "    os.write(1, b'saved\\n')\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "os.write(1, b'ready\\n')\n"  # a line in one write: two processes share the pipe
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [*command("ddp")[:-1], str(program)],
        env=ON_CPU | {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert rest.count("saved") == 2
    assert process.returncode == 75
