"""How many dimensions a representation uses: the approximate rank.

    min { k : sum_{i<=k} sigma_i^2 / sum_i sigma_i^2 >= 1 - delta },   delta = 0.01

How many principal components explain 99 % of the (uncentred) variance. Yang, Zhang, Xu and Katabi, "Harnessing
Structures for Value-Based Planning and Reinforcement Learning", ICLR 2020, arXiv 1909.12255, ask it of matrices of
values; Moalla et al., "No Representation, No Trust", NeurIPS 2024, arXiv 2405.00662, whose main rank it is, of
features. `srank` is the same of sigma itself.

Features of tanh or ReLU have a mean that alone may be most of the sum of squares, so that small numbers are usual in a
healthy network too.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Lt
from torch import Tensor

from metrics.ranks.singular import Rank, dimensions_for


def approximate_rank(sigma: Tensor, delta: float = 0.01) -> int:
    """Fewest dimensions that hold 1 - delta of the sum of squared singular values.

    Args:
        sigma: singular values, largest first, `[min(samples, units)]`.
        delta: what may be left out.

    Returns:
        Between 1 and the number of singular values; 0 where all are 0.
    """
    return dimensions_for(sigma.square(), 1 - delta)


@dataclass
class ApproximateRank(Rank):
    """Principal components that hold 99 % of the features' squares (approximate rank, Moalla et al. 2024)."""

    title = "Approximate rank of the last hidden layer"
    names = ("approximate_rank",)

    delta: Annotated[float, Gt(0), Lt(1)] = 0.01
    """The share of the squares that may be left out (Yang et al. 2020, Moalla et al. 2024)."""

    def rank(self, sigma: Tensor, samples: int) -> float:
        """Fewest dimensions with 1 - delta of the squares."""
        return approximate_rank(sigma, self.delta)
