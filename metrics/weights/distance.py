"""How far weights have come from where they started.

    distance = ||theta - theta_0||_2,      relative = ||theta - theta_0||_2 / ||theta_0||_2

over all of a network's parameters, theta_0 being those the agent was made with. The distance is what L2-Init penalises
(Kumar, Marklund and Van Roy, "Maintaining Plasticity in Continual Learning via Regenerative Regularization", 2023,
arXiv 2308.11958); the relative one compares networks and layers of different size. A layer's value is that of its
weight matrix alone, since biases often start from zero.

A reset to fresh weights, rather than to the initial ones, does not make the distance zero: two independent draws of one
distribution around zero are about sqrt(2) times their norm apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, View, by_layer
from metrics.weights.norm import norms


@torch.no_grad()
def distances(tensors: Sequence[Tensor], initial: Sequence[Tensor]) -> tuple[list[float], list[float]]:
    """How far each tensor is from its initial value, and the norms of these initial values.

    Args:
        tensors: parameters, on one device.
        initial: where each of them started, in the same shapes.
    """
    both = norms([*torch._foreach_sub(list(tensors), list(initial)), *initial]) if tensors else []
    return both[: len(tensors)], both[len(tensors) :]


@dataclass
class InitDistance(Metric):
    """Distance from the initial parameters, and that over their norm (as penalised by Kumar et al. 2023)."""

    title = "Distance from initialisation"
    family = "weights"
    reads = "weights"
    names = ("init_relative", "init_distance")
    default = True

    def applies(self, network: Network) -> bool:
        """Any network with layers, be they output layers alone."""
        return bool(network.layers)

    def measure(self, network: Network, view: View) -> Measured:
        """Both for the network, the relative one for each layer's weight matrix.

        Where the start of a parameter is not known, its network has no values, but those layers whose start is known
        have theirs. Nothing is relative to zero: what started there has no relative distance.
        """
        starts = {param: start for param in network.params() if (start := view.initial(param)) is not None}
        far, sizes = distances([param.tensor for param in starts], list(starts.values()))
        relative = {param: moved / size for param, moved, size in zip(starts, far, sizes, strict=True) if size > 0}
        layers = {layer: relative[layer.weight] for layer in network.layers if layer.weight in relative}
        distance, size = math.hypot(*far), math.hypot(*sizes)
        found = by_layer("init_relative", distance / size, layers, network) if size > 0 else {}
        found["init_distance"] = distance
        return found if len(starts) == len(network.params()) else {name: found[name] for name in found if "/" in name}
