"""AlpacaEval: annotations through the package, what can go wrong with a judge, and table 3."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rm_robustness import judge
from rm_robustness.alpaca_eval import COLUMNS, annotate, package, quiet
from rm_robustness.errors import InputError
from rm_robustness.files import read_frame, write_frame
from rm_robustness.sources.instructions import instructions
from rm_robustness.sources.responders import TRAIN_ROWS, TRAIN_STYLE, respond, responders
from rm_robustness.sources.tasks import gold
from rm_robustness.win_rates import (
    change_from,
    length_controlled_wins,
    lengths,
    table3,
    table3_markdown,
    table3_sources,
    wins,
)

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data" / "alpaca_eval" / "results"
N = 12
POLICIES = [("sft", 0, "maple"), ("large-bt", 0, "elm"), ("large-bt", 1, "oak")]
POLICIES += [("large-bt-bsr", 0, "ash"), ("large-bt-bsr", 1, "beech")]
JUDGE = {
    "serve": True,
    "model": "gold",
    "base_url_env": "TEST_JUDGE_URL",
    "api_key_env": "TEST_JUDGE_KEY",
    "concurrency": 4,
    "retries": 1,
    "price_per_1000_input_tokens": None,
    "price_per_1000_output_tokens": None,
    "gold": {"kind": "programmatic"},
}
ELSEWHERE = {**JUDGE, "serve": False}


def write_run(runs: Path, count: int) -> Path:
    """A run folder with instructions and the answers of five policies."""
    source = {"kind": "synthetic", "seed": 1, "instructions": count}
    instructions({**source, "length_quality_correlation": 0.6}, runs / "raw" / "alpaca_eval")
    asked = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    world = responders(TRAIN_ROWS, [TRAIN_STYLE], 0.6)
    for policy, seed, name in POLICIES:
        answers = [respond(2, prompt, world[name]) for prompt in asked["prompt"]]
        frame = asked[["example_id", "prompt"]].assign(
            response=answers, response_model=policy, finished=True
        )
        write_frame(frame, outputs(runs, policy, seed))
    return runs


def outputs(runs: Path, policy: str, seed: int) -> Path:
    return runs / "alpaca_eval" / "outputs" / policy / f"seed-{seed}.parquet"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    # The client's pauses between tries, half a second and more, shortened for the tests.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    monkeypatch.setenv("TEST_JUDGE_KEY", "s3cret")
    return write_run(tmp_path / "runs", N)


def judged(runs: Path, settings=JUDGE, policies=POLICIES[:2]) -> pd.DataFrame:
    files = [outputs(runs, policy, seed) for policy, seed, _ in policies]
    output = runs / "alpaca_eval" / "annotations.parquet"
    asked = runs / "raw" / "alpaca_eval" / "instructions.parquet"
    annotate(asked, files, settings, runs / "work" / "alpaca_eval", output)
    return pd.read_parquet(output)


def change(runs: Path, **columns: object) -> None:
    """Overwrite the first rows of columns of the SFT model's answers."""
    path = outputs(runs, "sft", 0)
    frame = read_frame(path)
    for name, values in columns.items():
        frame.loc[: len(values) - 1, name] = values
    write_frame(frame, path)


def trouble(
    status: int = 200, reply: object = None, *, after: int = 0, until: int = 10**9, pause: float = 0
) -> type[judge.Handler]:
    """A judge that remembers what it was asked, and gives `reply` to requests after, until."""

    class Trouble(judge.Handler):
        asked: ClassVar[list[dict[str, object]]] = []

        def do_POST(self) -> None:  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(pause)
            with self.server.lock:
                self.server.requests += 1
                number = self.server.requests
                self.asked.append(body)
            if reply is not None and after < number <= until:
                self.reply(status, reply)
                return
            logs = judge.log_probabilities(body["messages"][-1]["content"], self.server.gold)
            with self.server.lock:
                self.server.answered += 1
            self.reply(200, judge.completion("gold", logs))

        def reply(self, status: int, value: object) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Trouble


