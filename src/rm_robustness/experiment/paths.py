"""Layout of runs/PRESET: the path patterns of all outputs (`FILES`) and records (`RECORDS`).

Patterns have Snakemake's wildcards in braces. The rules use them unformatted, the library formats
them, and `provenance` parses the wildcards back from the path of a record.
"""

import re

from .scenarios import BENCHMARKS

FILES = {
    "responses": "raw/responses.parquet",
    "chats": "raw/chats/{source}.parquet",
    "preferences": "raw/preferences/{source}.parquet",
    "benchmark": "raw/{benchmark}.parquet",
    "instructions": "raw/alpaca_eval/instructions.parquet",
    "gamed_baselines": "raw/alpaca_eval/df_gamed.csv",
    "pretrained": "pretrained/{model}/manifest.json",
    "pretrained_model": "pretrained/{model}/model",
    "generated": "raw/generated/{response_model}.parquet",
    "gold": "raw/gold.parquet",
    "split": "splits/{split}.parquet",
    "splits_manifest": "splits/manifest.json",
    "backbone": "backbones/{backbone}/model.safetensors",
    "reward_model": "reward_models/{backbone}/{objective}/seed-{seed}/model.safetensors",
    "probes": "reward_models/{backbone}/{objective}/seed-{seed}/probes.parquet",
    "policy": "policies/{policy}/seed-{seed}/model.safetensors",
    "samples": "policies/{policy}/seed-{seed}/samples.parquet",
    "policy_gold": "policy_gold/{policy}.parquet",
    "scores": "scores/{backbone}/{objective}/seed-{seed}/{split}.parquet",
    "benchmark_scores": "scores/{backbone}/{objective}/seed-{seed}/{benchmark}.parquet",
    "ranks": "ranks/{backbone}/{objective}/seed-{seed}.parquet",
    "answers": "alpaca_eval/outputs/{policy}/seed-{seed}.parquet",
    "annotations": "alpaca_eval/annotations.parquet",
    "result": "results/{name}.csv",
    "metrics": "results/metrics.json",
    "index": "results/index.html",
}

# The record of each kind of job: `record.json` of a folder, or beside one file.
RECORDS = {
    "responses": "raw/responses.record.json",
    "chats": "raw/chats/{source}.record.json",
    "preferences": "raw/preferences/{source}.record.json",
    "benchmark": "raw/{benchmark}.record.json",
    "instructions": "raw/alpaca_eval/record.json",
    "pretrained": "pretrained/{model}/manifest.record.json",
    "generate": "raw/generated/{response_model}.record.json",
    "gold": "raw/gold.record.json",
    "splits": "splits/record.json",
    "backbone": "backbones/{backbone}/record.json",
    "reward_model": "reward_models/{backbone}/{objective}/seed-{seed}/record.json",
    "policy": "policies/{policy}/seed-{seed}/record.json",
    "policy_gold": "policy_gold/{policy}.record.json",
    "scores": "scores/{backbone}/{objective}/seed-{seed}/record.json",
    "ranks": "ranks/{backbone}/{objective}/seed-{seed}.record.json",
    "answers": "alpaca_eval/outputs/{policy}/seed-{seed}.record.json",
    "judge": "alpaca_eval/annotations.record.json",
    "metrics": "results/metrics.record.json",
    "index": "results/index.record.json",
    "result": "results/{name}.record.json",
}


# What a wildcard may be, where it is not the name of one folder or file: a pretrained model may be
# named by a path (splits/train, reward_models/llama/bt/seed-0).
WILDCARDS = {"model": ".+", "benchmark": "|".join(BENCHMARKS)}


def location(kind: str, **wildcards: object) -> str:
    """Format a pattern of `FILES`, relative to runs/PRESET; other wildcards stay: `{seed}`."""
    return filled(FILES[kind], **wildcards)


def filled(pattern: str, **wildcards: object) -> str:
    """Put wildcards that are given into a pattern."""
    for name, value in wildcards.items():
        pattern = pattern.replace(f"{{{name}}}", str(value))
    return pattern


def kind_of(record: str) -> tuple[str, dict[str, str]] | None:
    """Parse the path of a record, relative to runs/PRESET, to its kind of job and wildcards.

    None where no pattern of `RECORDS` matches.
    """
    for kind, pattern in RECORDS.items():
        if match := re.fullmatch(_regex(pattern), record):
            return kind, match.groupdict()
    return None


def _regex(pattern: str) -> str:
    """The regular expression of a pattern, with a group a wildcard."""

    def group(name: re.Match[str]) -> str:
        return f"(?P<{name[1]}>{WILDCARDS.get(name[1], '[^/]+')})"

    return re.sub(r"\\\{(\w+)\\\}", group, re.escape(pattern))
