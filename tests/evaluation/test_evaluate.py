import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from safetensors.torch import load_file, save_file

from rm_robustness.cli.main import main
from rm_robustness.errors import InputError, StoppedError
from rm_robustness.evaluation import rm_bench, scenarios
from rm_robustness.evaluation.evaluate import COLUMNS, evaluate
from rm_robustness.evaluation.set_metrics import LENGTH, LENGTH_CONTROLLED, STYLE_GAP
from rm_robustness.evaluation.sets import EvaluationSet, sets_of_preset
from rm_robustness.evaluation.transformations import TRANSFORMATIONS
from rm_robustness.experiment.scenarios import RM_BENCH_DOMAINS as DOMAINS
from rm_robustness.experiment.scenarios import RM_BENCH_KINDS as KINDS
from rm_robustness.experiment.scenarios import RM_BENCH_STYLES as STYLES
from rm_robustness.frames import read_frame, write_csv, write_frame
from rm_robustness.metrics import kendall_tau_per_prompt
from rm_robustness.models import chat, scoring
from rm_robustness.models.reward_model import initialise, load, save
from rm_robustness.models.scoring import read, score
from rm_robustness.pivot import Spread
from rm_robustness.results.evaluation_text import as_json, as_text
from rm_robustness.results.table5_scenarios import table5

METRICS = {**scenarios.METRICS, **dict.fromkeys(rm_bench.METRICS, "rm_bench")}
DIFFERENCE = ["value", "ci_low", "ci_high", "p_value", "mdd80"]
ESTIMATE = ["value", "ci_low", "ci_high", "n_prompts", "n_undefined", "n_ties"]


