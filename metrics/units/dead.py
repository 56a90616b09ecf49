"""Units that give nothing on any sample: dead units.

A unit of a ReLU is dead when it outputs 0 for every input; its gradient is 0 as well, and nothing but a change of its
inputs brings it back. Which output says that depends on the nonlinearity, and so does the rule here:

- exactly 0 on all samples: ReLU and all else that is exactly 0 on one side, CReLU (both outputs) and AdaLin on ReLU.
  Leaky ReLUs stand here too and so have no dead units: with all z < 0 they are linear (`linearised`), not dead.
- |h| <= `near_zero` on all samples: GELU, SiLU, Mish, Softplus, which come close to 0 without reaching it.
- standard deviation over the samples below `spread`: tanh, sigmoid and all others that are bounded, ELU, SELU and CELU,
  which are flat far below zero, Fourier features, AdaLin on tanh, layers without a nonlinearity and nonlinearities
  unknown here. Each says the same on all samples, which a bias can say as well.

The first and the third rule and its 1e-3 are those of Moalla, Miele, Pyatko, Pascanu and Gulcehre, "No Representation,
No Trust", NeurIPS 2024, arXiv 2405.00662, for ReLU and tanh, as its code has them (which asks GELU for exact zeros and
counts negative leaky ReLUs as dead). Every position of a convolution and every output of a unit is a sample.

What others call dead units is 1 - `active`, a share of outputs, which is larger by an order of magnitude.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn

from agents.layers import Network
from agents.modules import AdaptiveLinear, CReLU, SmoothLeakyReLU
from metrics.base import Measured, Metric, View
from metrics.units.shares import shares

EXACT = (
    *(nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardswish, nn.Hardshrink, nn.Softshrink, CReLU),
    *(nn.LeakyReLU, nn.RReLU, SmoothLeakyReLU),
)
"""Nonlinearities whose dead units are exactly 0, and leaky ones, which have none."""

CLOSE = (nn.GELU, nn.SiLU, nn.Mish, nn.Softplus)
"""Nonlinearities that come close to 0 on one side."""

Rule = Literal["exact", "close", "constant"]


def rule(nonlinearity: nn.Module | None) -> Rule:
    """How units with this nonlinearity are told to be dead."""
    if isinstance(nonlinearity, EXACT) or (isinstance(nonlinearity, AdaptiveLinear) and nonlinearity.base == "relu"):
        return "exact"
    return "close" if isinstance(nonlinearity, CLOSE) else "constant"


def silent_units(activations: Tensor, near_zero: float = 0.0) -> Tensor:
    """Mask `[..., units]` of the units with |h| <= `near_zero` on all samples of `[..., samples, units]`."""
    return activations.abs().amax(dim=-2) <= near_zero


def constant_units(activations: Tensor, spread: float = 1e-3) -> Tensor:
    """Mask `[..., units]` of the units whose standard deviation over the samples is below `spread`."""
    # Ten times as fast as torch's own, which runs down the columns of a matrix stored by rows.
    deviations = activations - activations.mean(dim=-2, keepdim=True)
    return (deviations.square().sum(dim=-2) / (activations.shape[-2] - 1)).sqrt() < spread


@dataclass
class Dead(Metric):
    """Share of units that say nothing on any sample: 0 for ReLU, constant for tanh (Moalla et al. 2024)."""

    title = "Dead units"
    family = "units"
    reads = "batch"
    names = ("dead",)
    default = True

    spread: Annotated[float, Gt(0)] = 1e-3
    """Bounded and other nonlinearities: dead when the standard deviation over samples is below this (Moalla et al.)."""

    near_zero: Annotated[float, Ge(0)] = 1e-3
    """GELU, SiLU, Mish, Softplus: dead when |h| is at most this on all samples; a choice, 0 in Moalla et al.'s code."""

    def measure(self, network: Network, view: View) -> Measured:
        """Share among all hidden units, and among those of each layer; 0 to 1."""
        layers = view.activations(network)
        dead = {layer: self.dead(h, layer.nonlinearity) for layer, h in layers.items()}
        return shares("dead", dead, layers, network)

    def dead(self, activations: Tensor, nonlinearity: nn.Module | None) -> Tensor:
        """Mask `[units]` of the dead units of one layer."""
        kind = rule(nonlinearity)
        if kind == "constant":
            return constant_units(activations, self.spread)
        return silent_units(activations, self.near_zero if kind == "close" else 0.0)
