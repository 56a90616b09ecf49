"""How much of a network gets any gradient: its L0 and L1 norms.

    L0 = share of parameters with |g_k| > threshold,      L1 = sum_k |g_k|

before clipping, of a sample of minibatches. Abbas et al., "Loss of Plasticity in Continual Deep Reinforcement
Learning", CoLLAs 2023, arXiv 2303.07507, follow both in agents that stop learning, since a few large entries dominate
the L2 norm: it can stay as it was while most of the network is cut off.

L0 is a share here, so that networks of different size compare; L1 is a sum, so that it grows with them. Under a penalty
on weights every parameter has a gradient, and L0 says nothing of the loss.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, StepView


def sparsity(gradients: Iterable[Tensor], threshold: float = 1e-8) -> tuple[float, float]:
    """L0, as a share between 0 and 1, and L1 of several gradients together.

    Args:
        gradients: of any shapes; at least one.
        threshold: what an entry's absolute value has to exceed to count.
    """
    size = torch.cat([gradient.flatten() for gradient in gradients]).abs()
    return int(torch.count_nonzero(size > threshold)) / max(size.numel(), 1), float(size.sum())


@dataclass
class GradientSparsity(Metric):
    """Share of parameters with a gradient (L0) and the gradient's L1 norm (Abbas et al. 2023)."""

    title = "Share of parameters with a gradient"
    family = "gradients"
    reads = "step"
    names = ("grad_l0", "grad_l1")

    threshold: Annotated[float, Ge(0)] = 1e-8
    """Gradients up to this size count as none: 1e-8 is a choice, the epsilon of Adam's default, below which its steps
    shrink. 0 counts what is not exactly zero."""

    def applies(self, network: Network) -> bool:
        """Any network that an optimiser trains."""
        return network.optimizer is not None

    def measure_step(self, network: Network, step: StepView) -> Measured:
        """Both norms of one minibatch's gradient; nothing where the step was not this network's."""
        if not step.gradients:
            return {}
        return dict(zip(self.names, sparsity(step.gradients.values(), self.threshold), strict=True))
