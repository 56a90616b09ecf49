"""The size of weights.

    ||theta||_2 = sqrt(sum_k theta_k^2)

over all of a network's parameters: weights, biases, normalisations and free ones such as a Gaussian's `log_std`. A
layer's value is that of its own parameters. Large weights go with loss of plasticity in Dohare et al., "Loss of
plasticity in deep continual learning", Nature 2024, and others; what is large depends on the width, so compare a
network with itself. A layer before a normalisation may grow without its function changing: there the norm tells of a
falling effective learning rate.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, View, by_layer


@torch.no_grad()
def norms(tensors: Iterable[Tensor]) -> list[float]:
    """Euclidean norm of each of several tensors on one device, added up in double precision."""
    known = list(tensors)
    values: list[float] = torch.stack(torch._foreach_norm(known, 2, torch.float64)).tolist() if known else []
    return values


@dataclass
class WeightNorm(Metric):
    """Euclidean norm of all of a network's parameters."""

    title = "Weight norm"
    family = "weights"
    reads = "weights"
    names = ("weight_norm",)
    default = True

    def applies(self, network: Network) -> bool:
        """Any network with layers, be they output layers alone."""
        return bool(network.layers)

    def measure(self, network: Network, view: View) -> Measured:
        """The norm of the network, and of each layer's parameters."""
        params = network.params()
        found = dict(zip(params, norms(param.tensor for param in params), strict=True))
        layers = {layer: math.hypot(*(found[param] for param in layer.params())) for layer in network.layers}
        return by_layer("weight_norm", math.hypot(*found.values()), layers, network)
