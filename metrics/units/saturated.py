"""Units of bounded nonlinearities at their limits: saturation.

A tanh unit saturates on a sample when |h| > c; its slope there is 1 - h^2, below 0.02 for c = 0.99, so that next to no
gradient comes through. Of unit i

    saturation_i = 1/n sum_x 1[|h_i(x)| > c],

and `saturated` is its mean over the units, `saturated_always` the share of units with saturation 1, which learn from no
sample at all. They are what dead units are among ReLUs, and more than `dead` counts: a unit that is 1 on some samples
and -1 on others is not constant.

That saturating nonlinearities spoil runs is the point of Bjorck, Gomes and Weinberger, "Is High Variance Unavoidable
in RL?", ICLR 2022, arXiv 2110.11222, there of the tanh that makes actions; hidden units have long been looked at in
this way (Glorot and Bengio, AISTATS 2010). The range of other bounded nonlinearities is stretched to (-1, 1): for a
sigmoid, h > 0.995 or h < 0.005. Dormancy scores do not see saturation: such units are the strongest of a layer. ReLU6
and AdaLin, which lets through what its tanh does not, are not counted.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Lt
from torch import Tensor, nn

from agents.layers import Network
from metrics.base import Measured, Metric, View
from metrics.units.shares import shares

LIMITS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Tanh: (-1, 1),
    nn.Softsign: (-1, 1),
    nn.Sigmoid: (0, 1),
    nn.Hardsigmoid: (0, 1),
}


def limits(nonlinearity: nn.Module | None) -> tuple[float, float] | None:
    """The values between which a nonlinearity is bounded; None where it is not, or not known to be."""
    if isinstance(nonlinearity, nn.Hardtanh) and not isinstance(nonlinearity, nn.ReLU6):
        return nonlinearity.min_val, nonlinearity.max_val
    return next((bounds for kind, bounds in LIMITS.items() if isinstance(nonlinearity, kind)), None)


def saturation(activations: Tensor, threshold: float = 0.99, low: float = -1, high: float = 1) -> Tensor:
    """Share of samples on which each unit is saturated.

    Args:
        activations: after the nonlinearity, `[..., samples, units]`.
        threshold: how far from the middle of the range (0) to its ends (1) saturation begins.
        low: the lower limit of the nonlinearity.
        high: the upper one.

    Returns:
        `[..., units]`, 0 to 1.
    """
    middle, half = (high + low) / 2, (high - low) / 2
    return ((activations - middle).abs() > threshold * half).float().mean(dim=-2)


@dataclass
class Saturated(Metric):
    """Share of samples on which tanh or sigmoid units are at their limits, mean over units (Bjorck et al. 2022)."""

    title = "Saturated units"
    family = "units"
    reads = "batch"
    names = ("saturated", "saturated_always")
    default = True

    threshold: Annotated[float, Gt(0), Lt(1)] = 0.99
    """A tanh unit is saturated where |h| is above this; 0.99 is a choice."""

    def applies(self, network: Network) -> bool:
        """Networks with a bounded nonlinearity."""
        return any(limits(layer.nonlinearity) for layer in network.hidden)

    def measure(self, network: Network, view: View) -> Measured:
        """Mean saturation and share of units saturated on all samples, 0 to 1; nothing where no layer is bounded."""
        layers = view.activations(network)
        found = {
            layer: saturation(h, self.threshold, *bounds)
            for layer, h in layers.items()
            if (bounds := limits(layer.nonlinearity))
        }
        always = {layer: (values == 1).float() for layer, values in found.items()}
        return shares("saturated", found, layers, network) | shares("saturated_always", always, layers, network)
