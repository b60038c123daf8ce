"""What reward models are evaluated on: the paper's four scenarios (section 3), and RM-Bench.

The one list of them. It stands here because the rules read it, and they start without pandas.
"""

from typing import NamedTuple


class Scenario(NamedTuple):
    """A held-out split, its statistic, and what of it no training has seen."""

    name: str
    statistic: str  # accuracy of pairs, or Kendall's tau of four responses a prompt
    unseen_prompts: bool
    unseen_models: bool

    @property
    def title(self) -> str:
        """The name as the paper writes it: `prompt-disjoint`."""
        return self.name.replace("_", "-")

    @property
    def metric(self) -> str:
        """The name of its number in the tables: `prompt_disjoint_tau`."""
        return f"{self.name}_{self.statistic}"

    @property
    def heading(self) -> str:
        """The heading of its column: `prompt-disjoint, tau`."""
        return f"{self.title}, {self.statistic}"


IN_DOMAIN = Scenario("in_domain", "accuracy", False, False)
PROMPT_DISJOINT = Scenario("prompt_disjoint", "tau", True, False)
RESPONSE_DISJOINT = Scenario("response_disjoint", "tau", False, True)
MUTUAL_DISJOINT = Scenario("mutual_disjoint", "tau", True, True)
SCENARIOS = {s.name: s for s in (IN_DOMAIN, PROMPT_DISJOINT, RESPONSE_DISJOINT, MUTUAL_DISJOINT)}
SPLITS = ("train", *SCENARIOS)

# RM-Bench: of each prompt a response of each kind in each style (arXiv 2410.16184).
RM_BENCH_DOMAINS = ("chat", "math", "code", "safety-refuse", "safety-response")
RM_BENCH_KINDS = ("chosen", "rejected")
RM_BENCH_STYLES = ("concise", "detailed", "markdown")
