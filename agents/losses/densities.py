"""Log-probabilities of actions, and entropies, as functions of what a policy's network gives.

SB3's own distributions keep what they were last asked, and check values in ways that `torch.func` cannot follow.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
    TanhBijector,
)
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from agents.losses.pure import Samples

HALF_LOG_TAU = math.log(2 * math.pi) / 2

Density = Callable[[Tensor, Tensor, Tensor, Samples], tuple[Tensor, Tensor | None]]
"""Log-probabilities of the samples' actions, and entropies where they have a closed form, `[samples]` each, of: a
policy's last hidden layer, the outputs of its head, its log standard deviation where that is free, the samples. Leading
dimensions, where there are any, are independent members (but with gSDE there are none)."""


def density(made: Any) -> Density | None:
    """The density of the distribution that SB3 has made for an on-policy agent; None where it is not known."""
    if isinstance(made, StateDependentNoiseDistribution):
        return partial(_state_dependent, made)
    if isinstance(made, (CategoricalDistribution, MultiCategoricalDistribution)):
        return partial(_categorical, getattr(made, "action_dims", None) or [getattr(made, "action_dim", 0)])
    return {DiagGaussianDistribution: _gaussian, BernoulliDistribution: _bernoulli}.get(type(made))


def gaussian_log_prob(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-density of a Gaussian with independent dimensions: from `[..., samples, dimensions]` to `[..., samples]`."""
    return (-((values - mean) / std).square() / 2 - std.log() - HALF_LOG_TAU).sum(-1)


def state_dependent_std(made: StateDependentNoiseDistribution, latent: Tensor, log_std: Tensor) -> Tensor:
    """GSDE (Raffin et al. 2021, arXiv 2005.05719): the variance is linear in the squared features."""
    return torch.sqrt(latent.square() @ made.get_std(log_std).square() + made.epsilon)


def _gaussian(latent: Tensor, mean: Tensor, log_std: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    log_std = log_std.expand_as(mean)
    return gaussian_log_prob(samples["actions"], mean, log_std.exp()), _gaussian_entropy(log_std)


def _gaussian_entropy(log_std: Tensor) -> Tensor:
    return (log_std + 0.5 + HALF_LOG_TAU).sum(-1)


def _state_dependent(
    made: StateDependentNoiseDistribution, latent: Tensor, mean: Tensor, log_std: Tensor, samples: Samples
) -> tuple[Tensor, Tensor | None]:
    """An on-policy agent's features are not trained through the noise; squashed, it has no closed entropy."""
    std = state_dependent_std(made, latent.detach(), log_std)
    if made.bijector is None:
        return gaussian_log_prob(samples["actions"], mean, std), _gaussian_entropy(std.log())
    before = TanhBijector.inverse(samples["actions"])
    return gaussian_log_prob(before, mean, std) - made.bijector.log_prob_correction(before).sum(1), None


def _categorical(
    sizes: list[int], latent: Tensor, logits: Tensor, log_std: Tensor, samples: Samples
) -> tuple[Tensor, Tensor]:
    """One or several choices."""
    actions = samples["actions"].long()
    logs = [part.log_softmax(-1) for part in torch.split(logits, sizes, dim=-1)]
    chosen = [part.gather(-1, actions[..., index : index + 1]) for index, part in enumerate(logs)]
    return torch.cat(chosen, -1).sum(-1), -torch.cat([part.exp() * part for part in logs], -1).sum(-1)


def _bernoulli(latent: Tensor, logits: Tensor, log_std: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    log_prob = -binary_cross_entropy_with_logits(logits, samples["actions"], reduction="none").sum(-1)
    return log_prob, binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none").sum(-1)
