"""The layout of runs/PRESET: where every job writes, the one list of it.

A pattern has Snakemake's wildcards in braces. The rules take a pattern as it is, the library fills
it in, and `provenance` reads the wildcards back out of a record's path.
"""

import re

FILES = {
    "responses": "raw/responses.parquet",
    "chats": "raw/chats/{source}.parquet",
    "preferences": "raw/preferences/{source}.parquet",
    "rm_bench": "raw/rm_bench.parquet",
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
    "rm_bench_scores": "scores/{backbone}/{objective}/seed-{seed}/rm_bench.parquet",
    "ranks": "ranks/{backbone}/{objective}/seed-{seed}.parquet",
    "answers": "alpaca_eval/outputs/{policy}/seed-{seed}.parquet",
    "annotations": "alpaca_eval/annotations.parquet",
    "result": "results/{name}.csv",
    "metrics": "results/metrics.json",
}

# The record of each kind of job: `record.json` of a folder, or beside one file.
RECORDS = {
    "responses": "raw/responses.record.json",
    "chats": "raw/chats/{source}.record.json",
    "preferences": "raw/preferences/{source}.record.json",
    "rm_bench": "raw/rm_bench.record.json",
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
    "rm_bench_scores": "scores/{backbone}/{objective}/seed-{seed}/rm_bench.record.json",
    "ranks": "ranks/{backbone}/{objective}/seed-{seed}.record.json",
    "answers": "alpaca_eval/outputs/{policy}/seed-{seed}.record.json",
    "judge": "alpaca_eval/annotations.record.json",
    "metrics": "results/metrics.record.json",
    "result": "results/{name}.record.json",
}


def location(kind: str, **wildcards: object) -> str:
    """A file of `FILES`, relative to runs/PRESET; wildcards that are not given stay: `{seed}`."""
    text = FILES[kind]
    for name, value in wildcards.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def kind_of(record: str) -> tuple[str, dict[str, str]] | None:
    """The kind of job that wrote a record and its wildcards; None for a path of no kind.

    `record` is relative to runs/PRESET.
    """
    for kind, pattern in RECORDS.items():
        # A pretrained model may be named by a path: splits/train, reward_models/llama/bt/seed-0.
        part = ".+" if kind == "pretrained" else "[^/]+"
        regex = re.sub(r"\\\{(\w+)\\\}", rf"(?P<\1>{part})", re.escape(pattern))
        if found := re.fullmatch(regex, record):
            return kind, found.groupdict()
    return None
