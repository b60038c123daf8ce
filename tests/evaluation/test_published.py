"""Published rows: the leaderboard's numbers as printed, and only beside the same data."""

import numpy as np
import pandas as pd
import pytest
from support.paths import REAL, ROOT

from rm_robustness.data.rm_bench import read_benchmark
from rm_robustness.evaluation import published as module
from rm_robustness.evaluation.published import FINGERPRINTS, MATH_PROMPTS, published
from rm_robustness.evaluation.sets import EvaluationSet

# The column "Domain Avg" of the leaderboard at the commit in data/paper/README.md.
DOMAIN_AVERAGES = {
    "Llama-3.3-Nemotron-70B-Reward-Multilingual": 82.4,
    "Qwen-3-Nemotron-32B-Reward": 81.9,
    "Llama-3.3-Nemotron-70B-Reward": 79.9,
    "Qwen-2.5-Nemotron-32B-Reward": 77.4,
    "Skywork-Reward-Llama-3.1-8B-v0.2": 70.2,
    "GRM-Llama3.2-3B-rewardmodel-ft": 69.6,
    "FsfairX-LLLaMA3-RM-v0.1": 69.4,
    "INF-ORM-Llama3.1-70B": 70.9,
    "Llama-3.1-Nemotron-70B-Reward": 70.7,
    "Skywork-Reward-Llama-3.1-8B": 70.1,
    "URM-LLama-3.1-8B": 70.0,
    "Nemotron-340B-Reward": 69.5,
    "Llama-3-OffsetBias-RM-8B": 69.0,
    "internlm2-20b-reward": 68.3,
    "GRM-llama3-8B-sftreg": 68.2,
    "ArmoRM-Llama3-8B-v0.1": 67.7,
    "Skywork-Reward-Gemma-2-27B": 67.3,
    "internlm2-7b-reward": 67.1,
    "Eurus-RM-7b": 65.9,
    "RM-Mistral-7B": 63.6,
    "Mistral-7B-instruct-Unified-Feedback": 63.2,
    "tulu-v2.5-70b-preference-mix-rm": 63.0,
}


def bench(counts: dict[str, int], name: str = "rm_bench") -> EvaluationSet:
    rows = [
        (f"{domain}-{i}", f"{domain}-{i}-a", "a prompt", "a response", domain)
        for domain, count in counts.items()
        for i in range(count)
    ]
    columns = ["prompt_id", "response_id", "prompt", "response", "domain"]
    return EvaluationSet(name, "RM-Bench", pd.DataFrame(rows, columns=columns))


@pytest.fixture
def whole(monkeypatch) -> EvaluationSet:
    """A benchmark of all domains, which is made the real one."""
    made = bench({**dict.fromkeys(FINGERPRINTS, 2), "math": MATH_PROMPTS})
    sums = {str(d): module._fingerprint(rows) for d, rows in made.frame.groupby("domain")}
    monkeypatch.setattr(module, "FINGERPRINTS", sums)
    return made


def test_the_file_agrees_with_the_leaderboards_own_averages():
    table = pd.read_csv(ROOT / module.LEADERBOARD)
    assert set(table["model"]) == set(DOMAIN_AVERAGES)
    domains = table[["chat", "math", "code", "safety"]].mean(axis=1)
    np.testing.assert_allclose(table["overall"], domains, atol=1e-9)
    printed = table["model"].map(DOMAIN_AVERAGES)
    assert (table["overall"] - printed).abs().max() < 0.0501  # printed with one decimal
    assert table["url"].str.startswith("https://").all() and table["model"].is_unique


def test_all_numbers_of_all_models_the_best_first(whole):
    rows = published([whole._replace(name="in_domain"), whole])
    assert set(rows["kind"]) == {"published"} and set(rows["set"]) == {"rm_bench"}
    table = rows.pivot(index=["name", "source"], columns="metric", values="value").reset_index()
    assert len(table) == len(DOMAIN_AVERAGES) + 4 and not table.isna().any(axis=None)
    overall = rows[rows["metric"] == "overall"]
    assert overall["value"].is_monotonic_decreasing
    assert overall["name"].iloc[0] == "Llama-3.3-Nemotron-70B-Reward-Multilingual"
    by_name = table.set_index("name")
    own = by_name.loc["Llama-3.1-8B BT-BSR, λ = 0.01"]
    assert own["source"] == "paper, table 2" and own["overall"] == 70.0 and own["hard"] == 55.7
    assert own["style_gap"] == pytest.approx(81.9 - 55.7)
    differ = by_name["source"].str.contains("differ")
    assert set(by_name.index[differ]) == {
        "Skywork-Reward-Llama-3.1-8B-v0.2",
        "GRM-Llama3.2-3B-rewardmodel-ft",
        "FsfairX-LLLaMA3-RM-v0.1",
    }


def test_a_metric_is_published_only_of_the_same_data(whole):
    changed = whole.frame.copy()
    changed.loc[changed["prompt_id"] == "chat-0", "response"] = "another response"
    rows = published([whole._replace(frame=changed)])
    assert list(dict.fromkeys(rows["metric"])) == ["math", "code", "safety"]
    half = whole.frame[whole.frame["domain"] != "safety-refuse"]
    assert "safety" not in set(published([whole._replace(frame=half)])["metric"])
    fewer = whole.frame[whole.frame["prompt_id"] != "math-0"]
    assert "math" not in set(published([whole._replace(frame=fewer)])["metric"])
    shuffled = whole._replace(frame=whole.frame.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(published([shuffled]), published([whole]))


@pytest.mark.parametrize("sets", [[], [bench({"chat": 129, "code": 2})]])
def test_other_data_have_no_published_rows(sets):
    rows = published(sets)
    assert rows.empty and list(rows) == module.COLUMNS


def test_the_real_files_are_known():
    folder = REAL / "rm_bench"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/rm_bench, files of the real RM-Bench")
    rows = published([EvaluationSet("rm_bench", "RM-Bench", read_benchmark(folder))])
    assert list(dict.fromkeys(rows["metric"])) == ["chat", "code"]  # one file of safety is not here
