"""What gradients look like: their size and sparsity, the units without any, how far samples agree."""

from metrics.gradients.cosine import GradientCosine, agreement, cosine_matrix
from metrics.gradients.diversity import GradientDiversity, gradient_diversity
from metrics.gradients.dormant import DormantGradients, gradient_dormant, gradient_strength
from metrics.gradients.norm import GradientNorm, gradient_norm
from metrics.gradients.rank import GradientRank, gradient_rank
from metrics.gradients.samples import gram
from metrics.gradients.signal import GradientSignal, signal_to_noise
from metrics.gradients.sparsity import GradientSparsity, sparsity

__all__ = [
    "DormantGradients",
    "GradientCosine",
    "GradientDiversity",
    "GradientNorm",
    "GradientRank",
    "GradientSignal",
    "GradientSparsity",
    "agreement",
    "cosine_matrix",
    "gradient_diversity",
    "gradient_dormant",
    "gradient_norm",
    "gradient_rank",
    "gradient_strength",
    "gram",
    "signal_to_noise",
    "sparsity",
]
