"""In how many directions samples pull: the effective rank of their gradients.

    erank(G) = exp(- sum_i p_i log p_i),   p_i = sigma_i / sum_k sigma_k

with sigma the singular values of G `[samples, parameters]`, one gradient of a sample's loss a row, not centred: the
definition of Roy and Vetterli (EUSIPCO 2007) that `metrics.ranks.effective` uses of features. The sigma are square
roots of the eigenvalues of K = G G', so that no decomposition of G itself is needed; those below the noise floor of
`metrics.ranks.singular` are rounding and count as zero.

Where all samples' gradients are multiples of one another, the rank is 1 and the network can change its function in one
way only. Lewandowski et al., "Learning Continually by Spectral Regularization", ICLR 2025, arXiv 2406.06811, connect
the diversity of gradients with the spectral norm of weights; which measure is behind their figures could not be
established. The rank cannot exceed the number of samples: compare at equal numbers. It weighs samples by the length of
their gradients, unlike cosines: a few large ones make it small.
"""

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from metrics.base import Measured
from metrics.gradients.samples import SampleMetric, gram
from metrics.ranks.effective import effective_rank
from metrics.ranks.singular import FLOOR


def gradient_rank(gradients: Tensor) -> float:
    """Effective rank of samples' gradients.

    Args:
        gradients: `[samples, parameters]`.

    Returns:
        Between 1 and the number of samples; 0 where all gradients are zero; NaN where one is not finite.
    """
    product = gram(gradients)
    if not bool(product.isfinite().all()):
        return nan
    squares = torch.linalg.eigvalsh(product)
    return effective_rank(squares.where(squares > FLOOR**2 * squares[-1], 0.0).sqrt())


@dataclass
class GradientRank(SampleMetric):
    """Effective rank of the gradients of single samples (Roy and Vetterli 2007)."""

    title = "Effective rank of samples' gradients"
    names = ("grad_rank",)

    def values(self, gradients: Tensor) -> Measured:
        """The rank over all of the network's parameters."""
        return {"grad_rank": gradient_rank(gradients)}
