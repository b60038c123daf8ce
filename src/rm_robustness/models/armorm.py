"""ArmoRM, the paper's gold preference model r*, reimplemented.

The published model (RLHFlow/ArmoRM-Llama3-8B-v0.1) needs remote code, which is never run here:
a Llama body reads a chat once; 19 rewards come from the state of the last token, and a small
network turns the state at the end of the prompt into 19 weights for them.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaModel, LlamaPreTrainedModel

from ..errors import InputError, limit_left_out
from ..files import model_folder
from ..progress import Progress
from . import chat
from .batching import equal_length_batches
from .language_model import explained_loading
from .score_log import ScoreLog

# The published weights were fitted to the state of this text's FIRST token: the end of the user
# turn, before the assistant's header. Reading the header's own token would be another model.
GATE_TEXT = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


class Gating(nn.Module):
    """Weights for the objectives from a prompt's state: an MLP, softmax(logits / temperature)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        options = config.to_dict()
        objectives, width = (
            options.get("num_objectives", 19),
            options.get("gating_hidden_dim", 1024),
        )
        self.temperature = float(options.get("gating_temperature", 10))
        inner = [width] * int(options.get("gating_n_hidden", 3))
        sizes = [config.hidden_size, *inner, objectives]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.ones(1))

    def forward(self, state: Tensor) -> Tensor:
        """Map states (B, H) to weights (B, objectives) that are positive and sum to logit_scale."""
        *inner, last = self.layers
        for layer in inner:
            state = torch.relu(layer(state))
        return torch.softmax(last(state) / self.temperature, dim=-1) * self.logit_scale


class ArmoRM(LlamaPreTrainedModel):  # type: ignore[misc]
    """A Llama body with 19 gated rewards; parameter names are those of the published files."""

    # Published in float32 around a bfloat16 body; transformers would round them to the body's.
    _keep_in_fp32_modules_strict = {"regression_layer", "reward_transform_matrix", "gating"}  # noqa: RUF012

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        objectives = config.to_dict().get("num_objectives", 19)
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(objectives), requires_grad=False)
        self.gating = Gating(config)
        self.post_init()

    def forward(self, input_ids: Tensor, gate: Tensor) -> Tensor:
        """Score chats of one length, without padding: tokens (B, T), gate positions (B,) -> (B,).

        score = sum(weights * (rewards @ transform)). The body runs in its own dtype, the heads in
        float32: scores rounded to bfloat16 would tie (docs/DEVIATIONS.md D37, D39).
        """
        states = self.model(input_ids=input_ids, use_cache=False).last_hidden_state.float()
        rows = torch.arange(len(input_ids), device=states.device)
        rewards = self.regression_layer(states[:, -1])
        weights = self.gating(states[rows, gate])
        scores: Tensor = (weights * (rewards @ self.reward_transform_matrix)).sum(dim=-1)
        return scores


def load_armorm(source: str, dtype: str) -> ArmoRM:
    """Load ArmoRM from a folder on this machine (the rule `pretrained` downloads it).

    Only safetensors are read. `dtype` (`float32` or `bfloat16`) is that of the body. Raises
    `InputError` when the files cannot be read or a parameter is missing, unexpected or misshapen.
    """
    folder = model_folder(source)
    with explained_loading(folder, "config.json and safetensors"):
        config = LlamaConfig.from_pretrained(folder)
        model, report = ArmoRM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, in one line
            output_loading_info=True,
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            names = sorted(str(key) for key in report[kind])
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            found = f"{kind.replace('_', ' ')}: {', '.join(names[:5])}{more}"
            raise InputError(folder, found, "exactly ArmoRM's parameters")
    return model.eval()  # type: ignore[no-any-return]


def gate_position(tokens: Sequence[int], pattern: Sequence[int]) -> int:
    """Return where `pattern` (the tokens of `GATE_TEXT`) last begins in `tokens`.

    Raises `ValueError` when it is not there.
    """
    size = len(pattern)
    for start in range(len(tokens) - size, -1, -1):
        if list(tokens[start : start + size]) == list(pattern):
            return start
    raise ValueError("the chat does not hold the opening of an assistant turn")


@torch.inference_mode()
def score_tokens(
    model: ArmoRM,
    chats: list[list[int]],
    gates: list[int],
    batch_tokens: int,
    log: ScoreLog | None = None,
) -> np.ndarray:
    """Score tokenised chats, returning float64 of shape (n,) in the order given.

    Chats of equal length are scored together, at most `batch_tokens` tokens at a time (0: one by
    one); nothing is ever padded, so a chat's score does not depend on the others'. Finished batches
    go into `log`, and those that are in it are not scored again.
    """
    scores = np.full((len(chats), 1), np.nan)
    done = log.restore(scores) if log else ()
    device = model.regression_layer.weight.device
    lengths = [len(chat) for chat in chats]
    progress = Progress("gold", len(chats), "responses", len(done))
    for batch in equal_length_batches(lengths, batch_tokens, longest_first=True):
        if batch[0] in done:
            continue
        tokens = torch.tensor([chats[row] for row in batch], device=device)
        gate = torch.tensor([gates[row] for row in batch], device=device)
        scores[batch, 0] = model(tokens, gate).double().cpu().numpy()
        if log:
            log.add(batch, scores[batch])
        progress.update(progress.done + len(batch))
    return scores[:, 0]


def armorm_scores(
    prompts: list[str], responses: list[str], settings: dict[str, Any], log: ScoreLog | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Return ArmoRM's score of every (prompt, response), float64 (n,), and the rows left out.

    `settings`: `model` (its folder), `dtype`, `batch_tokens`, `max_left_out`. The chat is rendered
    by the model's own template, one user turn and one assistant turn, and is never cut: one longer
    than the model's context is left out, its score is NaN, and the second value says why. Raises
    `InputError` with the row when these are more than the share `max_left_out` (absent: 0).
    """
    folder = settings["model"]
    model = load_armorm(folder, settings["dtype"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pattern = tokenizer.encode(GATE_TEXT, add_special_tokens=False)
    chats: list[list[int]] = []
    gates: list[int] = []
    rows: list[int] = []
    too_long: dict[int, InputError] = {}
    turns = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    for row, tokens in enumerate(chat.ids(tokenizer, turns)):
        limit = model.config.max_position_embeddings
        if len(tokens) > limit:
            found = f"a chat of {len(tokens)} tokens"
            too_long[row] = InputError(f"row {row}", found, f"at most {limit}")
            continue
        try:
            gates.append(gate_position(tokens, pattern))
        except ValueError as error:
            where = f"row {row}, chat template of {folder}"
            raise InputError(where, str(error), repr(GATE_TEXT)) from error
        chats.append(tokens)
        rows.append(row)
    share = settings.get("max_left_out", 0.0)
    left_out = limit_left_out(too_long, len(prompts), share, "gold.max_left_out")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    scores = np.full(len(prompts), np.nan)
    scores[rows] = score_tokens(model, chats, gates, settings["batch_tokens"], log)
    return scores, left_out