@pytest.fixture(scope="module")
def model(llama, tmp_path_factory):
    """The folder of a reward model with a random head."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "mine"
    save(initialise(llama, seed=1), AutoTokenizer.from_pretrained(llama), folder)
    return folder


def bench() -> pd.DataFrame:
    """Two prompts a domain; richer styles are longer, and a rejected response than a chosen one."""
    rows = [
        {
            "prompt_id": f"{domain}-{n}",
            "response_id": f"{domain}-{n}-{kind}-{style}",
            "prompt": f"question {n} ?",
            "response": "word " * (3 * rank + n) + ("x" if kind == "chosen" else "xx"),
            "response_model": f"{kind}-{style}",
            "gold": float(kind == "chosen"),
            "domain": domain,
            "style": style,
            "kind": kind,
        }
        for domain in DOMAINS
        for n in (1, 2)
        for kind in KINDS
        for rank, style in enumerate(STYLES)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def runs(splits, tmp_path):
    """A run folder with splits and RM-Bench, and no results."""
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(splits, folder / "splits")
    write_frame(bench(), folder / "raw" / "rm_bench.parquet")
    return folder


def measure(model: object, runs: Path, **options: object) -> pd.DataFrame:
    models = model if isinstance(model, list) else [model]
    cache = runs.parents[1] / "cache"
    return evaluate(list(map(str, models)), sets_of_preset(runs), cache, runs=runs, **options)


def of(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    return frame[frame["kind"] == kind].set_index("metric")


@pytest.mark.parametrize(("value", "found"), [(None, "response None"), (" ", "an empty response")])
def test_a_response_that_is_no_text_is_named_before_the_model_is_loaded(runs, value, found):
    path = runs / "splits" / "in_domain.parquet"
    frame = read_frame(path)
    frame.loc[2, "response"] = value
    write_frame(frame, path)
    with pytest.raises(InputError, match=rf"in_domain.*, row 2, response .*: found {found}"):
        measure("no/such/model", runs)


def test_the_scenarios_are_measured_as_table_5_measures_them(model, runs, tmp_path):
    for split in scenarios.METRICS.values():
        scores = score(*load(model), read_frame(runs / "splits" / f"{split}.parquet"), 0)
        write_frame(scores, scenarios.score_path(runs, "tiny", "bt", 0, split))
    published = tmp_path / "published.csv"
    published.write_text("artifact,model,method,lambda,metric,value\n")
    settings = {
        "preset": "tiny",
        "backbones": {"tiny": {"paper_model": None}},
        "objectives": ["bt"],
        "seeds": [0],
        "reference": "bt",
        "seed_variance": "own",
        "bsr": {"weight": 1e-3, "reduction": "release"},
        "micro_batch": 8,
        "paper_values": published,
    }
    expected = table5(runs, settings)
    found = measure(model, runs)
    for kind, method in (("model", "bt"), ("baseline", "length")):
        theirs = expected[expected["method"] == method].set_index("metric")[ESTIMATE]
        ours = of(found, kind).loc[theirs.index, ESTIMATE]
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), atol=1e-12)


def test_rm_bench_is_measured_in_percent(model, runs):
    frame = measure(model, runs)
    rewards = score(*load(model), bench(), 0)["reward"].to_numpy()
    expected = rm_bench.accuracies(rm_bench.per_prompt(bench(), rewards))
    ours = of(frame, "model").loc[list(rm_bench.METRICS), "value"]
    assert ours.to_dict() == pytest.approx(expected)
    # By hand: longer is better only where the chosen response has the richer style.
    length = of(frame, "baseline")["value"][list(rm_bench.METRICS)]
    third = dict.fromkeys(["chat", "math", "code", "safety", "overall"], 100 / 3)
    assert length.to_dict() == pytest.approx(third | {"hard": 0.0, "normal": 0.0, "easy": 100.0})


def test_the_preset_s_own_models_stand_below(model, runs):
    row = {"preset": "tiny", "n_seeds": 4, "n_prompts": 9, "ci_low": 0.3, "ci_high": 0.5}
    tables = {"table5": ("mutual_disjoint_tau", 0.4), "table2": ("hard", 47.8)}
    for name, (metric, value) in tables.items():
        rows = [
            row | {"backbone": b, "method": m, "metric": metric, "value": value}
            for b, m in (("big", "bt"), ("big", "bt-bsr@1e-2"), ("-", "length"))
        ]
        write_csv(pd.DataFrame(rows), runs / "results" / f"{name}.csv")
    frame = measure(model, runs)
    assert set(frame["kind"]) == {"model", "baseline", "reference", "difference"}
    reference = frame[frame["kind"] == "reference"]
    assert list(zip(reference["name"], reference["value"], strict=True)) == [
        ("big/bt", 0.4),
        ("big/bt-bsr@1e-2", 0.4),
        ("big/bt", 47.8),
        ("big/bt-bsr@1e-2", 47.8),
    ]
    text = as_text(frame).splitlines()
    names = [line.split("  ")[0] for line in text]
    first = names.index("big/bt")
    assert names[first - 2 : first] == ["mine", "length"]
    assert "0.400 ± 0.100" in text[first] and "47.8 [0.3, 0.5]" in "\n".join(text)


def stand(runs: Path, seeds: int = 3, model: object = None, **scored: object) -> None:
    """Tables with a reference big/bt, and scores of its seeds; `model` is its seed 0."""
    rows = [
        {
            "preset": "tiny",
            "backbone": "big",
            "method": "bt",
            "metric": metric,
            "value": 0.5,
            "n_seeds": 3,
            "difference": 9.0,  # the table's own, from another reference
            "p_value": 0.5,
        }
        for metric in METRICS
    ]
    write_csv(pd.DataFrame(rows), runs / "results" / "table5.csv")
    rng = np.random.default_rng(0)
    for split in METRICS.values():
        bench_set = split == "rm_bench"
        path = runs / ("raw/rm_bench.parquet" if bench_set else f"splits/{split}.parquet")
        rows = read_frame(path)
        for seed in range(seeds):
            scores = rows[["prompt_id", "response_id", "gold"]].assign(
                reward=rng.normal(size=len(rows)).astype(np.float32)
            )
            if seed == 0 and model:
                scores = score(*load(model), rows, 0)
            if seed == 2:
                scores = scores.sample(frac=1, random_state=0)
            write_frame(scores, scenarios.score_path(runs, "big", "bt", seed, split))


def tau_of(runs: Path, seed: int, leave: object = None) -> np.ndarray:
    """Tau of the prompts of mutual-disjoint, in the split's order, without one of them."""
    rows = read_frame(runs / "splits" / "mutual_disjoint.parquet")
    scores = read_frame(scenarios.score_path(runs, "big", "bt", seed, "mutual_disjoint"))
    joined = rows[["prompt_id", "response_id"]].merge(scores, on=["prompt_id", "response_id"])
    joined = joined[joined["prompt_id"] != leave]
    reward, gold = (joined[name].to_numpy().reshape(-1, 4) for name in ("reward", "gold"))
    return kendall_tau_per_prompt(reward, gold)


