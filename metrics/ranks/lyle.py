"""How many dimensions a representation uses: Lyle's feature rank.

Lyle, Rowland and Dabney, "Understanding and Preventing Capacity Loss in Reinforcement Learning", ICLR 2022, arXiv
2204.09560, equations 4 and 5:

    rank_epsilon(Phi) = #{ i : sigma_i(Phi / sqrt(n)) > epsilon },   epsilon = 0.01,

with n the number of samples. The threshold is absolute: it counts dimensions of a certain size, so that the rank of
features that shrink as a whole falls, and grows with their norm, which no other rank here does. Without the division by
sqrt(n), as a public reimplementation reports of the authors' plots, it would depend on the number of samples as well.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from metrics.ranks.singular import Rank


def feature_rank(sigma: Tensor, samples: int, epsilon: float = 0.01) -> int:
    """How many singular values of Phi / sqrt(n) are above epsilon.

    Args:
        sigma: singular values of Phi, `[min(samples, units)]`.
        samples: n.
        epsilon: the threshold, in units of the features.

    Returns:
        Between 0 and the number of singular values.
    """
    return int((sigma > epsilon * math.sqrt(samples)).sum())


@dataclass
class FeatureRank(Rank):
    """Number of the features' singular values above 0.01 per root of a sample (Lyle et al. 2022)."""

    title = "Feature rank of the last hidden layer"
    names = ("feature_rank",)

    epsilon: Annotated[float, Gt(0)] = 0.01
    """What a singular value of Phi / sqrt(n) has to exceed (Lyle et al. 2022)."""

    def rank(self, sigma: Tensor, samples: int) -> float:
        """The number of singular values above the threshold."""
        return feature_rank(sigma, samples, self.epsilon)
