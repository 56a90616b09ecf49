"""Resets: whatever overwrites weights. One file a method; to add one, add its file and its line here."""

from agents.interventions import Moment, ResetEvent
from resets.base import Reset, TimedReset
from resets.full import Full
from resets.redo import ReDo
from resets.shrink_perturb import ShrinkPerturb

RESETS: dict[str, type[Reset]] = {"redo": ReDo, "shrink_perturb": ShrinkPerturb, "full": Full}

__all__ = ["RESETS", "Full", "Moment", "ReDo", "Reset", "ResetEvent", "ShrinkPerturb", "TimedReset"]
