"""Scores and effective ranks: what the rules of workflow/rules/scores.smk read."""

from support.presets import PINNED, dry_run


def test_ranks_are_measured_on_the_pairs_that_the_models_were_trained_on(tmp_path):
    targets = [
        f"runs/paper/ranks/{backbone}/{objective}.parquet"
        for backbone, objective in (
            ("Llama-3.1-8B-Instruct", "skywork/seed-90"),
            ("Llama-3.2-1B", "bt/seed-0"),
        )
    ]
    done = dry_run(tmp_path, "--configfile", "config/paper.yaml", str(PINNED), "--", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    read = {
        target: line
        for line, output in zip(
            done.stdout.splitlines(), done.stdout.splitlines()[1:], strict=False
        )
        for target in targets
        if line.strip().startswith("input:") and target in output
    }
    assert "raw/preferences/skywork.parquet" in read[targets[0]]
    assert "splits/train.parquet" not in read[targets[0]]
    assert "splits/train.parquet" in read[targets[1]]
