"""What on-policy agents do, given their networks' outputs: draws from each member's noise, gradients in closed form.

All tensors have members and samples as their first two dimensions. A distribution is asked for actions in rollouts; in
updates for log-probabilities and entropies, and then for what their gradients make of the outputs', which spares the
graph of some twenty small operations.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from agents.losses.densities import HALF_LOG_TAU
from agents.population.modules import CannotStackError
from agents.population.streams import Streams


class Gradients(NamedTuple):
    """Of a scalar loss, by the outputs `[members, samples, outputs]`, and by the log standard deviations, if any."""

    outputs: Tensor
    log_std: Tensor | None


class Evaluation(NamedTuple):
    """Log-probabilities and entropies `[members, samples]`, and what turns gradients by them into those by the outputs.

    The function takes the gradient by the log-probabilities `[members, samples]` and the same number for every entropy.
    """

    log_prob: Tensor
    entropy: Tensor
    backward: Callable[[Tensor, float], Gradients]


class Actions(ABC):
    """A distribution over actions `[members, samples, dimensions]`."""

    def __init__(self) -> None:
        self._noise: list[Tensor] = []

    @torch.inference_mode()
    def std(self, log_std: Tensor | None) -> Tensor | None:
        """What `sample` needs of a Gaussian's `log_std` `[members, dimensions]`, which stays as it is for a rollout."""
        if log_std is None:
            return None
        # As SB3 has it, for the last bit: the exponential of each member's own vector.
        return torch.stack([row.exp() for row in log_std.unbind()]).unsqueeze(1)

    @abstractmethod
    def sample(self, outputs: Tensor, std: Tensor | None, streams: Sequence[Streams]) -> Tensor:
        """Actions.

        Each member's noise is what `torch.distributions` would draw from its own stream.

        Args:
            outputs: of the action head.
            std: what `std` gave.
            streams: one for each member.
        """

    @abstractmethod
    def evaluate(self, outputs: Tensor, log_std: Tensor | None, actions: Tensor) -> Evaluation:
        """Of given actions, as floats."""

    def _buffer(self, number: int, like: Tensor) -> Tensor:
        """Memory for noise, the same at every step."""
        while len(self._noise) <= number:
            self._noise.append(torch.empty(0))
        if self._noise[number].shape != like.shape:
            self._noise[number] = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        return self._noise[number]


