"""How many dimensions a representation uses, by each definition of rank in use, and how large it is."""

from metrics.ranks.approximate import ApproximateRank, approximate_rank
from metrics.ranks.effective import EffectiveRank, effective_rank
from metrics.ranks.feature_norm import FeatureNorm
from metrics.ranks.lyle import FeatureRank, feature_rank
from metrics.ranks.preactivation_norm import PreactivationNorm
from metrics.ranks.singular import singular_values
from metrics.ranks.srank import SRank, srank
from metrics.ranks.stable import StableRank, stable_rank

__all__ = [
    "ApproximateRank",
    "EffectiveRank",
    "FeatureNorm",
    "FeatureRank",
    "PreactivationNorm",
    "SRank",
    "StableRank",
    "approximate_rank",
    "effective_rank",
    "feature_rank",
    "singular_values",
    "srank",
    "stable_rank",
]
