"""TRAC: let a tuner without parameters decide how far the weights may go from where they started.

The base optimiser, Adam, does not move the weights theta but an offset Delta, and theta stands at a multiple S of it
from the reference, the weights at the start. S is what six betting tuners, one a beta, have won on the gradients g:

    h = <Delta, g>    sigma_j <- b_j sigma_j - h    V_j <- b_j^2 V_j + h^2
    s_j = s_0 erfi(sigma_j / (sqrt(2 V_j) + eps)) / erfi(1 / sqrt(2))        S = max(sum_j s_j, 0)
    Delta <- Delta + u (u: Adam's step)                                       theta <- theta_ref + S Delta

S starts near zero and grows as long as gradients agree with the offset; when they turn against it, S falls and pulls
the weights back to the reference. There is no setting to tune beside Adam's learning rate.

Muppidi, Zhang and Yang, "Fast TRAC: A Parameter-Free Optimizer for Lifelong Reinforcement Learning", NeurIPS 2024,
arXiv 2405.16642; the authors' code for constants and what the paper leaves open. That code finds the offset back from
the weights as (theta - theta_ref) / (sum s + eps), which weakens it by S / (S + eps) a step while S is tiny and forgets
it where the sum is negative; so does this, from a stored offset rather than by that division.

What another hand does to the weights (a reset, a decay) moves the reference with them: a reborn unit is at the start of
its own life. With `moments: zero` its offset is zero too; without, it keeps the offset of its predecessor.
"""

from dataclasses import dataclass
from math import exp, pi, sqrt
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor

from optimizers.base import AdamBased, AdamSettings, Beta, Group


@dataclass
class TRAC(AdamSettings):
    """Adam on a leash whose length a parameter-free tuner chooses (Muppidi et al. 2024)."""

    decays: tuple[Beta, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
    """Decay of each tuner's statistics (Muppidi et al. 2024)."""

    start: Annotated[float, Gt(0)] = 1e-8
    """Scale of each tuner's winnings, s_0 (same source)."""

    def kind(self) -> type[torch.optim.Optimizer]:
        """The optimiser of this file."""
        return TRACOptimizer

    def arguments(self, eps: float) -> dict[str, Any]:
        """Adam's, and those of the tuners."""
        return super().arguments(eps) | {"decays": tuple(self.decays), "start": self.start}


class TRACOptimizer(AdamBased):
    """Adam whose weights stand at `scale` times their offset from a reference.

    `reference` and `offset` are kept in each parameter's shape and start at zero: a reference that does not explain
    where the weight is, is moved until it does. The tuners stand in the first group, one set for all parameters. They
    are plain numbers, which costs one wait for the device a step.

    Args:
        params: parameters or groups of them.
        decays: one tuner each.
        start: scale of each tuner.
        others: as of `AdamBased`.
    """

    tuner_eps = 1e-8

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        decays: tuple[float, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999),
        start: float = 1e-8,
        **others: Any,
    ) -> None:
        super().__init__(params, lr, **others)
        tuners = {"decays": decays, "start": start, "sum": 0.0}
        self.param_groups[0]["tuners"] = tuners | {"sigma": [1e-8] * len(decays), "variance": [0.0] * len(decays)}

    def move(self, groups: list[Group]) -> None:
        """One step of the base, of the tuners, and of the weights."""
        tuners = self.param_groups[0]["tuners"]
        scale = max(tuners["sum"], 0.0)
        won = torch.zeros(())
        offsets: list[tuple[list[Tensor], list[Tensor], list[Tensor]]] = []
        for group, params, grads in groups:
            reference, offset = self.memory(params, "reference"), self.memory(params, "offset")
            moved = torch._foreach_sub(params, torch._foreach_add(reference, offset, alpha=scale))
            torch._foreach_add_(reference, moved)
            torch._foreach_mul_(offset, scale / (scale + self.tuner_eps))
            products = [torch.dot(one.flatten(), two.flatten()) for one, two in zip(offset, grads, strict=True)]
            won = torch.stack(products).sum() + won.to(products[0])
            torch._foreach_add_(offset, self.directions(group, params, grads), alpha=-group["lr"])
            offsets.append((params, reference, offset))
        scale = max(self.bet(tuners, float(won)), 0.0)
        for params, reference, offset in offsets:
            torch._foreach_copy_(params, torch._foreach_add(reference, offset, alpha=scale))

    def bet(self, tuners: dict[str, Any], won: float) -> float:
        """Let the tuners see <Delta, g>; returns the sum of their winnings."""
        decays = tuners["decays"]
        tuners["sigma"] = [beta * sigma - won for beta, sigma in zip(decays, tuners["sigma"], strict=True)]
        tuners["variance"] = [beta**2 * v + won**2 for beta, v in zip(decays, tuners["variance"], strict=True)]
        bets = (
            erfi(sigma / (sqrt(2 * variance) + self.tuner_eps))
            for sigma, variance in zip(tuners["sigma"], tuners["variance"], strict=True)
        )
        tuners["sum"] = tuners["start"] / erfi(sqrt(0.5)) * sum(bets)
        return float(tuners["sum"])


def erfi(x: float) -> float:
    """The imaginary error function 2 / sqrt(pi) times the integral of exp(t^2) from 0 to x, for |x| up to 20."""
    x = max(-20.0, min(20.0, x))
    if abs(x) > 6:  # asymptotic series; its smallest term is below the precision of doubles
        term = total = 1.0
        for n in range(1, 20):
            term *= (2 * n - 1) / (2 * x * x)
            total += term
        return exp(x * x) / (x * sqrt(pi)) * total
    term, total, n = x, x, 0
    while abs(term) > 1e-17 * abs(total):  # all terms have one sign, so that nothing cancels
        n += 1
        term *= x * x / n
        total += term / (2 * n + 1)
    return 2 / sqrt(pi) * total
