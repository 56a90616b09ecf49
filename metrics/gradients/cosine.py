"""Whether samples pull the same way: cosines between their gradients.

    C_ij = <g_i, g_j> / (||g_i|| ||g_j||)

Lyle et al., "Understanding and Preventing Capacity Loss in Reinforcement Learning", ICLR 2022, arXiv 2204.09560, and
"Understanding Plasticity in Neural Networks", ICML 2023, arXiv 2303.01486, look at this matrix (they call it gradient
covariance) as a picture: blocks are samples that generalise to each other; where all entries are near 1, or near plus
and minus 1, what is learnt of one sample overwrites all others. Two numbers of it: the mean over pairs of different
samples, and the share of pairs in conflict, C_ij < 0, as Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS
2020, arXiv 2001.06782, call gradients of two tasks. A matrix of plus and minus 1 in equal parts has a mean near 0 as
orthogonal gradients have: the rank tells them apart.

A sample without gradient, such as one that PPO clips, has no direction: pairs with it are left out, and the share of
such samples is a value of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.base import Measured
from metrics.gradients.samples import SampleMetric, gram


def cosine_matrix(gradients: Tensor) -> Tensor:
    """Cosines between all pairs of samples' gradients.

    Args:
        gradients: `[samples, parameters]`.

    Returns:
        `[samples, samples]`, symmetric, between -1 and 1; rows and columns of samples without gradient are zero.
    """
    product = gram(gradients)
    length = product.diagonal().sqrt()
    scale = 1 / length.where(length != 0, torch.inf)
    return (product * (scale * scale.unsqueeze(-1))).clamp(-1, 1)


def agreement(gradients: Tensor) -> tuple[float, float, float]:
    """Mean cosine of pairs, share of pairs in conflict, share of samples without gradient.

    Args:
        gradients: `[samples, parameters]`.

    Returns:
        In [-1 / (samples - 1), 1], [0, 1] and [0, 1]; the first two NaN where fewer than two samples have a gradient.
    """
    cosines = cosine_matrix(gradients)
    count = (gram(gradients).diagonal() != 0).sum()
    pairs = count * (count - 1)
    between = cosines - cosines.diagonal().diag()
    mean = between.sum() / pairs
    conflict = ((between < 0).sum() / pairs).where(mean.isfinite(), torch.nan)
    values = torch.stack([mean, conflict, 1 - count / len(gradients)]).tolist()
    return values[0], values[1], values[2]


@dataclass
class GradientCosine(SampleMetric):
    """Mean cosine between samples' gradients, and the share of pairs in conflict (Lyle et al. 2022)."""

    title = "Cosine between samples' gradients"
    names = ("grad_cosine", "grad_conflict", "grad_zero")

    def values(self, gradients: Tensor) -> Measured:
        """Mean, conflicts and samples without gradient."""
        return dict(zip(self.names, agreement(gradients), strict=True))
