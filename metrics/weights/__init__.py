"""The weights themselves: their size, their way from the start, their singular values, duplicates among them."""

from metrics.weights.distance import InitDistance, distances
from metrics.weights.norm import WeightNorm, norms
from metrics.weights.similarity import RowSimilarity, row_similarity
from metrics.weights.singular import (
    Condition,
    LargestSingularValue,
    SmallestSingularValue,
    condition,
    extremes,
    spectra,
)

__all__ = [
    "Condition",
    "InitDistance",
    "LargestSingularValue",
    "RowSimilarity",
    "SmallestSingularValue",
    "WeightNorm",
    "condition",
    "distances",
    "extremes",
    "norms",
    "row_similarity",
    "spectra",
]
