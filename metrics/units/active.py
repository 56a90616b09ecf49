"""How much of a layer is switched on: the fraction of active units (FAU).

Ma, Li, Zhang, Liu, Wang, Chen, Shen, Wang and Tao, "Revisiting Plasticity in Visual Reinforcement Learning: Data,
Modules and Training Stages", ICLR 2024, arXiv 2310.07418:

    FAU = E_x 1/N sum_i 1[h_i(x) > 0],

over all N units of a module, every position of a convolution a unit of its own. It is a share of outputs, not of
units: a ReLU that is on for half of the samples counts for a half, while `dead` counts units that are on for none.
What Juliani and Ash ("A Study of Plasticity Loss in On-Policy Deep Reinforcement Learning", NeurIPS 2024, arXiv
2405.19153) log as dead units is, in their code, 1 - FAU. A network whose features are sparse has a low FAU, however
well it learns.

The sign says "on" only of rectifiers, smooth and leaky ones among them. Layers with bounded nonlinearities, AdaLin on
tanh and layers without a nonlinearity are left out, as the authors' code leaves out its tanh; CReLU and Fourier
features too: of CReLU's two outputs one is always on, and a sine's sign is its phase.
"""

from dataclasses import dataclass

from torch import Tensor

from agents.layers import Layer, Network
from agents.modules import AdaptiveLinear
from metrics.base import Measured, Metric, View, by_layer
from metrics.units.saturated import limits


def active_fraction(activations: Tensor) -> float:
    """Share of positive values among the activations of a layer.

    Args:
        activations: after the nonlinearity, `[samples, units]`.

    Returns:
        0 to 1; NaN where one of them is not finite.
    """
    # What is not finite is not positive either; zero times it is not a number.
    return float((activations > 0).sum() + 0 * activations.sum()) / activations.numel()


def has_off_side(layer: Layer) -> bool:
    """Whether the sign of a layer's outputs says that its units are on."""
    if isinstance(layer.nonlinearity, AdaptiveLinear):
        return layer.nonlinearity.base == "relu"
    return layer.nonlinearity is not None and layer.expansion == 1 and limits(layer.nonlinearity) is None


@dataclass
class Active(Metric):
    """Fraction of active units: share of units and samples with a positive output (Ma et al. 2024)."""

    title = "Active units"
    family = "units"
    reads = "batch"
    names = ("active",)

    def applies(self, network: Network) -> bool:
        """Networks with a rectified layer."""
        return any(has_off_side(layer) for layer in network.hidden)

    def measure(self, network: Network, view: View) -> Measured:
        """Share among all outputs of all rectified layers, 0 to 1; nothing where there are none."""
        layers = {layer: h for layer, h in view.activations(network).items() if has_off_side(layer)}
        if not layers:
            return {}
        fractions = {layer: active_fraction(h) for layer, h in layers.items()}
        total = sum(fractions[layer] * h.numel() for layer, h in layers.items()) / sum(
            h.numel() for h in layers.values()
        )
        return by_layer("active", total, fractions, network)
