"""L2 Init: pull all weights towards where learning started.

    R = ||theta - theta_0||^2

over the weights and biases of all layers, theta_0 being their values at the first gradient step. Parameters that the
loss is indifferent to drift back to their initial values, from where they can learn again. The paper's code has half of
this; other implementations have other forms (`norm`), whose strengths must not be mixed up.

Kumar, Marklund and Van Roy, "Maintaining Plasticity in Continual Learning via Regenerative Regularization", 2023, arXiv
2308.11958.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from agents.layers import Layer, Network, Param
from regularizers.base import Chosen, Kind, WeightPenalty, spread


@dataclass
class L2Init(WeightPenalty):
    """Pull all weights towards where learning started (Kumar et al. 2023)."""

    touches = ("hidden", "heads")

    strength: Annotated[float, Ge(0)] = 1e-3
    """Factor on the penalty. The paper sweeps 1e-2 to 1e-5 (on half of it) in supervised learning; this is a choice
    from its middle. In RL: 1e-2 with `norm` plain for PPO (Juliani and Ash 2024); with `norm` mean 1e-3 and, on
    MetaWorld, 1e-2 for PPO (Chung et al. 2024). For SAC none is known here."""

    norm: Literal["squared", "plain", "mean"] = "squared"
    """squared: ||theta - theta_0||^2, the paper's. plain: ||theta - theta_0||, here of each network, in Juliani and Ash
    (2024) of all together. mean: of each tensor the mean of its squares, as in Chung et al. (2024)."""

    heads: bool = True
    """Whether output layers are included, as in the paper. SB3's PPO starts its action head near zero for an undecided
    policy, to which this pulls it back."""

    def includes(self, kind: Kind, layer: Layer) -> bool:
        """Weights and biases; normalisations are left out, as in the paper's code."""
        return kind in ("weight", "bias") and (self.heads or not layer.is_head)

    def origin(self, param: Param) -> Tensor:
        """The parameter's matrix when learning started."""
        return self.remembered("initial", param, lambda matrix: matrix)

    def term(self, kind: Kind, param: Param) -> Tensor:
        """Sum of squares of the way from the start; their mean under `mean`."""
        square = (param.matrix - self.origin(param)).square()
        return square.mean() if self.norm == "mean" else square.sum()

    def penalty(self, network: Network) -> Tensor:
        """R of one network."""
        square = super().penalty(network)
        if self.norm != "plain":
            return square
        # At the start itself the norm has no gradient; zero is as good as any.
        return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)

    def derivatives(self, chosen: Chosen, factor: float) -> tuple[Tensor, list[Tensor]]:
        """The gradient is 2(theta - theta_0), over 2R under `plain`, over the number of elements under `mean`."""
        ways = [param.matrix - self.origin(param) for param in chosen.params]
        squares = chosen.lengths(ways).square()
        if self.norm == "mean":
            squares = squares / chosen.once("sizes", lambda: squares.new_tensor(chosen.sizes))
            pairs = zip(ways, chosen.sizes, strict=True)
            return chosen.by_network(squares), [way.mul_(2 * factor / size) for way, size in pairs]
        penalties = chosen.by_network(squares)
        if self.norm == "squared":
            return penalties, [way.mul_(2 * factor) for way in ways]
        penalties = penalties.sqrt()
        slopes = chosen.by_param(torch.where(penalties > 0, factor / penalties, 0.0))
        return penalties, [way.mul_(spread(slope, way)) for way, slope in zip(ways, slopes.unbind(-1), strict=True)]
