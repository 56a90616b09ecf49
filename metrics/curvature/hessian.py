"""The Hessian of the loss: its extreme eigenvalues, its epsilon-rank and its trace.

    epsilon-rank = #{i : |lambda_i(H)| > epsilon},   H = the second derivative of the mean loss in all parameters

He, Guo, Prakash, Tiwari, Tao, Serapio, Greenwald and Konidaris, "Spectral Collapse Drives Loss of Plasticity in Deep
Continual Learning", ICML 2026, arXiv 2509.22335: where plasticity is lost, the eigenvalues at the start of new tasks
have collapsed to zero. Their code gives the rank as a percentage of all eigenvalues, out of a density from 100 steps of
Lanczos that is smeared out with a variance of 1e-5; here it is their number, out of `multiplicities`.

Traps: epsilon is in units of the loss, so that a critic with greater returns has a greater rank, while actors with
normalised advantages may have but a few eigenvalues above 0.1. ReLU networks have only the curvature between their
kinks, and samples that PPO clips have none. Single precision leaves eigenvalues below some 1e-6 of the largest to
rounding. What Lanczos gives are estimates. Against the dense Hessians of 13 networks of PPO, SAC, TD3 and DQN (189 to
4,610 parameters, 8 starts each) the extremes came out within 0.1 %; the rank, where above 40, 8 % off on average and
25 % at worst, with a spread of 2 to 20 %; the trace with a spread of 1 to 50 % of the eigenvalues' Euclidean norm, and
of 140 % for an actor whose eigenvalues nearly cancel. In networks with 256 units a layer (71,000 parameters), against
four probes of 150 steps, the extremes came out within 0.2 %, the rank up to 48 % off; with 40 steps instead of 50 it
was up to 7 times as high.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from agents.layers import Network
from metrics.base import Loss, Measured, Metric, View
from metrics.curvature.lanczos import lanczos, multiplicities
from metrics.gradients.per_sample import fewer


def hessian_product(loss: Loss) -> tuple[Callable[[Tensor], Tensor], int]:
    """The Hessian of the mean loss times a vector, and the number of parameters.

    Twice backward through one graph, which in networks of 64 units takes a sixth of forward-over-reverse.
    """
    leaves = [tensor.detach().requires_grad_() for tensor in loss.parameters.values()]
    with torch.enable_grad():
        mean = loss.mean(dict(zip(loss.parameters, leaves, strict=True)))
        found = torch.autograd.grad(mean, leaves, create_graph=True, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in found])

    def product(vector: Tensor) -> Tensor:
        if not gradient.requires_grad:  # a loss that is linear
            return torch.zeros_like(vector)
        parts = torch.autograd.grad(
            gradient, leaves, vector, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])

    return product, len(gradient)


@dataclass
class Hessian(Metric):
    """Extreme eigenvalues, epsilon-rank and trace of the loss's Hessian (He et al. 2026)."""

    title = "Largest eigenvalue of the loss's Hessian"
    family = "curvature"
    reads = "rollout"
    names = ("hessian_max", "hessian_min", "hessian_rank", "hessian_trace")
    costly = True
    at_switch = True

    epsilon: Annotated[float, Gt(0)] = 0.1
    """Eigenvalues beyond it count for the rank: 0.1 in the code of He et al."""

    order: Annotated[int, Ge(2), Le(1000)] = 50
    """Steps of Lanczos: 100 in the code of He et al.; 50, for half the time, is a choice."""

    probes: Annotated[int, Ge(1), Le(1000)] = 1
    """Starting vectors: 1 in the code of He et al. More make rank and trace more precise, in as many times the time."""

    samples: Annotated[int, Ge(1)] = 256
    """Of how many samples of the batch the loss is: a choice. Time grows with it."""

    def applies(self, network: Network) -> bool:
        """Any network of layers, also without hidden ones."""
        return bool(network.layers)

    def measure(self, network: Network, view: View) -> Measured:
        """The four values: extremes over all probes, rank and trace as their means."""
        loss = view.loss(network)
        return {} if loss is None else self.of(fewer(loss, self.samples), view.generator("hessian"))

    def of(self, loss: Loss, generator: torch.Generator) -> Measured:
        """The values of any loss; all NaN where its second derivative is not finite."""
        product, size = hessian_product(loss)
        like = next(iter(loss.parameters.values()))
        starts = torch.randn(self.probes, size, generator=generator, device=generator.device).to(like)
        found = [lanczos(product, start, self.order) for start in starts]
        nodes = [tridiagonal.ritz() for tridiagonal in found]
        values = torch.cat([ritz.values for ritz in nodes])
        if not bool(values.isfinite().all()):
            return dict.fromkeys(self.names, float("nan"))
        trace = sum(float((multiplicities(ritz, size) * ritz.values).sum()) for ritz in nodes)
        both = nodes + [tridiagonal.ritz_with_zero() for tridiagonal in found]
        rank = sum(float(multiplicities(ritz, size)[ritz.values.abs() > self.epsilon].sum()) for ritz in both)
        measured = (float(values.max()), float(values.min()), rank / len(both), trace / len(nodes))
        return dict(zip(self.names, measured, strict=True))