def user_prompts(handler: type[judge.Handler]) -> list[str]:
    return [body["messages"][-1]["content"] for body in handler.asked]


@pytest.fixture
def server(monkeypatch):
    """Start a judge elsewhere, whose address is in the environment."""
    with ExitStack() as stack:

        def start(handler: type[judge.Handler] = judge.Handler) -> judge.Judge:
            started = stack.enter_context(judge.running({"kind": "programmatic"}, handler))
            monkeypatch.setenv("TEST_JUDGE_URL", started.url)
            return started

        yield start


# --- annotations ---


def test_each_preference_is_the_judges_probability_whatever_the_order_it_saw(runs):
    frame = judged(runs)
    assert list(frame.columns) == COLUMNS
    assert frame[["policy", "seed"]].value_counts().to_dict() == {("sft", 0): N, ("large-bt", 0): N}
    asked = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    for _, own in frame.groupby("policy"):
        assert own["row"].tolist() == list(range(N))
        assert own["example_id"].tolist() == asked["example_id"].tolist()
        assert own["output_1"].tolist() == asked["reference"].tolist()
    prompts = asked["prompt"].iloc[frame["row"]]
    for prompt, (_, row) in zip(prompts, frame.iterrows(), strict=True):
        gap = gold(prompt, row["output_2"]) - gold(prompt, row["output_1"])
        expected = 1 + 1 / (1 + np.exp(-judge.SCALE * gap))
        assert row["preference"] == pytest.approx(expected, rel=1e-9)
    assert set(frame["annotator"]) == {"weighted_alpaca_eval_gpt4_turbo with gold"}
    assert not list((runs / "work").rglob("*.jsonl"))


def test_the_package_shows_the_judge_both_orders(runs, server):
    handler = trouble()
    server(handler)
    frame = judged(runs, ELSEWHERE)
    first = [judge.read_prompt(prompt)[1] for prompt in user_prompts(handler)]
    assert 0 < len(set(first) & set(frame["output_1"])) < N


def test_requests_are_those_of_the_packages_own_client(runs, server, monkeypatch):
    handler = trouble()
    url = server(handler).url
    judged(runs, {**ELSEWHERE, "model": "gpt-4-1106-preview"}, POLICIES[:1])
    ours = sorted(handler.asked, key=str)
    handler.asked.clear()
    frame = judged_by_package(runs, url)
    theirs = sorted(handler.asked, key=str)
    assert ours == theirs
    assert len(ours) == N
    assert ours[0]["top_logprobs"] == 5
    again = pd.read_parquet(runs / "alpaca_eval" / "annotations.parquet")
    assert again["preference"].tolist() == frame["preference"].tolist()
    assert set(again["annotator"]) == {"weighted_alpaca_eval_gpt4_turbo"}


def judged_by_package(runs: Path, url: str) -> pd.DataFrame:
    """The same annotations by the package alone, its own client included."""
    asked = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    answers = pd.read_parquet(outputs(runs, "sft", 0))
    name = "weighted_alpaca_eval_gpt4_turbo"
    annotators = package().annotators
    first = pd.DataFrame({"instruction": asked["prompt"], "output": asked["reference"]})
    second = pd.DataFrame({"instruction": asked["prompt"], "output": answers["response"]})
    with quiet():
        annotator = annotators.PairwiseAnnotator(annotators_config=name, caching_path=None)
        return pd.DataFrame(
            annotator.annotate_head2head(
                first, second, client_config_path="none", openai_api_keys=["k"], openai_api_base=url
            )
        )


