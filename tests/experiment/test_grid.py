"""What is measured of which reward model, and by which job."""

from typing import Any

from snakemake.utils import update_config
from support.presets import preset

from rm_robustness.experiment.grid import (
    Measurement,
    backbones,
    held_out_split,
    measured,
    measurements,
    neighbouring_sizes,
    reward_model_batches,
    reward_models,
    split_names,
    training_pairs,
)
from rm_robustness.experiment.scenarios import SPLITS

ALL, BENCH = ("scenarios", "rm_bench", "ranks"), ("rm_bench",)


def demo(**changes: Any) -> dict[str, Any]:
    config = preset("demo")
    update_config(config, changes)
    return config


def test_a_job_takes_the_seeds_of_a_batch_and_all_that_is_measured_of_them():
    seeds = (0, 1, 2, 3)
    jobs = measurements(preset("demo"))
    assert jobs.pop(Measurement(ALL, seeds)) == ["llama/bt", "llama/bt-bsr"]
    assert jobs.pop(Measurement(BENCH, seeds)) == ["llama/bt-bsr@1e-4", "llama/bt-bsr@1e-2"]
    assert len(jobs.pop(Measurement(("scenarios",), seeds))) == 8
    assert jobs == {}


def test_seeds_of_which_less_is_measured_have_a_job_of_their_own():
    jobs = measurements(demo(rm_bench={"seeds": [0, 2]}))
    assert jobs[Measurement(ALL, (0, 2))] == ["llama/bt", "llama/bt-bsr"]
    assert jobs[Measurement(("scenarios",), (1, 3))] == ["llama/bt", "llama/bt-bsr"]
    assert "llama/bt" not in jobs[Measurement(("scenarios",), (0, 1, 2, 3))]
    rules = [job.rule for job in jobs]
    assert len(set(rules)) == len(rules)


def test_a_model_of_a_third_party_has_rm_bench_and_ranks_of_the_seeds_that_there_are():
    jobs = measurements(preset("paper"))
    of = {job: names for job, names in jobs.items() if any("skywork" in name for name in names)}
    assert [*of] == [Measurement(("rm_bench", "ranks"), (90,))]
    skywork = "Llama-3.1-8B-Instruct", "skywork"
    assert measured(preset("paper"), (*skywork, 91)) == ()


def test_every_model_that_a_result_is_of_is_measured_once():
    for name in ("demo", "small", "paper"):
        config = preset(name)
        jobs = [
            (model, seed)
            for job, models in measurements(config).items()
            for model in models
            for seed in job.seeds
        ]
        wanted = [model for model in reward_models(config) if measured(config, model)]
        assert sorted(jobs) == sorted((f"{b}/{o}", seed) for b, o, seed in wanted)


def test_what_only_rloo_uses_is_not_measured():
    config = demo(rm_bench=None, ranks=None, alpaca_eval=None)
    config["rloo"]["runs"]["large"]["reward_model_seeds"] = [7]
    assert ("llama", "bt", 7) in reward_models(config)
    assert measured(config, ("llama", "bt", 7)) == ()


def test_the_neighbour_of_a_size_is_the_next_one_that_is_trained():
    families = [["q-1", "q-2", "q-3", "q-4"], ["l-1", "l-3"]]
    assert neighbouring_sizes(families, ["q-4", "q-3", "q-1", "l-3"]) == [
        ("q-1", "q-3"),
        ("q-3", "q-4"),
    ]


GOLD = {"backbone": "third", "objective": "bt", "responses": 8, "seeds": [0, 5]}


def with_gold(**changes: Any) -> dict[str, Any]:
    """The demo with a third backbone, whose reward models label the samples (D51)."""
    config = demo(**changes)
    config["backbones"]["third"] = config["backbones"]["llama"]
    config["rloo"]["gold"] = GOLD
    return config


def test_the_gold_of_samples_is_trained_on_pairs_of_its_own_and_measured_nowhere():
    config = with_gold()
    models = [("third", "bt", 0), ("third", "bt", 5)]
    assert [*reward_models(preset("demo")), *models] == reward_models(config)
    assert reward_model_batches(config) == [[0, 1, 2, 3], [5]]
    assert all(measured(config, model) == () for model in models)
    assert "third" in backbones(config)
    assert training_pairs(config, "third") == "splits/gold_train.parquet"
    assert held_out_split(config, "third") == "prompt_disjoint"
    assert split_names(config) == [*SPLITS, "gold_train"]


def test_other_models_and_other_presets_know_no_such_pairs():
    for config in (with_gold(), preset("demo")):
        assert training_pairs(config, "llama") == "splits/train.parquet"
        assert held_out_split(config, "llama") == "in_domain"
    for name in ("demo", "small", "paper"):
        assert split_names(preset(name)) == [*SPLITS]
