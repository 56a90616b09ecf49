"""Units that look for the same thing: how alike the rows of a weight matrix are.

    similarity(W) = mean over i != j of |w_i . w_j| / (||w_i|| ||w_j||),   w_i the incoming weights of unit i

Units whose incoming weights are parallel compute the same function up to scale and bias, and where their outgoing
weights agree as well gradient descent cannot part them again: the cloned units of Joudaki et al., "Barriers for
Learning in an Evolving World", 2025, arXiv 2510.00304. Parseval regularisation (Chung et al., NeurIPS 2024, arXiv
2412.07224) keeps rows apart.

In a space of few dimensions rows cannot be far apart: random ones in d dimensions have a mean of about
sqrt(2 / (pi d)), 0.42 for the four inputs of CartPole, 0.05 for 256; compare a layer with itself as it was. Orthogonal
rows have 0. Biases are no part of it: two units that differ in their thresholds alone count as the same. A row of zeros
has no direction; pairs with one are left out.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, View, by_layer


@torch.no_grad()
def row_similarity(weight: Tensor) -> Tensor:
    """Mean absolute cosine between different rows.

    Args:
        weight: `[..., units, fan_in]`.

    Returns:
        `[...]`, between 0 and 1; NaN where fewer than two rows are not zero.
    """
    length = weight.norm(dim=-1, keepdim=True)
    rows = weight / length.where(length != 0, 1.0)
    cosines = (rows @ rows.mT).abs()
    between = cosines.sum(dim=(-2, -1)) - cosines.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    directed = (length != 0).sum(dim=(-2, -1))
    mean: Tensor = between / (directed * (directed - 1))
    return mean.clamp(0, 1)


@dataclass
class RowSimilarity(Metric):
    """Mean absolute cosine between incoming weights of two units (clones: Joudaki et al. 2025)."""

    title = "Similarity of units' incoming weights"
    family = "weights"
    reads = "weights"
    names = ("row_similarity",)

    def measure(self, network: Network, view: View) -> Measured:
        """Of each hidden layer, and the mean over those that have one."""
        found = {layer: float(row_similarity(layer.weight.matrix)) for layer in network.hidden}
        known = [value for value in found.values() if not math.isnan(value)]
        return by_layer("row_similarity", sum(known) / len(known) if known else math.nan, found, network)
