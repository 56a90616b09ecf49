"""When things change: schedules, pure functions of (seed, environment step), all of them registered here.

What the values of a task are is the business of `envs.tasks`, which joins a schedule with the changes that it drives.
"""

from envs.schedules.base import Boundary, Schedule, Signal, Timing
from envs.schedules.composition import Stages, Together
from envs.schedules.moving import Drift, OrnsteinUhlenbeck, Path, RandomWalk, Sinusoid
from envs.schedules.switching import Constant, Geometric, Periodic, Sequence
from envs.schedules.table import Table

__all__ = [
    "COMPOSITIONS",
    "SCHEDULES",
    "STEP_SETTINGS",
    "Boundary",
    "Constant",
    "Drift",
    "Geometric",
    "OrnsteinUhlenbeck",
    "Path",
    "Periodic",
    "RandomWalk",
    "Schedule",
    "Sequence",
    "Signal",
    "Sinusoid",
    "Stages",
    "Table",
    "Timing",
    "Together",
]

SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "periodic": Periodic,
    "geometric": Geometric,
    "sequence": Sequence,
    "table": Table,
    "drift": Drift,
    "random_walk": RandomWalk,
    "ornstein_uhlenbeck": OrnsteinUhlenbeck,
    "sinusoid": Sinusoid,
}
COMPOSITIONS: dict[str, type[Together] | type[Stages]] = {"together": Together, "stages": Stages}
STEP_SETTINGS = ("period", "shortest", "lengths", "every", "memory", "horizon", "warmup")
"""Settings of schedules, and of normalisation, that count environment steps: what `scale` shrinks."""
