"""What penalties on features share: which hidden layers they look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agents.layers import Layer, Network
from regularizers.base import Regularizer


def last_layers(network: Network) -> list[Layer]:
    """The hidden layers that no other hidden layer of the network reads: usually one, the penultimate layer.

    A feature extractor of a dictionary of images has one for each image.
    """
    return [
        layer for layer in network.hidden if not any(consumer.layer in network.hidden for consumer in layer.consumers)
    ]


def mean_square(features: Sequence[Tensor]) -> Tensor:
    """The mean square over all samples and units of one or several layers; a wide layer counts more than a narrow one.

    Args:
        features: `[..., samples, units]` a layer.
    """
    if len(features) == 1:
        return features[0].square().mean(dim=(-2, -1))
    count = sum(each.shape[-2] * each.shape[-1] for each in features)
    return torch.stack([each.square().sum(dim=(-2, -1)) for each in features]).sum(dim=0) / count


@dataclass
class FeatureRegularizer(Regularizer):
    """Base of penalties on the units of hidden layers."""

    touches = ("hidden", "norm")
    needs = "hidden"

    layers: Literal["last", "all"] = "last"
    """Which hidden layers of a network: the last before its outputs, the penultimate, or all of them."""

    def chosen(self, network: Network) -> list[Layer]:
        """The layers that the setting `layers` names."""
        return network.hidden if self.layers == "all" else last_layers(network)