def test_equal_texts_are_a_draw_and_the_same_pair_is_asked_once(runs, server):
    asked = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    other = pd.read_parquet(outputs(runs, "large-bt", 0))
    change(runs, response=[asked["reference"][0], other["response"][1]])
    started = server()
    frame = judged(runs, ELSEWHERE)
    assert frame["preference"][0] == 1.5
    assert frame["preference"][1] == frame["preference"][N + 1]
    same = sum(row["output_1"] == row["output_2"] for _, row in frame.iterrows())
    pairs = frame[["row", "output_1", "output_2"]].drop_duplicates()
    assert started.requests == len(pairs) - same < 2 * N


def test_an_empty_answer_is_judged_as_it_is(runs):
    change(runs, response=["", " "])
    frame = judged(runs, policies=POLICIES[:1])
    asked = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    for row in range(2):
        gap = -gold(asked["prompt"][row], asked["reference"][row])
        expected = 1 + 1 / (1 + np.exp(-judge.SCALE * gap))
        assert frame["preference"][row] == pytest.approx(expected, rel=1e-9)


def test_the_order_of_the_answers_does_not_matter_and_equal_input_gives_equal_bytes(runs):
    judged(runs)
    path = runs / "alpaca_eval" / "annotations.parquet"
    before = path.read_bytes()
    write_frame(read_frame(outputs(runs, "sft", 0))[::-1], outputs(runs, "sft", 0))
    judged(runs, {**JUDGE, "concurrency": 1})
    assert path.read_bytes() == before


def test_the_estimate_comes_before_the_first_question(runs, server, capsys):
    server(trouble(500, {}))
    prices = {"price_per_1000_input_tokens": 10.0, "price_per_1000_output_tokens": 30.0}
    with pytest.raises(InputError):
        judged(runs, {**ELSEWHERE, **prices}, POLICIES[:1])
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith(f"judge: {N} pairs to ask, 0 kept before; about ")
    tokens = int(line.split("about ")[1].split()[0].replace(",", ""))
    assert 300 * N < tokens < 500 * N  # the package's prompt alone has about 350
    assert line.endswith(f"price about {(10 * tokens + 30 * N) / 1000:.2f}")


# --- bad answers of the policies ---


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"example_id": ["instruction-0001"]}, r"row 0: found .*expected one of the instructions"),
        ({"prompt": ["what is love ?"]}, r"row 0: found example_id instruction-0000 with prompt"),
        ({"example_id": ["other"]}, r"seed-0\.parquet, row 0: found example_id other"),
        ({"response": [None]}, "instruction 0: found the output_2 (None|nan)"),
        ({"response": ["a <|im_end|> b"]}, r"instruction 0: found '<\|im_end\|>' in the output_2"),
        ({"response": ["{output_2}"]}, r"instruction 0: found '{output_2}' in the output_2"),
    ],
)
def test_answers_to_something_else_are_refused_with_file_and_row(runs, columns, message):
    change(runs, **columns)
    with pytest.raises(InputError, match=message) as caught:
        judged(runs)
    assert "\n" not in str(caught.value)


def test_an_instruction_answered_twice_or_not_at_all_is_refused(runs):
    path = outputs(runs, "sft", 0)
    frame = read_frame(path)
    write_frame(pd.concat([frame, frame[3:4]]), path)
    with pytest.raises(
        InputError, match=rf"row {N}: found example_id instruction-0003 again, .* 3"
    ):
        judged(runs)
    write_frame(frame.drop(index=3), path)
    with pytest.raises(InputError, match=r"seed-0\.parquet: found no answer to instruction 3"):
        judged(runs)


# --- a judge in trouble ---


def completion(**choice: object) -> dict[str, object]:
    whole = judge.completion("gold", {"m": -0.1, "M": -2.3})
    whole["choices"][0] |= choice
    return whole


def top(**logs: float) -> dict[str, object]:
    return judge.completion("gold", logs)["choices"][0]["logprobs"]


