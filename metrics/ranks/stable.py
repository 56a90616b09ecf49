"""How many dimensions a representation uses: the stable rank.

    stable(Phi) = |Phi|_F^2 / |Phi|_2^2 = sum_i sigma_i^2 / sigma_1^2

The definition of numerical linear algebra (Rudelson and Vershynin, "Sampling from large matrices", Journal of the ACM
2007, arXiv math/0503442), a lower bound of the rank that small perturbations move little. Works on plasticity often
give the name to Kumar's `srank`, another thing. The largest singular value alone sets the scale: features with a
large mean have a stable rank near 1 whatever else they hold.
"""

from dataclasses import dataclass

from torch import Tensor

from metrics.ranks.singular import Rank


def stable_rank(sigma: Tensor) -> float:
    """Sum of squared singular values over the largest of them.

    Args:
        sigma: singular values, largest first, `[min(samples, units)]`.

    Returns:
        Between 1 and the number of singular values; 0 where all are 0.
    """
    return float((sigma / sigma[0]).square().sum()) if bool(sigma[0] > 0) else 0.0


@dataclass
class StableRank(Rank):
    """Squared Frobenius norm of the features over their squared spectral norm (Rudelson and Vershynin 2007)."""

    title = "Stable rank of the last hidden layer"
    names = ("stable_rank",)

    def rank(self, sigma: Tensor, samples: int) -> float:
        """The ratio of the norms."""
        return stable_rank(sigma)
