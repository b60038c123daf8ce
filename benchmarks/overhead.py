"""The share of a run's CPU time that is not training or scoring: `python benchmarks/overhead.py`.

Reads the logs of a finished `snakemake all`. Every command ends by printing its CPU time, and every
training, scoring and judging prints the CPU time of its computation; the rest is overhead: starting
Python, importing, reading, tokenising, saving. Snakemake itself is not included (about 30 s).

Prediction, written before measuring: 12 processes of 9 s and 10 of 6 s beside 600 s of training
and scoring give a share of about 0.22. With RLOO, RM-Bench and AlpacaEval there are 16 processes
more of 6 s, 250 s of RLOO and 110 s of training: still about 0.22.
"""

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

PHASES = (".", "backbones", "reward_models", "scores", "policies", "policy_gold", "answers")


def main() -> None:
    """Print a row per phase and the share of the whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", nargs="?", default="demo")
    preset = parser.parse_args().preset
    rows = []
    for phase in PHASES:
        folder = Path(f"logs/{preset}") / phase
        logs = folder.glob("*.log") if phase == "." else folder.rglob("*.log")
        text = "\n".join(log.read_text(encoding="utf-8") for log in logs)
        whole = map(float, re.findall(r"^rm-robustness: done, ([\d.]+) s of CPU", text, re.M))
        inside = map(float, re.findall(r"done in [\d:]+ \(([\d.]+) s of CPU\)", text))
        name = "tables, figures, splits" if phase == "." else phase
        rows.append({"phase": name, "cpu_s": sum(whole), "inside_s": sum(inside)})
    frame = pd.DataFrame(rows)
    if not frame["cpu_s"].iloc[-1]:
        sys.exit(f"logs/{preset}: no finished run; say `snakemake all` first")
    frame.loc[len(frame)] = ["all", frame["cpu_s"].sum(), frame["inside_s"].sum()]
    frame["overhead_share"] = 1 - frame["inside_s"] / frame["cpu_s"]
    print(frame.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
