"""Evaluation sets of reward models: the paper's four scenarios (section 3), and benchmarks.

Defined here, below the code that measures, because the rules read them without importing pandas.
"""

from typing import NamedTuple


class Scenario(NamedTuple):
    """An evaluation split, its statistic, and whether prompts and response models are held out."""

    name: str
    statistic: str  # pairwise accuracy, or Kendall's tau over the responses of a prompt
    unseen_prompts: bool
    unseen_models: bool

    @property
    def title(self) -> str:
        """The name as the paper writes it: `prompt-disjoint`."""
        return self.name.replace("_", "-")

    @property
    def metric(self) -> str:
        """Name of its metric in the tables: `prompt_disjoint_tau`."""
        return f"{self.name}_{self.statistic}"

    @property
    def heading(self) -> str:
        """Heading of its column: `prompt-disjoint, tau`."""
        return f"{self.title}, {self.statistic}"


IN_DOMAIN = Scenario("in_domain", "accuracy", False, False)
PROMPT_DISJOINT = Scenario("prompt_disjoint", "tau", True, False)
RESPONSE_DISJOINT = Scenario("response_disjoint", "tau", False, True)
MUTUAL_DISJOINT = Scenario("mutual_disjoint", "tau", True, True)
SCENARIOS = {s.name: s for s in (IN_DOMAIN, PROMPT_DISJOINT, RESPONSE_DISJOINT, MUTUAL_DISJOINT)}
SPLITS = ("train", *SCENARIOS)
GOLD_TRAIN = "gold_train"  # beside them with `rloo.gold`: what that gold is trained on (D51)
AVERAGE, ALL = (
    "average",
    "all",
)  # metric and backbone of table 5's means over scenarios and over both

# RM-Bench: each prompt has a chosen and a rejected response in each style (arXiv 2410.16184).
RM_BENCH_DOMAINS = ("chat", "math", "code", "safety-refuse", "safety-response")
RM_BENCH_KINDS = ("chosen", "rejected")
RM_BENCH_STYLES = ("concise", "detailed", "markdown")


class Benchmark(NamedTuple):
    """A set of prompts and responses that reward models are scored on, besides the scenarios.

    The section of the configuration that has its name says which models: `source`, `backbone`,
    `objectives` and `seeds`. Where a preset has no such section, the benchmark is left out.
    """

    reader: str  # module:function of the package `data`: (source, download folder) -> frame
    source_kinds: tuple[str, ...]  # that it reads
    responses_per_prompt: int
    synthetic: tuple[str, int]  # the key of a synthetic source with its size, prompts a unit of it


BENCHMARKS = {
    "rm_bench": Benchmark(
        "rm_bench:responses",
        ("synthetic", "local", "hub"),
        len(RM_BENCH_KINDS) * len(RM_BENCH_STYLES),
        ("subtle_prompts", len(RM_BENCH_DOMAINS)),
    )
}
