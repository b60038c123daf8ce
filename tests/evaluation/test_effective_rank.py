"""Effective ranks of hidden states, and table 1 on ranks written by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from transformers import AutoTokenizer

from rm_robustness.data.rm_bench import responses
from rm_robustness.errors import InputError
from rm_robustness.evaluation.effective_rank import drawn_rows, rank_curve
from rm_robustness.evaluation.measure import Measuring
from rm_robustness.experiment.paths import location
from rm_robustness.metrics import effective_rank
from rm_robustness.models import chat
from rm_robustness.models.reward_model import initialise, load, save
from rm_robustness.results.table1_effective_rank import table1, table1_markdown

# --- curves ---


def test_states_that_share_no_direction_fill_one_each():
    found = rank_curve(np.eye(6), [6, 2, 4], seed=0)
    assert found["n"].tolist() == [2, 4, 6]
    assert found["effective_rank"].to_numpy() == pytest.approx([2, 4, 6])


def test_states_on_one_line_fill_one_direction_however_many_they_are():
    line = np.outer(np.arange(1.0, 9), [3.0, -1.0, 2.0])
    assert rank_curve(line, [1, 3, 8], seed=1)["effective_rank"].to_numpy() == pytest.approx(
        [1, 1, 1]
    )


def test_rank_of_a_matrix_by_hand():
    # Singular values 4, 2 and 2: p = (1/2, 1/4, 1/4), entropy 1.5 ln 2. Rows in any order.
    hidden = np.array([[0, 0, 2.0], [0, 4.0, 0], [-2.0, 0, 0]])
    assert rank_curve(hidden, [3], seed=7)["effective_rank"].item() == pytest.approx(2**1.5)


def test_uncentred_states_count_their_mean():
    # A large common mean is one direction more, not less: nothing is centred (D43).
    hidden = np.hstack([np.full((50, 1), 1e6), np.random.default_rng(0).normal(size=(50, 3))])
    assert rank_curve(hidden, [50], seed=0)["effective_rank"].item() == pytest.approx(1, abs=1e-3)


def test_subsets_are_nested_and_drawn_by_the_seed():
    hidden = np.random.default_rng(0).normal(size=(40, 8)) ** 3
    few, many = rank_curve(hidden, [5, 10], seed=3), rank_curve(hidden, [5, 20, 40], seed=3)
    assert few["effective_rank"][0] == many["effective_rank"][0]
    other = rank_curve(hidden, [5, 20, 40], seed=4)["effective_rank"]
    assert other[0] != many["effective_rank"][0]
    assert other[2] == pytest.approx(many["effective_rank"][2])  # all rows are all rows


def test_sizes_above_the_number_of_rows_become_it():
    assert rank_curve(np.eye(5), [2, 4, 8, 16], seed=0)["n"].tolist() == [2, 4, 5]


# --- real models ---


@pytest.fixture(scope="module")
def world_files(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("ranks")
    frame = responses({"kind": "synthetic", "seed": 1, "subtle_prompts": 3}, folder)
    frame.to_parquet(folder / "rm_bench.parquet")
    return splits / "train.parquet", folder / "rm_bench.parquet"


@pytest.fixture(scope="module")
def models(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp("model") / f"seed-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        model = initialise(llama, seed)
        for layer in model.base_model.layers:  # other hidden states, not another head alone
            layer.mlp.down_proj.weight.data.mul_(1 + 3 * seed)
        save(model, AutoTokenizer.from_pretrained(llama), folder)
    return folders


@pytest.fixture
def ranks(world_files, tmp_path):
    """The effective ranks of a model on the train set and RM-Bench."""

    def measured(folder: Path, sizes: list[int]) -> pd.DataFrame:
        sets = dict(zip(("train", "rm_bench"), map(pd.read_parquet, world_files), strict=True))
        settings = {"batch_tokens": 2048, "dtype": "float32", "ranks": {"rows": sizes, "seed": 5}}
        Measuring(settings, 1).score(folder, [], sets, tmp_path / "ranks.parquet")
        return pd.read_parquet(tmp_path / "ranks.parquet")

    return measured


def test_ranks_are_of_the_states_that_the_head_reads(models, world_files, ranks):
    model, tokenizer = load(models[0])
    frame = drawn_rows({"rm_bench": pd.read_parquet(world_files[1])}, [12], 5)["rm_bench"]
    with torch.no_grad():
        states = [
            model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1].numpy()
            for ids in chat.frame_ids(tokenizer, frame)
        ]
    found = ranks(models[0], [12]).query("set == 'rm_bench'")["effective_rank"].item()
    assert found == pytest.approx(effective_rank(np.stack(states)), rel=1e-4)


def test_both_sets_are_measured_at_the_same_numbers_of_rows(models, ranks):
    first, second = (ranks(model, [16, 64, 2048]) for model in models)
    assert first[["set", "n"]].values.tolist() == [
        [name, n] for name in ("train", "rm_bench") for n in (16, 64, 90)
    ]  # 90 responses in the smaller set
    assert first["effective_rank"].between(1, 32).all()
    assert not np.allclose(first["effective_rank"], second["effective_rank"])
    pd.testing.assert_frame_equal(ranks(models[0], [16, 64, 2048]), first, check_exact=True)


def test_the_rows_that_are_read_are_as_many_as_the_largest_size_and_drawn_by_the_seed():
    sets = {"a": pd.DataFrame({"n": range(30)}), "b": pd.DataFrame({"n": range(9)})}
    assert {name: len(rows) for name, rows in drawn_rows(sets, [4, 8], 5).items()} == {
        "a": 8,
        "b": 8,
    }
    assert {len(rows) for rows in drawn_rows(sets, [4, 80], 5).values()} == {9}
    drawn = [drawn_rows(sets, [4, 8], seed)["a"]["n"].tolist() for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]


# --- table 1 ---

RANKS = {  # (train, eval) at n = 8, by seed
    "bt": [(20.0, 30.0), (22.0, 31.0), (24.0, 35.0)],
    "bt-bsr": [(30.0, 31.0), (31.0, 31.0), (35.0, 35.5)],
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for method, seeds in RANKS.items():
        for seed, (train, evaluation) in enumerate(seeds):
            ranks = [("train", 4, train / 2), ("train", 8, train)]
            ranks += [("rm_bench", 4, evaluation / 2), ("rm_bench", 8, evaluation)]
            path = tmp_path / location("ranks", backbone="tiny", objective=method, seed=seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(ranks, columns=["set", "n", "effective_rank"]).to_parquet(path)
    return tmp_path


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    published = tmp_path / "published.csv"
    published.write_text(
        "artifact,model,method,lambda,metric,value\n"
        "table1,Big-8B,bt,,erank_delta,10.42\n"
        "table1,Big-8B,bt-bsr,0.001,erank_delta,0.14\n"
    )
    seeds = {name: [0, 1, 2] for name in RANKS}
    about = {"backbone": "tiny", "seeds": seeds, "paper_model": "Big-8B", "published_as": {}}
    return {
        "preset": "test",
        "rm_bench": about,
        "ranks": {"objectives": ["bt", "bt-bsr"]},
        "reference": "bt",
        "bsr": {"weight": 1e-3, "reduction": "release"},
        "micro_batch": 16,
        "pairs_per_prompt": 1,
        "train_set": "raw/preferences/own.parquet",
        "paper_values": published,
    }


def test_delta_is_eval_less_train_of_each_seed(runs, settings):
    table = table1(runs, settings).set_index(["n", "method", "metric"])
    assert list(table.index[:3]) == [(8, "bt", f"erank_{m}") for m in ("train", "eval", "delta")]
    bt = table.loc[(8, "bt", "erank_delta")]
    assert bt["value"] == pytest.approx((10 + 9 + 11) / 3) and bt["n_seeds"] == 3
    assert bt["seed_std"] == pytest.approx(1.0)
    assert table.loc[(8, "bt-bsr", "erank_train"), "value"] == 32
    gap = table.loc[(8, "bt-bsr", "erank_delta")]
    assert gap["difference"] == pytest.approx(((1 - 10) + (0 - 9) + (0.5 - 11)) / 3)
    half = table.loc[(4, "bt-bsr", "erank_delta"), ["value", "difference"]]
    assert (2 * half).to_list() == pytest.approx(gap[["value", "difference"]].to_list())


def test_interval_over_seeds_is_students(runs, settings):
    row = table1(runs, settings).iloc[0]  # bt, train: 20, 22, 24
    half = student.ppf(0.975, 2) * 2 / np.sqrt(3)
    assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(half, rel=1e-6)


def test_one_seed_has_no_interval_and_no_verdict(runs, settings):
    one = {**settings, "rm_bench": {**settings["rm_bench"], "seeds": {name: [1] for name in RANKS}}}
    table = table1(runs, one)
    assert table["value"][:3].tolist() == [22, 31, 9]
    assert table[["ci_low", "ci_high", "seed_std", "p_value", "p_holm"]].isna().all(axis=None)
    assert table["difference"][3:6].tolist() == pytest.approx([9, 0, -9])


def test_one_checkpoint_differs_from_the_mean_of_the_references_seeds(runs, settings):
    seeds = {"bt": [0, 1, 2], "bt-bsr": [2]}
    table = table1(runs, {**settings, "rm_bench": {**settings["rm_bench"], "seeds": seeds}})
    row = table.set_index(["n", "method", "metric"]).loc[(8, "bt-bsr", "erank_delta")]
    assert row["n_seeds"] == 1 and np.isnan(row["ci_low"])
    assert row["difference"] == pytest.approx(0.5 - 10)
    half = student.ppf(0.975, 2) / np.sqrt(3)  # the reference's seeds alone: 10, 9, 11
    assert row["difference_high"] - row["difference"] == pytest.approx(half, rel=1e-6)
    text = table1_markdown(table)
    assert "3 seeds a method (`bt-bsr` 1), 8 responses" in text
    assert "- `bt-bsr`: one checkpoint." in text


def test_holm_and_the_papers_number_belong_to_the_largest_n(runs, settings):
    table = table1(runs, settings)
    small, large = table[table["n"] == 4], table[table["n"] == 8]
    assert small[["paper", "p_holm"]].isna().all(axis=None) and small["p_value"].notna().any()
    assert large["p_holm"].notna().sum() == 3
    assert large.set_index(["method", "metric"])["paper"].dropna().to_dict() == {
        ("bt", "erank_delta"): 10.42,
        ("bt-bsr", "erank_delta"): 0.14,
    }
    claimed = {**settings["rm_bench"], "published_as": {"public": "bt"}}
    assert table1(runs, {**settings, "rm_bench": claimed})["paper"].notna().sum() == 1


def test_markdown_shows_the_largest_n_alone_and_is_the_same_from_the_csv(runs, settings):
    table = table1(runs, settings)
    text = table1_markdown(table, "A made-up world.")
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert len(grid) == 2 + 2 and "22.00 ±" in grid[2] and "(paper 0.14)" in grid[3]
    assert "8 responses of each set; the train set is `raw/preferences/own.parquet`." in text
    assert set(table["train_set"]) == {"raw/preferences/own.parquet"}
    assert "at 4, 8." in text and "A made-up world." in text
    table.to_csv(runs / "t.csv", index=False)
    assert table1_markdown(pd.read_csv(runs / "t.csv"), "A made-up world.") == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[f["n"] == 4], r"both sets at n of \[4\]; expected \[4, 8\]"),
        (lambda f: f[f["set"] == "train"], r"both sets at n of \[\]"),
        (lambda f: f.drop(columns="n"), r"also the columns \['n'\]"),
    ],
)
def test_ranks_of_other_sizes_are_refused_by_file(runs, settings, change, message):
    path = runs / location("ranks", backbone="tiny", objective="bt-bsr", seed=2)
    change(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(InputError, match=message) as caught:
        table1(runs, settings)
    assert str(path) in str(caught.value)


def test_the_reference_must_be_there(runs, settings):
    with pytest.raises(InputError, match="also the reference bt-dr"):
        table1(runs, {**settings, "reference": "bt-dr"})
