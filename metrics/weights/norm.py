"""The size of weights."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, View, by_layer


@torch.no_grad()
def weight_norm(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of all weights and biases together."""
    return float(torch.sqrt(sum((tensor.double().square().sum() for tensor in tensors), torch.zeros(()).double())))


@dataclass
class WeightNorm(Metric):
    """Euclidean norm of all of a network's parameters."""

    title = "Weight norm"
    family = "weights"
    reads = "weights"
    names = ("weight_norm",)
    default = True

    def measure(self, network: Network, view: View) -> Measured:
        """The norm of the network, and of each layer's parameters."""
        layers = {layer: weight_norm(param.tensor for param in layer.params()) for layer in network.layers}
        return by_layer("weight_norm", weight_norm(param.tensor for param in network.params()), layers, network)
