"""Figures 5 and 6: what is drawn is what the csv says; a gain knows no model's zero or scale."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from support.drawn_texts import faults

from rm_robustness.errors import InputError
from rm_robustness.evaluation import policy_curves
from rm_robustness.results import figures_rloo as tracking
from rm_robustness.results import plot_style as drawing

SEEDS, UPDATES, PROMPTS = [3, 5, 8], [0, 10, 20, 25], 12
SETTINGS = {}


def write_policy_gold(runs: Path, policy: str, seeds=SEEDS, updates=UPDATES) -> Path:
    """Rising rewards; every seed's reward model has its own zero and scale."""
    rng = np.random.default_rng(len(policy))
    grid = pd.MultiIndex.from_product(
        [seeds, updates, [f"p{i}" for i in range(PROMPTS)]], names=policy_curves.KEYS
    )
    frame = grid.to_frame(index=False).sample(frac=1, random_state=0, ignore_index=True)
    trained = frame["update"] / 10
    frame["epoch"] = frame["update"] / 5
    frame["gold"] = trained * (1 + policy.endswith("bsr")) + rng.normal(size=len(frame))
    frame["reward"] = 7 * frame["seed"] + (trained + rng.normal(size=len(frame))) / frame["seed"]
    frame["kl"] = trained * rng.gamma(2, 1, len(frame))
    frame["n_tokens"] = rng.integers(5, 20, len(frame))
    frame["finished"] = rng.random(len(frame)) < 0.7
    path = runs / "policy_gold" / f"{policy}.parquet"
    path.parent.mkdir(exist_ok=True)
    frame.to_parquet(path)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for run in ("standard", "large"):
        for method in ("bt", "bt-bsr"):
            write_policy_gold(tmp_path, f"{run}-{method}")
    return tmp_path


def drawn(panel) -> np.ndarray:
    """Every (x, y) that a line of the panel goes through."""
    lines = [np.column_stack(np.broadcast_arrays(*line.get_data())) for line in panel.lines]
    return np.concatenate(lines).astype(float)


