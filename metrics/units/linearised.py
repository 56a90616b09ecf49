"""Units that stay on one straight piece of their nonlinearity: linearised units.

A ReLU whose pre-activations are positive on all samples is the identity there:

    unit i linearised  <=>  z_i(x) > 0 for all x.

It is not dead and its gradients are perfect, but the network has lost a bend, which no count of dead units shows. Lyle
et al., "Disentangling the Causes of Plasticity Loss in Neural Networks", 2024, arXiv 2402.18762, section 3.2.

Of other piecewise-linear nonlinearities the same is asked of each straight piece that is not flat: leaky ReLU and
AdaLin on ReLU, all z > 0 or all z < 0; CReLU too, of whose two outputs one is then linear and the other silent;
ReLU6, all z between 0 and 6; hard tanh and hard sigmoid, all z between their corners. A unit that outputs 0 on all
samples is dead, not linear. Smooth nonlinearities, which are nearly linear where z varies little, are not counted. z
is what the nonlinearity was given, after a normalisation where one stands before it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.layers import Network
from agents.modules import AdaptiveLinear, CReLU
from metrics.base import Measured, Metric, View
from metrics.units.shares import shares

Pieces = tuple[tuple[float, float], ...]
"""Open intervals of pre-activations."""

BOTH_SIDES: Pieces = ((-math.inf, 0), (0, math.inf))


def straight_pieces(nonlinearity: nn.Module | None) -> Pieces:
    """Where a nonlinearity is linear and not flat; nothing where it is not made of straight pieces."""
    if isinstance(nonlinearity, (nn.LeakyReLU, nn.RReLU, CReLU)):
        return BOTH_SIDES
    if isinstance(nonlinearity, AdaptiveLinear):
        return BOTH_SIDES if nonlinearity.base == "relu" else ()
    if isinstance(nonlinearity, nn.ReLU):
        return ((0, math.inf),)
    if isinstance(nonlinearity, nn.Hardtanh):  # ReLU6 among them
        return ((nonlinearity.min_val, nonlinearity.max_val),)
    return ((-3, 3),) if isinstance(nonlinearity, nn.Hardsigmoid) else ()


def linearized_units(preactivations: Tensor, activations: Tensor, pieces: Pieces) -> Tensor:
    """Which units stay on one of the pieces on all samples.

    Args:
        preactivations: what the nonlinearity was given, `[..., samples, units]`.
        activations: what it gave, in that shape, or with more samples where it makes several outputs of a unit.
        pieces: where it is linear and not flat.

    Returns:
        Mask `[..., units]`; without the units that output 0 on all samples.
    """
    lowest, highest = preactivations.amin(dim=-2), preactivations.amax(dim=-2)
    found = torch.zeros_like(lowest, dtype=torch.bool)
    for start, end in pieces:
        found |= (lowest > start) & (highest < end)
    return found & (activations.abs().amax(dim=-2) > 0)


@dataclass
class Linearised(Metric):
    """Share of units that stay on one straight piece of ReLU, leaky ReLU and their like (Lyle et al. 2024)."""

    title = "Linearised units"
    family = "units"
    reads = "batch"
    names = ("linearised",)

    def applies(self, network: Network) -> bool:
        """Networks with a nonlinearity made of straight pieces."""
        return any(straight_pieces(layer.nonlinearity) for layer in network.hidden)

    def measure(self, network: Network, view: View) -> Measured:
        """Share among the units of piecewise-linear nonlinearities, 0 to 1; nothing where there are none."""
        layers = view.activations(network)
        found = {
            layer: linearized_units(z, layers[layer], pieces)
            for layer, z in view.preactivations(network).items()
            if (pieces := straight_pieces(layer.nonlinearity))
        }
        return shares("linearised", found, layers, network)
