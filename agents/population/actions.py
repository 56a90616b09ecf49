"""What on-policy agents do, given their networks' outputs: actions drawn from each member's own noise."""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from torch import Tensor

from agents.losses.densities import density
from agents.population.modules import CannotStackError
from agents.population.streams import Streams

KNOWN = (BernoulliDistribution, CategoricalDistribution, DiagGaussianDistribution, MultiCategoricalDistribution)


class Actions:
    """The distribution that SB3 has made for a policy, over the outputs of all members.

    Args:
        made: the first member's.
        space: of actions.

    Raises:
        CannotStackError: the distribution is of a kind that is not known stacked, such as gSDE's.
    """

    def __init__(self, made: Any, space: spaces.Space[Any]) -> None:
        if type(made) not in KNOWN:
            raise CannotStackError(f"a {type(made).__name__}")
        known = density(made)
        assert known is not None
        self.density = known
        self.gaussian = isinstance(made, DiagGaussianDistribution)
        self.bernoulli = isinstance(made, BernoulliDistribution)
        self.sizes: list[int] = list(getattr(made, "action_dims", None) or [getattr(made, "action_dim", 0)])
        self.single = isinstance(space, spaces.Discrete)
        self._noise: list[Tensor] = []

    def evaluate(self, outputs: Tensor, log_std: Tensor | None, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies `[members, samples]`.

        Args:
            outputs: of the action head, `[members, samples, outputs]`.
            log_std: of a Gaussian, `[members, dimensions]`.
            actions: `[members, samples, dimensions]`.
        """
        spread = outputs if log_std is None else log_std.unsqueeze(1)
        log_prob, entropy = self.density(outputs, outputs, spread, {"actions": actions})
        assert entropy is not None
        return log_prob, entropy

    def sample(self, outputs: Tensor, log_std: Tensor | None, streams: Sequence[Streams]) -> tuple[Tensor, Tensor]:
        """Actions `[members, samples, dimensions]` as SB3 draws them, and their log-probabilities `[members, samples]`.

        Each member's noise is what `torch.distributions` would draw from its own stream.
        """
        if self.gaussian:
            assert log_std is not None
            noise = self._buffer(0, outputs)
            for row, own in zip(noise, streams, strict=True):
                row.normal_(generator=own.device)
            std = log_std.unsqueeze(1).expand_as(outputs).exp()
            actions = outputs + noise * std
        elif self.bernoulli:
            chances = outputs.sigmoid()
            rows = zip(chances, streams, strict=True)
            actions = torch.stack([torch.bernoulli(row, generator=own.device) for row, own in rows])
        else:
            actions = self._choices(outputs, streams)
        return actions, self.evaluate(outputs, log_std, actions)[0]

    def _choices(self, logits: Tensor, streams: Sequence[Streams]) -> Tensor:
        """One choice of each group of logits.

        `torch.multinomial` draws one sample as the largest quotient of probability and an exponential number.
        """
        chosen = []
        for number, part in enumerate(torch.split(logits, self.sizes, dim=-1)):
            normed = part - part.logsumexp(dim=-1, keepdim=True)
            noise = self._buffer(number, part)
            for row, own in zip(noise, streams, strict=True):
                row.exponential_(generator=own.device)
            chosen.append(normed.softmax(dim=-1).div_(noise).argmax(dim=-1))
        return torch.stack(chosen, dim=-1)

    def _buffer(self, number: int, like: Tensor) -> Tensor:
        """Memory for noise, the same at every step."""
        while len(self._noise) <= number:
            self._noise.append(torch.empty(0))
        if self._noise[number].shape != like.shape:
            self._noise[number] = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        return self._noise[number]
