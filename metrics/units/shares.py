"""What the diagnostics of units have in common: a share of units, for a network and for each of its layers."""

from collections.abc import Mapping

from torch import Tensor

from agents.layers import Layer, Network
from metrics.base import Measured, by_layer


def shares(name: str, units: Mapping[Layer, Tensor], activations: Mapping[Layer, Tensor], network: Network) -> Measured:
    """Mean over units, for all layers together and for each alone; a large layer counts for more than a small one.

    Args:
        name: of the value.
        units: for each layer that the diagnostic speaks of, what it says of each unit `[units]`: whether it counts, or
            a share of samples.
        activations: of these layers `[samples, units]`: where they are not finite, nothing can be said.
        network: theirs.

    Returns:
        Nothing where there is no such layer; NaN where activations are not finite, which no comparison would show.
    """
    if not units:
        return {}
    layers = {layer: float((found + 0 * activations[layer].sum(dim=-2)).mean()) for layer, found in units.items()}
    total = sum(share * len(units[layer]) for layer, share in layers.items()) / sum(map(len, units.values()))
    return by_layer(name, total, layers, network)
