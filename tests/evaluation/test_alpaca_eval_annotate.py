"""AlpacaEval: annotations through the package, and what can go wrong with a judge."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from support.judgements import HOSTED, JUDGE, POLICIES, change, judged, outputs, write_run
from support.paths import ROOT

from rm_robustness.data.synthetic.tasks import gold
from rm_robustness.errors import InputError
from rm_robustness.evaluation.alpaca_eval import judge_server as judge
from rm_robustness.evaluation.alpaca_eval.annotate import COLUMNS
from rm_robustness.evaluation.alpaca_eval.package import package, quiet
from rm_robustness.frames import read_frame, write_frame

N = 12


@pytest.fixture
def runs(tmp_path, monkeypatch):
    # The client's pauses between tries, half a second and more, shortened for the tests.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    monkeypatch.setenv("TEST_JUDGE_KEY", "s3cret")
    return write_run(tmp_path / "runs", N)


def trouble(
    status: int = 200, reply: object = None, *, after: int = 0, until: int = 10**9, pause: float = 0
) -> type[judge.Handler]:
    """A judge that keeps the bodies of requests; `reply` answers those from `after` to `until`."""

    class Trouble(judge.Handler):
        bodies: ClassVar[list[dict[str, object]]] = []

        def do_POST(self) -> None:  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(pause)
            with self.server.lock:
                self.server.requests += 1
                number = self.server.requests
                self.bodies.append(body)
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
    return [body["messages"][-1]["content"] for body in handler.bodies]


@pytest.fixture
def server(monkeypatch):
    """Start a hosted judge, whose address is in the environment."""
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
    instructions = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    for _, own in frame.groupby("policy"):
        assert own["row"].tolist() == list(range(N))
        assert own["example_id"].tolist() == instructions["example_id"].tolist()
        assert own["output_1"].tolist() == instructions["reference"].tolist()
    prompts = instructions["prompt"].iloc[frame["row"]]
    for prompt, (_, row) in zip(prompts, frame.iterrows(), strict=True):
        gap = gold(prompt, row["output_2"]) - gold(prompt, row["output_1"])
        expected = 1 + 1 / (1 + np.exp(-judge.SCALE * gap))
        assert row["preference"] == pytest.approx(expected, rel=1e-9)
    assert set(frame["annotator"]) == {"weighted_alpaca_eval_gpt4_turbo with gold"}
    assert not list((runs / "work").rglob("*.jsonl"))


def test_the_package_shows_the_judge_both_orders(runs, server):
    handler = trouble()
    server(handler)
    frame = judged(runs, HOSTED)
    first = [judge.read_prompt(prompt)[1] for prompt in user_prompts(handler)]
    assert 0 < len(set(first) & set(frame["output_1"])) < N


def test_requests_are_those_of_the_packages_own_client(runs, server, monkeypatch):
    handler = trouble()
    url = server(handler).url
    judged(runs, {**HOSTED, "model": "gpt-4-1106-preview"}, POLICIES[:1])
    ours = sorted(handler.bodies, key=str)
    handler.bodies.clear()
    frame = judged_by_package(runs, url)
    theirs = sorted(handler.bodies, key=str)
    assert ours == theirs
    assert len(ours) == N
    assert ours[0]["top_logprobs"] == 5
    again = pd.read_parquet(runs / "alpaca_eval" / "annotations.parquet")
    assert again["preference"].tolist() == frame["preference"].tolist()
    assert set(again["annotator"]) == {"weighted_alpaca_eval_gpt4_turbo"}


def judged_by_package(runs: Path, url: str) -> pd.DataFrame:
    """The same annotations by the package alone, its own client included."""
    instructions = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    answers = pd.read_parquet(outputs(runs, "sft", 0))
    name = "weighted_alpaca_eval_gpt4_turbo"
    annotators = package().annotators
    first = pd.DataFrame(
        {"instruction": instructions["prompt"], "output": instructions["reference"]}
    )
    second = pd.DataFrame({"instruction": instructions["prompt"], "output": answers["response"]})
    with quiet():
        annotator = annotators.PairwiseAnnotator(annotators_config=name, caching_path=None)
        return pd.DataFrame(
            annotator.annotate_head2head(
                first, second, client_config_path="none", openai_api_keys=["k"], openai_api_base=url
            )
        )


def test_equal_texts_are_a_draw_and_the_same_pair_is_judged_once(runs, server):
    instructions = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    other = pd.read_parquet(outputs(runs, "large-bt", 0))
    change(runs, response=[instructions["reference"][0], other["response"][1]])
    started = server()
    frame = judged(runs, HOSTED)
    assert frame["preference"][0] == 1.5
    assert frame["preference"][1] == frame["preference"][N + 1]
    same = sum(row["output_1"] == row["output_2"] for _, row in frame.iterrows())
    pairs = frame[["row", "output_1", "output_2"]].drop_duplicates()
    assert started.requests == len(pairs) - same < 2 * N


def test_an_empty_answer_is_judged_as_it_is(runs):
    change(runs, response=["", " "])
    frame = judged(runs, policies=POLICIES[:1])
    instructions = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    for row in range(2):
        gap = -gold(instructions["prompt"][row], instructions["reference"][row])
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
        judged(runs, {**HOSTED, **prices}, POLICIES[:1])
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith(f"judge: {N} requests, 0 cached; about ")
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
        ({"response": [None]}, "row 0, example instruction-0000: found response None"),
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
        judged(runs, {**HOSTED, "concurrency": 1}, POLICIES[:1])
    line = str(caught.value)
    assert "\n" not in line
    assert "127.0.0.1" in line
    assert "; expected " in line
    assert not (runs / "alpaca_eval" / "annotations.parquet").exists()
    assert "s3cret" not in line + "".join(capfd.readouterr())


def test_a_judge_that_is_not_there_is_named(runs, monkeypatch):
    monkeypatch.setenv("TEST_JUDGE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/v1, pair .*no connection"):
        judged(runs, HOSTED)


def test_openais_own_address_needs_a_key(runs, monkeypatch):
    monkeypatch.delenv("TEST_JUDGE_KEY")
    with pytest.raises(InputError, match=r"TEST_JUDGE_KEY unset; expected the key of https://api"):
        judged(runs, HOSTED)


def test_a_judge_that_recovers_gets_the_request_again(runs, server):
    started = server(trouble(429, {}, after=2, until=5))
    frame = judged(runs, {**HOSTED, "concurrency": 1, "retries": 3}, POLICIES[:1])
    assert started.requests == N + 3
    assert frame["preference"].between(1, 2).all()


def test_answers_before_and_beside_a_failure_are_kept(runs, server):
    handler = trouble(500, {}, after=4, until=5)
    started = server(handler)
    with pytest.raises(InputError):
        judged(runs, {**HOSTED, "retries": 0}, POLICIES[:1])
    assert 4 <= started.answered < N
    judged(runs, {**HOSTED, "retries": 0}, POLICIES[:1])
    assert started.answered == N
    assert started.requests == N + 1
    # Answers of a hosted judge are kept for good, and not used for another judge.
    judged(runs, HOSTED, POLICIES[:1])
    assert started.requests == N + 1
    judged(runs, {**HOSTED, "model": "another"}, POLICIES[:1])
    assert started.requests == 2 * N + 1


def test_the_key_is_never_on_the_disk(runs, server):
    server()
    judged(runs, HOSTED)
    for path in runs.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()


def test_a_damaged_log_is_named_and_the_request_of_a_partial_line_is_repeated(runs, server):
    started = server()
    judged(runs, HOSTED, POLICIES[:1])
    (journal,) = (runs / "work").rglob("*.jsonl")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-9])
    judged(runs, HOSTED, POLICIES[:1])
    assert started.requests == N + 1
    journal.write_bytes(b"{}\n" + whole)
    with pytest.raises(InputError, match=r"answers\.jsonl line 1: .*sent again"):
        judged(runs, HOSTED, POLICIES[:1])


@pytest.mark.slow
def test_a_judgement_killed_in_the_middle_goes_on_and_gives_the_same_bits(runs, server):
    handler = trouble(pause=0.1)
    started = server(handler)
    command = [sys.executable, "-c", KILLED, str(runs), json.dumps(HOSTED)]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")})
    deadline = time.monotonic() + 60
    while started.answered < N and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    output = runs / "alpaca_eval" / "annotations.parquet"
    assert not output.exists()
    (journal,) = (runs / "work").rglob("*.jsonl")
    kept = journal.read_bytes().count(b"\n")
    assert N - HOSTED["concurrency"] <= kept < 2 * N
    time.sleep(0.3)  # what was in flight arrives
    before = started.requests
    judged(runs, HOSTED)
    assert started.requests == before + 2 * N - kept
    twice = [prompt for prompt, n in Counter(user_prompts(handler)).items() if n > 1]
    assert len(twice) <= HOSTED["concurrency"]
    interrupted = output.read_bytes()
    journal.unlink()
    judged(runs, HOSTED)
    assert output.read_bytes() == interrupted


KILLED = """
import json, sys
from pathlib import Path
from support.judgements import judged
judged(Path(sys.argv[1]), json.loads(sys.argv[2]))
"""