def test_the_difference_from_a_reference_is_paired_by_prompt(model, runs):
    stand(runs, model=model)
    row = of(measure(model, runs), "difference").loc["mutual_disjoint_tau"]
    taus = np.stack([tau_of(runs, seed) for seed in range(3)])
    by_seed = np.nanmean(taus, axis=1)
    assert row["value"] == pytest.approx(by_seed[0] - by_seed.mean())
    assert row["n_seeds"] == 3
    # By hand: seeds' variance of the reference, prompts' variance of the differences.
    assert not np.isnan(taus).any()
    gaps = taus[0] - taus.mean(axis=0)
    residuals = taus - by_seed[:, None] - taus.mean(axis=0) + taus.mean()
    n = taus.shape[1]
    noise = (residuals**2).sum() / (2 * (n - 1)) / (3 * n)
    spread = Spread(by_seed.var(ddof=1) / 3, gaps.var(ddof=1) / n, noise, 2, n - 1)
    half = (row["ci_high"] - row["ci_low"]) / 2
    assert half == pytest.approx(spread.half_width())
    assert row["p_value"] == pytest.approx(spread.p_value(row["value"]))
    assert row["mdd80"] == pytest.approx(spread.smallest_found())


def test_every_metric_of_a_reference_has_a_difference_and_the_text_shows_it(model, runs):
    stand(runs)
    frame = measure(model, runs)
    rows = of(frame, "difference")
    assert list(rows.index) == list(METRICS) and rows[DIFFERENCE].notna().all(axis=None)
    assert set(rows["name"]) == {str(model)} and set(rows["against"]) == {"big/bt"}
    text = as_text(frame)
    row = rows.loc["mutual_disjoint_tau"]
    shown = f"{row['value']:.3f} ± {(row['ci_high'] - row['ci_low']) / 2:.3f} ({row['mdd80']:.3f})"
    assert f"mine - big/bt  {shown}" in " ".join(text.split(" ")) or shown in text
    assert "not of their training" in text
    listed = [row for row in json.loads(as_json(frame)) if row["kind"] == "difference"]
    assert listed[-1]["value"] == pytest.approx(rows["value"].iloc[-1])


def test_differences_are_over_the_prompts_that_remain(model, runs):
    path = runs / "splits" / "mutual_disjoint.parquet"
    rows = read_frame(path)
    stand(runs)
    rows.loc[1, "response"] = "word " * 200
    write_frame(rows, path)
    frame = measure(model, runs, skip_long=True)
    first = rows["prompt_id"][0]
    taus = [np.nanmean(tau_of(runs, seed, first)) for seed in range(3)]
    found = of(frame, "difference")["value"]["mutual_disjoint_tau"]
    ours = of(frame, "model")["value"]["mutual_disjoint_tau"]
    assert found == pytest.approx(ours - np.mean(taus))


