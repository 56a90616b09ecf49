"""What single units do: which have fallen silent, died, saturated or become linear."""

from metrics.units.active import Active, active_fraction
from metrics.units.dead import Dead, constant_units, silent_units
from metrics.units.dormant import Dormant, dormancy_score
from metrics.units.linearised import Linearised, linearized_units
from metrics.units.saturated import Saturated, saturation

__all__ = [
    "Active",
    "Dead",
    "Dormant",
    "Linearised",
    "Saturated",
    "active_fraction",
    "constant_units",
    "dormancy_score",
    "linearized_units",
    "saturation",
    "silent_units",
]
