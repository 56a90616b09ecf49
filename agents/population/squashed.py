"""Gaussian actions squashed by tanh, as SB3's SAC draws them, with the gradients of the draw in closed form."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor

from agents.losses.densities import HALF_LOG_TAU
from agents.population.streams import Streams

EPSILON = 1e-6
"""SB3 adds it to the slope of tanh, whose logarithm it takes."""


class Squashed(NamedTuple):
    """Actions, and what they were drawn with; `[members, samples, dimensions]` each.

    Attributes:
        actions: between -1 and 1.
        noise: standard normal.
        given: the logarithm of the deviation as the network gave it.
        log_std: the same within the bounds that SB3 sets.
        std: the deviation.
    """

    actions: Tensor
    noise: Tensor
    given: Tensor
    log_std: Tensor
    std: Tensor

    @classmethod
    def draw(cls, mean: Tensor, log_std: Tensor, streams: Sequence[Streams]) -> "Squashed":
        """Actions; each member's noise is what `torch.distributions` would draw from its own stream."""
        noise = torch.empty_like(mean)
        for row, own in zip(noise, streams, strict=True):
            row.normal_(generator=own.device)
        bounded = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        std = bounded.exp()
        return cls((mean + noise * std).tanh_(), noise, log_std, bounded, std)

    def log_prob(self) -> Tensor:
        """`[members, samples]`."""
        minus = torch.addcmul(self.log_std, self.noise, self.noise, value=0.5)
        minus += (1 - self.actions.square()).add_(EPSILON).log_()
        return -HALF_LOG_TAU * self.noise.shape[2] - minus.sum(dim=2)

    def backward(self, by_actions: Tensor, by_log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of a loss by the mean and by the logarithm of the deviation, as the network gave them.

        Args:
            by_actions: its gradient by the actions, but for what reaches these through their log-probability.
            by_log_prob: its gradient by the log-probability, `[members, 1 or samples, 1]`.
        """
        slope = 1 - self.actions.square()
        by_mean = slope * torch.addcdiv(by_actions, by_log_prob * self.actions, slope + EPSILON, value=2)
        by_log_std = (by_mean * self.noise * self.std - by_log_prob) * (self.given == self.log_std)
        return by_mean, by_log_std
