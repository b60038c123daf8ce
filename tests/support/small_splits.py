"""Responses that can be counted by hand, and the settings that cut them."""

import pandas as pd


def frame(prompts=6, train=("a", "b", "c", "d"), valid=("v", "w", "x", "y")):
    rows = [
        {
            "example_id": str(n),
            "prompt": f"question {n}",
            "response": f"answer of {model} to {n}",
            "response_model": model,
            "gold": n + place / 10,
        }
        for n in range(prompts)
        for place, model in enumerate([*train, *valid])
    ]
    return pd.DataFrame(rows)


def settings(**changes):
    return {
        "seed": 0,
        "train_prompts": 4,
        "train_responses": 2,
        "valid_prompts": None,
        "evaluation_prompts": None,
        "max_characters": None,
        "repeated_prompts": "keep_one",
        "identical_responses": "drop_prompt",
        "empty_responses": "error",
        "max_left_out": 0.0,
        "responses_per_prompt": 4,
        "train_models": ["a", "b", "c", "d"],
        "valid_models": ["v", "w", "x", "y"],
    } | changes
