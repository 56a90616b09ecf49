"""How large a representation is: the norm of the features.

    E_s |phi(s)|_2

with phi the whole output of a hidden layer. Moalla et al., "No Representation, No Trust", NeurIPS 2024, arXiv
2405.00662, follow that of the last one while policies collapse. When units die or saturate it looks stable although
what they are given blows up, as `preact_norm` shows. It grows with the root of the number of units: compare networks
of one width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Layer, Network
from metrics.base import Measured, Metric, View, by_layer


def mean_norm(values: Tensor, observations: int, outputs: int = 1) -> float:
    """Mean over observations of the Euclidean norm of all that a layer has for one of them.

    Args:
        values: of the layer's units, `[samples, units]` as `Layer.samples` makes them.
        observations: how many there are; a convolution has a sample for each position of each.
        outputs: how many outputs each unit has.
    """
    norms = torch.linalg.vector_norm(values, dim=-1).view(outputs, observations, -1)
    return float(torch.linalg.vector_norm(norms, dim=(0, 2)).mean())


@dataclass
class FeatureNorm(Metric):
    """Mean Euclidean norm of the features that the heads read (as followed by Moalla et al. 2024)."""

    title = "Feature norm of the last hidden layer"
    family = "ranks"
    reads = "batch"
    names = ("feature_norm",)

    def measure(self, network: Network, view: View) -> Measured:
        """That of the last hidden layer, and of each layer."""
        features = view.features(network)
        if features is None:
            return {}
        count = len(features)
        layers: dict[Layer, float] = {
            layer: mean_norm(h, count, layer.expansion) for layer, h in view.activations(network).items()
        }
        return by_layer("feature_norm", mean_norm(features, count), layers, network)