def test_without_the_scores_of_all_seeds_there_is_no_difference_and_a_line_says_so(model, runs):
    stand(runs, seeds=2)
    frame = measure(model, runs)
    assert of(frame, "difference")[DIFFERENCE].isna().all(axis=None)
    text = as_text(frame)
    command = "dvc pull, or snakemake --configfile config/tiny.yaml -- scores"
    assert text.count(f"No difference from big/bt: score files are missing; {command}") == 1
    assert "paired by prompt" not in text and "not of their training" not in text


@pytest.mark.parametrize("given", ["as it is", "by a link"])
def test_there_is_no_difference_from_a_mean_that_the_checkpoint_is_part_of(
    model, runs, tmp_path, given
):
    stand(runs)
    own = Path(shutil.copytree(model, runs / "reward_models" / "big" / "bt" / "seed-1"))
    if given == "by a link":
        (tmp_path / "link").symlink_to(own)
        own = tmp_path / "link"
    frame = measure(own, runs)
    rows = of(frame, "difference")
    assert of(frame, "reference")["value"].notna().all() and rows[DIFFERENCE].isna().all(axis=None)
    assert rows["contains_model"].all() and not of(frame, "model")["contains_model"].any()
    text = as_text(frame)
    assert text.count("No difference from big/bt: the model is one of its seeds.") == 1
    assert "score files are missing" not in text and "paired by prompt" not in text
    # Another seed of the same name, of which the reference has no scores.
    other = Path(shutil.copytree(model, runs / "reward_models" / "big" / "bt" / "seed-7"))
    assert of(measure(other, runs), "difference")[DIFFERENCE].notna().all(axis=None)


@pytest.mark.parametrize("fault", ["missing", "twice", "nan"])
def test_scores_of_other_responses_are_refused(model, runs, fault):
    stand(runs)
    path = scenarios.score_path(runs, "big", "bt", 1, "in_domain")
    frame = read_frame(path)
    response = frame["response_id"][3]
    changed = {
        "missing": frame.drop(index=3),
        "twice": pd.concat([frame, frame.iloc[3:4]]),
        "nan": frame.assign(reward=frame["reward"].where(frame.index != 3)),
    }[fault]
    write_frame(changed, path)
    with pytest.raises(InputError, match=f"seed-1/in_domain.parquet.*response_id {response}"):
        measure(model, runs)


def test_every_statistic_has_a_row_and_an_interval(model, runs):
    frame = measure(model, runs)
    assert list(frame) == COLUMNS
    of_split = {
        split: ["accuracy", LENGTH_CONTROLLED, LENGTH] + ["tau"] * (split != "in_domain")
        for split in scenarios.METRICS.values()
    }
    expected = {f"{split}_{name}" for split, names in of_split.items() for name in names}
    expected |= {*rm_bench.METRICS, STYLE_GAP}
    for kind in ("model", "baseline"):
        rows = of(frame, kind)
        assert set(rows.index) == expected and rows.index.is_unique
        rows = rows[rows["value"].notna()]
        assert (rows["ci_low"] <= rows["value"]).all() and (rows["value"] <= rows["ci_high"]).all()
    assert (of(frame, "model")["n_left_out"] == 0).all()
    # By hand: the reward that is length follows length, and nothing is left of it.
    length = of(frame, "baseline")["value"]
    assert length["mutual_disjoint_length_tau"] == 1.0 and length[STYLE_GAP] == 100.0
    assert np.isnan(length[f"mutual_disjoint_{LENGTH_CONTROLLED}"])


def test_without_rm_bench_a_line_says_how_to_make_it(model, runs):
    (runs / "raw" / "rm_bench.parquet").unlink()
    frame = measure(model, runs)
    assert "rm_bench" not in set(frame["set"])
    command = "snakemake --configfile config/tiny.yaml -- runs/tiny/raw/rm_bench.parquet"
    assert f"not measured; to make it: {command}" in as_text(frame)


