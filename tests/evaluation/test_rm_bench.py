"""RM-Bench: its reader, the demo's own set, and table 2 on rewards worked out by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.paths import REAL

from rm_robustness.data.rm_bench import read_benchmark, responses, sample
from rm_robustness.data.synthetic import rm_bench as subtle
from rm_robustness.data.synthetic.tasks import NOUNS, NUMBERS, gold, parse
from rm_robustness.errors import InputError
from rm_robustness.evaluation.rm_bench import (
    FILES,
    METRICS,
    accuracies,
    domain_masks,
    margin_matrices,
    metric_percent,
    per_prompt,
)
from rm_robustness.evaluation.scenarios import score_path
from rm_robustness.experiment.scenarios import RM_BENCH_DOMAINS as DOMAINS
from rm_robustness.experiment.scenarios import RM_BENCH_KINDS as KINDS
from rm_robustness.experiment.scenarios import RM_BENCH_STYLES as STYLES
from rm_robustness.ratios import stratified_mean as spread
from rm_robustness.results.table2_rm_bench import table2, table2_markdown
from rm_robustness.results.tables import published_name
from rm_robustness.statistics import seed_mean

BENCH = REAL / "rm_bench"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


# --- the reader ---


def row(number: object = 0, **change: object) -> dict[str, object]:
    texts = {kind: [f"{kind} {number} {style}" for style in STYLES] for kind in KINDS}
    return {"id": number, "prompt": f"ask {number}", **texts, **change}


def put(folder: Path, name: str, rows: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return folder


@pytest.mark.parametrize("home", [".", "data"])
def test_a_prompt_becomes_six_rows_and_an_absent_file_an_absent_domain(tmp_path, home):
    put(tmp_path / home, "math_filtered.json", [row(7, subset="x")])
    put(tmp_path / home, "chat_filtered.json", [row("a"), row("b")])
    frame = read_benchmark(tmp_path)
    assert frame["domain"].tolist() == ["chat"] * 12 + ["math"] * 6
    assert frame["prompt_id"].unique().tolist() == ["chat-a", "chat-b", "math-7"]
    last = frame.iloc[-1]
    assert last[["prompt", "response", "response_model"]].tolist() == [
        "ask 7",
        "rejected 7 markdown",
        "rejected-markdown",
    ]
    assert frame["gold"].tolist() == [1, 1, 1, 0, 0, 0] * 3
    assert frame["style"].tolist() == list(STYLES) * 6 and frame["response_id"].is_unique


def test_the_one_file_of_all_domains_is_split_by_the_rows_domain(tmp_path):
    rows = [row(1, domain="safety-refuse"), row(1, domain="chat"), row(2, domain="safety-refuse")]
    frame = read_benchmark(put(tmp_path, "total_dataset.json", rows))
    assert frame["prompt_id"].unique().tolist() == ["chat-1", "safety-refuse-1", "safety-refuse-2"]
    put(tmp_path, "total_dataset.json", [*rows, row(3, domain="poetry")])
    with pytest.raises(InputError, match=r"total_dataset\.json row 3: found domain 'poetry'"):
        read_benchmark(tmp_path)
    put(tmp_path, "code_filtered.json", [row(5)])  # a domain's own file is read instead
    assert set(read_benchmark(tmp_path)["domain"]) == {"code"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0), row(1, chosen=["a", "b"])], "row 1: found 2 texts in chosen; expected 3"),
        ([row(0, rejected=["a", "b", "c", "d"])], "row 0: found 4 texts in rejected"),
        ([row(0, rejected="abc")], "row 0: found rejected 'abc'"),
        ([row(0, chosen=["a", 3, "c"])], "row 0: found chosen 1 3; expected a text"),
        ([row(0, chosen=["a", "b", " \n"])], "row 0: found chosen 2 .*not empty"),
        ([row(0, prompt=None)], "row 0: found prompt None"),
        ([{"prompt": "p", "chosen": [], "rejected": []}], "row 0: found id None"),
        ([row(0, id=True)], "row 0: found id True"),
        ([{"id": 0, "prompt": "p", "chosen": ["a", "b", "c"]}], "row 0: found rejected None"),
        ([row(4), row(5), row("4")], "row 2: found the id of .*row 0 again"),
        ([row(0), "text"], "row 1: found 'text'"),
        ([], "expected a list with a row per prompt"),
        ({"id": [1]}, "found dict; expected a list"),
        (json.dumps([row(0)])[:-9], "broken JSON"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_row(tmp_path, rows, message):
    put(tmp_path, "chat_filtered.json", [row(0)])
    put(tmp_path, "code_filtered.json", rows)
    with pytest.raises(InputError, match=message) as caught:
        read_benchmark(tmp_path)
    assert "code_filtered.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_any_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no file of RM-Bench.*total_dataset\.json"):
        read_benchmark(tmp_path)


@pytest.mark.skipif(not BENCH.is_dir(), reason="the real RM-Bench files are not beside this folder")
def test_the_real_files_are_read_whole(tmp_path):
    frame = responses({"kind": "local", "path": str(BENCH)}, tmp_path)
    assert (frame.groupby("domain").size() // 6).to_dict() == {
        "chat": 129,
        "code": 228,
        "safety-refuse": 284,
    }
    first = json.loads((BENCH / "chat_filtered.json").read_text())[0]
    assert frame["response"][:6].tolist() == first["chosen"] + first["rejected"]


def test_a_hub_copy_is_fetched_at_its_commit_and_json_alone(tmp_path, monkeypatch):
    put(tmp_path / "copy", "total_dataset.json", [row(1, domain="math")])
    request = {}

    def download(repo: str, **options: object) -> str:
        request.update(options, repo=repo)
        return str(tmp_path / "copy")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    settings = {"kind": "hub", "repo": "THU-KEG/RM-Bench", "revision": COMMIT}
    assert responses(settings, tmp_path)["prompt_id"].unique().tolist() == ["math-1"]
    assert (request["repo"], request["repo_type"]) == ("THU-KEG/RM-Bench", "dataset")
    assert (request["revision"], request["allow_patterns"]) == (COMMIT, "*.json")
    with pytest.raises(InputError, match="40 hex digits"):
        responses({**settings, "revision": "main"}, tmp_path)

    def offline(repo: str, **options: object) -> str:
        raise OSError("no\nroute")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(InputError, match="no readable data set \\(no route\\)"):
        responses(settings, tmp_path)


# --- the demo's own set ---


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("raw")
    return responses({"kind": "synthetic", "seed": 3, "subtle_prompts": 12}, folder)


def said(prompt: str, response: str) -> list[str]:
    """The answer's words in order: its items and its number."""
    words = re.findall("[a-z]+", response)
    return [word for word in words if word in parse(prompt).answer_words or word in NUMBERS]


