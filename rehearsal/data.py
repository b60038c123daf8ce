"""Small data sets in the layouts of the paper's, under their names: columns, splits, odd rows.

Made of random words, with none of the published texts. The odd rows are of the kinds that the real
data have: a prompt without completions or with too few, one too long for a model's context, the
same prompt twice, an empty response, two equal ones, texts that spell out special tokens, control
characters, several scripts; chats of several turns and with a system turn; pairs that differ before
the last answer.
"""

import csv
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).parents[1]
WORDS = [
    *("the", "of", "two", "answers", "one", "better", "why", "first"),
    *("because", "short", "long", "number", "code", "name", "tree", "river"),
    *("light", "which", "write", "list", "three", "explain", "small", "large"),
    *("between", "makes", "is", "and", "or", "not", "how"),
]
ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")
PROMPTS = 256
CHATS = 64
PAIRS = 64
INSTRUCTIONS = 16
BENCHMARK = {"chat": 4, "code": 4, "math": 4, "safety-refuse": 4, "safety-response": 4}
TOO_LONG = 1600  # words: about 4,900 tokens, beyond the context of OLMo 2 (4,096) alone
ODD_TEXTS = (
    "Say <|im_end|> and <|eot_id|> and </s> as words",
    "A \x00 nul, a tab\tand \u200b no space",
    "東京は大きい。 مرحبا बड़ा 🙂🙃",
)
MESSAGES = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))


def ultrafeedback(folder: Path) -> None:
    """openbmb/UltraFeedback: a jsonl file for each source of prompts, completions nested."""
    draw = random.Random(1)
    preset = yaml.safe_load((ROOT / "config/paper.yaml").read_text(encoding="utf-8"))
    models = preset["responses"]["train_models"]
    sources = ("evol_instruct", "false_qa", "flan", "sharegpt", "truthful_qa", "ultrachat")
    rows = [_prompt(draw, models, sources[number % 6], number) for number in range(PROMPTS)]
    for row, text in zip(rows[20:], ODD_TEXTS, strict=False):
        row["instruction"] = text
        row["completions"][0]["response"] = f"{text} {_words(draw, 5)}"
    rows[30]["completions"][1]["response"] = ""
    rows[31]["completions"][1]["response"] = rows[31]["completions"][0]["response"]
    rows[32]["completions"].pop()
    rows[33]["instruction"] = " ".join(draw.choice(WORDS) for _ in range(TOO_LONG))
    rows.append({**rows[40], "completions": rows[41]["completions"]})  # its prompt again
    rows.append({**_prompt(draw, models, "flan", PROMPTS), "completions": []})
    for source in sources:
        lines = [json.dumps(row) for row in rows if row["source"] == source]
        (folder / f"{source}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")


