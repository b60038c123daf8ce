"""The plan: as many jobs as Snakemake makes, GPUs that fit, and what is refused."""

import argparse
import copy
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config
from support.paths import ROOT
from support.presets import PINNED

from rm_robustness.cli import planning
from rm_robustness.cluster import job_cost, plan
from rm_robustness.cluster import model_cost as footprint
from rm_robustness.cluster.resources import Cluster, resources_of
from rm_robustness.data.splits import SPLITS
from rm_robustness.errors import InputError
from rm_robustness.experiment.checks import SCHEMA, check, read_config
from rm_robustness.experiment.grid import trained
from rm_robustness.experiment.jobs import jobs

H100 = Cluster(80, 8, 989)
RELEASED = [f"config/{name}.yaml" for name in ("paper", "paper-released")]


def preset(name: str) -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load((ROOT / f"config/{name}.yaml").read_text("utf-8")))


def options(*files: str, **changes: Any) -> argparse.Namespace:
    given = {"configfile": [Path(name) for name in files], "gpu": "h100-80gb", "tflops": None}
    given |= {"mfu": 0.4, "gpus_per_node": 8, "json": False, "seed_sd": None, "claims": None}
    return argparse.Namespace(**given | changes)


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def fetched(*names: str) -> dict[str, Any]:
    """Artifacts that come from a hub."""
    entry = {"source": "released", "repo": "a/b", "revision": "c" * 40, "sha256": {}}
    scores = {"chat": None}
    return {name: entry | (scores if name.startswith("reward_models") else {}) for name in names}


