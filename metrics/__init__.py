"""What is measured: one diagnostic a file, in rooms by what it looks at; to add one, add its file and its line here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metrics.base import Loss, Measured, Metric, Policy, StepView, View
from metrics.gradients import GradientNorm
from metrics.policy import Churn, Divergence, Entropy, ExplainedVariance, LogitGap, PolicyVariance, TrustRegion
from metrics.ranks import EffectiveRank
from metrics.units import Dormant
from metrics.weights import WeightNorm

METRICS: dict[str, type[Metric]] = {
    "dormant": Dormant,
    "effective_rank": EffectiveRank,
    "weight_norm": WeightNorm,
    "grad_norm": GradientNorm,
    "entropy": Entropy,
    "logit_gap": LogitGap,
    "policy_variance": PolicyVariance,
    "churn": Churn,
    "trust_region": TrustRegion,
    "kl": Divergence,
    "explained_var": ExplainedVariance,
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