def test_missing_splits_name_the_command_that_makes_them(model, tmp_path):
    runs = tmp_path / "runs" / "demo"
    command = f"snakemake --configfile config/demo.yaml -- {runs}/splits/manifest.json"
    with pytest.raises(InputError, match=f"in_domain.*no such file.*{command}"):
        measure(model, runs)


def test_a_preset_that_does_not_exist_is_an_error_of_input(model, runs):
    with pytest.raises(InputError, match="nowhere"):
        measure(model, runs.parent / "nowhere")


@pytest.fixture
def copy(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "copy"))


def test_a_tokenizer_without_chat_template_is_refused(copy, runs):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match=r"copy: found no chat template.*chat_template\.jinja"):
        measure(copy, runs)


def test_a_padding_token_is_not_needed(model, copy, runs):
    for name, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        settings = json.loads((copy / name).read_text())
        assert settings.pop(key) is not None
        (copy / name).write_text(json.dumps(settings))
    assert load(copy)[1].pad_token is None
    frames = [measure(folder, runs).assign(name="") for folder in (model, copy)]
    pd.testing.assert_frame_equal(*frames)


def test_a_model_that_pads_with_its_end_token_is_read_where_transformers_reads_it(copy, runs):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    settings = json.loads((copy / "config.json").read_text())
    settings["pad_token_id"] = settings["eos_token_id"]
    (copy / "config.json").write_text(json.dumps(settings))
    plain = AutoModelForSequenceClassification.from_pretrained(copy)
    tokenizer = AutoTokenizer.from_pretrained(copy)
    rows = read_frame(runs / "splits" / "mutual_disjoint.parquet")
    ids = chat.pair_ids(tokenizer, list(rows["prompt"]), list(rows["response"]))
    assert {own[-1] for own in ids} == {plain.config.pad_token_id}
    with torch.no_grad():
        rewards = [plain(input_ids=torch.tensor([own])).logits.item() for own in ids]
    by_prompt = [np.reshape(column, (-1, 4)) for column in (rewards, rows["gold"])]
    tau = np.nanmean(kendall_tau_per_prompt(*by_prompt))
    assert of(measure(copy, runs), "model")["value"]["mutual_disjoint_tau"] == pytest.approx(tau)


@pytest.fixture
def long(runs):
    """One response of the first in-domain prompt has 200 words; the model's context is 96."""
    path = runs / "splits" / "in_domain.parquet"
    frame = read_frame(path)
    frame.loc[1, "response"] = "word " * 200
    write_frame(frame, path)
    return frame


def test_a_response_beyond_the_context_stops(model, runs, long):
    where = f"in_domain, response {long['response_id'][1]}"
    with pytest.raises(InputError, match=f"{where}.*96 or fewer.*never truncated; --skip-long"):
        measure(model, runs)


def test_prompts_beyond_the_context_are_left_out_and_counted_on_request(model, runs, long):
    frame = measure(model, runs, skip_long=True)
    for kind in ("model", "baseline"):
        rows = of(frame, kind)
        n_prompts = rows["n_prompts"] + rows["n_undefined"]
        assert n_prompts["in_domain_accuracy"] == long["prompt_id"].nunique() - 1
    left_out = of(frame, "model")["n_left_out"]
    assert left_out[left_out > 0].index.str.startswith("in_domain_").all()
    assert left_out["in_domain_accuracy"] == 1
    assert "1 prompt left out, because a response does not fit" in as_text(frame)


def test_where_no_prompt_fits_nothing_is_measured(model, runs):
    path = runs / "splits" / "in_domain.parquet"
    write_frame(read_frame(path).assign(response="word " * 200), path)
    with pytest.raises(InputError, match="in_domain: found no prompt that fits the 96 tokens"):
        measure(model, runs, skip_long=True)


