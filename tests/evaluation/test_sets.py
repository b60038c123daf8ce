"""Real text is the same for everyone who names it, and a preset's sets are what it made."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from support.paths import REAL, ROOT
from support.real_text import serve, write_alpaca_eval, write_rm_bench

from rm_robustness.data import real_text
from rm_robustness.errors import InputError
from rm_robustness.evaluation.sets import COLUMNS, real_sets, sets_of_preset
from rm_robustness.experiment import settings
from rm_robustness.experiment.scenarios import SCENARIOS
from rm_robustness.frames import read_frame

OPTIONS = settings.responses(real_text.preset())
KNOWN, UNSEEN = OPTIONS["train_models"], OPTIONS["valid_models"]
GPT = "GPT-4's preference: "


@pytest.fixture
def both(tmp_path):
    """A folder with a checkout of each, small."""
    write_alpaca_eval(tmp_path / "both/alpaca_eval", [*KNOWN, *UNSEEN, "another"])
    write_rm_bench(tmp_path / "both/RM-Bench")
    return tmp_path / "both"


def titles(folder: Path) -> dict[str, str]:
    return {own.name: own.title for own in real_sets([folder])}


def test_the_sets_are_named_by_what_they_are(both):
    answers = f"6 answers of {len(UNSEEN)} other models"
    assert titles(both) == {
        "in_domain": f"{GPT}pairs of 17 models' answers to 14 instructions",
        "prompt_disjoint": f"{GPT}6 answers of {len(KNOWN)} models to 26 instructions",
        "response_disjoint": f"{GPT}{answers} to 14 instructions",
        "mutual_disjoint": f"{GPT}{answers} to 26 instructions",
        "rm_bench": "RM-Bench: subtle errors in three styles, 10 prompts",
    }
    for own in real_sets([both]):
        assert list(own.frame.columns[:6]) == COLUMNS


def test_a_checkout_may_be_named_itself(both):
    separate = real_sets([both / "RM-Bench", both / "alpaca_eval"])
    together = real_sets([both])
    assert [own.name for own in separate] == [together[-1].name, *(s.name for s in together[:-1])]
    for own, other in zip(separate, [together[-1], *together[:-1]], strict=True):
        pd.testing.assert_frame_equal(own.frame, other.frame)


def test_models_that_the_preset_does_not_name_change_nothing(both, tmp_path):
    with_another = real_sets([both / "alpaca_eval"])
    shutil.rmtree(both / "alpaca_eval/results/another")
    for own, other in zip(with_another, real_sets([both / "alpaca_eval"]), strict=True):
        pd.testing.assert_frame_equal(own.frame, other.frame)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([*KNOWN, *UNSEEN[:5]], {"in_domain": "32 models'", "prompt_disjoint": "6 answers of 32"}),
        ([*KNOWN[:5], *UNSEEN], {"in_domain": "21 models'", "prompt_disjoint": "6 answers of 21"}),
        (["x", *KNOWN[:2]], {"in_domain": "2 models'", "prompt_disjoint": "2 answers of 2"}),
        (["x", "y", "z"], {"in_domain": "3 models'", "prompt_disjoint": "3 answers of 3"}),
        (list("uvwxyz"), {"in_domain": "6 models'", "prompt_disjoint": "6 answers of 6"}),
    ],
)
def test_fewer_or_other_models_are_one_group(tmp_path, models, expected):
    found = titles(write_alpaca_eval(tmp_path / "a", models, instructions=400))
    assert found.keys() == expected.keys()
    assert all(words in found[name] for name, words in expected.items()), found


@pytest.mark.parametrize("models", [["x"], [KNOWN[0], "x", "y"]])
def test_one_model_is_refused(tmp_path, models):
    with pytest.raises(InputError, match=r"results: found judgements of one response model"):
        real_sets([write_alpaca_eval(tmp_path / "a", models)])


def test_a_missing_domain_is_said(tmp_path):
    [bench] = real_sets([write_rm_bench(tmp_path, ("chat", "code"))])
    assert bench.title.endswith("4 prompts, without math, safety-refuse, safety-response")


def test_of_two_checkouts_the_first_is_read_which_is_said(both, capsys):
    write_alpaca_eval(both / "alpaca_eval_old", ["x", "y"])
    assert "17 models" in titles(both)["in_domain"]
    assert f"{both / 'alpaca_eval_old'}: not read, {both / 'alpaca_eval'} is" in (
        capsys.readouterr().err
    )


def test_what_is_no_data_is_one_error(tmp_path):
    with pytest.raises(InputError, match="nowhere: found no such file or folder"):
        real_sets([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"found an empty folder; expected results/\*/weighted"):
        real_sets([tmp_path / "empty"])
    for name in "abcdefg":
        (tmp_path / f"{name}.txt").write_text("")
    with pytest.raises(InputError, match=r"found a\.txt, b\.txt, .* and 3 more"):
        real_sets([tmp_path])


def test_two_sets_of_one_name_are_refused(both):
    with pytest.raises(InputError, match=r"found a second set named rm_bench; the first is of"):
        real_sets([both / "RM-Bench", both])


def test_an_empty_answer_is_dropped_and_an_empty_set_is_no_set(tmp_path):
    folder = write_alpaca_eval(tmp_path / "a", ["x", "y"], instructions=1)
    assert titles(folder) == {"prompt_disjoint": f"{GPT}2 answers of 2 models to 1 instructions"}


# --- one's own ---


@pytest.fixture
def reader(monkeypatch):
    """A reader of preferences that finds two responses to one prompt in any file."""
    pair = [["p", f"r{n}", "question", f"answer {n}", "a", float(n)] for n in (0, 1)]
    module = SimpleNamespace(read_preferences=lambda path: pd.DataFrame(pair, columns=COLUMNS))
    monkeypatch.setitem(sys.modules, "rm_robustness.data.preference_file", module)


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.jsonl.gz"])
def test_a_file_of_ones_own_has_its_name(reader, tmp_path, both, name):
    (tmp_path / name).write_text("")
    *_, own = real_sets([both, tmp_path / name])
    assert own[:2] == ("mine", f"{name}: 2 responses to 1 prompts")


def test_a_file_has_neither_the_name_of_another_nor_that_of_real_text(reader, tmp_path):
    for name in ("mine.jsonl", "mine.json", "rm_bench.parquet"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="a second set named mine"):
        real_sets([tmp_path / "mine.jsonl", tmp_path / "mine.json"])
    with pytest.raises(InputError, match="a set named rm_bench, which here is one of"):
        real_sets([tmp_path / "rm_bench.parquet"])


# --- fetched ---


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The preset with repositories on this machine, and an empty cache."""
    models = [*KNOWN, *UNSEEN, "another"]
    config = copy.deepcopy(real_text.preset())
    alpaca, bench = config["sources"]["alpaca_eval"], config["sources"]["rm_bench"]
    work = write_alpaca_eval(tmp_path / "work/a", models)
    alpaca |= serve(work, tmp_path / "alpaca_eval.git", alpaca["files"])
    work = write_rm_bench(tmp_path / "work/b")
    bench |= serve(work, tmp_path / "RM-Bench.git", bench["files"])
    monkeypatch.setattr(real_text, "preset", lambda: config)
    monkeypatch.setenv("RM_ROBUSTNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_without_data_both_are_fetched_and_only_the_presets_models(served):
    sets = real_sets([])
    assert [own.name for own in sets] == [*SCENARIOS, "rm_bench"]
    [models] = served.glob("cache/alpaca_eval-*/results")
    assert sorted(path.name for path in models.iterdir()) == sorted([*KNOWN, *UNSEEN])
    for own, other in zip(sets, real_sets([served / "work"]), strict=True):
        pd.testing.assert_frame_equal(own.frame, other.frame)


def test_the_commands_of_the_error_bring_the_same_sets(served, tmp_path, monkeypatch):
    (served / "alpaca_eval.git").rename(served / "away.git")
    with pytest.raises(InputError) as error:
        real_sets([])
    commands = error.value.fix.split("`")[1::2]
    assert len(commands) == 2 and str(error.value).count("\n") == 0
    (served / "away.git").rename(served / "alpaca_eval.git")
    (tmp_path / "by_hand").mkdir()
    for command in commands:
        subprocess.run(command, shell=True, check=True, cwd=tmp_path / "by_hand")
    for own, other in zip(real_sets([tmp_path / "by_hand"]), real_sets([]), strict=True):
        pd.testing.assert_frame_equal(own.frame, other.frame)


# --- a preset's ---


def test_the_sets_of_a_preset_are_its_files(splits, tmp_path):
    runs = tmp_path / "runs" / "tiny"
    with pytest.raises(InputError, match=r"make it: snakemake --configfile config/tiny\.yaml"):
        sets_of_preset(runs)
    shutil.copytree(splits, runs / "splits")
    sets = sets_of_preset(runs)
    assert [own.name for own in sets] == list(SCENARIOS)
    assert sets[0].title == "in-domain pairs of preset tiny"
    assert sets[3].title == "mutual-disjoint responses of preset tiny"
    pd.testing.assert_frame_equal(sets[1].frame, read_frame(splits / "prompt_disjoint.parquet"))


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs AlpacaEval's and RM-Bench's data in {REAL}")
def test_real_text_is_bit_for_bit_what_the_workflow_makes(tmp_path):
    for name in ("config", "workflow", "data", "profiles", "src", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    few = {"objectives": ["bt"], "seeds": [0]}  # models, for which the disk is checked
    folders = {"alpaca_eval": REAL / "alpaca_eval_44", "rm_bench": REAL / "rm_bench"}
    changes = {
        "sources": {name: {"path": str(folder)} for name, folder in folders.items()},
        **{"grid": few, "rm_bench": few, "ranks": {"objectives": ["bt"]}},
    }
    run = tmp_path / "runs" / "small"
    subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"),
            *("--configfile", "config/small.yaml", "--config"),
            *(f"{section}={json.dumps(change)}" for section, change in changes.items()),
            *("--", "runs/small/splits/manifest.json", "runs/small/raw/rm_bench.parquet"),
        ],
        cwd=tmp_path,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    sets = {own.name: own.frame for own in real_sets([*folders.values()])}
    files = {name: run / f"splits/{name}.parquet" for name in SCENARIOS}
    files["rm_bench"] = run / "raw/rm_bench.parquet"
    assert sets.keys() == files.keys()
    for name, path in files.items():
        pd.testing.assert_frame_equal(sets[name], read_frame(path), check_exact=True)