def means(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    return frame[(frame["reward_model"] == method) & (frame["seed"] == "mean")]


def test_track_averages_the_looks_of_every_seed(runs):
    frame = policy_curves.training_curves(runs, "large")
    assert len(frame) == 2 * len(UPDATES) * (len(SEEDS) + 1)
    samples = pd.read_parquet(runs / "policy_gold/large-bt-bsr.parquet")
    own = frame[(frame["reward_model"] == "bt-bsr") & (frame["seed"] == 5)].set_index("update")
    of_seed = samples[samples["seed"] == 5].groupby("update")
    for name in ("kl", "reward", "gold", "n_tokens"):
        assert own[name].to_numpy(float) == pytest.approx(of_seed[name].mean().to_numpy())
    cut = of_seed["finished"].apply(lambda finished: (~finished).mean())
    assert own["unfinished"].to_numpy(float) == pytest.approx(cut.to_numpy())
    assert own["epoch"].to_list() == [0, 2, 4, 5] and set(own["n_prompts"]) == {PROMPTS}
    at_20 = samples[samples["update"] == 20]
    mean = means(frame, "bt-bsr").set_index("update").loc[20]
    assert mean["gold"] == pytest.approx(at_20["gold"].mean())
    for name in policy_curves.QUANTITIES:
        assert mean[f"{name}_low"] < mean[name] < mean[f"{name}_high"]


def test_a_gain_is_over_the_same_seeds_sft_policy_in_its_standard_deviations(runs):
    frame = policy_curves.training_curves(runs, "large")
    samples = pd.read_parquet(runs / "policy_gold/large-bt.parquet")
    gains = []
    for seed in SEEDS:
        rewards = samples[samples["seed"] == seed].groupby("update")["reward"]
        gains.append((rewards.mean()[25] - rewards.mean()[0]) / rewards.std(ddof=0)[0])
    own = frame[(frame["reward_model"] == "bt") & (frame["update"] == 25)]
    assert own["reward_gain"].to_list() == pytest.approx([*gains, np.mean(gains)])
    start = means(frame, "bt").iloc[0]
    assert start[["reward_gain", "reward_gain_low", "reward_gain_high"]].to_list() == [0, 0, 0]
    gold = samples.groupby("update")["gold"].mean()
    assert own["gold_gain"].iloc[-1] == pytest.approx(gold[25] - gold[0])


def test_the_gain_does_not_depend_on_a_reward_models_zero_and_scale(runs):
    before = policy_curves.training_curves(runs, "large")
    path = runs / "policy_gold/large-bt.parquet"
    samples = pd.read_parquet(path)
    samples.assign(reward=100 * samples["seed"] + 9 * samples["reward"]).to_parquet(path)
    after = policy_curves.training_curves(runs, "large")
    gain = ["reward_gain", "reward_gain_low", "reward_gain_high"]
    pd.testing.assert_frame_equal(before[gain], after[gain])
    assert not np.allclose(before["reward"].astype(float), after["reward"].astype(float))


def test_figure5_draws_reward_against_kl_and_gold_through_training(runs):
    figure, frame = tracking.figure5(runs, SETTINGS)
    assert set(frame["run"]) == {"standard"}
    for i, method in enumerate(("bt", "bt-bsr")):
        own, mean = frame[frame["reward_model"] == method], means(frame, method)
        above, below = drawn(figure.axes[i]), drawn(figure.axes[i + 2])
        for panel, columns in ((above, ["kl", "reward_gain"]), (below, ["epoch", "gold_gain"])):
            for at in own[columns].to_numpy(float):
                assert np.isclose(panel, at).all(axis=1).any()
        for panel, column in ((figure.axes[i], "reward_gain"), (figure.axes[i + 2], "gold_gain")):
            band = panel.collections[0].get_paths()[0].vertices
            assert band[:, 1].max() == pytest.approx(mean[f"{column}_high"].max())
            assert not panel.containers  # no crosses
            levels = [
                line.get_ydata()[0] for line in panel.lines if line.get_label() == "SFT policy"
            ]
            assert levels in ([0], []) and (i or panel is figure.axes[0] or levels)
    for left, right in ((0, 1), (2, 3)):
        assert figure.axes[left].get_ylim() == figure.axes[right].get_ylim()
        assert figure.axes[left].get_xlim() == figure.axes[right].get_xlim()
    for panel, column in ((0, "reward_gain"), (2, "gold_gain")):
        low, high = figure.axes[panel].get_ylim()
        assert low < frame[column].min() and frame[column].max() < high


def test_figure5_names_the_reward_model_that_judges(runs):
    gold = {"backbone": "SmolLM2-16", "objective": "bt", "responses": 8, "seeds": [0]}
    figure, _ = tracking.figure5(runs, {"gold": gold})
    assert figure.axes[2].get_ylabel() == "gain in gold reward\nby SmolLM2-16/bt"
    assert faults(figure) == []
    assert "r*" in tracking.figure5(runs, SETTINGS)[0].axes[2].get_ylabel()


def test_figure6_draws_the_gains_of_both_reward_models_with_their_own_marks(runs):
    figure, frame = tracking.figure6(runs, SETTINGS)
    assert set(frame["run"]) == {"large"}
    points = drawn(figure.axes[0])
    for at in frame[["epoch", "reward_gain"]].to_numpy(float):
        assert np.isclose(points, at).all(axis=1).any()
    marked = {line.get_label(): line for line in figure.axes[0].lines if line.get_marker() in "oX"}
    for method in ("bt", "bt-bsr"):
        line = marked[f"RLOO with {drawing.method_label(method)}, mean"]
        assert (line.get_color(), line.get_marker()) == drawing.method_styles([method])[method]


@pytest.mark.parametrize("draw", [tracking.figure5, tracking.figure6])
def test_the_legend_shows_what_is_drawn(draw, runs):
    figure, _ = draw(runs, SETTINGS)
    [legend] = figure.legends
    handles = dict(
        zip([t.get_text() for t in legend.get_texts()], legend.legend_handles, strict=True)
    )
    names = [f"RLOO with {drawing.method_label(method)}, mean" for method in ("bt", "bt-bsr")]
    assert set(handles) - {"middle of training"} == {*names, "a seed", "95% interval", "SFT policy"}
    artists = [artist for panel in figure.axes for artist in (*panel.lines, *panel.collections)]
    for name in (*names, "SFT policy"):
        [line] = {
            (to_rgba(a.get_color()), a.get_linestyle(), a.get_marker())
            for a in artists
            if a.get_label() == name
        }
        shown = handles[name]
        assert (to_rgba(shown.get_color()), shown.get_linestyle(), shown.get_marker()) == line
    colours = {drawing.method_styles([method])[method][0] for method in ("bt", "bt-bsr")}
    seeds = [a for a in artists if a.get_label() == "a seed"]
    assert {a.get_color() for a in seeds} == colours
    shown = [a for a in figure.legends[0].findobj(type(seeds[0])) if a.get_label() == "a seed"]
    assert {(a.get_color(), a.get_linewidth()) for a in shown} == {(c, 0.8) for c in colours}


def test_bands_of_two_methods_differ_without_colour(runs):
    figure, _ = tracking.figure6(runs, SETTINGS)
    bt, bsr = figure.axes[0].collections
    assert (bt.get_hatch(), bsr.get_hatch()) == (None, "//")
    assert bt.get_linestyle() != bsr.get_linestyle()
    assert len(bsr.get_facecolor()) == 0  # nothing blends


def test_marks_that_would_cover_each_other_are_left_out(runs):
    assert tracking._marked(np.array([0, 0.5, 1.5, 3, 4.36, 4.47])) == [0, 1, 2, 3, 5]
    assert tracking._marked(np.linspace(0, 2, 13)) == list(range(13))
    assert tracking._marked(np.linspace(0, 2, 301))[-1] == 300
    assert len(tracking._marked(np.linspace(0, 2, 301))) <= 13


@pytest.mark.parametrize("draw", [tracking.figure5, tracking.figure6])
def test_texts_are_apart_and_labels_no_longer_than_their_axis(draw, runs):
    figure, _ = draw(runs, SETTINGS)
    assert faults(figure) == []
    for panel in figure.axes:
        label, box = panel.yaxis.label.get_window_extent(), panel.get_window_extent()
        assert label.height <= box.height
        assert panel.xaxis.label.get_window_extent().width <= box.width


def test_equal_rewards_of_the_sft_policy_have_no_scale(runs):
    path = runs / "policy_gold/large-bt.parquet"
    samples = pd.read_parquet(path)
    samples.loc[(samples["update"] == 0) & (samples["seed"] == 3), "reward"] = 0.1
    samples.to_parquet(path)
    _, frame = tracking.figure6(runs, SETTINGS)
    own = frame[(frame["reward_model"] == "bt") & (frame["update"] == 20)].set_index("seed")
    assert np.isnan(own.loc[3, "reward_gain"]) and np.isfinite(own.loc[5, "reward_gain"])
    others = own.loc[[5, 8], "reward_gain"].mean()
    assert own.loc["mean", "reward_gain"] == pytest.approx(others)


def test_one_seed_has_intervals_over_prompts(tmp_path):
    for method in ("bt", "bt-bsr"):
        write_policy_gold(tmp_path, f"standard-{method}", seeds=[4], updates=[0, 5])
    figure, frame = tracking.figure5(tmp_path, SETTINGS)
    last = means(frame, "bt").iloc[-1]
    assert last["gold_low"] < last["gold"] < last["gold_high"]
    assert len(figure.axes) == 4


@pytest.mark.parametrize(
    ("drop", "found"),
    [
        ("seed == 8 and update == 20", "132 evaluations for 3 seeds x 4 updates x 12 prompts"),
        ("update == 0", "update 10 first"),
        ("update >= 0", "0 evaluations"),
    ],
)
def test_missing_looks_are_named(runs, drop, found):
    path = runs / "policy_gold/standard-bt-bsr.parquet"
    samples = pd.read_parquet(path)
    samples.drop(samples.query(drop).index).to_parquet(path)
    with pytest.raises(InputError, match=found) as error:
        tracking.figure5(runs, SETTINGS)
    assert str(path) in str(error.value)


def test_saving_twice_gives_equal_bytes_and_the_csv_is_the_frame(runs, tmp_path):
    for name in ("first", "second"):
        drawing.save_figure(*tracking.figure5(runs, SETTINGS), tmp_path / name / "figure5")
    for kind in ("png", "pdf", "csv"):
        first, second = (
            (tmp_path / n / f"figure5.{kind}").read_bytes() for n in ("first", "second")
        )
        assert first == second
    written = pd.read_csv(tmp_path / "first/figure5.csv")
    assert set(written["seed"]) == {"3", "5", "8", "mean"}
    assert {f"{q}{end}" for q in policy_curves.QUANTITIES for end in ("", "_low", "_high")} < set(
        written
    )