@pytest.mark.parametrize(
    ("status", "reply", "message"),
    [
        (429, {"error": {"message": "Rate limit reached"}}, r"HTTP 429 .*same command"),
        (500, {"error": {"message": "oops"}}, r"HTTP 500 .*same command"),
        (401, {"error": {"message": "no key s3cret"}}, r"HTTP 401 \(key from TEST_JUDGE_KEY\)"),
        (404, {"error": {"message": "no model"}}, "HTTP 404"),
        (200, b"<html>not JSON", "no chat completion .*<html>"),
        (200, {"choices": []}, "no chat completion"),
        (200, {"choices": ["m"]}, "no chat completion"),
        (200, completion(logprobs=None), "an answer without log-probabilities"),
        (200, completion(logprobs={"content": []}), "an answer without log-probabilities"),
        (200, completion(logprobs=top(Both=-0.1, The=-3.0)), r"the tokens \['Both', 'The'\]"),
        (200, completion(logprobs=top(m=float("nan"))), r"found the tokens \['m'\]"),
    ],
)
def test_what_is_no_answer_is_one_clear_error_and_no_preference(
    runs, server, status, reply, message, capfd
):
    server(trouble(status, reply, after=3))
    with pytest.raises(InputError, match=message) as caught:
        judged(runs, {**ELSEWHERE, "concurrency": 1}, POLICIES[:1])
    line = str(caught.value)
    assert "\n" not in line
    assert "127.0.0.1" in line
    assert "; expected " in line
    assert not (runs / "alpaca_eval" / "annotations.parquet").exists()
    assert "s3cret" not in line + "".join(capfd.readouterr())


def test_a_judge_that_is_not_there_is_named(runs, monkeypatch):
    monkeypatch.setenv("TEST_JUDGE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/v1, pair .*no connection"):
        judged(runs, ELSEWHERE)


def test_openais_own_address_needs_a_key(runs, monkeypatch):
    monkeypatch.delenv("TEST_JUDGE_KEY")
    with pytest.raises(InputError, match=r"TEST_JUDGE_KEY unset; expected the key of https://api"):
        judged(runs, ELSEWHERE)


def test_a_judge_that_recovers_is_asked_again(runs, server):
    started = server(trouble(429, {}, after=2, until=5))
    frame = judged(runs, {**ELSEWHERE, "concurrency": 1, "retries": 3}, POLICIES[:1])
    assert started.requests == N + 3
    assert frame["preference"].between(1, 2).all()


def test_answers_before_and_beside_a_failure_are_kept(runs, server):
    handler = trouble(500, {}, after=4, until=5)
    started = server(handler)
    with pytest.raises(InputError):
        judged(runs, {**ELSEWHERE, "retries": 0}, POLICIES[:1])
    assert 4 <= started.answered < N
    judged(runs, {**ELSEWHERE, "retries": 0}, POLICIES[:1])
    assert started.answered == N
    assert started.requests == N + 1
    # Those of a judge elsewhere are kept for good, and those of another judge are not mixed in.
    judged(runs, ELSEWHERE, POLICIES[:1])
    assert started.requests == N + 1
    judged(runs, {**ELSEWHERE, "model": "another"}, POLICIES[:1])
    assert started.requests == 2 * N + 1


def test_the_key_is_never_on_the_disk(runs, server):
    server()
    judged(runs, ELSEWHERE)
    for path in runs.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()


def test_a_damaged_journal_is_named_and_a_half_line_is_asked_again(runs, server):
    started = server()
    judged(runs, ELSEWHERE, POLICIES[:1])
    (journal,) = (runs / "work").rglob("*.jsonl")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-9])
    judged(runs, ELSEWHERE, POLICIES[:1])
    assert started.requests == N + 1
    journal.write_bytes(b"{}\n" + whole)
    with pytest.raises(InputError, match=r"answers\.jsonl line 1: .*asked again"):
        judged(runs, ELSEWHERE, POLICIES[:1])


