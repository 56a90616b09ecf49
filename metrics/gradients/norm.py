"""The size of gradients as the loss makes them, before SB3 clips them.

    ||g||_2 = sqrt(sum_k g_k^2)

over all parameters of a network; penalties of regularisers are in it. A few large entries make this norm: a gradient
that is zero nearly everywhere can have any size, which is why `metrics.gradients.sparsity` stands beside it.

A sample of the optimiser's steps is looked at. That a network's gradient is also written by another network's loss, as
a SAC critic's is by the actor's, falls outside of what is seen: from `zero_grad` to the network's own step.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, StepView


def gradient_norm(gradients: Iterable[Tensor]) -> float:
    """Euclidean norm of several gradients together; 0 of none."""
    known = list(gradients)
    return float(torch.stack(torch._foreach_norm(known)).norm()) if known else 0.0


@dataclass
class GradientNorm(Metric):
    """Euclidean norm of the gradient before clipping, mean over a sample of steps."""

    title = "Gradient norm before clipping"
    family = "gradients"
    reads = "step"
    names = ("grad_norm",)
    default = True

    def applies(self, network: Network) -> bool:
        """Any network that an optimiser trains."""
        return network.optimizer is not None

    def measure_step(self, network: Network, step: StepView) -> Measured:
        """The norm of one minibatch's gradient; nothing where the step was not this network's."""
        return {"grad_norm": gradient_norm(step.gradients.values())} if step.gradients else {}
