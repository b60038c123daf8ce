"""Figures 1 to 3: what is drawn is what the csv says, and equal inputs give equal bytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from scipy import stats
from support.drawn_texts import drawn_texts, faults

from rm_robustness.errors import InputError
from rm_robustness.evaluation.scenarios import METRICS, score_path
from rm_robustness.objectives import OBJECTIVES
from rm_robustness.results import figures_reward_models as figures
from rm_robustness.results import plot_style as drawing

BACKBONES, SEEDS, STEPS, PAIRS = ["tiny-a", "tiny-b"], [3, 5], [0, 10, 20], 12
SETTINGS = {"backbones": {"tiny-a": {}, "tiny-b": {}}, "seeds": SEEDS}


def write_runs(folder: Path, backbones: list[str]) -> Path:
    rng = np.random.default_rng(0)
    for i, backbone in enumerate(backbones):
        for seed in SEEDS:
            steps = np.repeat(STEPS, PAIRS)
            probes = pd.DataFrame(
                {
                    "step": steps,
                    "epoch": steps / 20,
                    "prompt_id": [f"p{k}" for k in range(PAIRS)] * len(STEPS),
                    "difference_norm": rng.gamma(2, 1 + steps / 10),
                    "weight_norm": 1 + 0.01 * seed + 0.001 * steps + i,
                }
            )
            path = folder / f"reward_models/{backbone}/bt/seed-{seed}/probes.parquet"
            path.parent.mkdir(parents=True)
            probes.to_parquet(path)
            for method in ("bt", "bt-bsr"):
                for split in METRICS.values():
                    path = score_path(folder, backbone, method, seed, split)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    norms = 10 * seed + rng.gamma(2, 1 + (method == "bt"), size=40)
                    pd.DataFrame({"hidden_norm": norms}).to_parquet(path)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_runs(tmp_path, BACKBONES)


def entries(figure):
    """Each text of the legend with its handle."""
    [legend] = figure.legends
    return list(zip(legend.get_texts(), legend.legend_handles, strict=True))


def points(axes) -> np.ndarray:
    """Every (x, y) that a line of the panel goes through."""
    lines = [np.column_stack(np.broadcast_arrays(*line.get_data())) for line in axes.lines]
    return np.concatenate(lines).astype(float)


def test_figure1_draws_every_seed_before_and_after_training(runs):
    figure, frame = figures.figure1(runs, SETTINGS)
    seeds = frame[frame["seed"] != "mean"]
    assert set(seeds["step"]) == {0, 20} and len(seeds) == 2 * 2 * 2
    own = seeds[(seeds["backbone"] == "tiny-b") & (seeds["step"] == 20)]
    assert own["weight_norm"].to_list() == pytest.approx([2.05, 2.07])
    mean = frame[
        (frame["backbone"] == "tiny-b") & (frame["step"] == 20) & (frame["seed"] == "mean")
    ]
    assert mean["weight_norm"].item() == pytest.approx(2.06)
    assert mean["low"].item() < 2.05 and mean["high"].item() > 2.07  # two seeds say little
    drawn = points(figure.axes[0])[:, 1]
    assert all(np.isclose(drawn, y).any() for y in [*frame["weight_norm"], 1.0])


def test_figure1_prints_the_mean_of_the_seeds_ratios_below_their_backbone(runs):
    figure, frame = figures.figure1(runs, SETTINGS)
    ratios = [2.05 / 2.03, 2.07 / 2.05]  # of tiny-b
    last = frame[(frame["backbone"] == "tiny-b") & (frame["step"] == 20)]
    assert last["ratio"].to_list() == pytest.approx([*ratios, np.mean(ratios)])
    assert (frame.loc[frame["step"] == 0, "ratio"] == 1).all()
    low, high = last[["ratio_low", "ratio_high"]].iloc[-1]
    assert low < min(ratios) and max(ratios) < high and high - low < 0.01
    name, ratio, interval = figure.axes[0].get_xticklabels()[1].get_text().split("\n")
    assert (name, ratio) == ("tiny-b", f"{np.mean(ratios):.3f}")
    assert interval == f"[{low:.3f}, {high:.3f}]"


def test_figure1_of_one_seed_has_a_ratio_without_an_interval(runs):
    figure, _ = figures.figure1(runs, SETTINGS | {"seeds": [3]})
    assert figure.axes[0].get_xticklabels()[1].get_text() == "tiny-b\n1.010"
    assert faults(figure) == []


def test_figure2_draws_the_seeds_unlike_the_mean_and_its_whiskers(runs):
    figure, _ = figures.figure2(runs, SETTINGS)
    panel = figure.axes[0]
    mean, _, [whiskers] = panel.containers[0]
    seeds = panel.lines[: len(SEEDS)]
    blue = to_rgba(mean.get_color())
    assert tuple(whiskers.get_color()[0]) == blue
    assert all(to_rgba(seed.get_color()) != blue for seed in seeds)
    assert all(seed.get_linewidth() < mean.get_linewidth() for seed in seeds)
    named = {text.get_text(): line for text, line in entries(figure)}
    assert named["mean of a seed"].get_color() == seeds[0].get_color()


def test_figure2_summarises_the_pooled_pairs_of_every_step(runs):
    figure, frame = figures.figure2(runs, SETTINGS)
    paths = [runs / f"reward_models/tiny-a/bt/seed-{s}/probes.parquet" for s in SEEDS]
    probes = pd.concat([pd.read_parquet(path) for path in paths])
    norms = probes.loc[probes["step"] == 20, "difference_norm"]
    own = frame[(frame["backbone"] == "tiny-a") & (frame["seed"] == "pooled")].set_index("step")
    last = own.loc[20]
    assert last["mean"] == pytest.approx(norms.mean())
    assert last["skewness"] == pytest.approx(stats.skew(norms))
    assert last["q95"] == pytest.approx(np.percentile(norms, 95))
    assert (last["n_pairs"], last["epoch"]) == (2 * PAIRS, 1.0)
    assert last["low"] < last["mean"] < last["high"]
    drawn = points(figure.axes[0])
    for at in own[["epoch", "mean"]].to_numpy(float):
        assert np.isclose(drawn, at).all(axis=1).any()
    outer = figure.axes[0].collections[0].get_paths()[0].vertices
    assert outer[:, 1].max() == pytest.approx(own["q95"].max())


def test_figure3_gives_the_coefficient_of_variation_over_seeds(runs):
    figure, frame = figures.figure3(runs, SETTINGS)
    own = frame.query("backbone == 'tiny-a' and method == 'bt-bsr' and split == 'mutual_disjoint'")
    paths = [score_path(runs, "tiny-a", "bt-bsr", s, "mutual_disjoint") for s in SEEDS]
    norms = [pd.read_parquet(path)["hidden_norm"] for path in paths]
    cv = own[own["quantity"] == "cv"].iloc[0]
    assert cv["value"] == pytest.approx(np.mean([stats.variation(n) for n in norms]))
    assert cv["low"] < cv["value"] < cv["high"] and cv["n_responses"] == 80
    mean = own.loc[own["quantity"] == "mean", "value"].item()
    assert mean == pytest.approx(np.mean([n.mean() for n in norms]))
    name, _, of_bsr = figure.axes[0].get_xticklabels()[-1].get_text().split("\n")
    assert name == "mutual-disjoint" and of_bsr.startswith(f"{100 * cv['value']:.1f} ± ")
    density = own[own["quantity"] == "density"]
    shape = figure.axes[0].collections[-1].get_paths()[0].vertices
    assert shape[:, 1].max() == pytest.approx(density["at"].max())


def test_figure3_scales_every_seed_to_the_mean_of_all(runs):
    _, frame = figures.figure3(runs, SETTINGS)
    own = frame.query("backbone == 'tiny-a' and method == 'bt' and split == 'in_domain'")
    values = own[own["quantity"] != "density"].set_index("quantity")["value"]
    norms = {
        split: [
            pd.read_parquet(score_path(runs, "tiny-a", "bt", s, split))["hidden_norm"]
            for s in SEEDS
        ]
        for split in METRICS.values()
    }
    means = [np.mean(of_seed) for of_seed in zip(*norms.values(), strict=True)]
    scaled = [np.mean(means) / m * n for m, n in zip(means, norms["in_domain"], strict=True)]
    assert values["q50"] == pytest.approx(np.median(np.concatenate(scaled)))
    assert values["q95"] < 50  # seed 5's norms begin there


def test_figure3_halves_of_a_panel_have_one_area(runs):
    figure, frame = figures.figure3(runs, SETTINGS)
    keys = ["backbone", "method", "split"]
    for _, density in frame[frame["quantity"] == "density"].groupby(keys):
        width = np.diff(density["at"]).mean()
        assert width * density["value"].sum() == pytest.approx(1)
    for panel in figure.axes:
        areas = []
        for half in panel.collections:
            x, y = half.get_paths()[0].vertices.T
            areas.append(abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2)
        assert len(areas) == 8 and areas == pytest.approx([areas[0]] * 8, rel=0.02)


@pytest.mark.parametrize("draw", [figures.figure1, figures.figure2, figures.figure3])
@pytest.mark.parametrize(
    "backbones", [BACKBONES, ["Llama-3.2-1B", "Llama-3.2-3B", "Qwen2.5-1.5B", "Qwen2.5-3B"]]
)
def test_texts_are_apart_and_large_enough_for_the_readme(draw, backbones, tmp_path):
    runs = write_runs(tmp_path, backbones)
    figure, _ = draw(runs, SETTINGS | {"backbones": {name: {} for name in backbones}})
    assert faults(figure) == []
    assert {*backbones} <= {text.get_text().split("\n")[0] for text in drawn_texts(figure)}


def test_legend_is_read_by_rows_and_fits(runs):
    figure, _ = figures.figure1(runs, SETTINGS)
    [legend] = figure.legends
    drawn_texts(figure)  # lays it out
    corners = {text.get_text(): text.get_window_extent() for text, _ in entries(figure)}
    by_rows = sorted(corners, key=lambda name: (-round(corners[name].y0), corners[name].x0))
    expected = ["a seed", "expected at initialisation"]
    assert by_rows == [*expected, "mean before training", "mean after training"]
    assert legend.get_window_extent().width <= figure.bbox.width


def test_figure3_draws_equal_norms_too(runs):
    for path in runs.glob("scores/tiny-a/bt/*/in_domain.parquet"):
        pd.read_parquet(path).assign(hidden_norm=8.0).to_parquet(path)
    _, frame = figures.figure3(runs, SETTINGS)
    own = frame.query("backbone == 'tiny-a' and method == 'bt' and split == 'in_domain'")
    assert own.loc[own["quantity"] == "cv", "value"].item() == 0.0
    assert np.isfinite(own["value"]).all()


def test_every_method_has_its_own_mark():
    methods = [*OBJECTIVES, "bt-bsr@1e-4", "bt-bsr@1e-2", "bt-dr-bsr"]
    chosen = drawing.method_styles(methods)
    assert len({marker for _, marker in chosen.values()}) == len(methods)
    assert drawing.method_styles(["bt", "bt-bsr"])["bt-bsr"] == chosen["bt-bsr"]


def test_saving_twice_gives_equal_bytes_and_the_csv_is_the_frame(runs, tmp_path):
    for name in ("first", "second"):
        for number, draw in enumerate((figures.figure1, figures.figure2, figures.figure3), 1):
            drawing.save_figure(*draw(runs, SETTINGS), tmp_path / name / f"figure{number}")
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == [f"figure{n}.{kind}" for n in (1, 2, 3) for kind in ("csv", "pdf", "png")]
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    _, frame = figures.figure2(runs, SETTINGS)
    written = pd.read_csv(tmp_path / "first/figure2.csv")
    assert list(written) == list(frame)
    assert written["mean"].to_numpy() == pytest.approx(frame["mean"].to_numpy())


def test_missing_and_disagreeing_probes_are_named(runs):
    path = runs / "reward_models/tiny-b/bt/seed-5/probes.parquet"
    pd.read_parquet(path).iloc[:-PAIRS].to_parquet(path)
    with pytest.raises(InputError, match="same steps and pairs") as error:
        figures.figure2(runs, SETTINGS)
    assert str(path) in str(error.value)
    path.unlink()
    with pytest.raises(InputError, match="no such file") as error:
        figures.figure1(runs, SETTINGS)
    assert str(path) in str(error.value)


def test_score_file_without_norms_is_named(runs):
    path = score_path(runs, "tiny-a", "bt-bsr", 5, "in_domain")
    pd.read_parquet(path).rename(columns={"hidden_norm": "norm"}).to_parquet(path)
    with pytest.raises(InputError, match="hidden_norm") as error:
        figures.figure3(runs, SETTINGS)
    assert str(path) in str(error.value)
