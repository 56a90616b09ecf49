"""The weights themselves: their size, their way from the initialisation, their singular values, duplicates among them."""

from metrics.weights.norm import WeightNorm, weight_norm

__all__ = ["WeightNorm", "weight_norm"]
