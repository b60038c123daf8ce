"""Answers on disk: what comes back, whatever a kill has cut off."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from rm_robustness.errors import InputError
from rm_robustness.models.answer_log import Answer, AnswerCache, AnswerLog


def test_an_answer_log_gives_back_what_was_appended(tmp_path):
    log = AnswerLog(tmp_path / "deep" / "j.jsonl", "abc")
    assert log.read(3) == {}
    log.append([Answer(2, "line one\nline two \u2028 é", True)])
    log.append([Answer(0, "", False)])
    assert log.read(3) == {
        2: Answer(2, "line one\nline two \u2028 é", True),
        0: Answer(0, "", False),
    }


@pytest.mark.parametrize("keep", range(1, 31))
def test_an_answer_log_cut_anywhere_in_its_first_line_starts_anew(tmp_path, keep):
    path = tmp_path / "j.jsonl"
    AnswerLog(path, "0123456789abcdef").read(3)
    path.write_bytes(path.read_bytes()[:keep])
    log = AnswerLog(path, "0123456789abcdef")
    assert log.read(3) == {}
    log.append([Answer(1, "a", True)])
    assert log.read(3) == {1: Answer(1, "a", True)}


def test_an_answer_log_broken_in_the_middle_is_an_error_with_the_line(tmp_path):
    log = AnswerLog(tmp_path / "j.jsonl", "abc")
    log.read(3)
    with log.path.open("a") as file:
        file.write("{oops\n" + json.dumps({"row": 0, "response": "a", "finished": True}) + "\n")
    with pytest.raises(InputError, match=r"j\.jsonl line 2: found .*oops"):
        log.read(3)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"row": 3, "response": "a", "finished": True}, "row 3; expected rows below 3"),
        ({"row": 0, "response": "a"}, "expected an answer, with row, response, finished"),
        ([], r"\[\]"),
    ],
)
def test_a_line_that_is_no_answer_to_a_prompt_is_an_error_with_the_line(tmp_path, entry, found):
    log = AnswerLog(tmp_path / "j.jsonl", "abc")
    log.read(3)
    with log.path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    with pytest.raises(InputError, match=rf"j\.jsonl line 2: found .*{found}"):
        log.read(3)


def test_the_log_of_another_run_is_refused_before_its_lines_are_read(tmp_path):
    AnswerLog(tmp_path / "j.jsonl", "abc").read(3)
    with (tmp_path / "j.jsonl").open("a") as file:
        file.write("{oops\n")
    with pytest.raises(InputError, match="a run of other prompts or settings"):
        AnswerLog(tmp_path / "j.jsonl", "def").read(3)


def test_a_cache_that_threads_share_keeps_every_answer_and_drops_a_cut_line(tmp_path):
    cache = AnswerCache(tmp_path / "work/answers.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cache.add(str(n), {"n": n}), range(50)))
    with cache.path.open("a") as file:
        file.write('{"key": "half')
    assert AnswerCache(cache.path).choices == {str(n): {"n": n} for n in range(50)}
    assert cache.path.read_text().endswith("}\n")
