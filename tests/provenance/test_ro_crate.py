import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from rocrate import vocabs
from support.paths import ROOT

from rm_robustness.cli import main as cli
from rm_robustness.files import read_json, sha256, write_json
from rm_robustness.provenance.record import record

WEIGHTS = "runs/toy/reward_models/llama/bt-bsr@1e-2/seed-0/model.safetensors"
STARTED = "2026-01-02T23:59:00+00:00"
RESULTS = ("table5", "claims", "figure1", "figure2", "figure3", "figure4")
# The terms of RO-Crate 1.1 that are other ones today; validation would fetch its contexts else.
WORKFLOW = "https://bioschemas.org/ComputationalWorkflow"
TERMS = vocabs.RO_CRATE["@context"] | {
    "ComputationalWorkflow": WORKFLOW,
    "input": f"{WORKFLOW}#input",
    "output": f"{WORKFLOW}#output",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
}


def job(verb, read, *written):
    """Write files and their record as a job does."""
    paths = [Path(path) for path in written]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"made by {verb}: {path}")
    inputs = {path: {"path": path, "sha256": sha256(Path(path))} for path in read}
    said = {"command": f"rm-robustness {verb} --x", "started": STARTED, "wall_seconds": 62.5}
    made = record({}, inputs, paths, 0, time.time()) | said
    several = len({path.stem for path in paths}) > 1 or paths[0].name == "model.safetensors"
    name = "record.json" if several else f"{paths[0].stem}.record.json"
    write_json(made, paths[0].with_name(name))


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A finished run of a preset without RLOO and benchmarks; its files are words."""
    for name in ("config", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "src/rm_robustness").mkdir(parents=True)
    for path in ROOT.glob("*"):
        if path.is_file():
            shutil.copy2(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    none = dict.fromkeys(("rm_bench", "ranks", "rloo", "alpaca_eval"))
    Path("toy.yaml").write_text(yaml.safe_dump({"preset": "toy", **none}))
    Path("values.csv").write_text("published")
    job("splits", [], "runs/toy/splits/train.parquet", "runs/toy/splits/in_domain.parquet")
    job("train", ["runs/toy/splits/train.parquet"], WEIGHTS)
    job("score", [WEIGHTS, "runs/toy/splits/in_domain.parquet"], "runs/toy/scores/bt.parquet")
    for name in RESULTS:
        suffixes = (".png", ".pdf", ".csv") if "figure" in name else (".csv", ".md", ".html")
        files = [f"runs/toy/results/{name}{suffix}" for suffix in suffixes]
        job(name, ["runs/toy/scores/bt.parquet", "values.csv"], *files)
    job("metrics", ["runs/toy/results/table5.csv"], "runs/toy/results/metrics.json")
    job("index", ["runs/toy/results/table5.csv"], "runs/toy/results/index.html")
    return tmp_path


def crate(*arguments):
    cli.main(["crate", "--configfile", "config/demo.yaml", *map(str, arguments)])


def violated(metadata, folder, cache):
    """What a crate violates of the Provenance Run Crate and of all that it extends, offline."""
    from rocrate_validator import services

    settings = {
        "metadata_dict": metadata | {"@context": TERMS},
        "package_root": folder,
        "rocrate_uri": None,
        "profile_identifier": "provenance-run-crate",
        "requirement_severity": "REQUIRED",
        "offline": True,
        "cache_path": cache / "http",
    }
    return [issue.message for issue in services.validate(settings).get_issues()]


def graph(path="ro-crate-metadata.json"):
    return {entity["@id"]: entity for entity in read_json(Path(path))["@graph"]}


def names(entity, term):
    found = entity.get(term, [])
    return {each["@id"] for each in (found if isinstance(found, list) else [found])}


def test_a_crate_is_valid_although_weights_are_not_released(toy, tmp_path_factory):
    Path(WEIGHTS).unlink()
    crate("toy.yaml")
    metadata, cache = read_json(Path("ro-crate-metadata.json")), tmp_path_factory.mktemp("cache")
    assert violated(metadata, toy, cache) == []
    absent = [each for each in graph().values() if each["@id"].endswith("model.safetensors")]
    assert [(each["@type"], len(each["sha256"])) for each in absent] == [("CreativeWork", 64)]
    # The judge can say no.
    Path("runs/toy/splits/train.parquet").unlink()
    for entity in metadata["@graph"]:
        entity.pop("instrument", None)
    messages = " ".join(violated(metadata, toy, cache))
    assert "splits/train.parquet" in messages
    assert "MUST have an instrument" in messages


def test_a_result_leads_to_its_splits_by_the_crate_alone(toy):
    crate("toy.yaml")
    entities = graph()
    made = {
        result: entity
        for entity in entities.values()
        if entity["@type"] == "CreateAction"
        for result in names(entity, "result")
    }
    waiting, tools = ["runs/toy/results/table5.csv"], []
    while waiting:
        action = made.get(waiting.pop())
        if action:
            tools.append(entities[action["instrument"]["@id"]]["name"])
            waiting += names(action, "object")
    assert [tool.split()[1] for tool in tools[:2]] == ["table5", "score"]
    assert {tool.split()[1] for tool in tools[2:]} == {"splits", "train"}
    whole = entities["#run-toy"]
    assert names(whole, "object") == {"config/demo.yaml", "toy.yaml", "values.csv"}
    unlisted = {Path("runs/toy/results") / f"{name}.html" for name in RESULTS}
    unlisted |= {*Path("runs/toy/results").glob("metrics.*")}
    shown = {*Path("runs/toy/results").iterdir()} - unlisted
    assert names(whole, "result") == {*map(str, shown)}


def test_every_file_of_a_crate_has_the_bytes_that_it_says(toy):
    crate("toy.yaml")
    files = [each for each in graph().values() if "File" in each["@type"]]
    for each in files:
        path = Path(each["name"])
        assert (each["sha256"], int(each["contentSize"])) == (sha256(path), path.stat().st_size)
    found = {each["name"] for each in files}
    assert {str(path) for path in Path("runs").rglob("*") if path.is_file()} < found


def test_a_crate_knows_when_the_run_ended_and_not_when_it_was_written(toy):
    crate("toy.yaml")
    crate("toy.yaml", "--output", "again.json")
    assert Path("again.json").read_bytes() == Path("ro-crate-metadata.json").read_bytes()
    whole = graph()["#run-toy"]
    assert (whole["startTime"], whole["endTime"]) == (STARTED, "2026-01-03T00:00:02+00:00")
    assert graph()["./"]["datePublished"] == "2026-01-03T00:00:02+00:00"


def another_input():
    path = Path("runs/toy/scores/bt.record.json")
    made = read_json(path)
    made["inputs"][WEIGHTS]["sha256"] = "0" * 64
    write_json(made, path)


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda: Path(WEIGHTS).write_text("others"), WEIGHTS),
        (lambda: Path("values.csv").write_text("newer"), "values.csv"),
        (lambda: Path("runs/toy/results/table5.md").write_text("by hand"), "results/table5.md"),
        (lambda: Path("runs/toy/results/figure2.pdf").unlink(), "results/figure2.pdf"),
        (lambda: Path("runs/toy/results/claims.record.json").unlink(), "claims.record.json"),
        (lambda: Path("runs/toy/splits/record.json").unlink(), "runs/toy/splits"),
        (
            lambda: write_json({}, Path("runs/toy/scores/bt.record.json")),
            "bt.record.json: found no code, command",
        ),
        (another_input, "bt.record.json: found made from another version of"),
    ],
)
def test_what_is_not_a_finished_run_has_no_crate(toy, capsys, harm, named):
    harm()
    with pytest.raises(SystemExit) as stop:
        crate("toy.yaml")
    assert stop.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]
    assert not Path("ro-crate-metadata.json").exists()


@pytest.mark.slow
def test_the_crate_of_a_real_run_is_valid(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished)
    crate("cut.yaml", "--output", tmp_path / "crate.json")
    metadata = json.loads((tmp_path / "crate.json").read_text())
    assert violated(metadata, finished, tmp_path) == []
    tables = {n for e in metadata["@graph"] for n in names(e, "result") if "/results/table" in n}
    assert len(tables) == 5 * 4  # csv, md, html, record