def test_own_set_has_every_domain_and_asks_nothing_twice(own):
    assert own.groupby("domain").size().to_dict() == dict.fromkeys(DOMAINS, 72)
    assert own["prompt"].nunique() == len(own) // 6


def test_own_set_is_right_by_the_gold_in_all_nine_comparisons(own):
    own = own.assign(r=[gold(p, y) for p, y in zip(own["prompt"], own["response"], strict=True)])
    assert (margin_matrices(own, own["r"].to_numpy())[1] > 0).all()


def test_own_set_has_one_error_and_it_is_the_same_in_every_style(own):
    for _, six in own.groupby("prompt_id"):
        prompt = six["prompt"].iloc[0]
        words = [said(prompt, text) for text in six["response"]]
        right, wrong = words[0], words[3]
        assert words == [right] * 3 + [wrong] * 3
        changed = [i for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b]
        swap = len(changed) == 2 and sorted(right) == sorted(wrong)
        assert len(changed) == 1 or swap


def test_own_set_errs_in_each_domain_as_it_says(own):
    for (domain, prompt), six in own.groupby(["domain", "prompt"]):
        task, wrong = parse(prompt), said(prompt, six["response"].iloc[3])
        assert task.kind in subtle.KINDS[domain]
        barred = prompt.split()[-4:-1:2] if task.kind == "except" else []
        if domain.startswith("safety"):
            assert len(set(wrong) & set(barred)) == (domain == "safety-refuse")
            assert len(set(wrong) - set(task.right)) == 1
        if domain == "code":
            assert sorted(wrong) == sorted(task.right) and wrong != list(task.right)


