"""AlpacaEval's hosted judges: the address of their server, and models that are shut down there."""

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import InputError
from .config import Settings

OPENAI = "https://api.openai.com/v1"


class ShutDown(NamedTuple):
    """When a model stopped to answer, and who says so."""

    date: str
    sources: tuple[str, ...]


# Of OpenAI. The sources disagree on the day of the first; both days are past.
_LIST = "https://dev.to/importstatic/every-openai-model-shutdown-date-until-january-2027-and-what-replaces-it-1dfk"
SHUT_DOWN = {
    "gpt-4-1106-preview": ShutDown(
        "2026-03-26 or 2026-10-23",
        (
            "https://tokenmix.ai/blog/gpt-4-1106-preview-retired-migration-guide-2026",
            "https://www.modelcostwatch.com/openai/deprecations/legacy-gpt-snapshots",
            _LIST,
        ),
    ),
    "gpt-4-turbo-2024-04-09": ShutDown("2026-10-23", (_LIST,)),
}


def address(judge: Settings) -> str:
    """The server of a judge of kind `hosted`: that of its environment variable, or OpenAI's."""
    return os.environ.get(judge["base_url_env"] or "") or OPENAI


def check_judge(judge: Settings, where: str) -> None:
    """Refuse a hosted judge without a model, or with one that OpenAI has shut down (InputError)."""
    fix = "or use the judge with open weights, config/judge.yaml"
    model = judge["model"]
    if model is None:
        expected = "the name of a model that the server has, with log-probabilities"
        raise InputError(f"{where}.model", "null", expected, fix)
    if model in SHUT_DOWN and urlsplit(address(judge)).hostname == urlsplit(OPENAI).hostname:
        date, sources = SHUT_DOWN[model]
        found = f"'{model}', which OpenAI shut down on {date} ({sources[0]})"
        raise InputError(f"{where}.model", found, "a model that answers", fix)
