"""Lengths, win rates and length-controlled ones against the package's own, and table 3."""

import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.judgements import POLICIES, change, judged, outputs, write_run
from support.paths import PUBLISHED, REAL

from rm_robustness.errors import InputError
from rm_robustness.evaluation.alpaca_eval.length_controlled import length_controlled_wins, lengths
from rm_robustness.evaluation.alpaca_eval.package import package, quiet
from rm_robustness.evaluation.alpaca_eval.win_rates import wins
from rm_robustness.frames import read_frame, write_frame
from rm_robustness.ratios import relative_change as change_from
from rm_robustness.results.table3_alpaca_eval import table3, table3_markdown

ANSWERS = REAL / "alpaca_eval" / "results"


def published() -> pd.DataFrame:
    """The package's leaderboard of AlpacaEval 2.0."""
    folder = Path(importlib.util.find_spec("alpaca_eval").origin).parent / "leaderboards"
    path = folder / "data_AlpacaEval_2" / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    return pd.read_csv(path, index_col=0)


@pytest.mark.skipif(not ANSWERS.is_dir(), reason="needs AlpacaEval's annotations of 21 models")
def test_win_rates_and_lengths_of_real_models_are_the_published_ones():
    board, compared = published(), 0
    for folder in sorted(ANSWERS.iterdir()):
        path = folder / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
        frame = pd.DataFrame(json.loads(path.read_text()))
        won, long = wins(frame["preference"]), lengths(frame["output_2"])
        if folder.name not in board.index:
            assert folder.name == "text_davinci_003"  # the leaderboard left it out
            continue
        row, compared = board.loc[folder.name], compared + 1
        assert len(won) == row["n_total"] == (804 if folder.name == "minotaur-13b" else 805)
        assert won.mean() == pytest.approx(row["win_rate"], rel=1e-12)
        assert won.std(ddof=1) / len(won) ** 0.5 == pytest.approx(row["standard_error"], rel=1e-12)
        # The leaderboard cuts the mean length of all 805 answers down to a whole number. One answer
        # of minotaur-13b was never judged: with any of up to 789 characters its mean is 881.
        unjudged = 805 - len(won)
        assert int((long.sum() + 400 * unjudged) / 805) == row["avg_length"]
    assert compared == 20