@pytest.mark.slow
def test_a_judgement_killed_in_the_middle_goes_on_and_gives_the_same_bits(runs, server):
    handler = trouble(pause=0.1)
    started = server(handler)
    command = [sys.executable, "-c", KILLED, str(runs), json.dumps(ELSEWHERE)]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)})
    deadline = time.monotonic() + 60
    while started.answered < N and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    output = runs / "alpaca_eval" / "annotations.parquet"
    assert not output.exists()
    (journal,) = (runs / "work").rglob("*.jsonl")
    kept = journal.read_bytes().count(b"\n")
    assert N - ELSEWHERE["concurrency"] <= kept < 2 * N
    time.sleep(0.3)  # what was in flight arrives
    before = started.requests
    judged(runs, ELSEWHERE)
    assert started.requests == before + 2 * N - kept
    twice = [prompt for prompt, n in Counter(user_prompts(handler)).items() if n > 1]
    assert len(twice) <= ELSEWHERE["concurrency"]
    interrupted = output.read_bytes()
    journal.unlink()
    judged(runs, ELSEWHERE)
    assert output.read_bytes() == interrupted


KILLED = """
import json, sys
from pathlib import Path
from test_alpaca_eval import judged
judged(Path(sys.argv[1]), json.loads(sys.argv[2]))
"""


# --- lengths and win rates ---


def published() -> pd.DataFrame:
    """The package's leaderboard of AlpacaEval 2.0."""
    folder = Path(importlib.util.find_spec("alpaca_eval").origin).parent / "leaderboards"
    path = folder / "data_AlpacaEval_2" / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    return pd.read_csv(path, index_col=0)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs AlpacaEval's annotations of 21 models")
def test_win_rates_and_lengths_of_real_models_are_the_published_ones():
    board, compared = published(), 0
    for folder in sorted(REAL.iterdir()):
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
    with pytest.raises(InputError, match=r"df_gamed\.csv: found columns \[\]"):
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
    about = {"run": "large", "seeds": [0, 1], "judge": {"serve": True}, "paper_model": None}
    return {
        "preset": "test",
        "alpaca_eval": about | change,
        "bsr": {"weight": 1e-3, "reduction": "release"},
        "resamples": 200,
        "seed": 5,
        "paper_values": str(ROOT / "data" / "paper" / "published_values.csv"),
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


def test_table_3_reads_the_papers_numbers_and_lists_its_sources(large):
    frame = table3(large, shown(paper_model="Qwen2.5-1.5B")).set_index(["method", "metric"])
    paper = frame["paper"]
    assert paper["rloo-bt-bsr", "avg_length_chars"] == 1337
    assert paper["sft", "lc_win_rate"] == 2.59
    assert paper["rloo-bt-bsr", "length_change_from_sft"] == pytest.approx(-40.5, abs=0.01)
    assert np.isnan(paper["rloo-bt", "win_rate"])
    sources = table3_sources(large, shown())
    assert len(sources) == 5 + 3
    assert all(path.is_file() for path in sources)
    assert len(table3_sources(large, shown(judge=None))) == 5 + 1


def test_without_a_judge_lengths_are_measured_and_win_rates_are_empty(large):
    settings = shown(judge=None)
    frame = table3(large, settings).set_index(["method", "metric"])
    rates = frame[frame.index.get_level_values("metric").str.endswith("win_rate")]
    assert rates[["value", "ci_low", "difference", "p_value"]].isna().all(axis=None)
    assert frame["value"].notna().sum() == 5
    text = table3_markdown(table3(large, settings), "A note.")
    assert "A note." in text
    assert "No judge was asked" in text
    assert text.count("not measured") == 7
    assert "paper" not in text


def test_the_markdown_has_a_row_a_method_and_names_the_judge(large):
    text = table3_markdown(table3(large, shown(paper_model="Qwen2.5-1.5B")))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["sft", "rloo-bt", "rloo-bt-bsr"]
    assert "(paper 9.02)" in rows[4]
    assert "with gold`" in text


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
