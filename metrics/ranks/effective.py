"""How many dimensions a representation uses: the effective rank.

Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007: the exponential of the
entropy of the normalised singular values,

    erank(F) = exp(- sum_i p_i log p_i),   p_i = sigma_i / sum_k sigma_k.

Other works report the entropy itself, or use squared singular values; this is the definition above.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, View


def effective_rank(features: Tensor) -> float:
    """Effective rank of a feature matrix.

    Args:
        features: activations `[samples, units]`; not centred. Use at least as many samples as units: the rank cannot
            exceed the smaller of the two.

    Returns:
        Between 1 and `min(samples, units)`; 0 where all features are zero.
    """
    sigma = torch.linalg.svdvals(features.double())
    if not bool(sigma.sum() > 0):
        return 0.0
    share = sigma / sigma.sum()
    return float(torch.special.entr(share).sum().exp())


@dataclass
class EffectiveRank(Metric):
    """Effective rank of the features that the heads read (Roy and Vetterli 2007)."""

    title = "Effective rank of the last hidden layer"
    family = "ranks"
    reads = "batch"
    names = ("effective_rank",)
    default = True

    def measure(self, network: Network, view: View) -> Measured:
        """The rank of the last hidden layer's outputs."""
        features = view.features(network)
        return {} if features is None else {"effective_rank": effective_rank(features)}
