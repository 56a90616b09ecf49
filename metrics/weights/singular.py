"""Singular values of weight matrices: the largest, the smallest, and their ratio.

    sigma_1 >= ... >= sigma_r of W [units, fan_in], r = min(units, fan_in)
    spectral norm = sigma_1,   smallest = sigma_r,   condition = sigma_1 / max(sigma_r, eps sigma_1)

The spectral norm is what spectral regularisation holds at 1 (Lewandowski et al., "Learning Continually by Spectral
Regularization", ICLR 2025, arXiv 2406.06811), all of them are what Parseval regularisation holds equal (Chung et al.,
NeurIPS 2024, arXiv 2412.07224). They are large where a layer stretches some direction of its inputs, small where it
loses one. Orthogonal layers, as SB3 makes them for PPO and A2C, start with all of them equal and condition 1; a square
matrix of independent random entries, torch's default and so SAC's, with a condition of several times its width
(Edelman, "Eigenvalues and condition numbers of random matrices", 1988). Compare a layer with its own start.

Each layer has its values, heads too. A network's value is the worst of its hidden layers: the largest spectral norm and
condition, the smallest of the smallest. Heads are left out of it, since theirs say other things: PPO's head starts from
a gain of 0.01, and a head of one output has a single singular value.

The condition of a singular matrix is infinite. What cannot be told from that in the weights' own precision is written
as 1 / eps, 8.4e6 for float32, so that it stays a number in files and curves; that of a zero matrix too.

A convolution counts as the matrix of its kernel `[channels out, channels in * height * width]`, as regularisers see it;
as a map between images its norm is another one. Under spectral normalisation (`agents.modules.SpectralNorm`) these are
the raw weights' values, before they are divided.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from agents.layers import Layer, Network
from metrics.base import Measured, Metric, View, by_layer

Extremes = tuple[float, float]
"""The largest and the smallest singular value."""

_seen: WeakKeyDictionary[View, dict[Network, dict[Layer, Extremes]]] = WeakKeyDictionary()


@torch.no_grad()
def extremes(matrices: Tensor) -> Tensor:
    """Largest and smallest singular values of matrices.

    Args:
        matrices: `[..., units, fan_in]`.

    Returns:
        `[..., 2]` in double precision, good to 1e-8 of the largest, the root of what its square is good to, which is
        finer than single precision; NaN for a matrix that is not finite.
    """
    finite = matrices.isfinite().all(dim=-1).all(dim=-1)
    exact = matrices.double().where(finite[..., None, None], 0.0)
    product = exact @ exact.mT if exact.shape[-2] <= exact.shape[-1] else exact.mT @ exact
    sigma = torch.linalg.eigvalsh(product).clamp_min(0).sqrt()
    both: Tensor = torch.stack([sigma[..., -1], sigma[..., 0]], dim=-1)
    return both.where(finite[..., None], nan)


def condition(largest: float, smallest: float, eps: float = torch.finfo(torch.float32).eps) -> float:
    """Ratio of the largest to the smallest singular value, in [1, 1 / eps]."""
    return largest / max(smallest, eps * largest) if largest != 0 else 1 / eps


def spectra(network: Network, view: View) -> dict[Layer, Extremes]:
    """Largest and smallest singular value of each layer, computed once for all metrics of one view."""
    known = _seen.setdefault(view, {})
    if network not in known:
        shapes: dict[torch.Size, list[Layer]] = defaultdict(list)
        for layer in network.layers:
            shapes[layer.weight.matrix.shape].append(layer)
        found: dict[Layer, Extremes] = {}
        for layers in shapes.values():
            stack = torch.stack([layer.weight.matrix.detach() for layer in layers])
            found |= {layer: (high, low) for layer, (high, low) in zip(layers, extremes(stack).tolist(), strict=True)}
        known[network] = {layer: found[layer] for layer in network.layers}
    return known[network]


def _worst(name: str, values: Mapping[Layer, float], network: Network, smallest: bool = False) -> Measured:
    """The layers' values, and that of the hidden layer which is worst off; a NaN is worse than any number."""
    hidden = torch.tensor([values[layer] for layer in network.hidden], dtype=torch.float64)
    return by_layer(name, float(hidden.min() if smallest else hidden.max()), values, network)


@dataclass
class LargestSingularValue(Metric):
    """Largest singular value of the weight matrices (as regularised by Lewandowski et al. 2025)."""

    title = "Spectral norm of the weights"
    family = "weights"
    reads = "weights"
    names = ("spectral_norm",)

    def measure(self, network: Network, view: View) -> Measured:
        """Of each layer; for the network the largest of its hidden layers."""
        found = {layer: high for layer, (high, _) in spectra(network, view).items()}
        return _worst("spectral_norm", found, network)


@dataclass
class SmallestSingularValue(Metric):
    """Smallest singular value of the weight matrices (as held up by Parseval regularisation, Chung et al. 2024)."""

    title = "Smallest singular value of the weights"
    family = "weights"
    reads = "weights"
    names = ("smallest_sv",)

    def measure(self, network: Network, view: View) -> Measured:
        """Of each layer; for the network the smallest of its hidden layers."""
        found = {layer: low for layer, (_, low) in spectra(network, view).items()}
        return _worst("smallest_sv", found, network, smallest=True)


@dataclass
class Condition(Metric):
    """Condition number of the weight matrices, largest over smallest singular value."""

    title = "Condition number of the weights"
    family = "weights"
    reads = "weights"
    names = ("condition",)

    def measure(self, network: Network, view: View) -> Measured:
        """Of each layer; for the network the largest of its hidden layers."""
        found = {
            layer: condition(high, low, torch.finfo(layer.weight.tensor.dtype).eps)
            for layer, (high, low) in spectra(network, view).items()
        }
        return _worst("condition", found, network)
