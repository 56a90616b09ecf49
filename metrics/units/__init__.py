"""What single units do: which have fallen silent, died, saturated or become linear."""

from metrics.units.dormant import Dormant, dormancy_score, dormant_fraction

__all__ = ["Dormant", "dormancy_score", "dormant_fraction"]
