"""The size of gradients as the loss makes them, before SB3 clips them.

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
    """Euclidean norm of several gradients together."""
    norms = torch._foreach_norm(list(gradients))
    return float(torch.stack(norms).norm()) if norms else 0.0


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
        """The norm of one minibatch's gradient."""
        return {"grad_norm": gradient_norm(step.gradients.values())}