def of_policy(frame: pd.DataFrame, policy: str = "large-bt", seed: int = 0) -> pd.DataFrame:
    return frame[(frame["policy"] == policy) & (frame["seed"] == seed)].reset_index(drop=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A run of 120 instructions with the judge's annotations of all policies."""
    runs = write_run(tmp_path_factory.mktemp("large") / "runs", 120)
    judged(runs, policies=POLICIES)
    return runs


GAMED = "raw/alpaca_eval/df_gamed.csv"
ANNOTATIONS = "alpaca_eval/annotations.parquet"


def by_package(frame: pd.DataFrame, gamed: Path, monkeypatch) -> dict[str, float]:
    """The package's own metrics, with its file in place of a download."""
    glm = package().metrics.glm_winrate
    monkeypatch.setattr(glm, "hf_hub_download", lambda **_: str(gamed))
    own = frame.assign(generator_1="baseline", generator_2="policy")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return glm.get_length_controlled_winrate(own, save_weights_dir=None)


def test_the_length_controlled_win_rate_is_the_packages(large, monkeypatch):
    frame = of_policy(pd.read_parquet(large / ANNOTATIONS))
    theirs = by_package(frame, large / GAMED, monkeypatch)
    ours = length_controlled_wins(frame, large / GAMED)
    assert ours.mean() == pytest.approx(theirs["length_controlled_winrate"], rel=1e-12)
    assert wins(frame["preference"]).mean() == pytest.approx(theirs["win_rate"], rel=1e-12)
    # Half of a GLM's fit is what the instructions happen to be; the package leaves that out.
    assert ours.std(ddof=1) / 120**0.5 > 1.5 * theirs["lc_standard_error"]


@pytest.mark.slow
def test_the_spread_of_length_controlled_wins_is_that_of_fits_to_resampled_instructions(
    large, monkeypatch
):
    frame = of_policy(pd.read_parquet(large / ANNOTATIONS))
    values = length_controlled_wins(frame, large / GAMED)
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        drawn = rng.integers(120, size=120)
        resampled = frame.iloc[drawn].reset_index(drop=True).assign(index=drawn)
        metrics = by_package(resampled, large / GAMED, monkeypatch)
        found.append(metrics["length_controlled_winrate"])
    assert values.std(ddof=1) / 120**0.5 == pytest.approx(np.std(found, ddof=1), rel=0.3)


def test_length_control_takes_out_what_length_alone_earns(large):
    """A judge that likes length: the raw win rate follows it, the controlled one less so."""
    frame = of_policy(pd.read_parquet(large / ANNOTATIONS))
    gamed, path = pd.read_csv(large / GAMED), large / "length.csv"
    # Talk that the baseline is gamed with earns what length earns, and nothing else does.
    gamed["preference"] = 1 / (1 + np.exp(2 * np.tanh(gamed["std_delta_len"])))
    gamed.to_csv(path, index=False)
    frame["output_2"] = [text + " well" * (i % 40) for i, text in enumerate(frame["output_1"])]
    shorter = lengths(frame["output_1"]) - lengths(frame["output_2"])
    frame["preference"] = 1 + 1 / (1 + np.exp(2 * np.tanh(shorter / shorter.std(ddof=1))))
    raw = wins(frame["preference"]).mean()
    assert raw > 70
    assert length_controlled_wins(frame, path).mean() == pytest.approx(50, abs=5)


def test_gamed_baselines_of_other_instructions_are_refused(large, tmp_path):
    frame, gamed = of_policy(pd.read_parquet(large / ANNOTATIONS)), pd.read_csv(large / GAMED)
    bad = tmp_path / "df_gamed.csv"
    for other in (gamed[gamed["index"] < 119], gamed.sort_values("index", kind="stable")):
        other.to_csv(bad, index=False)
        with pytest.raises(InputError, match=r"df_gamed\.csv: found .* the 120 of the annotations"):
            length_controlled_wins(frame, bad)
    gamed.drop(columns="std_delta_len").to_csv(bad, index=False)
    with pytest.raises(InputError, match=r"also the columns \['std_delta_len'\]"):
        length_controlled_wins(frame, bad)
    bad.unlink()
    with pytest.raises(InputError, match=r"df_gamed\.csv: found no such file"):
        length_controlled_wins(frame, bad)


def test_without_a_difference_in_length_there_is_no_length_controlled_win_rate(large):
    frame = of_policy(pd.read_parquet(large / ANNOTATIONS))
    frame["output_2"] = frame["output_1"]
    assert np.isnan(length_controlled_wins(frame, large / GAMED)).all()


POSITIVE = st.floats(1, 1000)


@given(arrays(float, (3, 5), elements=POSITIVE), arrays(float, 5, elements=POSITIVE))
def test_the_change_of_a_mean_is_the_mean_of_its_entries(values, base):
    change = change_from(values, base)
    expected = 100 * (values.mean(axis=1) / base.mean() - 1)
    np.testing.assert_allclose(change.mean(axis=1), expected, rtol=1e-9, atol=1e-6)
    # Answers that are all half as long have exactly half the length, whichever are drawn.
    np.testing.assert_allclose(change_from(base[None] / 2, base), -50, rtol=1e-9)


# --- table 3 ---


def shown(**change: object) -> dict[str, object]:
    about = {"run": "large", "seeds": [0, 1], "judge": {"kind": "gold"}, "paper_model": None}
    return {
        "preset": "test",
        "alpaca_eval": about | change,
        "bsr": {"weight": 1e-3, "reduction": "release"},
        "seed": 5,
        "paper_values": str(PUBLISHED),
    }


def test_table_3_has_the_means_over_seeds_and_the_paired_differences(large):
    frame = table3(large, shown()).set_index(["method", "metric"])
    annotations = pd.read_parquet(large / ANNOTATIONS)
    won = {key: own for key, own in annotations.groupby(["policy", "seed"])["preference"]}
    means = {key: 100 * (own.mean() - 1) for key, own in won.items()}
    bt = (means["large-bt", 0] + means["large-bt", 1]) / 2
    bsr = (means["large-bt-bsr", 0] + means["large-bt-bsr", 1]) / 2
    row = frame.loc["rloo-bt-bsr", "win_rate"]
    assert row["value"] == pytest.approx(bsr)
    assert row["difference"] == pytest.approx(bsr - bt)
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert (row["n_seeds"], row["n_prompts"], row["n_undefined"]) == (2, 120, 0)
    row = frame.loc["sft", "win_rate"]
    assert row["value"] == pytest.approx(means["sft", 0])
    assert row["difference"] == pytest.approx(means["sft", 0] - bt)
    assert row["n_seeds"] == 1
    characters = frame.xs("avg_length_chars", level="metric")["value"]
    answers = read_frame(outputs(large, "sft", 0))["response"]
    assert characters["sft"] == pytest.approx(np.mean([len(text) for text in answers]))
    change = frame.loc["rloo-bt", "length_change_from_sft"]["value"]
    assert change == pytest.approx(100 * (characters["rloo-bt"] / characters["sft"] - 1))
    assert frame["difference"].xs("rloo-bt", level="method").isna().all()
    assert (frame["p_holm"].dropna() >= frame["p_value"].dropna()).all()
    assert frame["p_holm"].notna().sum() == 7
    lc = frame.loc["sft", "lc_win_rate"]
    own = length_controlled_wins(of_policy(annotations, "sft"), large / GAMED)
    assert lc["value"] == pytest.approx(own.mean())
    assert set(frame["annotator"]) == {"weighted_alpaca_eval_gpt4_turbo with gold"}


def test_table_3_reads_the_papers_numbers(large):
    frame = table3(large, shown(paper_model="Qwen2.5-1.5B")).set_index(["method", "metric"])
    paper = frame["paper"]
    assert paper["rloo-bt-bsr", "avg_length_chars"] == 1337
    assert paper["sft", "lc_win_rate"] == 2.59
    assert paper["rloo-bt-bsr", "length_change_from_sft"] == pytest.approx(-40.5, abs=0.01)
    assert np.isnan(paper["rloo-bt", "win_rate"])


def test_without_a_judge_lengths_are_measured_and_win_rates_are_empty(large):
    settings = shown(judge=None)
    frame = table3(large, settings).set_index(["method", "metric"])
    rates = frame[frame.index.get_level_values("metric").str.endswith("win_rate")]
    assert rates[["value", "ci_low", "difference", "p_value"]].isna().all(axis=None)
    assert frame["value"].notna().sum() == 5
    text = table3_markdown(table3(large, settings), "A note.")
    assert "A note." in text
    assert "Without a judge" in text
    assert text.count("not measured") == 7
    assert "paper" not in text


def test_the_markdown_has_a_row_a_method_and_names_the_judge(large):
    text = table3_markdown(table3(large, shown(paper_model="Qwen2.5-1.5B")))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["sft", "rloo-bt", "rloo-bt-bsr"]
    assert "(paper 9.02)" in rows[4]
    assert "- Judge: `weighted_alpaca_eval_gpt4_turbo with gold`." in text
    assert "of a judge that is shut down" in text


def test_annotations_of_other_answers_are_refused(large, tmp_path):
    runs = tmp_path / "runs"
    for path in large.rglob("*"):
        if path.is_file():
            (runs / path.relative_to(large)).parent.mkdir(parents=True, exist_ok=True)
            (runs / path.relative_to(large)).write_bytes(path.read_bytes())
    change(runs, response=["another answer ."])
    with pytest.raises(InputError, match=r"annotations\.parquet: found 120 annotations of sft"):
        table3(runs, shown())
    frame = read_frame(outputs(runs, "large-bt", 1))
    write_frame(frame[::-1], outputs(runs, "large-bt", 1))
    with pytest.raises(InputError, match=r"large-bt/seed-1\.parquet: found answers to other"):
        table3(runs, shown())
