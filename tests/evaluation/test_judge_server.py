import json
import math
import urllib.error
import urllib.request

import openai
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_robustness.data.synthetic.tasks import gold
from rm_robustness.errors import InputError
from rm_robustness.evaluation.alpaca_eval import judge_server as judge
from rm_robustness.evaluation.alpaca_eval.judge_client import request_body
from rm_robustness.evaluation.alpaca_eval.package import package

PROGRAMMATIC = {"kind": "programmatic"}
INSTRUCTION = "add two to each number : one five ten ."
GOOD, BAD = "three , seven , twelve .", "nine ."
CONFIG = "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"


def prompt_of(instruction: str, m: str, other: str) -> str:
    """The user's turn, as the package itself writes it."""
    constants, utils = package().constants, package().utils
    template = (constants.EVALUATORS_CONFIG_DIR / CONFIG).read_text()
    rows = pd.DataFrame([{"instruction": instruction, "output_1": m, "output_2": other}])
    (prompt,), _ = utils.make_prompts(rows, template)
    return str(request_body(prompt, "m", {})["messages"][-1]["content"])


@pytest.fixture(scope="module")
def client():
    with judge.running(PROGRAMMATIC) as server:
        yield openai.OpenAI(base_url=server.url, api_key="EMPTY", max_retries=0)


def get(server: judge.Judge, path: str) -> dict[str, int]:
    with urllib.request.urlopen(server.url.removesuffix("/v1") + path, timeout=5) as reply:
        return dict(json.load(reply))


TEXTS = st.text(alphabet='ab "\n{},:', max_size=30)


@given(TEXTS, TEXTS, TEXTS)
def test_the_texts_are_read_back_out_of_the_packages_own_prompt(instruction, m, other):
    assert judge.read_prompt(prompt_of(instruction, m, other)) == (instruction, m, other)


def test_texts_that_look_like_the_prompt_and_empty_ones_are_read_back():
    inner = '"""\n    },\n    "model_identifier": "M"'
    for texts in [("a", inner, "b"), ("a", "b", inner), ('say """', "", ""), ("a", 'x"', '"y"""')]:
        assert judge.read_prompt(prompt_of(*texts)) == texts


def test_the_probability_of_m_is_the_sigmoid_of_the_difference_in_gold(client):
    difference = gold(INSTRUCTION, GOOD) - gold(INSTRUCTION, BAD)
    for first, second, sign in [(GOOD, BAD, 1), (BAD, GOOD, -1), (GOOD, GOOD, 0)]:
        reply = client.chat.completions.create(
            model="gold",
            messages=[{"role": "user", "content": prompt_of(INSTRUCTION, first, second)}],
            logprobs=True,
            top_logprobs=5,
        )
        (token,) = reply.choices[0].logprobs.content
        logs = {each.token: each.logprob for each in token.top_logprobs}
        expected = 1 / (1 + math.exp(-judge.SCALE * sign * difference))
        assert math.exp(logs["m"]) == pytest.approx(expected, rel=1e-12)
        assert math.exp(logs["m"]) + math.exp(logs["M"]) == pytest.approx(1, rel=1e-12)
        assert logs[reply.choices[0].message.content] == max(logs.values())
        assert (reply.model, reply.choices[0].finish_reason) == ("gold", "length")


def test_a_certain_judge_is_still_finite():
    assert judge.log_sigmoid(1e3) == 0.0
    assert judge.log_sigmoid(-1e3) == -1e3 * judge.SCALE


def test_what_cannot_be_judged_is_refused_in_words(client):
    for content, words in [
        ("hello", "expected the prompt of"),
        (prompt_of("what is love ?", "a", "b"), "a prompt of the synthetic world"),
        (None, "string"),
    ]:
        with pytest.raises(openai.BadRequestError, match=words):
            client.chat.completions.create(
                model="gold", messages=[{"role": "user", "content": content}]
            )


def test_it_counts_requests_and_answers():
    with judge.running(PROGRAMMATIC) as server:
        client = openai.OpenAI(base_url=server.url, api_key="EMPTY", max_retries=0)
        for content in [prompt_of(INSTRUCTION, GOOD, BAD), "hello", prompt_of(INSTRUCTION, "", "")]:
            try:
                client.chat.completions.create(
                    model="gold", messages=[{"role": "user", "content": content}]
                )
            except openai.BadRequestError:
                assert content == "hello"
        assert get(server, "/requests") == {"requests": 3, "answered": 2}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server, "/other")


def test_it_is_gone_after_the_block_also_when_that_fails():
    with pytest.raises(KeyError), judge.running(PROGRAMMATIC) as server:
        assert get(server, "/requests") == {"requests": 0, "answered": 0}
        raise KeyError
    with pytest.raises(urllib.error.URLError, match="refused"):
        get(server, "/requests")


def test_a_text_that_is_no_prompt_is_an_input_error():
    with pytest.raises(InputError, match="prompt of weighted_alpaca_eval_gpt4_turbo"):
        judge.read_prompt("hello")
