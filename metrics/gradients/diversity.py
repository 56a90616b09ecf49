"""How little samples' gradients add up: gradient diversity.

    diversity = sum_i ||g_i||^2 / ||sum_i g_i||^2

Yin et al., "Gradient Diversity: a Key Ingredient for Scalable Distributed Learning", AISTATS 2018, arXiv 1706.05699. As
defined there, not normalised: of n samples it is 1 / n where all gradients are the same, 1 where they are orthogonal,
and more where they cancel; n times it is the paper's bound on useful batch sizes. Compare at equal numbers of samples.

Its reciprocal over n is the squared norm of the mean gradient over the mean of squared norms, which others give as a
signal-to-noise ratio; that of `metrics.gradients.signal` does not depend on n.
"""

from dataclasses import dataclass
from math import nan

from torch import Tensor

from metrics.base import Measured
from metrics.gradients.samples import TINY, SampleMetric, gram


def gradient_diversity(gradients: Tensor) -> float:
    """Gradient diversity of samples.

    Args:
        gradients: `[samples, parameters]`.

    Returns:
        At least 1 / samples, and at most 4.5e15, which stands for gradients that cancel altogether; NaN where all are
        zero.
    """
    product = gram(gradients)
    squares, together = float(product.trace()), float(product.sum())
    return squares / max(together, TINY * squares) if squares != 0 else nan


@dataclass
class GradientDiversity(SampleMetric):
    """Gradient diversity of single samples, 1 where orthogonal (Yin et al. 2018)."""

    title = "Gradient diversity"
    names = ("grad_diversity",)

    def values(self, gradients: Tensor) -> Measured:
        """The diversity over all of the network's parameters."""
        return {"grad_diversity": gradient_diversity(gradients)}