def test_a_reward_that_is_not_a_number_names_the_response(copy, runs):
    weights = load_file(copy / "model.safetensors")
    weights["score.weight"][0, 0] = float("nan")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    first = read_frame(runs / "splits" / "in_domain.parquet")["response_id"][0]
    with pytest.raises(InputError, match=f"in_domain, response {first}: found a reward of nan"):
        measure(copy, runs)


def test_bfloat16_is_near_float32(model, runs):
    exact, half = (of(measure(model, runs, dtype=d), "model") for d in ("float32", "bfloat16"))
    taus = [metric for metric in scenarios.METRICS if metric.endswith("tau")]
    assert (exact["value"][taus] - half["value"][taus]).abs().max() < 0.1
    assert not exact["value"].equals(half["value"])


@pytest.fixture
def other(llama, tmp_path):
    """Another reward model."""
    from transformers import AutoTokenizer

    save(initialise(llama, seed=2), AutoTokenizer.from_pretrained(llama), tmp_path / "other")
    return tmp_path / "other"


def test_models_are_compared_on_the_same_prompts(model, other, runs, capsys):
    frame = measure([model, other], runs)
    # One progress over both models, which ends at its whole.
    (last,) = re.findall(r"(\d+)/(\d+) tokens x million.* done in", capsys.readouterr().err)
    assert last[0] == last[1]
    alone = [of(measure(m, runs), "model")["value"] for m in (model, other)]
    for name, expected in zip((model, other), alone, strict=True):
        rows = frame[(frame["kind"] == "model") & (frame["name"] == str(name))]
        pd.testing.assert_series_equal(rows.set_index("metric")["value"], expected)
    gaps = of(frame, "difference")
    assert set(gaps["name"]) == {str(other)} and set(gaps["against"]) == {str(model)}
    pd.testing.assert_series_equal(gaps["value"], alone[1] - alone[0])
    # By hand: a paired t interval of the prompts' differences.
    rows = read_frame(runs / "splits" / "mutual_disjoint.parquet")
    gold = rows["gold"].to_numpy().reshape(-1, 4)
    taus = [
        kendall_tau_per_prompt(score(*load(m), rows, 0)["reward"].to_numpy().reshape(-1, 4), gold)
        for m in (other, model)
    ]
    paired = taus[0] - taus[1]
    test = scipy.stats.ttest_1samp(paired, 0)
    row = gaps.loc["mutual_disjoint_tau"]
    # The distribution is integrated on few nodes where there are many prompts (`pivot`).
    assert row["p_value"] == pytest.approx(test.pvalue, rel=1e-4)
    ends = test.confidence_interval(0.95)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(ends), rel=1e-4)
    text = as_text(frame)
    assert "other - " in text and "differences, paired by prompt" in text


def test_a_model_that_is_given_twice_is_refused(model, runs, tmp_path):
    (tmp_path / "link").symlink_to(model)
    for again in (model, f"{model}/", tmp_path / "link"):
        with pytest.raises(InputError, match=r"found the model of .*mine again"):
            measure([model, again], runs)


def test_one_revision_cannot_be_that_of_two_models(model, other, runs):
    with pytest.raises(InputError, match=r"--revision: found 2 models.*NAME@COMMIT"):
        measure([model, other], runs, revision="a" * 40)


def test_nothing_is_scored_before_all_models_can_read_all_texts(model, other, runs, long):
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 512}))
    with pytest.raises(InputError, match=r"in_domain, response .*96 or fewer"):
        measure([other, model], runs)
    assert not (runs.parents[1] / "cache").exists()


def test_a_stopped_evaluation_goes_on_and_ends_with_the_same_numbers(model, runs, monkeypatch):
    expected = measure(model, runs)
    shutil.rmtree(runs.parents[1] / "cache")
    kept = []

    def stop(*arguments: object) -> Iterator[object]:
        for batch in read(*arguments):
            yield batch
            kept.append(batch)
            if len(kept) == 5:
                raise StoppedError("SIGTERM")

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(scoring, "read", stop)
        measure(model, runs, batch_tokens=200)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "read", stop)
        kept[:] = [None] * 5  # counts on, stops no more
        found = measure(model, runs, batch_tokens=200)
    assert len(kept) > 5
    with monkeypatch.context() as patch:  # nothing is read again
        patch.setattr(scoring, "read", None)
        with pytest.raises(TypeError):
            scoring.read()
        assert measure(model, runs, batch_tokens=200).equals(found)
    np.testing.assert_allclose(found["value"], expected["value"], atol=1e-9)


