"""When things change: schedules, pure functions of (seed, environment step).

A schedule cuts a run into tasks, numbered 0, 1, 2 ...: between two switches the environment's parameters belong to
one task. The clock is the run's number of environment steps, over all parallel environments, not the episode's.
Nothing here keeps a state, so every question can be asked in any order, in any process and after any resume, and has
the same answer. What the values of a task are is the business of `Tasks` (`envs/tasks.py`), which joins a schedule
with the changes it drives.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from configs.settings import Settings

Boundary = Literal["immediate", "next_reset", "truncate"]
Signal = Literal["hidden", "info", "context"]


@dataclass(kw_only=True)
class Schedule(Settings):
    """Base of all schedules: how a switch is applied, and whose random numbers it uses."""

    boundary: Boundary = "truncate"
    """When an environment applies a switch: at once in mid-episode (immediate), when its episode has ended by itself
    (next_reset), or by ending its episode there, as a truncation, and starting one of the new task (truncate)."""
    seed: Annotated[int, Ge(0)] | None = None
    """Seed of the values drawn; none takes the run's seed."""
    signal: Signal = "hidden"
    """What an agent is told of the values: nothing (hidden), `info["context"]` at every step (info), or numbers behind its
    observations (context)."""

    gradual: ClassVar[bool] = False
    """Whether values move between one task's and the next one's instead of jumping."""

    def task(self, step: int) -> int:
        """Number of the task at environment step `step` (0, 1, 2 ...)."""
        raise NotImplementedError

    def start(self, task: int) -> int:
        """First environment step of task number `task`."""
        raise NotImplementedError

    def next_switch(self, step: int) -> int | None:
        """The first step after `step` at which a new task begins; None where there is none."""
        raise NotImplementedError

    def mix(self, step: int) -> float:
        """Share, in [0, 1), of the way from this task's values to the next one's; 0 while values do not move."""
        return 0.0

    def blend(self, before: float, after: float, share: float) -> float:
        """The number `share` of the way from `before` to `after`."""
        return before + share * (after - before)

    def draws(self, task: int) -> bool:
        """Whether task number `task` has drawn values; the environment's own ones otherwise."""
        raise NotImplementedError

    def n_tasks(self, steps: int) -> int:
        """How many tasks a run of `steps` environment steps meets."""
        return self.task(steps - 1) + 1 if steps > 0 else 0


@dataclass(kw_only=True)
class Constant(Schedule):
    """One task for ever: the environment's own values, or the first of the `values` that a change lists."""

    def task(self, step: int) -> int:
        """Task 0 at every step."""
        return 0

    def start(self, task: int) -> int:
        """Step 0; there is no task but 0."""
        if task != 0:
            raise ValueError(f"a constant schedule has task 0 only, not task {task}")
        return 0

    def next_switch(self, step: int) -> int | None:
        """None: nothing ever switches."""
        return None

    def draws(self, task: int) -> bool:
        """Nothing is drawn."""
        return False


@dataclass(kw_only=True)
class Periodic(Schedule):
    """A new task every `period` environment steps, its values drawn anew."""

    period: Annotated[int, Gt(0)]
    """Length of a task in environment steps of the run, over all parallel environments."""
    first: Literal["original", "drawn"] = "original"
    """Task 0: the environment's own values (original) or drawn like all others (drawn). A change that lists its
    `values` always starts with the first of them."""

    def task(self, step: int) -> int:
        """Number of whole periods before `step`."""
        return step // self.period

    def start(self, task: int) -> int:
        """`task` periods."""
        return task * self.period

    def next_switch(self, step: int) -> int | None:
        """The next multiple of the period."""
        return (step // self.period + 1) * self.period

    def draws(self, task: int) -> bool:
        """All tasks but the first, and the first one too where asked for."""
        return task > 0 or self.first == "drawn"


@dataclass(kw_only=True)
class Drift(Periodic):
    """Values that move all the time: from task k's at its first step to task k+1's at that one's first step.

    Only changes whose value is a number can drift.
    """

    curve: Literal["linear", "exponential", "sigmoid"] = "linear"
    """How values move within a period: at equal speed (linear), at equal speed of their logarithm, so that ratios
    count (exponential, positive values only), or slowly at both ends (sigmoid)."""

    gradual: ClassVar[bool] = True

    def mix(self, step: int) -> float:
        """Share of the period that has passed, bent by the sigmoid where that is the curve."""
        share = (step % self.period) / self.period
        return _sigmoid(share) if self.curve == "sigmoid" else share

    def blend(self, before: float, after: float, share: float) -> float:
        """Interpolation of the numbers, or of their logarithms for the exponential curve (both positive then)."""
        if self.curve == "exponential":
            return before * math.pow(after / before, share)
        return super().blend(before, after, share)


def _sigmoid(share: float, steepness: float = 10.0) -> float:
    """The logistic curve over [0, 1], stretched so that it is exactly 0 at 0 and 1 at 1."""
    low, high = _logistic(-steepness / 2), _logistic(steepness / 2)
    return (_logistic(steepness * (share - 0.5)) - low) / (high - low)


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


SCHEDULES: dict[str, type[Schedule]] = {"constant": Constant, "periodic": Periodic, "drift": Drift}
