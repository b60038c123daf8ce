"""The real vLLM on a CPU: its settings, a model that its kernels take, and RLOO with it."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "HF_HUB_OFFLINE": "1",
}
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None and "RM_ROBUSTNESS_NEEDS_VLLM" not in os.environ,
    reason="vLLM is not installed: make env CPU=1 VLLM=1",
)
SERVER = {"dtype": "float32", "serve_arguments": ["--max-model-len", "96", "--enforce-eager"]}


def make_model(world: pd.DataFrame, folder: Path, architecture: str = "qwen2") -> Path:
    """An untrained language model with a head size of 32, the smallest of vLLM's CPU kernels."""
    from support.small_models import CHAT, INIT
    from support.small_rloo import TURNS

    from rm_robustness.models import chat
    from rm_robustness.models.language_model import from_config
    from rm_robustness.models.reward_model import save

    init = INIT | {"architecture": architecture, "hidden_size": 64}
    model, tokenizer = from_config(init, [*world["prompt"], *world["response"]], seed=0)
    chat.prepare(tokenizer, CHAT | {"template": TURNS}, "test")
    save(model, tokenizer, folder)
    return folder


def main(policy: str, reward_model: str, prompts: str, work: str) -> None:
    """RLOO with vLLM in this process; prints its last norm and the trainer's at each update."""
    import vllm._custom_ops as ops

    # vLLM's CPU layers drop a weight once it is packed for oneDNN, so no new one can be loaded.
    ops._supports_onednn = False
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support.small_rloo import rloo_settings
    from trl.generation.vllm_generation import VLLMGeneration

    from rm_robustness.training.rloo_trainer import train_policy

    synchronise = VLLMGeneration.sync_weights

    def sync_weights(self: VLLMGeneration) -> None:
        synchronise(self)
        (loaded,) = self.llm.apply_model(lambda model: model.model.norm.weight.tolist())
        trained = self.accelerator.unwrap_model(self.model).model.norm.weight.tolist()
        print("weights", json.dumps([loaded, trained]))

    VLLMGeneration.sync_weights = sync_weights
    settings = rloo_settings(generation="vllm", vllm_memory=0.1)
    train_policy(
        Path(policy), Path(reward_model), Path(prompts), settings, 0, Path(work), "standard-bt"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
