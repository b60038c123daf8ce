"""Sensitivity on a run folder whose taus can be worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from support.drawn_texts import drawn_texts, faults

from rm_robustness.errors import InputError
from rm_robustness.evaluation.scenarios import score_path
from rm_robustness.results.plot_style import save_figure
from rm_robustness.results.sensitivity import (
    COLUMNS,
    draw_sensitivity,
    sensitivity,
    sensitivity_markdown,
)

GOLD = [1, 2, 3, 4]
# tau of four responses: 1, 2/3 with one neighbouring pair exchanged, -1 turned around.
RIGHT, ONE_OFF, TURNED = [1, 2, 3, 4], [2, 1, 3, 4], [4, 3, 2, 1]
REWARDS = {  # by method and seed, of two prompts
    ("bt", 0): [RIGHT, TURNED],
    ("bt", 1): [RIGHT, TURNED],
    ("bt-bsr@1e-2", 0): [RIGHT, RIGHT],
    ("bt-bsr@1e-2", 1): [RIGHT, TURNED],
    ("squares", 0): [ONE_OFF, TURNED],
    ("squares", 1): [ONE_OFF, TURNED],
}
SCENARIOS = ["prompt_disjoint", "mutual_disjoint"]
BSR = {"objective": "bt-bsr", "options": {"weight": 1e-2, "reduction": "release"}}
SQUARES = {"objective": "bt-squares", "options": {"weight": 1e-3, "reduction": "paper"}}
SETTINGS = {
    "preset": "test",
    "backbone": "tiny",
    "seeds": [0, 1],
    "scenarios": SCENARIOS,
    "reference": "bt",
    "seed_variance": "own",
    "methods": [
        {"name": "bt", "objective": "bt", "options": {}, "micro_batch": 16},
        {"name": "bt-bsr@1e-2", "micro_batch": 16} | BSR,
        {"name": "squares", "micro_batch": 4} | SQUARES,
    ],
}


@pytest.fixture
def runs(tmp_path):
    for (method, seed), prompts in REWARDS.items():
        for split in SCENARIOS:
            path = score_path(tmp_path, "tiny", method, seed, split)
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = {
                "prompt_id": np.repeat(["p0", "p1"], 4),
                "response_id": [f"r{n}" for n in range(8)],
                "reward": np.ravel(prompts).astype(float),
                "gold": np.tile(GOLD, 2).astype(float),
            }
            pd.DataFrame(columns).to_parquet(path)
    return tmp_path


def test_differences_are_those_worked_by_hand(runs):
    frame = sensitivity(runs, SETTINGS)
    assert list(frame) == COLUMNS
    assert list(frame["method"]) == ["bt"] * 2 + ["bt-bsr@1e-2"] * 2 + ["squares"] * 2
    of = frame[frame["metric"] == "mutual_disjoint_tau"].set_index("method")
    assert of["value"].to_dict() == pytest.approx(
        {"bt": 0.0, "bt-bsr@1e-2": 0.5, "squares": (2 / 3 - 1) / 2}
    )
    assert np.isnan(of["difference"]["bt"]) and np.isnan(of["p_holm"]["bt"])
    # By seed and prompt 0 2, 0 0; and -1/3 0, -1/3 0.
    assert of["difference"]["bt-bsr@1e-2"] == pytest.approx(0.5)
    assert of["difference"]["squares"] == pytest.approx(-1 / 6)
    compared = frame[frame["method"] != "bt"]
    assert (compared["difference_low"] < compared["difference"]).all()
    assert (compared["mdd80"] > 0).all() and (compared["p_holm"] >= compared["p_value"]).all()
    assert set(frame["n_seeds"]) == {2} and set(frame["n_prompts"]) == {2}


def test_the_recipe_of_each_variant_stands_beside_it(runs):
    frame = sensitivity(runs, SETTINGS).drop_duplicates("method").set_index("method")
    recipe = frame[["objective", "weight", "reduction", "micro_batch"]]
    assert list(recipe.loc["bt-bsr@1e-2"]) == ["bt-bsr", 1e-2, "release", 16]
    assert list(recipe.loc["squares"]) == ["bt-squares", 1e-3, "paper", 4]
    assert recipe.loc["bt", ["weight", "reduction"]].isna().all()


def test_the_page_has_a_row_a_variant_with_interval_and_what_would_be_found(runs):
    frame = sensitivity(runs, SETTINGS)
    text = sensitivity_markdown(frame, "A note.")
    assert "A note." in text and "2 seeds a variant" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:1] == "|"}
    row = frame[(frame["method"] == "squares")].iloc[0]
    assert f"-0.1667 ± {row['difference_high'] - row['difference']:.4f}" in rows["squares"]
    assert f"({row['mdd80']:.4f})" in rows["squares"]
    assert "0.0000 ±" in rows["bt"] and "+" not in rows["bt"]


def test_seeds_variances_are_shrunk_where_the_preset_says_so(runs):
    own, shrunk = (
        sensitivity(runs, SETTINGS | {"seed_variance": kind}) for kind in ("own", "moderated")
    )
    assert own["difference"].equals(shrunk["difference"])
    assert not own["p_value"].equals(shrunk["p_value"])
    assert set(shrunk["seed_variance"]) == {"moderated"}


def test_a_variant_without_scores_is_named(runs):
    missing = score_path(runs, "tiny", "squares", 1, "mutual_disjoint")
    missing.unlink()
    with pytest.raises(InputError, match="no such file") as error:
        sensitivity(runs, SETTINGS)
    assert str(missing) in str(error.value)


def test_dots_and_intervals_lie_where_the_csv_says_and_texts_are_apart(runs, tmp_path):
    frame = sensitivity(runs, SETTINGS)
    figure = draw_sensitivity(frame)
    assert faults(figure) == []
    shown = {text.get_text() for text in drawn_texts(figure)}
    assert {"BT", "BT-BSR, λ = 1e-2", "squares", "prompt-disjoint, tau"} <= shown
    panel = figure.axes[1]
    rows = frame[frame["metric"] == "mutual_disjoint_tau"].reset_index(drop=True)
    dots = {
        int(line.get_ydata()[0]): float(line.get_xdata()[0])
        for line in panel.lines
        if len(line.get_xdata()) == 1 and np.isfinite(line.get_xdata()[0])
    }
    assert dots == pytest.approx({y: rows["difference"][y] for y in (1, 2)})
    ends = [list(line.get_xdata()) for line in panel.lines]
    assert all(list(rows.loc[y, ["difference_low", "difference_high"]]) in ends for y in (1, 2))
    save_figure(figure, frame, tmp_path / "sensitivity")
    written = pd.read_csv(tmp_path / "sensitivity.csv")
    assert list(written) == COLUMNS and len(written) == 6
