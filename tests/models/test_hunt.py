"""Inputs from people's bug reports give transformers' own reward, or one line and exit status 2.

The builders are not part of the repository: they are in ../shared/hunt, where that is there.
"""

import importlib
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from rm_robustness.cli.main import main
from rm_robustness.frames import read_frame

ROOT = Path(__file__).parents[2]
HUNT = ROOT.parent / "shared" / "hunt"
# A checkout in which the demo was made or pulled: this one, or the one beside it.
CLONES = [
    path
    for path in (ROOT, ROOT.parent / "main")
    if (path / "runs/demo/reward_models/llama/bt/seed-0/model.safetensors").is_file()
]
pytestmark = pytest.mark.skipif(
    not (HUNT.is_dir() and CLONES), reason="needs ../shared/hunt and a checkout with runs/demo"
)

SOUND = ["01-padded-to-8", "02-gemma3-text-config", "05-sharded", "11-extra-weights lm_head"]
SOUND += ["18-score-and-evaluate-differ"]
REFUSED = {
    "07-template-raises system": "A system turn is required",
    "07-template-raises parts": "it left out the turn",
    "07-template-raises undefined": "UndefinedError",
    "07-template-raises syntax": "TemplateSyntaxError",
    "07-template-raises several": "chat template",
    "08-quantised bnb": r"a quantised checkpoint \(bitsandbytes\)",
    "08-quantised gptq": r"a quantised checkpoint \(gptq\)",
    "08-quantised awq": r"a quantised checkpoint \(awq\)",
    "08-quantised fp8": r"a quantised checkpoint \(compressed-tensors\)",
    "11-extra-weights bias": "a bias of the reward head",
    "11-extra-weights v_head": "reward or value head of another name",
    "11-extra-weights adapter": "missing or unexpected weights",
    "11-extra-weights adapter_config": "adapter",
}
TEXTS = {"none": "response None", "number": "response 1", "nul": None, "empty": "found no rows"}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Runs a builder, in this process; returns the folder of its output, and `common`."""
    out = tmp_path_factory.mktemp("hunt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLONE", str(CLONES[0]))
        patch.setenv("OUT", str(out))
        patch.syspath_prepend(HUNT)
        common = importlib.import_module("common")

        def run(case):
            name, *arguments = case.split()
            patch.setattr(sys, "argv", [name, *arguments])
            runpy.run_path(str(HUNT / f"{name}.py"), run_name="__main__")
            return out, common

        yield run
    sys.modules.pop("common")


def model_of(out, case):
    """The folder that a builder wrote: its number, and its argument if it takes one."""
    number, kind = case[:2], [*case.split()[1:], "gemma3" if case[:2] == "02" else ""][0]
    return out / f"{number}-{kind}".rstrip("-")


def score(model, data, output):
    main(["score", "--model", str(model), "--data", str(data), "--output", str(output)])


@pytest.mark.parametrize("case", SOUND)
def test_a_sound_model_gives_its_own_reward(case, build, tmp_path):
    out, common = build(case)
    output = tmp_path / "scores.parquet"
    score(model_of(out, case), out / "s.parquet", output)
    expected = common.own_scores(model_of(out, case), read_frame(out / "s.parquet"))
    np.testing.assert_allclose(read_frame(output)["reward"], expected, rtol=1e-5, atol=1e-5)


def refused(capsys, model, data, output):
    """The one line of a refusal, which leaves nothing behind."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        score(model, data, output)
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1 and "Traceback" not in lines[0]
    assert not list(output.parent.glob("*.parquet"))
    return lines[0]


@pytest.mark.parametrize("case", REFUSED)
def test_another_one_is_refused_in_one_line(case, build, tmp_path, capsys):
    out, _ = build(case)
    line = refused(capsys, model_of(out, case), out / "s.parquet", tmp_path / "scores.parquet")
    assert re.search(REFUSED[case], line), line


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_people_have(kind, build, tmp_path, capsys):
    out, common = build(f"12-data {kind}")
    data, output = out / f"12-{kind}.parquet", tmp_path / "scores.parquet"
    if TEXTS[kind] is None:
        score(common.DEMO, data, output)
        assert np.isfinite(read_frame(output)["reward"]).all()
    else:
        assert TEXTS[kind] in refused(capsys, common.DEMO, data, output)


@pytest.mark.parametrize("verb", ["score", "answers", "measure"])
def test_a_misspelt_folder_is_one_line(verb, tmp_path, capsys):
    output = str(tmp_path / "out.parquet")
    more = {
        "score": ["--model", "no/such", "--data", "x", "--output", output],
        "answers": ["--settings", "{}", "--model", "no/such", "--instructions", "x"],
        "measure": ["--settings", "{}", "--models", "no/such", "--seeds", "0", "--data", "x"],
    }[verb]
    more += [] if "--output" in more else ["--output", output]
    with pytest.raises(SystemExit) as end:
        main([verb, *more])
    assert end.value.code == 2
    assert "no such folder" in capsys.readouterr().err
