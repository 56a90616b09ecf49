"""PPO's loss and advantages, against autograd and a loop over samples."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution

from agents.population.actions import actions_of
from agents.population.surrogate import Losses, Surrogate, generalised_advantages

MEMBERS, SAMPLES = 3, 9


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("clip_vf", [None, 0.3])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("gaussian", [False, True])
def test_the_gradient_is_that_of_the_formula(gaussian: bool, normalize: bool, clip_vf: float | None) -> None:
    torch.manual_seed(0)
    made = DiagGaussianDistribution(2) if gaussian else CategoricalDistribution(4)
    actions = normal(MEMBERS, SAMPLES, 2) if gaussian else torch.randint(4, (MEMBERS, SAMPLES, 1)).double()
    outputs = normal(MEMBERS, SAMPLES, 2 if gaussian else 4).requires_grad_()
    log_std = normal(MEMBERS, 2).requires_grad_() if gaussian else None
    values = normal(MEMBERS, SAMPLES).requires_grad_()

    losses, expected, ratios = [], [], []
    batch = {name: normal(MEMBERS, SAMPLES) for name in ("returns", "values", "advantages")}
    batch["log_probs"] = torch.empty(MEMBERS, SAMPLES, dtype=torch.float64)
    for number in range(MEMBERS):
        given = (outputs[number],) if log_std is None else (outputs[number], log_std[number])
        own = made.proba_distribution(*given)
        log_prob = own.log_prob(actions[number] if gaussian else actions[number, :, 0])
        batch["log_probs"][number] = log_prob.detach() + 0.3 * normal(SAMPLES)
        advantages = batch["advantages"][number]
        if normalize:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratio = (log_prob - batch["log_probs"][number]).exp()
        gain = torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
        known, expects = batch["values"][number], values[number]
        if clip_vf is not None:
            expects = known + (expects - known).clamp(-clip_vf, clip_vf)
        value_loss, entropy = (batch["returns"][number] - expects).square().mean(), own.entropy().mean()
        losses.append(0.7 * value_loss - gain - 0.1 * entropy)
        expected.append((gain, value_loss, entropy))
        ratios.append(ratio.detach())
    torch.stack(losses).sum().backward()
    assert any(((ratio - 1).abs() > 0.2).any() for ratio in ratios), "something is clipped"

    surrogate = Surrogate(clip=0.2, clip_vf=clip_vf, ent_coef=0.1, vf_coef=0.7, normalize_advantage=normalize)
    with torch.no_grad():
        evaluation = actions_of(made).evaluate(outputs, log_std, actions)
        found, gradients, by_values = surrogate(evaluation, values, batch)
    for mine, theirs in zip(found[:3], zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(mine, torch.stack(theirs).detach())
    torch.testing.assert_close(found.log_ratio.exp(), torch.stack(ratios))
    torch.testing.assert_close(gradients.outputs, outputs.grad)
    torch.testing.assert_close(by_values, values.grad)
    if log_std is None:
        assert gradients.log_std is None
    else:
        torch.testing.assert_close(gradients.log_std, log_std.grad)
    torch.testing.assert_close(surrogate.logged([found], 1)["loss"], torch.stack(losses).detach())


def test_a_last_minibatch_of_fewer_samples_counts_as_one() -> None:
    """As SB3 averages: over minibatches, whatever their size; the divergence over those of the last epoch."""
    steps = [
        Losses(*(torch.tensor([float(number)]) for _ in range(3)), torch.full((1, size), ratio))
        for number, (size, ratio) in enumerate([(4, 0.0), (2, 0.5), (4, 0.1), (2, -0.5)])
    ]
    found = Surrogate(0.2, None, 0.0, 0.5, False).logged(steps, epochs=2)
    assert found["value_loss"].tolist() == [1.5]
    assert found["clip_fraction"].tolist() == [0.5]
    divergence = np.mean([np.exp(log) - 1 - log for log in (0.1, -0.5)])
    assert found["approx_kl"].item() == pytest.approx(divergence, rel=1e-5)


def test_advantages_are_sums_of_discounted_errors() -> None:
    """Over the rest of the episode, of which a rollout may show the end, or not."""
    random, gamma, lam, steps = np.random.default_rng(0), 0.9, 0.8, 12
    rewards, values = random.normal(size=(2, 2, steps, 3)).astype(np.float32)
    starts = (random.random((2, steps, 3)) < 0.3).astype(np.float32)
    following, ended = random.normal(size=(2, 3)).astype(np.float32), random.random((2, 3)) < 0.5
    found = generalised_advantages(rewards, values, starts, following, ended, gamma, lam)
    for member, env in np.ndindex(2, 3):
        ends = [*starts[member, 1:, env].astype(bool), bool(ended[member, env])]
        after = [*values[member, 1:, env], following[member, env]]
        for step in range(steps):
            total, weight = 0.0, 1.0
            for later in range(step, steps):
                goes_on = 0.0 if ends[later] else 1.0
                total += weight * (
                    rewards[member, later, env] + gamma * goes_on * after[later] - values[member, later, env]
                )
                weight *= gamma * lam
                if ends[later]:
                    break
            assert found[member, step, env] == pytest.approx(total, rel=1e-4, abs=1e-5)
