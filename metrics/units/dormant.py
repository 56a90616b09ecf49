"""Units that have fallen silent: the dormancy score and the dormant fraction.

Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023, arXiv 2302.12902, equation 1:

    s_i = E|h_i(x)| / (1/H sum_k E|h_k(x)|)

with h the activations after the nonlinearity, and unit i tau-dormant when s_i <= tau. The score compares a unit with
its layer, so one huge unit makes all others look dormant; and a saturated tanh unit has a high score although it no
longer learns (`saturated`). A layer whose units are all 0 is dormant as a whole.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, View
from metrics.units.shares import shares


def dormancy_score(activations: Tensor) -> Tensor:
    """Score of each unit: its mean absolute activation over that of its layer.

    Args:
        activations: after the nonlinearity, `[..., samples, units]`.

    Returns:
        `[..., units]`, with mean 1 over the layer; 0 for a dead unit, and for all units of a dead layer.
    """
    strength = activations.abs().mean(dim=-2)
    return strength / (strength.mean(dim=-1, keepdim=True) + 1e-9)


@dataclass
class Dormant(Metric):
    """Share of tau-dormant units (Sokar et al. 2023)."""

    title = "Dormant units"
    family = "units"
    reads = "batch"
    names = ("dormant",)
    default = True

    tau: Annotated[float, Ge(0)] = 0.1
    """A unit is dormant when its score is at most tau: 0.1 in the paper's resets, 0.025 in its Atari figures."""

    def measure(self, network: Network, view: View) -> Measured:
        """Share among all hidden units, and among those of each layer."""
        layers = view.activations(network)
        dormant = {layer: dormancy_score(h) <= self.tau for layer, h in layers.items()}
        return shares("dormant", dormant, layers, network)
