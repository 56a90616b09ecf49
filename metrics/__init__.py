"""What is measured: one diagnostic a file, in rooms by what it looks at; to add one, add its file and its line here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metrics.base import Loss, Measured, Metric, Policy, StepView, View
from metrics.curvature import Hessian
from metrics.gradients import (
    DormantGradients,
    GradientCosine,
    GradientDiversity,
    GradientNorm,
    GradientRank,
    GradientSignal,
    GradientSparsity,
)
from metrics.policy import Churn, Divergence, Entropy, ExplainedVariance, LogitGap, PolicyVariance, TrustRegion
from metrics.ranks import (
    ApproximateRank,
    EffectiveRank,
    FeatureNorm,
    FeatureRank,
    PreactivationNorm,
    SRank,
    StableRank,
)
from metrics.trainability import TrainabilityProbe
from metrics.units import Active, Dead, Dormant, Linearised, Saturated
from metrics.weights import (
    Condition,
    InitDistance,
    LargestSingularValue,
    RowSimilarity,
    SmallestSingularValue,
    WeightNorm,
)

METRICS: dict[str, type[Metric]] = {
    "dormant": Dormant,
    "dead": Dead,
    "saturated": Saturated,
    "linearised": Linearised,
    "active": Active,
    "effective_rank": EffectiveRank,
    "srank": SRank,
    "approximate_rank": ApproximateRank,
    "stable_rank": StableRank,
    "feature_rank": FeatureRank,
    "feature_norm": FeatureNorm,
    "preact_norm": PreactivationNorm,
    "weight_norm": WeightNorm,
    "init_distance": InitDistance,
    "spectral_norm": LargestSingularValue,
    "smallest_sv": SmallestSingularValue,
    "condition": Condition,
    "row_similarity": RowSimilarity,
    "grad_norm": GradientNorm,
    "grad_sparsity": GradientSparsity,
    "dormant_grad": DormantGradients,
    "grad_rank": GradientRank,
    "grad_diversity": GradientDiversity,
    "grad_cosine": GradientCosine,
    "grad_snr": GradientSignal,
    "hessian": Hessian,
    "entropy": Entropy,
    "policy_variance": PolicyVariance,
    "logit_gap": LogitGap,
    "churn": Churn,
    "trust_region": TrustRegion,
    "kl": Divergence,
    "explained_var": ExplainedVariance,
    "trainability": TrainabilityProbe,
}

DEFAULT = tuple(name for name, metric in METRICS.items() if metric.default)
"""The names of the default set."""


def __getattr__(name: str) -> Any:
    """`diagnose` and `Diagnosis` look at SB3 models, whose readers build on this package: found when asked for."""
    if name in ("Diagnosis", "diagnose"):
        return getattr(import_module("metrics.diagnosis"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    from metrics.diagnosis import Diagnosis, diagnose

__all__ = ["DEFAULT", "METRICS", "Diagnosis", "Loss", "Measured", "Metric", "Policy", "StepView", "View", "diagnose"]
