"""What gradients look like: their size and sparsity, the units without any, how far samples agree."""

from metrics.gradients.norm import GradientNorm, gradient_norm

__all__ = ["GradientNorm", "gradient_norm"]
