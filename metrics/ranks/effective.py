"""How many dimensions a representation uses: the effective rank.

Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007: the exponential of the
entropy of the normalised singular values,

    erank(Phi) = exp(- sum_i p_i log p_i),   p_i = sigma_i / sum_k sigma_k.

Other works report the entropy itself, or use squared singular values (RankMe variants); this is the definition above.
It has no threshold and moves with every singular value; a long tail of small ones weighs more in it than in
`approximate_rank` and `stable_rank`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.ranks.singular import Rank


def effective_rank(sigma: Tensor) -> float:
    """Effective rank of a matrix with these singular values: 1 to their number, 0 where all are 0."""
    total = sigma.sum()
    return float(torch.special.entr(sigma / total).sum().exp()) if bool(total > 0) else 0.0


@dataclass
class EffectiveRank(Rank):
    """Effective rank of the features that the heads read (Roy and Vetterli 2007)."""

    title = "Effective rank of the last hidden layer"
    names = ("effective_rank",)
    default = True

    def rank(self, sigma: Tensor, samples: int) -> float:
        """The exponential of the entropy of the singular values."""
        return effective_rank(sigma)