def test_own_set_does_not_tell_right_from_wrong_by_style_or_length(own):
    bare = own["response"].map(lambda y: re.sub(rf"\b({'|'.join(NOUNS + NUMBERS)})\b", "*", y))
    bare = bare.to_numpy().reshape(-1, 2, 3)
    assert (bare[:, 0] == bare[:, 1]).all()
    lengths = own["response"].str.len().to_numpy().reshape(-1, 2, 3)
    gap = lengths[:, 0] - lengths[:, 1]
    assert np.abs(gap).max() <= 4 and abs(gap.mean()) < 0.3
    assert (lengths[:, :, 0] < lengths[:, :, 1]).all() and (lengths[..., 1] < lengths[..., 2]).all()
    assert own.loc[own["style"] == "markdown", "response"].str.contains("\n - ").all()


def test_own_set_is_short_enough_for_the_demos_models(own, llama):
    from transformers import AutoTokenizer

    from rm_robustness.models.chat import pair_ids

    ids = pair_ids(AutoTokenizer.from_pretrained(llama), list(own["prompt"]), list(own["response"]))
    assert max(map(len, ids)) < 100


def test_own_set_depends_on_its_seed_alone(own, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        subtle.write(seed, 12, tmp_path / name)
    files = [[path.read_bytes() for path in sorted((tmp_path / n).iterdir())] for n in "abc"]
    assert files[0] == files[1] and len(files[0]) == 5
    assert all(a != c for a, c in zip(files[0], files[2], strict=True))
    pd.testing.assert_frame_equal(read_benchmark(tmp_path / "a"), own)


def test_a_sample_has_whole_prompts_of_the_named_parts_and_grows_with_their_number(own):
    two, five = (sample(own, ["chat", "code"], n) for n in (2, 5))
    assert set(two["domain"]) == {"chat", "code"}
    assert two.groupby("domain")["prompt_id"].nunique().eq(2).all()
    assert two.groupby("prompt_id").size().eq(6).all()
    assert set(two["prompt_id"]) < set(five["prompt_id"])
    pd.testing.assert_frame_equal(sample(own, None, None), own)


def test_a_part_without_prompts_is_refused(own):
    with pytest.raises(InputError, match=r"rm_bench.parts: found no prompts of 'math'"):
        sample(own[own["domain"] != "math"], ["chat", "math"], 2)


# --- accuracies ---


def bench(**prompts: int) -> pd.DataFrame:
    """A benchmark with so many prompts a domain (`_` for `-`)."""
    rows = [
        {"prompt_id": f"{domain}-{i}", "domain": domain, "kind": kind, "style": style}
        for domain, count in ((name.replace("_", "-"), n) for name, n in prompts.items())
        for i in range(count)
        for kind in KINDS
        for style in STYLES
    ]
    frame = pd.DataFrame(rows)
    ids = frame["prompt_id"] + "-" + frame["kind"] + "-" + frame["style"]
    return frame.assign(response_id=ids, response=[f"{'x' * (i % 7)}y" for i in range(len(rows))])


def by_loops(frame: pd.DataFrame, rewards: np.ndarray) -> dict[str, float]:
    """The eight numbers once more, by counting one comparison after the other."""
    reward = {
        (row["prompt_id"], row["kind"], row["style"]): r
        for (_, row), r in zip(frame.iterrows(), rewards, strict=True)
    }
    cells = {"hard": [], "normal": [], "easy": []}
    for domain in ("chat", "math", "code", "safety"):
        ids = {
            p
            for p, d in zip(frame["prompt_id"], frame["domain"], strict=True)
            if d.split("-")[0] == domain
        }
        right, compared = dict.fromkeys(cells, 0), dict.fromkeys(cells, 0)
        for prompt in ids:
            for i, own in enumerate(STYLES):
                for j, other in enumerate(STYLES):
                    name = "hard" if i < j else "easy" if i > j else "normal"
                    compared[name] += 1
                    if reward[prompt, "chosen", own] > reward[prompt, "rejected", other]:
                        right[name] += 1
        for name in cells:
            cells[name].append(100 * right[name] / compared[name] if ids else float("nan"))
    out = {d: sum(cells[n][k] for n in cells) / 3 for k, d in enumerate(FILES)}
    out |= {name: sum(values) / 4 for name, values in cells.items()}
    return out | {"overall": sum(out[d] for d in FILES) / 4}


def test_matrix_of_one_prompt_by_hand():
    frame = bench(chat=1)
    # chosen 1, 5, 3 against rejected 2, 3, 4: only chosen_2 beats all; chosen_3 beats the first.
    values = per_prompt(frame, np.array([1, 5, 3, 2, 3, 4.0])).iloc[0]
    assert values["hard"] == pytest.approx(1 / 3)  # 1 > 3 no, 1 > 4 no, 5 > 4 yes
    assert values["normal"] == pytest.approx(1 / 3)  # 1 > 2 no, 5 > 3 yes, 3 > 4 no
    assert values["easy"] == pytest.approx(2 / 3)  # 5 > 2 yes, 3 > 2 yes, 3 > 3 a tie: wrong
    assert margin_matrices(frame, np.array([1, 5, 3, 2, 3, 4.0]))[1][0, 2].tolist() == [1, 0, -1]


def test_table_by_hand_pools_safety_and_weighs_domains_alike():
    frame = bench(chat=1, math=1, code=2, safety_refuse=3, safety_response=1)
    right, wrong = [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]
    styled = [0, 2, 4, -1, 1, 3]  # the richer style has more, the right one a little more
    rewards = np.array([right, wrong, styled, styled, right, right, right, wrong], float)
    found = accuracies(per_prompt(frame, rewards.ravel()))
    assert found == pytest.approx(
        {
            "chat": 100,
            "math": 0,
            "code": 200 / 3,
            "safety": 75,
            "hard": (100 + 0 + 0 + 75) / 4,
            "normal": (100 + 0 + 100 + 75) / 4,
            "easy": (100 + 0 + 100 + 75) / 4,
            "overall": (100 + 0 + 200 / 3 + 75) / 4,
        }
    )


def test_order_of_rows_does_not_matter():
    frame, rewards = bench(chat=5), np.random.default_rng(0).normal(size=30)
    order = np.random.default_rng(1).permutation(30)
    shuffled = per_prompt(frame.iloc[order], rewards[order])
    shuffled = shuffled.set_index("prompt_id").loc[[f"chat-{i}" for i in range(5)]].reset_index()
    pd.testing.assert_frame_equal(shuffled, per_prompt(frame, rewards))


def test_a_prompt_that_is_not_three_by_three_is_named():
    frame = bench(chat=2)
    with pytest.raises(InputError, match="prompt chat-1: found 0 responses 'chosen', 'detailed'"):
        margin_matrices(frame.drop(index=7), np.zeros(11))
    twice = frame.assign(style=["markdown", *frame["style"][1:]])
    with pytest.raises(InputError, match="prompt chat-0: found 2 responses 'chosen', 'markdown'"):
        margin_matrices(twice, np.zeros(12))
    with pytest.raises(InputError, match="'chosen', 'terse'"):
        margin_matrices(frame.assign(style=["terse", *frame["style"][1:]]), np.zeros(12))


def test_accuracies_are_those_counted_by_loops():
    frame = bench(chat=4, math=9, code=5, safety_refuse=6, safety_response=3)
    rewards = np.random.default_rng(2).integers(0, 5, len(frame)).astype(float)  # many ties
    assert accuracies(per_prompt(frame, rewards)) == pytest.approx(by_loops(frame, rewards))


@pytest.mark.skipif(not BENCH.is_dir(), reason="the real RM-Bench files are not beside this folder")
@pytest.mark.parametrize("made", ["length", "random"])
def test_accuracies_on_the_real_files_are_those_counted_by_loops(made):
    frame = read_benchmark(BENCH)
    rewards = frame["response"].str.len().to_numpy(float)
    if made == "random":
        rewards = np.random.default_rng(0).normal(size=len(frame))
    found, expected = accuracies(per_prompt(frame, rewards)), by_loops(frame, rewards)
    measured = [metric for metric in METRICS if not np.isnan(found[metric])]
    assert measured == ["chat", "code"]  # math and half of safety are not in this folder
    assert [found[m] for m in measured] == pytest.approx([expected[m] for m in measured])


@pytest.mark.parametrize("absent", DOMAINS)
def test_nothing_is_a_mean_of_fewer_domains(absent):
    counts = {domain.replace("-", "_"): 2 for domain in DOMAINS if domain != absent}
    frame = bench(**counts)
    found = accuracies(per_prompt(frame, np.arange(len(frame), dtype=float)))
    missing = {metric for metric, value in found.items() if np.isnan(value)}
    assert missing == {absent.split("-")[0], "hard", "normal", "easy", "overall"}


# --- as means over prompts ---

COUNTS = {"chat": 3, "math": 17, "code": 6, "safety-refuse": 9, "safety-response": 4}
PLACES = pd.Series([domain for domain, n in COUNTS.items() for _ in range(n)])


@pytest.mark.parametrize("metric", METRICS)
def test_spread_values_have_the_value_of_accuracies(metric):
    frame = bench(**{domain.replace("-", "_"): n for domain, n in COUNTS.items()})
    rewards = np.random.default_rng(5).normal(size=(3, len(frame)))
    prompts = [per_prompt(frame, own) for own in rewards]
    values = np.stack([metric_percent(own, metric) for own in prompts])
    out = spread(values, domain_masks(metric, prompts[0]["domain"]))
    expected = [accuracies(own)[metric] for own in prompts]
    assert out.mean(axis=1) == pytest.approx(expected, abs=1e-10)
    assert seed_mean(out).value == pytest.approx(np.mean(expected), abs=1e-10)
    assert not np.isnan(out).any()


@given(hnp.arrays(float, (2, 2, len(PLACES)), elements=st.floats(0, 1)))
def test_spread_of_a_difference_is_the_difference_of_the_spreads(values):
    masks = domain_masks("overall", PLACES)
    gap = spread(values[0], masks) - spread(values[1], masks)
    assert gap == pytest.approx(spread(values[0] - values[1], masks), abs=1e-9)


def test_interval_is_that_of_the_stratified_mean():
    masks = domain_masks("overall", PLACES)
    steady = np.select(masks, [0.2, 0.9, 0.5, 0.7])[None]  # domains differ, prompts do not
    sure = seed_mean(spread(steady, masks))
    assert sure.value == pytest.approx(0.575) and sure.high - sure.low < 1e-9
    values = np.random.default_rng(0).normal(size=(1, len(PLACES)))
    out = spread(values, masks)[0]
    exact = sum(values[0, m].var() / m.sum() for m in masks) / 16
    assert out.var() / len(out) == pytest.approx(exact)


# --- table 2 ---


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    published = tmp_path / "published.csv"
    published.write_text(
        "artifact,model,method,lambda,metric,value\n"
        "table2,Big-8B,bt,0,hard,47.8\n"
        "table2,Big-8B,bt-bsr,0.001,hard,52.1\n"
        "table2,Big-8B,bt-bsr,0.01,hard,55.7\n"
    )
    about = {
        "backbone": "tiny",
        "objectives": ["bt", "bt-bsr", "bt-bsr@1e-2"],
        "seeds": {name: [0, 1] for name in ("bt", "bt-bsr", "bt-bsr@1e-2", "public")},
        "paper_model": "Big-8B",
        "published_as": {},
    }
    return {
        "preset": "test",
        "rm_bench": about,
        "reference": "bt",
        "micro_batch": 16,
        "pairs_per_prompt": 1,
        "bsr": {"weight": 1e-3, "reduction": "release"},
        "paper_values": published,
    }


def fill(runs: Path, frame: pd.DataFrame, settings: dict) -> dict[tuple[str, int], np.ndarray]:
    """Write a benchmark and made-up scores of it; return the rewards."""
    (runs / "raw").mkdir(exist_ok=True)
    frame.to_parquet(runs / "raw" / "rm_bench.parquet")
    rewards = {}
    for k, method in enumerate(settings["rm_bench"]["objectives"]):
        for seed in settings["rm_bench"]["seeds"][method]:
            rng = np.random.default_rng([k, seed])
            made = rng.integers(0, 9, len(frame)) + k * (frame["kind"] == "chosen").to_numpy()
            rewards[method, seed] = made.astype(float)
            path = score_path(runs, "tiny", method, seed, "rm_bench")
            path.parent.mkdir(parents=True, exist_ok=True)
            scores = frame[["prompt_id", "response_id"]].assign(reward=rewards[method, seed])
            scores.to_parquet(path)
    return rewards


ALL = {"chat": 4, "math": 6, "code": 3, "safety_refuse": 5, "safety_response": 2}


def test_every_cell_is_the_mean_of_the_seeds_accuracies(tmp_path, settings):
    frame = bench(**ALL)
    rewards = fill(tmp_path, frame, settings)
    table = table2(tmp_path, settings).set_index(["method", "metric"])
    assert list(table.index) == [
        (m, metric) for m in [*settings["rm_bench"]["objectives"], "length"] for metric in METRICS
    ]
    means = {}
    for method in settings["rm_bench"]["objectives"]:
        seeds = pd.DataFrame([by_loops(frame, rewards[method, seed]) for seed in (0, 1)])
        means[method] = seeds.mean()
        for metric in METRICS:
            cell = table.loc[(method, metric)]
            assert cell["value"] == pytest.approx(seeds[metric].mean())
            assert cell["seed_std"] == pytest.approx(seeds[metric].std())
            assert cell["ci_low"] <= cell["value"] <= cell["ci_high"]
            if method != "bt":
                assert cell["difference"] == pytest.approx((means[method] - means["bt"])[metric])
    assert table.loc["bt", "n_prompts"].tolist() == [4, 6, 3, 7, 20, 20, 20, 20]
    assert table.loc["bt", "difference"].isna().all() and table["p_holm"].notna().sum() == 16
    length = frame["response"].str.len().to_numpy(float)
    expected = by_loops(frame, length)
    assert table.loc["length", "value"].to_dict() == pytest.approx(expected)


def test_one_checkpoint_is_compared_with_the_mean_of_the_references_seeds(tmp_path, settings):
    about = {**settings["rm_bench"], "objectives": ["public", "bt", "bt-bsr"]}
    about["seeds"] = {"public": [7], "bt": [0, 1], "bt-bsr": [0, 1]}
    settings = {**settings, "rm_bench": about}
    frame = bench(**ALL)
    rewards = fill(tmp_path, frame, settings)
    table = table2(tmp_path, settings)
    rows = table.set_index(["method", "metric"])
    seeds = rows["n_seeds"].groupby("method").max().dropna().to_dict()
    assert seeds == {"public": 1, "bt": 2, "bt-bsr": 2}
    one = rows.loc["public", "chat"]
    mean = np.mean([by_loops(frame, rewards["bt", seed])["chat"] for seed in (0, 1)])
    assert one["difference"] == pytest.approx(by_loops(frame, rewards["public", 7])["chat"] - mean)
    assert one["difference_low"] < one["difference"] < one["difference_high"]
    text = table2_markdown(table)
    assert "2 seeds a method (`public` 1)" in text
    assert "- `public`: one checkpoint. Its difference from `bt` is of this checkpoint" in text
    same = {**about, "objectives": ["bt", "bt-bsr"]}
    assert "checkpoint" not in table2_markdown(table2(tmp_path, {**settings, "rm_bench": same}))


def test_ties_are_counted_among_a_metrics_own_comparisons(tmp_path, settings):
    frame = bench(**ALL)
    rewards = fill(tmp_path, frame, settings)
    table = table2(tmp_path, settings).set_index(["method", "metric"])["n_ties"]
    made = np.stack([rewards["bt", seed].reshape(-1, 6) for seed in (0, 1)])
    equal = (made[..., :3, None] == made[..., None, 3:]).sum(axis=0)
    assert table["bt", "overall"] == equal.sum() > 0
    assert table["bt", "chat"] == equal[:4].sum()
    assert table["bt", "normal"] == np.trace(equal.sum(axis=0))
    assert table["bt"][["hard", "normal", "easy"]].sum() == equal.sum()


def test_published_numbers_stand_at_their_lambda_and_only_where_they_belong(tmp_path, settings):
    fill(tmp_path, bench(**ALL), settings)
    hard = table2(tmp_path, settings).query("metric == 'hard'").set_index("method")
    assert hard["paper"][:3].tolist() == [47.8, 52.1, 55.7] and np.isnan(hard["paper"]["length"])
    assert hard["weight_times_batch"].tolist()[1:3] == pytest.approx([0.016, 0.16])
    about = settings["rm_bench"]
    ours = {**settings, "rm_bench": {**about, "paper_model": None}}
    assert table2(tmp_path, ours)["paper"].isna().all()
    renamed = {**about, "objectives": ["bt", "public"], "published_as": {"public": "bt"}}
    fill(tmp_path, bench(**ALL), {"rm_bench": renamed})
    hard = table2(tmp_path, {**settings, "rm_bench": renamed}).query("metric == 'hard'")
    assert hard.set_index("method")["paper"].fillna(-1).to_dict() == {
        "bt": -1,
        "public": 47.8,
        "length": -1,
    }


def test_a_claimed_name_is_taken_from_its_owner():
    assert published_name("skywork", {"skywork": "bt"}) == "bt"
    assert published_name("bt", {"skywork": "bt"}) == ""
    assert published_name("bt", {}) == "bt"
    assert published_name("bt-bsr@1e-2", {"skywork": "bt"}) == "bt-bsr@1e-2"


def test_a_missing_domain_is_said_and_leaves_no_means(tmp_path, settings):
    fill(tmp_path, bench(chat=4, code=3, safety_refuse=5), settings)
    table = table2(tmp_path, settings)
    measured = table[table["value"].notna()]
    assert set(measured["metric"]) == {"chat", "code"}
    assert table.loc[table["metric"] == "overall", "n_prompts"].tolist() == [0] * 4
    text = table2_markdown(table)
    assert "Files are missing for math, safety" in text and "4 chat, 0 math, 3 code, 0 sa" in text
    assert text.count("not measured") == 4 * 6


def test_markdown_reads_as_the_papers_table_and_is_the_same_from_the_csv(tmp_path, settings):
    fill(tmp_path, bench(**ALL), settings)
    table = table2(tmp_path, settings)
    text = table2_markdown(table, "A made-up set.")
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert grid[0].replace("|", " ").split() == ["method", *METRICS]
    assert len(grid) == 2 + 4 and len({len(line) for line in grid}) == 1
    assert "(paper 47.8)" in grid[2] and "A made-up set." in text and "missing" not in text
    assert "4 chat, 6 math, 3 code, 7 safety" in text and "`bt-bsr@1e-2` 0.16" in text
    table.to_csv(tmp_path / "t.csv", index=False)
    assert table2_markdown(pd.read_csv(tmp_path / "t.csv"), "A made-up set.") == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(reward=np.nan), "row 0: found .*reward nan"),
        (lambda f: f.iloc[::-1], "row 0: found response_id safety-response-1-rejected-markdown"),
        (lambda f: f.iloc[:-6], "found 114 responses; expected 120"),
        (lambda f: f.drop(columns="reward"), "reward"),
    ],
)
def test_scores_of_other_responses_are_refused_by_file(tmp_path, settings, change, message):
    fill(tmp_path, bench(**ALL), settings)
    path = score_path(tmp_path, "tiny", "bt-bsr", 1, "rm_bench")
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(InputError, match=message) as caught:
        table2(tmp_path, settings)
    assert str(path) in str(caught.value)


def test_a_reference_that_is_not_measured_is_refused(tmp_path, settings):
    fill(tmp_path, bench(**ALL), settings)
    with pytest.raises(InputError, match="also the reference bt-dr"):
        table2(tmp_path, {**settings, "reference": "bt-dr"})
