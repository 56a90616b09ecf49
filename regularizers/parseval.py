"""Parseval regularisation: keep the rows of each hidden weight matrix orthogonal and equally long.

    R = sum_l (64 / n_l)^2 ||W_l W_l' - s I||_F^2

over hidden layers, n_l being a layer's number of units: the paper's strength is tuned at 64 units. Where a layer has
more units than inputs, its rows cannot be orthogonal; then ||W'W - s I||_F^2, over its columns, is taken, which differs
by the constant s^2 (units - inputs) only and has the same gradient, but is smaller to compute, and zero where W is as
orthogonal as its shape allows. Convolutions count as the matrix of their kernels, a row a channel.

Chung, Cherif, Meger and Precup, "Parseval Regularization for Continual Reinforcement Learning", NeurIPS 2024, arXiv
2412.07224. Their diagonal layers and learnt input scale, which give back freedom that this takes, are not part of it.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from agents.layers import Layer, Network, Param
from regularizers.base import Chosen, Kind, WeightPenalty


@dataclass
class Parseval(WeightPenalty):
    """Keep the rows of each weight matrix orthogonal (Chung et al. 2024)."""

    touches = ("hidden", "heads")

    strength: Annotated[float, Ge(0)] = 1e-3
    """Factor on the penalty: for PPO 1e-3 in gridworlds and MetaWorld, 1e-4 in LunarLander and quadruped (code of Chung
    et al. 2024). For SAC the paper has none."""

    scale: Annotated[float, Gt(0)] = 2.0
    """s, the square of the rows' length: 2 in the paper, as at SB3's orthogonal initialisation of PPO with gain sqrt 2.
    SAC's layers start at about 1/3 and are drawn up to it."""

    per_width: bool = True
    """Whether the penalty is divided by the square of the layer's width over 64, as in the paper's code."""

    heads: bool = False
    """Whether output layers are included; they are not in the paper."""

    def includes(self, kind: Kind, layer: Layer) -> bool:
        """Weights of hidden layers, and of heads if wanted."""
        return kind == "weight" and (self.heads or not layer.is_head)

    def acts_on(self, network: Network) -> bool:
        """Networks with such layers."""
        return super().acts_on(network) and bool(network.hidden or self.heads)

    def term(self, kind: Kind, param: Param) -> Tensor:
        """Distance of the products of rows, or of columns where they are fewer, from those of an orthogonal matrix."""
        matrix = param.matrix
        wide = matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT
        identity = torch.eye(wide.shape[-2], dtype=wide.dtype, device=wide.device)
        return self.share(param) * (wide @ wide.mT - self.scale * identity).square().sum()

    def share(self, param: Param) -> float:
        """The factor that makes up for the width."""
        return (64 / param.matrix.shape[-2]) ** 2 if self.per_width else 1.0

    def derivatives(self, chosen: Chosen, factor: float) -> tuple[Tensor, list[Tensor]]:
        """The gradient is 4(WW' - sI)W, or the same from the other side."""
        gradients, sizes = [], []
        for param in chosen.params:
            matrix, share = param.matrix, self.share(param)
            tall = matrix.shape[-2] > matrix.shape[-1]
            excess = matrix.mT @ matrix if tall else matrix @ matrix.mT
            excess.diagonal(dim1=-2, dim2=-1).sub_(self.scale)
            sizes.append(torch.linalg.vector_norm(excess, dim=(-2, -1)) * share**0.5)
            excess.mul_(4 * factor * share)
            gradients.append(matrix @ excess if tall else excess @ matrix)
        return chosen.by_network(torch.stack(sizes, dim=-1).square()), gradients