class Choices(Actions):
    """One choice, or several, of finitely many.

    Args:
        sizes: how many there are to choose from.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)

    def _parts(self, outputs: Tensor) -> Sequence[Tensor]:
        return (outputs,) if len(self.sizes) == 1 else torch.split(outputs, self.sizes, dim=-1)

    def sample(self, outputs: Tensor, std: Tensor | None, streams: Sequence[Streams]) -> Tensor:
        """The largest quotient of probability and an exponential number is what `torch.multinomial` draws."""
        chosen = []
        for number, part in enumerate(self._parts(outputs)):
            logs = part - part.logsumexp(dim=-1, keepdim=True)
            noise = self._buffer(number, part)
            for row, own in zip(noise, streams, strict=True):
                row.exponential_(generator=own.device)
            chosen.append(logs.softmax(dim=-1).div_(noise).argmax(dim=-1, keepdim=True))
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)

    def evaluate(self, outputs: Tensor, log_std: Tensor | None, actions: Tensor) -> Evaluation:
        """With logits l, probabilities p, choice a: d log p_a / dl = [a] - p, and dH / dl = -p (log p + H)."""
        logs = [part.log_softmax(dim=-1) for part in self._parts(outputs)]
        chances = [part.exp() for part in logs]
        chosen = torch.split(actions.long(), 1, dim=-1)
        log_probs = [part.gather(-1, choice).squeeze(-1) for part, choice in zip(logs, chosen, strict=True)]
        entropies = [-(p * log).sum(dim=-1) for p, log in zip(chances, logs, strict=True)]

        def backward(by_log_prob: Tensor, by_entropy: float) -> Gradients:
            column, found = by_log_prob.unsqueeze(-1), []
            for p, log, choice, entropy in zip(chances, logs, chosen, entropies, strict=True):
                gradient = (p * -column).scatter_add_(-1, choice, column)
                if by_entropy:
                    gradient -= by_entropy * p * (log + entropy.unsqueeze(-1))
                found.append(gradient)
            return Gradients(found[0] if len(found) == 1 else torch.cat(found, dim=-1), None)

        if len(logs) == 1:
            return Evaluation(log_probs[0], entropies[0], backward)
        return Evaluation(torch.stack(log_probs).sum(dim=0), torch.stack(entropies).sum(dim=0), backward)


class Gaussian(Actions):
    """Independent normal numbers, whose standard deviations do not depend on the state."""

    def sample(self, outputs: Tensor, std: Tensor | None, streams: Sequence[Streams]) -> Tensor:
        """Mean plus noise."""
        assert std is not None
        noise = self._buffer(0, outputs)
        for row, own in zip(noise, streams, strict=True):
            row.normal_(generator=own.device)
        return outputs + noise * std

    def _log_prob(self, z: Tensor, log_std: Tensor) -> Tensor:
        constant = log_std.sum(dim=-1, keepdim=True) + HALF_LOG_TAU * z.shape[-1]
        return z.square().sum(dim=-1).div_(-2).sub_(constant)

    def evaluate(self, outputs: Tensor, log_std: Tensor | None, actions: Tensor) -> Evaluation:
        """With z = (a - mean) / std: d log p / d mean = z / std, d log p / d log std = z^2 - 1, dH / d log std = 1."""
        assert log_std is not None
        inverse = log_std.neg().exp_().unsqueeze(1)
        z = (actions - outputs) * inverse
        entropy = (log_std + (0.5 + HALF_LOG_TAU)).sum(dim=-1, keepdim=True).expand(z.shape[:2])

        def backward(by_log_prob: Tensor, by_entropy: float) -> Gradients:
            column = by_log_prob.unsqueeze(-1)
            by_log_std = (column * (z.square() - 1)).sum(dim=1)
            return Gradients(column * z * inverse, by_log_std + by_entropy * z.shape[1] if by_entropy else by_log_std)

        return Evaluation(self._log_prob(z, log_std), entropy, backward)


class Bits(Actions):
    """Several bits, each of which is one with a chance of its own."""

    def sample(self, outputs: Tensor, std: Tensor | None, streams: Sequence[Streams]) -> Tensor:
        """A draw for each bit."""
        rows = zip(outputs.sigmoid(), streams, strict=True)
        return torch.stack([torch.bernoulli(row, generator=own.device) for row, own in rows])

    def evaluate(self, outputs: Tensor, log_std: Tensor | None, actions: Tensor) -> Evaluation:
        """With logits l and chances p: d log p(a) / dl = a - p, and dH / dl = -l p (1 - p)."""
        chances = outputs.sigmoid()
        log_prob = -binary_cross_entropy_with_logits(outputs, actions, reduction="none").sum(dim=-1)
        entropy = binary_cross_entropy_with_logits(outputs, chances, reduction="none").sum(dim=-1)

        def backward(by_log_prob: Tensor, by_entropy: float) -> Gradients:
            gradient = by_log_prob.unsqueeze(-1) * (actions - chances)
            return Gradients(gradient - by_entropy * outputs * chances * (1 - chances), None)

        return Evaluation(log_prob, entropy, backward)


def actions_of(made: Any) -> Actions:
    """The distribution of all members, of the one that SB3 has made for the first member's policy.

    Raises:
        CannotStackError: it is of a kind that is not known stacked, such as gSDE's.
    """
    if type(made) is CategoricalDistribution:
        return Choices([made.action_dim])
    if type(made) is MultiCategoricalDistribution:
        return Choices(made.action_dims)
    if type(made) is DiagGaussianDistribution:
        return Gaussian()
    if type(made) is BernoulliDistribution:
        return Bits()
    raise CannotStackError(f"a {type(made).__name__}")
