"""PPO's mathematics, for many members at once: advantages, the clipped surrogate, and its gradient in closed form.

Schulman, Wolski, Dhariwal, Radford and Klimov, 2017, arXiv 1707.06347; advantages as in Schulman, Moritz, Levine,
Jordan and Abbeel, ICLR 2016, arXiv 1506.02438. Both in the order of operations of Stable-Baselines3, so that they round
alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.population.actions import Evaluation, Gradients


class Losses(NamedTuple):
    """Of one minibatch, `[members]` each; the log-ratios `[members, samples]`.

    Attributes:
        gain: the mean of the clipped surrogate, which is to be large.
        value_loss: mean squared error.
        entropy: mean.
        log_ratio: logarithm of how much likelier actions have become.
    """

    gain: Tensor
    value_loss: Tensor
    entropy: Tensor
    log_ratio: Tensor


class Surrogate(NamedTuple):
    """The loss `vf_coef * value_loss - gain - ent_coef * entropy`.

    Attributes:
        clip: how far ratios may be from 1.
        clip_vf: how far values may be from the rollout's; None: as far as they like.
        ent_coef: weight of the entropy.
        vf_coef: weight of the value loss.
        normalize_advantage: whether the advantages of a minibatch are standardised.
    """

    clip: float
    clip_vf: float | None
    ent_coef: float
    vf_coef: float
    normalize_advantage: bool

    def __call__(self, known: Evaluation, values: Tensor, batch: dict[str, Tensor]) -> tuple[Losses, Gradients, Tensor]:
        """Losses and gradients.

        With ratios r and advantages A, `d min(r A, clip(r) A) / d log pi` is `r A`, or zero where the clipped one is
        smaller.

        Args:
            known: of the minibatch's actions by the policy as it is now.
            values: `[members, samples]`, as they are expected now.
            batch: `returns`, `advantages`, and `values` and `log_probs` of the rollout, `[members, samples]`.

        Returns:
            The losses, and the gradients by what `known` was found from, and by the values.
        """
        advantages, count = batch["advantages"], values.shape[1]
        if self.normalize_advantage and count > 1:
            spread, mean = torch.std_mean(advantages, dim=1, keepdim=True)
            advantages = (advantages - mean) / (spread + 1e-8)
        log_ratio = known.log_prob - batch["log_probs"]
        ratio = log_ratio.exp()
        plain, clipped = advantages * ratio, advantages * ratio.clamp(1 - self.clip, 1 + self.clip)
        # Within the range both are the same.
        by_log_prob = torch.where(plain <= clipped, plain, 0.0) / -count
        error, by_values = self._error(values, batch)
        losses = Losses(
            torch.min(plain, clipped).mean(dim=1), error.square().mean(dim=1), known.entropy.mean(dim=1), log_ratio
        )
        return losses, known.backward(by_log_prob, -self.ent_coef / count), by_values

    def _error(self, values: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """How wrong values are, and the gradient by them."""
        scale = 2 * self.vf_coef / values.shape[1]
        if self.clip_vf is None:
            error = values - batch["returns"]
            return error, error * scale
        moved = values - batch["values"]
        error = batch["values"] + moved.clamp(-self.clip_vf, self.clip_vf) - batch["returns"]
        return error, error * scale * (moved.abs() <= self.clip_vf)

    @torch.no_grad()
    def logged(self, steps: list[Losses], epochs: int) -> dict[str, Tensor]:
        """What SB3 logs of an update, `[members]` each.

        Args:
            steps: of all minibatches.
            epochs: how often each sample was among them.
        """
        last = steps[-1]
        return {
            "entropy_loss": -_mean([step.entropy for step in steps]),
            "policy_gradient_loss": -_mean([step.gain for step in steps]),
            "value_loss": _mean([step.value_loss for step in steps]),
            "approx_kl": _mean_of_samples(steps[-(len(steps) // epochs) :], lambda log: (log.exp() - 1) - log),
            "clip_fraction": _mean_of_samples(steps, lambda log: ((log.exp() - 1).abs() > self.clip).float()),
            "loss": self.vf_coef * last.value_loss - last.gain - self.ent_coef * last.entropy,
        }


def generalised_advantages(
    rewards: NDArray[Any],
    values: NDArray[Any],
    starts: NDArray[Any],
    following: NDArray[Any],
    ended: NDArray[Any],
    gamma: float,
    gae_lambda: float,
) -> NDArray[Any]:
    """GAE, `[members, steps, environments]`.

    Args:
        rewards: `[members, steps, environments]`.
        values: of the observations that were answered, of the same shape.
        starts: whether an episode started there, of the same shape.
        following: the value of what was observed last, `[members, environments]`.
        ended: whether an episode ended with the last step, `[members, environments]`.
        gamma: discount.
        gae_lambda: trade-off of bias and variance.
    """
    goes_on = 1.0 - ended.astype(np.float32)
    # Steps first: each is then one stretch of memory.
    rewards, values, starts = (np.ascontiguousarray(array.swapaxes(0, 1)) for array in (rewards, values, starts))
    advantages, advantage = np.empty_like(rewards), np.zeros_like(following)
    for step in reversed(range(len(rewards))):
        delta = rewards[step] + gamma * following * goes_on - values[step]
        advantage = delta + gamma * gae_lambda * goes_on * advantage
        advantages[step], following, goes_on = advantage, values[step], 1.0 - starts[step]
    found: NDArray[Any] = advantages.swapaxes(0, 1)
    return found


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(dim=0)


def _mean_of_samples(steps: list[Losses], of: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over minibatches of the mean over their samples; a last minibatch may have fewer."""
    by_size: dict[int, list[Tensor]] = {}
    for step in steps:
        by_size.setdefault(step.log_ratio.shape[1], []).append(step.log_ratio)
    totals = [of(torch.stack(parts)).mean(dim=2).sum(dim=0) for parts in by_size.values()]
    return torch.stack(totals).sum(dim=0) / len(steps)
