"""What is measured: one diagnostic a file, in rooms by what it looks at; to add one, add its file and its line here."""

from metrics.base import Loss, Measured, Metric, Policy, StepView, View
from metrics.gradients import GradientNorm
from metrics.ranks import EffectiveRank
from metrics.units import Dormant
from metrics.weights import WeightNorm

METRICS: dict[str, type[Metric]] = {
    "dormant": Dormant,
    "effective_rank": EffectiveRank,
    "weight_norm": WeightNorm,
    "grad_norm": GradientNorm,
}

DEFAULT = tuple(name for name, metric in METRICS.items() if metric.default)
"""The names of the default set."""

__all__ = ["DEFAULT", "METRICS", "Loss", "Measured", "Metric", "Policy", "StepView", "View"]
