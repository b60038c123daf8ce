"""Waiting for a server that does not answer."""

import pytest

from rm_robustness.data import patience
from rm_robustness.data.git_checkout import checkout
from rm_robustness.data.hub_errors import explained
from rm_robustness.data.patience import UnavailableError, patiently
from rm_robustness.errors import InputError


@pytest.fixture
def slept(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    return pauses


def failing(times: int, error: Exception):
    """A function that fails so many times."""
    left = [error] * times

    def read() -> str:
        if left:
            raise left.pop()
        return "here"

    return read


def test_the_pauses_grow_to_a_minute_and_end_with_the_patience(slept, capsys):
    gone = UnavailableError("the hub", "no answer", "one")
    assert patiently(failing(3, gone), 120) == "here"
    assert slept == [1, 2, 4]
    assert capsys.readouterr().err.splitlines()[-1] == "the hub: no answer; again in 4 s"
    slept.clear()
    with pytest.raises(UnavailableError):
        patiently(failing(99, gone), 200)
    assert slept == [1, 2, 4, 8, 16, 32, 60, 60, 17] and sum(slept) == 200


def test_another_error_and_no_patience_are_not_waited_for(slept):
    for error, seconds in (
        (InputError("x", "a wrong name", "one"), 9),
        (UnavailableError("x", "no", "y"), 0),
    ):
        with pytest.raises(InputError):
            patiently(failing(1, error), seconds)
    assert slept == []


@pytest.mark.parametrize(("status", "passing"), [(500, True), (429, True), (403, False)])
def test_the_hub_s_own_failures_pass(status, passing):
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    response = httpx.Response(status, request=httpx.Request("GET", "https://hub"))
    with pytest.raises(InputError) as error, explained("some/model"):
        raise HfHubHTTPError("refused", response=response)
    assert isinstance(error.value, UnavailableError) == passing


def test_a_lost_connection_is_found_below_what_a_library_makes_of_it():
    from huggingface_hub.utils import httpx

    with pytest.raises(UnavailableError), explained("some/model"):
        try:
            raise httpx.ConnectError("no route")
        except httpx.ConnectError as error:
            raise ValueError("no such data set") from error


def test_git_without_a_server_is_told_from_a_wrong_repository(tmp_path):
    section = {"commit": "c" * 40, "files": ["/x"]}
    with pytest.raises(UnavailableError):
        checkout(section | {"repository": "http://127.0.0.1:9/x.git"}, tmp_path / "a")
    with pytest.raises(InputError) as error:
        checkout(section | {"repository": "file:///no/such/repository"}, tmp_path / "b")
    assert not isinstance(error.value, UnavailableError)
