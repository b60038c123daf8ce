"""Our numbers against the forms of the authors' release, in words of our own: losses, tau."""

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from support.small_models import make_backbone
from torch.nn.functional import logsigmoid, softplus
from transformers import AutoTokenizer

from rm_robustness.frames import read_frame
from rm_robustness.metrics import kendall_tau_per_prompt
from rm_robustness.models import chat
from rm_robustness.models.reward_model import initialise
from rm_robustness.models.scoring import score
from rm_robustness.objectives import bt, bt_bsr, bt_dr, bt_hinge, bt_norm

# Of a vector of margins d and the two vectors of rewards, as the release composes them.
RELEASE = {
    "bt": lambda w, r: -logsigmoid(w - r).mean(),
    "hinge": lambda w, r: (r - w).clamp(min=0).mean(),
    "norm": lambda w, r: softplus(-(w - r) / torch.stack([w, r]).norm(dim=0)).mean(),
    "dr": lambda w, r: -(torch.sigmoid(w - r) * torch.sigmoid(w) * torch.sigmoid(-r)).log().mean(),
    "bsr": lambda w, r: -logsigmoid(w - r).mean() + 1e-3 * len(w) * torch.cat([w, r]).mean() ** 2,
}
OURS = {"bt": bt, "hinge": lambda w, r: bt_hinge(w, r, margin=0.0), "norm": bt_norm, "dr": bt_dr}
OURS["bsr"] = bt_bsr


@pytest.mark.parametrize("name", RELEASE)
@pytest.mark.parametrize("pairs", [1, 4, 16])
def test_losses_and_gradients_are_those_of_the_release(name, pairs):
    generator = torch.Generator().manual_seed(pairs)
    results = []
    for form in (RELEASE[name], OURS[name]):
        rewards = torch.randn(2, pairs, generator=generator.manual_seed(pairs)).requires_grad_()
        loss = form(*rewards)
        loss.backward()
        results.append((loss.detach(), rewards.grad))
    (theirs, their_gradient), (ours, our_gradient) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-5, atol=1e-7)


def test_tau_in_bfloat16_as_the_release_has_it_is_ours_but_for_rounding_and_ties(
    splits, world, tmp_path
):
    """D39: the release has the classifier's rewards in bfloat16, and skips undefined prompts."""
    folder = make_backbone("llama", world, tmp_path / "llama")
    model = initialise(folder, 1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    frame = read_frame(splits / "prompt_disjoint.parquet")
    ours = score(model, tokenizer, frame, 4096)["reward"].to_numpy()
    rounded = model.bfloat16().eval()
    with torch.no_grad():
        theirs = np.array(
            [
                rounded(input_ids=torch.tensor([ids])).logits.float().item()
                for ids in chat.frame_ids(tokenizer, frame)
            ]
        )
    gold = frame["gold"].to_numpy()

    def release_tau(rewards):
        prompts = frame.groupby("prompt_id").indices.values()
        return np.nanmean([kendalltau(rewards[rows], gold[rows]).statistic for rows in prompts])

    groups = frame.groupby("prompt_id").ngroup().to_numpy()
    order = np.argsort(groups, kind="stable")
    table = [values[order].reshape(-1, 4) for values in (ours, gold)]
    assert np.nanmean(kendall_tau_per_prompt(*table)) == pytest.approx(release_tau(ours), abs=1e-12)
    assert 1e-4 < np.abs(ours - theirs).max() < 0.2 * ours.std()
    assert len(np.unique(theirs)) < 0.75 * len(np.unique(ours))  # ties that float32 has not
    assert 0 < abs(release_tau(theirs) - release_tau(ours)) < 0.02
