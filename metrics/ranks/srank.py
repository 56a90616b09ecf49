"""How many dimensions a representation uses: Kumar's srank.

Kumar, Agarwal, Ghosh and Levine, "Implicit Under-Parameterization Inhibits Data-Efficient Deep Reinforcement Learning",
ICLR 2021, arXiv 2010.14498, section 3:

    srank_delta(Phi) = min { k : sum_{i<=k} sigma_i / sum_i sigma_i >= 1 - delta },   delta = 0.01,

of singular values, not of their squares: with squares it is `approximate_rank`, which is far smaller where the spectrum
has a tail. Several code bases call this one the stable rank (those of "Loss of plasticity in deep continual learning",
Hare and Tortoise, Plasticine); the matrix norm's stable rank is `stable_rank`.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Lt
from torch import Tensor

from metrics.ranks.singular import Rank, dimensions_for


def srank(sigma: Tensor, delta: float = 0.01) -> int:
    """Fewest dimensions that hold 1 - delta of the sum of singular values.

    Args:
        sigma: singular values, largest first, `[min(samples, units)]`.
        delta: what may be left out.

    Returns:
        Between 1 and the number of singular values; 0 where all are 0.
    """
    return dimensions_for(sigma, 1 - delta)


@dataclass
class SRank(Rank):
    """Dimensions that hold 99 % of the singular values' sum (srank, Kumar et al. 2021)."""

    title = "srank of the last hidden layer"
    names = ("srank",)

    delta: Annotated[float, Gt(0), Lt(1)] = 0.01
    """The share of the sum that may be left out (Kumar et al. 2021)."""

    def rank(self, sigma: Tensor, samples: int) -> float:
        """Fewest dimensions with 1 - delta of the sum."""
        return srank(sigma, self.delta)
