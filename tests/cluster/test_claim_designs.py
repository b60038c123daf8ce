"""What a design can find: by hand, in words, and the cheapest run for a claim."""

import copy
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config
from support.paths import ROOT
from support.presets import preset

from rm_robustness.cluster import claim_designs, claim_runs
from rm_robustness.cluster.claim_designs import CLAIMS, designs, lacks, smallest_found, warning
from rm_robustness.cluster.plan import cluster_of, plan
from rm_robustness.errors import InputError
from rm_robustness.experiment.checks import read_config
from rm_robustness.pivot import Spread

H100 = cluster_of("h100-80gb", None, 0.4, 8)
PAPER = [Path("config/paper.yaml")]


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def changed(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    config = preset(name)
    update_config(config, copy.deepcopy(changes))
    return config


def override(config: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return claim_runs.override(config, claim_runs.fewest_of(config, names))


@cache
def of(name: str) -> dict[str, claim_designs.Design]:
    return {each.claim: each for each in designs(preset(name))}


ONE_SEED = {
    "grid": {"seeds": [0]},
    "rm_bench": {"seeds": [0]},
    "rloo": {"seeds": [0]},
    "alpaca_eval": {"seeds": [0]},
}


def test_the_mean_over_cells_is_the_spread_by_hand():
    """4 backbones with seeds of their own, 4 scenarios, 2 sets of 5,000 prompts, shared."""
    noise = 0.25**2 / (8 * 5000) / 16
    prompts = 0.05**2 / 5000 / 2 + noise
    by_hand = Spread(0.01**2 / (8 * 4) + noise, prompts, noise, 4 * 7, 2 * 4999)
    assert of("paper")["C4"].found[1] == pytest.approx(by_hand.smallest_found(), rel=1e-9)
    # Two pairs of sizes: the variance of two backbones each, over two.
    noise = 0.25**2 / (8 * 5000) / 4
    prompts = 2 * 0.05**2 / 5000 / 2 + noise
    by_hand = Spread(0.01**2 / 8 + noise, prompts, noise, 4 * 7, 2 * 4999)
    assert of("paper")["C13"].found[1] == pytest.approx(by_hand.smallest_found(), rel=1e-9)
    ranks = Spread(1.2**2 / 4, 0, 0, 3, 0)  # seeds alone
    assert of("paper")["C9"].found[1] == pytest.approx(ranks.smallest_found(), rel=1e-9)


def test_the_papers_effects_are_those_of_its_tables():
    effects = claim_designs.paper_effects()
    assert effects.size["C9"] == pytest.approx(10.42 - 0.14)
    assert effects.size["C10"] == pytest.approx(52.1 - 47.8)
    assert effects.size["C11"] == pytest.approx(100 * (1 - 1337 / 2180))
    assert effects.size["C12"] == pytest.approx(9.02 - 8.41)
    assert effects.size["C4"] == pytest.approx(sum(effects.cells["C4", "bt"]) / 16)
    assert not {"C1", "C3", "C8"} & effects.size.keys()  # figures


@pytest.mark.parametrize("name", ["C1", "C2", "C4", "C5", "C7", "C8", "C9", "C10", "C11", "C13"])
def test_more_seeds_and_seeds_that_agree_find_less(name):
    config = preset("paper")
    found = [smallest_found(config, name, seeds, 1.0) for seeds in (3, 6, 12)]
    assert found == sorted(found, reverse=True) and found[0] > found[2]
    assert smallest_found(config, name, 6, 0.5) < found[1]


def test_every_claim_has_a_line_and_a_verdict():
    for name in ("demo", "small", "paper"):
        assert list(of(name)) == list(CLAIMS)
        for each in of(name).values():
            can_find = bool(each.found)
            assert can_find or each.verdict.startswith("cannot: ")
            assert len(each.found) in (0, 3) and each.found == sorted(each.found)
    text = claim_designs.as_text(list(of("paper").values()))
    for name in CLAIMS:
        assert re.search(rf"^{name} ", text, flags=re.MULTILINE)


def test_a_verdict_follows_from_the_papers_effect():
    assert of("paper")["C9"].verdict == "can"
    assert of("paper")["C4"].verdict == "only if seeds' sd is at most 0.005"
    assert of("paper")["C10"].verdict == "only if seeds' sd is at most 1"
    assert of("demo")["C4"].verdict == "cannot: the paper's is smaller"  # of 0.0107 at best
    assert of("paper")["C12"].verdict.startswith("cannot: the preset has no judge")
    assert of("small")["C8"].verdict == "cannot: the preset has no RLOO"
    assert of("small")["C13"].verdict == "cannot: the preset has no two sizes of one family"
    assert of("paper")["C1"].verdict == "the paper has a figure alone"


def test_half_of_the_cells_are_wanted_besides_the_mean():
    """At the paper's sizes the mean of C4 is found at an sd of .005, too few cells are."""
    sizes = changed("paper", {"grid": {"seeds": [0, 1, 2, 3]}})
    effects = claim_designs.paper_effects()
    assert smallest_found(sizes, "C4", 4, 0.5) < effects.size["C4"]
    assert not claim_designs.finds(sizes, "C4", 4, 0.5, effects)
    assert claim_designs.finds(sizes, "C4", 8, 0.5, effects)


def test_an_assumption_of_the_users_replaces_the_three():
    config = preset("paper")
    four = next(each for each in designs(config, 0.008) if each.claim == "C4")
    assert four.seed_sds == [0.008]
    assert four.found == [smallest_found(config, "C4", 8, 0.8)]


def test_one_seed_decides_nothing_and_is_warned_of():
    config = changed("demo", ONE_SEED)
    verdicts = {each.claim: each.verdict for each in designs(config)}
    assert verdicts["C4"] == verdicts["C9"] == verdicts["C11"] == "cannot: one seed"
    assert "cannot decide any of the paper's claims: one seed; " in warning(config)
    for name in ("demo", "small", "paper"):
        assert warning(preset(name)) == ""
    # One section with seeds is enough.
    assert not warning(changed("demo", {**ONE_SEED, "rm_bench": {"seeds": [0, 1]}}))


@pytest.mark.slow
def test_a_run_that_can_decide_nothing_says_so_at_its_start(tmp_path):
    for name in ("config", "workflow", "data", "profiles", "src", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    changes = {"preset": "one", "sources": {"world": {"chats": 20}}, **ONE_SEED}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(changes))
    command = ["snakemake", "--cores", "1", "--configfile", "config/demo.yaml", "one.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--", "runs/one/raw/chats/world.parquet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert "warning: preset one cannot decide any of the paper's claims: one seed" in done.stderr


def test_the_seeds_of_a_claim_are_those_of_its_trained_models():
    """`skywork` has one seed, which no claim is about."""
    assert (of("paper")["C9"].seeds, of("paper")["C10"].seeds) == (4, 4)
    assert lacks(changed("paper", {"rm_bench": {"seeds": [90]}}), "C9") == "one seed"


@pytest.mark.parametrize("name", CLAIMS)
def test_the_run_for_a_claim_is_a_configuration_and_costs_less(name, tmp_path):
    config = read_config(PAPER)
    text = claim_runs.as_yaml(config, PAPER, [name], H100, seed_sd=0.005)
    mine = tmp_path / "mine.yaml"
    mine.write_text(text, encoding="utf-8")
    merged = read_config([*PAPER, mine])
    assert merged["preset"] == f"paper-{name}"
    assert lacks(merged, name) == ("" if name != "C12" else lacks(config, "C12"))
    hours = claim_runs.gpu_hours(merged, H100)
    assert hours < 0.85 * sum(row.gpu_hours for row in plan(config, H100))
    assert f"# The cheapest run of preset paper for {name}: {hours:.0f} of the" in text
    assert "snakemake --configfile config/paper.yaml mine.yaml -- results/claims.csv" in text
    if name == "C9":
        assert merged["rloo"] is None and merged["rm_bench"]["objectives"] == ["bt", "bt-bsr"]


def test_the_fewest_seeds_are_searched_once(monkeypatch):
    searched = []

    def fewest_seeds(config: dict[str, Any], name: str, seed_sd: float | None) -> int:
        searched.append(name)
        return 3

    monkeypatch.setattr(claim_runs, "fewest_seeds", fewest_seeds)
    text = claim_runs.as_yaml(read_config(PAPER), PAPER, ["C9", "C10"], H100)
    assert searched == ["C9", "C10"] and text.count("3 seeds find the paper's effect") == 2


def test_a_run_has_the_fewest_seeds_that_find_the_effect():
    config, effects = preset("paper"), claim_designs.paper_effects()
    seeds = claim_runs.fewest_seeds(config, "C9", None)
    assert seeds is not None
    assert claim_designs.finds(config, "C9", seeds, 1.0, effects)
    assert not claim_designs.finds(config, "C9", seeds - 1, 1.0, effects)
    merged = override(config, ["C9"])
    assert merged["rm_bench"]["seeds"] == [90, 91, 92][:seeds]
    assert claim_runs.fewest_seeds(config, "C7", None) is None  # 0.3 points


@pytest.mark.parametrize("names", [["C1"], ["C8"], ["C9"], ["C11", "C12"], ["C8", "C12"]])
def test_the_demo_has_runs_for_claims_too(names, tmp_path):
    demo = [Path("config/demo.yaml")]
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(override(read_config(demo), names)))
    merged = read_config([*demo, mine])
    assert [name for name in names if lacks(merged, name)] == []
    assert (merged["rloo"] is None) == (names[0] in ("C1", "C9"))


def test_both_runs_of_rloo_are_kept_where_both_are_read():
    changes = override(preset("paper"), ["C8", "C11"])
    assert "runs" not in changes["rloo"] and changes["alpaca_eval"]["run"] == "large"
    alone = override(preset("paper"), ["C11"])
    assert alone["alpaca_eval"]["run"] == "standard"
    assert alone["rloo"]["runs"]["standard"] == preset("paper")["rloo"]["runs"]["large"]


@pytest.mark.parametrize(("text", "found"), [("C14", "C14"), ("C4,c9", "c9"), ("", "")])
def test_an_unknown_claim_is_refused_in_one_line(text, found):
    with pytest.raises(InputError, match=f"--claims: found '{found}'; expected claims of") as one:
        claim_runs.claims_of(text)
    assert "\n" not in str(one.value)
    assert claim_runs.claims_of("C4, C9,C4") == ["C4", "C9"]