def _prompt(
    draw: random.Random, every_model: list[str], source: str, number: int
) -> dict[str, Any]:
    models = draw.sample(every_model, 4)
    return {
        "source": source,
        "instruction": f"{_words(draw, 8)} {number}?",
        "models": models,
        "completions": [_completion(draw, model) for model in models],
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


def _completion(draw: random.Random, model: str) -> dict[str, Any]:
    rated = {"Rating": str(draw.randint(1, 5)), "Rationale": _words(draw, 3)}
    return {
        "annotations": {aspect: rated for aspect in ASPECTS},
        "custom_system_prompt": "You answer.",
        "model": model,
        "principle": "helpfulness",
        "response": _words(draw, 20),
        "critique": _words(draw, 5),
        "fine-grained_score": 3.5,
        "overall_score": 7.0,
    }


def ultrachat(folder: Path) -> None:
    """HuggingFaceH4/ultrachat_200k: splits named in the README, chats of several turns."""
    draw = random.Random(2)
    schema = pa.schema(
        [("prompt", pa.string()), ("prompt_id", pa.string()), ("messages", MESSAGES)]
    )
    for split, rows in (("train_sft", CHATS), ("test_sft", 4), ("train_gen", 4), ("test_gen", 4)):
        chats = [_chat(draw, 3) for _ in range(rows)]
        table = [
            {"prompt": chat[0]["content"], "prompt_id": f"{number:064}", "messages": chat}
            for number, chat in enumerate(chats)
        ]
        _write_parts(table, schema, folder / "data", split, 2 if split == "train_sft" else 1)
    _write_card(folder, "mit", ["train_sft", "test_sft", "train_gen", "test_gen"])


def tulu3(folder: Path) -> None:
    """allenai/tulu-3-sft-mixture: one split of several files, some chats with a system turn."""
    draw = random.Random(3)
    schema = pa.schema([("id", pa.string()), ("messages", MESSAGES), ("source", pa.string())])
    table = []
    for number in range(CHATS):
        system = [{"role": "system", "content": _words(draw, 4)}] if number % 9 == 0 else []
        chat = _chat(draw, 1 + number % 2)
        table.append({"id": f"row-{number}", "messages": system + chat, "source": "some/mixture"})
    _write_parts(table, schema, folder / "data", "train", 2)
    _write_card(folder, "odc-by", ["train"])


def skywork(folder: Path) -> None:
    """Skywork/Skywork-Reward-Preference-80K-v0.2: pairs of chats, some of several turns."""
    draw = random.Random(4)
    schema = pa.schema([("chosen", MESSAGES), ("rejected", MESSAGES), ("source", pa.string())])
    table = []
    for number in range(PAIRS):
        chosen = _chat(draw, 3 if number % 10 == 0 else 1)
        rejected = [*chosen[:-1], {"role": "assistant", "content": _words(draw, 20)}]
        if number == 7:
            rejected = _chat(draw, 1)
        table.append({"chosen": chosen, "rejected": rejected, "source": "some/source"})
    _write_parts(table, schema, folder / "data", "train", 1)
    _write_card(folder, "other", ["train"])


def alpaca_eval(folder: Path) -> None:
    """tatsu-lab/alpaca_eval: the baseline's answers, and the data of the length-controlled GLM."""
    draw = random.Random(5)
    rows = [
        {
            "instruction": f"{_words(draw, 8)} {number}?",
            "output": _words(draw, 30),
            "generator": "gpt4_1106_preview",
            "dataset": "helpful_base",
        }
        for number in range(INSTRUCTIONS)
    ]
    for name in ("alpaca_eval_gpt4_baseline.json", "alpaca_eval.json"):
        (folder / name).write_text(json.dumps(rows, indent=2), encoding="utf-8")
    difficulty = [draw.gauss(0, 1) for _ in rows]
    columns = ["index", "model", "preference", "std_delta_len", "instruction_difficulty"]
    with (folder / "df_gamed.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([*columns, "not_gamed_baseline"])
        for model, longer in (("concise", 1.0), ("verbose", -1.0)):
            for number, hard in enumerate(difficulty):
                length = longer + draw.gauss(0, 0.5)
                name = f"gpt4_1106_preview_{model}"
                table.writerow([number, name, draw.random(), length, hard, False])
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n", encoding="utf-8")


def rm_bench(folder: Path) -> str:
    """A git repository with RM-Bench's files in data/; returns its commit, the same each time."""
    draw = random.Random(6)
    (folder / "data").mkdir()
    for domain, count in BENCHMARK.items():
        rows = []
        for number in range(count):
            chosen, rejected = ([_words(draw, size) for size in (6, 14, 18)] for _ in range(2))
            row = {"id": number, "prompt": f"{_words(draw, 8)}?", "domain": domain}
            rows.append(row | {"chosen": chosen, "rejected": rejected})
        path = folder / "data" / f"{domain}_filtered.json"
        path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    (folder / "README.md").write_text("A stand-in of RM-Bench.\n", encoding="utf-8")
    who = {"NAME": "stand-in", "EMAIL": "stand-in@localhost", "DATE": "2024-10-01T00:00:00Z"}
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_{part}": value for part, value in who.items()}

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    git("add", ".")
    git("commit", "--quiet", "--message", "RM-Bench's stand-in")
    return git("rev-parse", "HEAD")


# What a builder writes into an empty folder, by the repository's name on the hub.
DATASETS: dict[str, Callable[[Path], None]] = {
    "openbmb/UltraFeedback": ultrafeedback,
    "HuggingFaceH4/ultrachat_200k": ultrachat,
    "allenai/tulu-3-sft-mixture": tulu3,
    "Skywork/Skywork-Reward-Preference-80K-v0.2": skywork,
    "tatsu-lab/alpaca_eval": alpaca_eval,
}


def _words(draw: random.Random, count: int) -> str:
    """About so many words, as a sentence."""
    number = draw.randint(max(1, count // 2), count)
    return " ".join(draw.choice(WORDS) for _ in range(number)).capitalize() + "."


def _chat(draw: random.Random, turns: int) -> list[dict[str, str]]:
    speakers = ("user", 8), ("assistant", 24)
    return [
        {"role": role, "content": _words(draw, size)}
        for _ in range(turns)
        for role, size in speakers
    ]


def _write_parts(
    rows: list[dict[str, Any]], schema: pa.Schema, folder: Path, split: str, parts: int
) -> None:
    """Write a split as so many parquet files, named as the hub names them."""
    folder.mkdir(exist_ok=True)
    for part in range(parts):
        path = folder / f"{split}-{part:05}-of-{parts:05}.parquet"
        pq.write_table(pa.Table.from_pylist(rows[part::parts], schema), path)


def _write_card(folder: Path, licence: str, splits: list[str]) -> None:
    """The README, whose head says which files are a split."""
    files = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in splits)
    head = f"license: {licence}\nconfigs:\n- config_name: default\n  data_files:\n{files}"
    (folder / "README.md").write_text(f"---\n{head}---\n", encoding="utf-8")