# The models of the grid's llama, the other backbone, one run's policies, and the splits.
DEMO = fetched(
    *(
        f"reward_models/llama/{objective}/seed-{seed}"
        for objective in preset("demo")["grid"]["objectives"]
        for seed in preset("demo")["grid"]["seeds"]
    ),
    "backbones/qwen2",
    *(f"policies/large-{name}/seed-{seed}" for name in ("bt", "bt-bsr") for seed in range(3)),
    *(f"splits/{name}" for name in SPLITS),
)
PAPER = {name: {"revision": "c" * 40} for name in preset("paper-released")["artifacts"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "artifacts", "absent"),
    [
        (["config/demo.yaml"], {}, {"released"}),
        (["config/small.yaml"], {}, {"released"}),
        (["config/laptop.yaml"], {}, {"released"}),
        (["config/paper.yaml"], {}, set()),
        (RELEASED, PAPER, {"responses", "generate", "gold"}),
        (["config/demo.yaml"], DEMO, {"responses", "gold"}),
    ],
    ids=["demo", "small", "laptop", "paper", "paper-released", "demo-released"],
)
def test_the_jobs_are_those_that_snakemake_makes(files, artifacts, absent, tmp_path):
    for name in ("config", "workflow", "data", "profiles", "src", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    changes = tmp_path / "changes.yaml"
    changes.write_text(yaml.safe_dump({"artifacts": artifacts}))
    files = [*files, *[str(PINNED)] * ("config/paper.yaml" in files), str(changes)]
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--configfile", *files]
    done = subprocess.run(
        [*command, "--", "all"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE))
    expected = Counter(job.rule for job in jobs(read_config([Path(f) for f in files])))
    counted = {rule: int(count) for rule, count in made.items() if rule not in ("all", "total")}
    assert counted == dict(expected)
    assert not absent & counted.keys()


def test_what_is_fetched_is_planned_as_a_download_and_trained_nowhere():
    config = preset("paper")
    update_config(config, preset("paper-released"))
    update_config(config, {"artifacts": PAPER | fetched("backbones/Llama-3.2-1B")})
    check(config, SCHEMA)
    before = Counter(job[:3] for job in jobs(preset("paper")))
    gone = before - Counter(job[:3] for job in jobs(config))
    large = ("reward models", "reward_models_90", "Llama-3.1-8B-Instruct")
    assert gone[large] == 1
    assert gone["backbones", "backbone", "Llama-3.2-1B"] == 1
    assert {name for phase, rule, name in gone if phase == "responses"} == {
        *preset("paper")["responses"]["generate"]["models"]
    }
    sizes = plan.downloads(config)
    assert sizes["models"]["backbones/Llama-3.2-1B"] == pytest.approx(2.47, abs=0.01)
    assert "Llama-3.2-1B" not in sizes["models"] and "ultrafeedback" not in sizes["data"]
    assert 0.1 < sizes["data"]["splits/response_disjoint"] < 1


def test_pairs_are_downloaded_for_the_ranks_of_downloaded_models_too():
    config = preset("paper")
    own = [name for name in trained(config, "reward_models/") if "Llama-3.1-8B-Instruct" in name]
    update_config(config, {"artifacts": fetched(*own)})
    check(config, SCHEMA)
    assert ("downloads", "preferences", "skywork") in {job[:3] for job in jobs(config)}


def test_models_below_50_million_parameters_run_on_a_cpu():
    config = preset("demo")
    for kind, name in (("backbone", "llama"), ("reward_model", "qwen2"), ("rloo", "standard-bt")):
        found = resources_of(config, H100, kind, name, seeds=4)
        assert (found.gpus, found.gpus_per_node, found.cpus, found.problem) == (0, 0, 1, "")
        assert found.minutes == 30
        assert 1000 <= found.mem_mb < 2000


def test_a_job_gets_the_fewest_gpus_that_fit_and_divide_its_batch():
    config = preset("paper")
    small = resources_of(config, H100, "reward_model", "Llama-3.2-1B")
    large = resources_of(config, H100, "reward_model", "Llama-3.1-8B-Instruct")
    assert (small.gpus, small.nodes) == (1, 1)
    assert (large.gpus, large.nodes) == (8, 1)  # 128 / 16 = 8 micro-batches
    assert small.gpu_bytes == pytest.approx(sum(small.parts.values()))
    for found in (small, large):
        assert not found.problem
        assert found.gpu_bytes <= 0.9 * 80e9
        assert found.minutes == pytest.approx(120 * found.hours, abs=1)
    fewer = config | {"reward_models": config["reward_models"] | {"global_batch": 16}}
    assert resources_of(fewer, H100, "reward_model", "Llama-3.1-8B-Instruct").problem
    assert large.mem_mb > 8 * 4 * 8030  # every process reads float32 weights


def test_a_job_goes_to_several_nodes_when_one_is_too_small():
    found = resources_of(
        preset("paper"), Cluster(80, 2, 989), "reward_model", "Llama-3.1-8B-Instruct"
    )
    assert (found.gpus, found.nodes, found.gpus_per_node) == (8, 4, 2)


def test_a_long_job_gets_more_gpus_of_its_node():
    config = preset("paper")
    slow = resources_of(config, Cluster(80, 8, 15), "reward_model", "Llama-3.2-1B")
    assert slow.gpus > 1
    assert slow.nodes == 1
    alone = resources_of(config, Cluster(80, 1, 15), "reward_model", "Llama-3.2-1B")
    assert alone.gpus == 1
    assert alone.hours > 12


def test_what_fits_nowhere_says_what_to_do():
    found = resources_of(
        preset("paper"), Cluster(24, 8, 165), "reward_model", "Llama-3.1-8B-Instruct"
    )
    assert re.search(r"\d+ GB on each GPU, and 22 of 24 can be used: .*max_length", found.problem)


def test_bsr_over_the_whole_batch_takes_a_gpu_for_every_micro_batch():
    config = preset("paper")
    config["reward_models"]["objectives"]["bt-bsr"]["reduction"] = "global"
    assert resources_of(config, H100, "reward_model", "Llama-3.2-1B").gpus == 8


def test_a_job_of_more_seeds_takes_longer_by_their_number():
    one, four = (
        resources_of(preset("paper"), H100, "scenarios", "Qwen2.5-3B", n).hours for n in (1, 4)
    )
    assert four - 0.05 == pytest.approx(4 * (one - 0.05))  # but for the start


@pytest.mark.parametrize(("dtype", "slowdown"), [("bfloat16", 1), ("tf32", 2), ("float32", 10)])
def test_scoring_costs_by_its_format(dtype, slowdown):
    config = preset("paper")
    config["scoring"] |= {"dtype": "bfloat16", "float32_prompts": 0}
    least = job_cost.cost_of(config, "scenarios", "Qwen2.5-3B", 80)
    config["scoring"] |= {"dtype": dtype}
    found = job_cost.cost_of(config, "scenarios", "Qwen2.5-3B", 80)
    assert found.flops == pytest.approx(slowdown * least.flops)
    wide = 1 if dtype == "bfloat16" else 2
    assert found.memory(1) == {part: wide * size for part, size in least.memory(1).items()}


def test_the_sample_in_float32_is_counted_once_and_only_beside_another_format():
    config = preset("paper")
    flops = {}
    for dtype, prompts in (("bfloat16", 0), ("bfloat16", 500), ("float32", 0), ("float32", 500)):
        config["scoring"] |= {"dtype": dtype, "float32_prompts": prompts}
        flops[dtype, prompts] = job_cost.cost_of(config, "scenarios", "Qwen2.5-3B", 80).flops
    sample = flops["bfloat16", 500] - flops["bfloat16", 0]
    assert sample == pytest.approx(0.1 * flops["float32", 0])  # 500 of 5,000 prompts a scenario
    assert flops["float32", 500] == flops["float32", 0]


def test_all_pairs_of_a_prompt_cost_a_reading_of_each_response():
    config = preset("small")
    config["reward_models"]["probe_pairs"] = 1
    all_pairs = job_cost.cost_of(config, "reward_model", "SmolLM2", 80)
    config["reward_models"]["pairs"] = "best_worst"
    best_worst = job_cost.cost_of(config, "reward_model", "SmolLM2", 80)
    ratio = (40 + 6 * 240) / (40 + 2 * 240)  # tokens of a prompt with six and with two responses
    assert all_pairs.flops / best_worst.flops == pytest.approx(ratio, rel=0.02)
    activations = [cost.memory(1)["activations"] for cost in (all_pairs, best_worst)]
    assert activations[0] > 2 * activations[1]


@pytest.mark.parametrize(
    ("name", "changes", "prompts"),
    [
        ("small", {}, 1327),
        ("small", {"parts": ["chat", "code"]}, 530),  # of five parts, taken for equal
        ("small", {"prompts": 40}, 200),
        ("small", {"prompts": 4000}, 1327),
        ("laptop", {}, 160),
        ("demo", {}, 300),
    ],
)
def test_a_sample_of_a_benchmark_has_its_prompts(name, changes, prompts):
    config = preset(name)
    config["rm_bench"] |= changes
    assert job_cost.benchmark_rows(config, "rm_bench") == prompts


def test_a_core_takes_the_time_that_was_measured():
    """Four layers of SmolLM2, float32, one thread: 1.2 ms a token trained, 0.37 ms scored."""
    config = preset("laptop")
    trained = resources_of(config, H100, "reward_model", "SmolLM2", seeds=1)
    probed = 64 * 5 * (35 + 2 * 95)
    expected = 300 * (35 + 6 * 95) * 1.2e-3 + probed * 0.37e-3
    assert trained.gpus == 0
    assert 3600 * trained.hours - 30 == pytest.approx(expected, rel=0.1)
    scored = resources_of(config, H100, "scenarios", "SmolLM2", seeds=1)
    tokens = 160 * 4 * 35 + 160 * (2 + 6 + 6 + 6) * 95
    assert 3600 * scored.hours - 30 == pytest.approx(tokens * 0.37e-3, rel=0.2)


def test_small_is_an_hour_of_one_gpu_and_laptop_an_evening_of_two_cores(capsys):
    planning.plan.body(options("config/small.yaml", gpu="a100-80gb", json=True))
    assert 0.75 < json.loads(capsys.readouterr().out)["gpu_hours"] < 1.25
    planning.plan.body(options("config/laptop.yaml", json=True))
    whole = json.loads(capsys.readouterr().out)
    assert whole["gpu_hours"] == 0 and 4 < whole["cpu_hours"] < 16
    planning.plan.body(options("config/laptop.yaml"))
    said = f"Jobs without a GPU: {whole['cpu_hours']:.1f} hours, each on one core"
    assert said in capsys.readouterr().out


def test_keep_layers_cuts_the_shape():
    config = preset("small")
    whole = footprint.shape_of(config, "SmolLM2")
    config["backbones"]["SmolLM2"]["keep_layers"] = 8
    cut = footprint.shape_of(config, "SmolLM2")
    assert (whole.layers, cut.layers) == (30, 8)
    layers = footprint.parameters(whole) - footprint.parameters(cut)
    assert layers == 22 * footprint.layer_parameters(whole)


@pytest.mark.parametrize("name", ["demo", "laptop", "small", "paper"])
def test_every_job_of_a_preset_has_resources(name):
    config = preset(name)
    for job in jobs(config):
        if job.kind:
            found = resources_of(config, H100, job.kind, job.name, job.seeds)
            assert found.gpus == found.nodes * found.gpus_per_node
            assert found.mem_mb >= 1000
            assert found.minutes >= 30


def test_the_table_adds_up_and_calls_itself_an_estimate(capsys):
    planning.plan.body(options("config/paper.yaml"))
    text = capsys.readouterr().out
    assert "an estimate" in text
    planning.plan.body(options("config/paper.yaml", json=True))
    whole = json.loads(capsys.readouterr().out)
    assert [each["claim"] for each in whole["designs"]] == [f"C{n}" for n in range(1, 14)]
    assert {each["verdict"] in text for each in whole["designs"]} == {True}
    hours = sum(r["jobs"] * r["job"]["gpus"] * r["job"]["hours"] for r in whole["rows"] if r["job"])
    assert whole["gpu_hours"] == pytest.approx(hours)
    total = re.search(r"^total +(\d+) +(\d+)", text, flags=re.MULTILINE)
    assert total is not None
    assert (int(total[1]), int(total[2])) == (whole["jobs"], round(hours))
    # 192 + 16 reward models in float32, of which those of Llama-3.2-1B:
    row = next(
        r for r in whole["rows"] if (r["phase"], r["name"]) == ("reward models", "Llama-3.2-1B")
    )
    assert row["disk_bytes"] == 48 * 4 * (1_235_814_400 + 2048)
    assert whole["downloads_gb"]["models"]["Llama-3.2-1B"] == pytest.approx(2.47, abs=0.01)
    assert "skywork" in whole["downloads_gb"]["data"]
    theirs = "reward_models/Llama-3.1-8B-Instruct/skywork/seed-90"
    assert whole["downloads_gb"]["models"][theirs] == pytest.approx(15, abs=0.1)


def test_the_plan_says_what_the_design_can_find(capsys, tmp_path):
    planning.plan.body(options("config/paper.yaml"))
    shown = capsys.readouterr()
    _, _, found = shown.out.partition("What this design can find")
    assert len(re.findall(r"^C\d+ {2}", found, flags=re.MULTILINE)) == 13
    assert re.search(r"^C9 .* 4 .*10\.28 .*can$", found, flags=re.MULTILINE)
    assert shown.err == ""
    one = tmp_path / "one.yaml"
    one.write_text("grid: {seeds: [0]}\nrm_bench: null\nranks: null\nrloo: null\nalpaca_eval: null")
    planning.plan.body(options("config/demo.yaml", str(one)))
    assert re.fullmatch(r"warning: preset demo cannot decide any .*\n", capsys.readouterr().err)


def test_a_plan_for_claims_is_a_file_that_goes_on_top(capsys, tmp_path):
    planning.plan.body(options("config/paper.yaml", claims="C9"))
    mine = tmp_path / "mine.yaml"
    mine.write_text(capsys.readouterr().out)
    planning.plan.body(options("config/paper.yaml", str(mine), json=True))
    whole = json.loads(capsys.readouterr().out)
    assert whole["preset"] == "paper-C9" and 20 < whole["gpu_hours"] < 200
    assert "policies" not in {row["phase"] for row in whole["rows"]}


def test_downloaded_splits_are_planned_whole():
    config = preset("paper")
    assert job_cost.prompts_of(config) == {"train": 51200, "valid": 5000, "evaluated": 5000}
    update_config(config, preset("paper-released"))
    whole = {"train": 51200, "valid": 11082, "evaluated": 51200}
    assert job_cost.prompts_of(config) == whole
    sizes = preset("paper")
    update_config(sizes, preset("paper-sizes"))
    assert job_cost.prompts_of(check(sizes, SCHEMA)) == whole
    updates = [
        job_cost.prompts_of(each)["valid"] * each["rloo"]["epochs"] // 128
        for each in (preset("paper"), config, sizes)
    ]
    assert updates == [429, 432, 432]  # RLOO is as long in all of them


def test_later_files_change_earlier_ones(capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("preset: mine")
    planning.plan.body(options("config/small.yaml", str(tmp_path / "mine.yaml"), json=True))
    assert json.loads(capsys.readouterr().out)["preset"] == "mine"


def test_a_judge_with_open_weights_gets_the_gpus_that_vllm_splits_it_over():
    config = preset("paper")
    update_config(config, preset("judge"))
    found = resources_of(config, H100, "judge")
    assert (found.gpus, found.nodes, found.problem) == (4, 1, "")
    assert found.parts["weights"] == pytest.approx(2 * 70.55e9 / 4)
    assert plan.downloads(config)["models"]["judge"] == pytest.approx(141.1)
    narrow = resources_of(config, Cluster(80, 2, 989), "judge")
    assert narrow.problem == "4 GPUs of one node, which has 2"
    assert "tensor_parallel_size" in resources_of(config, Cluster(40, 8, 312), "judge").problem
    assert resources_of(preset("demo"), H100, "judge").gpus == 0


def test_the_gold_of_samples_is_trained_and_asked_once_a_seed():
    """D51: in place of ArmoRM, which then labels the published responses alone."""
    config = preset("paper")
    config["backbones"]["judge"] = config["backbones"]["Llama-3.2-3B"]
    config["sizes"]["backbones"]["judge"] = config["sizes"]["backbones"]["Llama-3.2-3B"]
    before = Counter(jobs(config))
    armorm = job_cost.cost_of(config, "policy_gold", "standard-bt", 80)
    pairs = job_cost.cost_of(config, "reward_model", "judge", 80)
    gold = {"backbone": "judge", "objective": "bt", "responses": 8, "seeds": [0, 1]}
    config["rloo"]["gold"] = gold
    config["reward_models"]["pairs"] = "all"
    check(config, SCHEMA)
    more = Counter(jobs(config)) - before
    found = [(job.phase, job.name) for job in more]
    assert not before - Counter(jobs(config))
    training = ("reward models", "judge")
    assert found == [("downloads", "judge"), ("backbones", "judge"), training, training]
    both = job_cost.cost_of(config, "policy_gold", "standard-bt", 80)
    gold["seeds"] = [0]
    single = job_cost.cost_of(config, "policy_gold", "standard-bt", 80)
    assert both.flops == pytest.approx(2 * single.flops)
    assert both.parameters == pytest.approx(3.2e9, rel=0.02) and armorm.parameters == 7.51e9
    # A prompt of 185 tokens once for 8 responses of 305, in place of 2; the probes as before.
    eight = job_cost.cost_of(config, "reward_model", "judge", 80)
    assert eight.flops / pairs.flops == pytest.approx((185 + 8 * 305) / (185 + 2 * 305), rel=0.1)
    assert resources_of(config, H100, "policy_gold", "standard-bt").problem == ""


def test_armorm_is_not_fetched_for_samples_that_it_does_not_label():
    config = preset("paper")
    update_config(config, preset("paper-released"))
    update_config(config, {"artifacts": PAPER})
    assert "gold" in {job.name for job in jobs(config) if job.phase == "downloads"}
    config["rloo"]["gold"] = {"backbone": "x", "objective": "bt", "responses": 8, "seeds": []}
    assert "gold" not in {job.name for job in jobs(config) if job.phase == "downloads"}


def test_a_plan_for_a_small_gpu_lists_the_jobs_that_do_not_fit(capsys):
    planning.plan.body(options("config/paper.yaml", gpu="rtx4090-24gb"))
    text = capsys.readouterr().out
    assert "Do not fit (!)" in text
    assert re.search(r"reward models .*Llama-3\.1-8B-Instruct: \d+ GB on each", text)


@pytest.mark.parametrize(
    ("files", "changes", "words"),
    [
        (["config/demo.yaml"], {"gpu": "h100"}, "'h100'; .* did you mean 'h100-80gb'"),
        (["config/demo.yaml"], {"mfu": 0}, "--mfu: found 0"),
        (["config/demo.yaml"], {"seed_sd": 0.0}, "--seed-sd: found 0; expected above 0"),
        (["config/demo.yaml"], {"claims": "C99"}, "--claims: found 'C99'; .*did you mean 'C9'"),
        (["config/demo.yaml"], {"claims": "C9", "json": True}, "--claims, --json: found both"),
        (["config/demo.yaml"], {"gpus_per_node": 0}, "--gpus-per-node"),
        (["config/none.yaml"], {}, "none.yaml: found no readable file"),
        (["config/judge.yaml"], {}, "judge.yaml"),
    ],
)
def test_a_mistake_is_refused_in_one_line(files, changes, words):
    with pytest.raises(InputError, match=words) as caught:
        planning.plan.body(options(*files, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "name", "words"),
    [
        ("backbones", "Qwen2.5-3B", r"sizes\.backbones: found no 'Qwen2.5-3B'"),
        ("models", "gold", r"sizes\.models: found no 'gold'"),
        ("sources", "tulu3", r"sizes\.sources: found no 'tulu3'"),
    ],
)
def test_a_preset_without_the_size_of_what_it_uses_is_refused(part, name, words):
    config = preset("paper")
    del config["sizes"][part][name]
    with pytest.raises(InputError, match=words):
        check(config, SCHEMA)
