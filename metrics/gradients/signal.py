"""How far samples agree on where to go: the signal-to-noise ratio of their gradients.

    snr = |G|^2 / tr(Sigma)

with G the mean gradient of the distribution that samples are drawn from and Sigma the covariance of theirs. It is one
over the simple gradient noise scale of McCandlish et al., "An Empirical Model of Large-Batch Training", 2018, arXiv
1812.06162: a batch of 1 / snr samples has as much signal as noise. From n samples both are estimated without bias,

    |G|^2 = mean over i != j of <g_i, g_j>,      tr(Sigma) = mean_i ||g_i||^2 - |G|^2.

The ratio of the squared norm of the mean to the mean of squared norms, used as well, is 1 / n for pure noise and so
tells of the number of samples where there is little signal; this one is about 0 there, and may be below. It is one
number of the whole network, unlike the ratio of each parameter that is called GSNR (Liu et al., ICLR 2020, arXiv
2001.07384). Samples of one rollout follow one another, and are less independent than the formula has it.
"""

from dataclasses import dataclass
from math import nan

from torch import Tensor

from metrics.base import Measured
from metrics.gradients.samples import TINY, SampleMetric, gram


def signal_to_noise(gradients: Tensor) -> float:
    """Squared norm of the mean gradient over the trace of the samples' covariance, each estimated without bias.

    Args:
        gradients: `[samples, parameters]`.

    Returns:
        At least -1 / samples, and at most 4.5e15, which stands for gradients that are all the same; NaN where all are
        zero, or of a single sample.
    """
    product, count = gram(gradients), len(gradients)
    squares, together = float(product.trace()), float(product.sum())
    if count < 2 or squares == 0:
        return nan
    signal = (together - squares) / (count * (count - 1))
    return signal / max(squares / count - signal, TINY * squares / count)


@dataclass
class GradientSignal(SampleMetric):
    """Signal-to-noise ratio of the gradient of one sample, unbiased (after McCandlish et al. 2018)."""

    title = "Signal-to-noise ratio of a sample's gradient"
    names = ("grad_snr",)

    def values(self, gradients: Tensor) -> Measured:
        """The ratio over all of the network's parameters."""
        return {"grad_snr": signal_to_noise(gradients)}