def test_damaged_scores_in_the_cache_are_computed_again(model, runs, capsys):
    expected = measure(model, runs)
    for path in (runs.parents[1] / "cache").glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-40])
    assert measure(model, runs).equals(expected)
    assert capsys.readouterr().err.count("damaged, removed; its set is scored again") == 5


def test_a_changed_model_is_scored_again(copy, runs):
    before = measure(copy, runs)
    weights = load_file(copy / "model.safetensors")
    weights["score.weight"] = -weights["score.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    after = measure(copy, runs)
    for frame, sign in ((before, 1), (after, -1)):
        tau = of(frame, "model")["value"]["mutual_disjoint_tau"]
        assert sign * tau == pytest.approx(of(before, "model")["value"]["mutual_disjoint_tau"])


def test_sets_of_unequal_numbers_of_responses_are_measured(model, runs):
    rows = read_frame(runs / "splits" / "mutual_disjoint.parquet")
    ragged = rows.drop(index=[0, 5, 6]).reset_index(drop=True)
    frame = evaluate([str(model)], [EvaluationSet("own", "Own", ragged)], runs / "cache")
    rewards = score(*load(model), ragged, 0)["reward"].to_numpy()
    taus = [
        scipy.stats.kendalltau(rewards[own], ragged["gold"][own]).statistic
        for own in ragged.groupby("prompt_id", sort=False).indices.values()
    ]
    assert of(frame, "model")["value"]["own_tau"] == pytest.approx(np.nanmean(taus))


def test_transformations_are_measured_on_pairs(model, runs):
    frame = measure(model, runs, transformations=True)
    changed = frame[frame["transformation"] != ""]
    assert set(changed["set"]) == {"in_domain"}
    assert {"accuracy_drop", "flips"} <= set(changed["statistic"])
    text = as_text(frame)
    assert "under changes that keep the meaning" in text
    measured = set(changed["transformation"])
    assert len(measured) > 5 and measured <= set(TRANSFORMATIONS)  # some change no such text
    assert all(f"\n{name} " in text for name in measured)


@pytest.mark.parametrize("as_list", [False, True])
def test_the_command_prints_tables_or_json(model, runs, monkeypatch, capsys, as_list):
    monkeypatch.chdir(runs.parent.parent)
    monkeypatch.setenv("RM_ROBUSTNESS_CACHE", str(runs / "cache"))
    main(
        [
            *("evaluate", str(model), "--preset", "tiny", "--batch-tokens", "4096"),
            *(["--json"] if as_list else []),
        ]
    )
    out, err = capsys.readouterr()
    if as_list:
        assert {row["name"] for row in json.loads(out)} == {str(model), "length"}
    else:
        assert "length-controlled tau" in out and "style gap, %" in out
    assert " tokens, " in err and " tokens, " not in out


def test_the_command_writes_a_page_and_a_model_card(model, runs, monkeypatch, tmp_path):
    monkeypatch.chdir(runs.parent.parent)
    monkeypatch.setenv("RM_ROBUSTNESS_CACHE", str(runs / "cache"))
    page, card = tmp_path / "card.html", tmp_path / "README.md"
    words = ["evaluate", str(model), "--preset", "tiny"]
    main([*words, "--card", str(page), "--model-card", str(card)])
    assert "<svg" in page.read_text() and "model-index" in card.read_text()
    with pytest.raises(SystemExit):
        main([*words, "--card", str(tmp_path / "absent" / "card.html")])
