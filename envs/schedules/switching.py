"""Schedules of tasks within which nothing moves."""

import bisect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt

from configs.settings import SettingError
from envs.changes.base import Change, ScalarChange
from envs.schedules.base import Schedule

First = Literal["original", "drawn"]
MOST_OF_THE_RANGE = 0.4
"""Of the sum of the ranges of all numbers, the most that neighbours can be asked to be apart: from any value, a good
part of all draws is then far enough."""
BLOCK = 256
SWITCHES = 0x5317C4E5
"""Tells the stream of switch times from those of values."""


@dataclass(kw_only=True)
class Constant(Schedule):
    """One task for ever: the environment's own values, or the first of the `values` that a change lists."""

    def at(self, step: int) -> int:
        """Task 0 at every step."""
        return 0

    def begins(self, task: int) -> int:
        """Step 0."""
        return 0

    @property
    def last(self) -> int:
        """Task 0."""
        return 0

    def draws(self, task: int) -> bool:
        """Nothing is drawn."""
        return False


@dataclass(kw_only=True)
class Periodic(Schedule):
    """A new task every `period` environment steps, its values drawn anew or the next ones of a list."""

    period: Annotated[int, Gt(0)]
    """Length of a task in environment steps of the run, over all parallel environments."""
    first: First = "original"
    """Task 0: the environment's own values (original) or drawn like all others (drawn). A change that lists its
    `values` always starts with the first of them."""
    distance: Annotated[float, Gt(0)] | None = None
    """How far the values drawn for a task must at least be from those of the task before: the sum over all numbers of
    all changes (L1), as Chung et al. 2024 have it; none asks for nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.period < self.align:
            raise SettingError(self, "period", f"must be at least align ({self.align}), not {self.period}")

    def at(self, step: int) -> int:
        """Number of whole periods before `step`."""
        return step // self.period

    def begins(self, task: int) -> int:
        """`task` periods."""
        return task * self.period

    def draws(self, task: int) -> bool:
        """All tasks but the first, and the first one too where asked for."""
        return task > 0 or self.first == "drawn"

    def check(self, changes: Mapping[str, Change]) -> None:
        """A least distance needs numbers that are drawn."""
        if self.distance is not None and not measured(changes):
            raise ValueError(f"distance {self.distance:g}: there is no change whose values are numbers and drawn")

    def check_distance(self, changes: Mapping[str, Change]) -> None:
        """Refuse a least distance that could not be kept; changes are bound.

        Raises:
            ValueError: it is too great for the changes' ranges.
        """
        if self.distance is None:
            return
        most = 0.0
        for change in measured(changes).values():
            low, high = change.context_bounds()
            if isinstance(change, ScalarChange) and change.values is None:
                low, high = change.bounds()
            most += MOST_OF_THE_RANGE * (high - low) * len(change.context(change.original))
        if self.distance > most:
            raise ValueError(
                f"distance must be at most {most:.3g} for the ranges of these changes, not {self.distance:g}"
            )


def measured(changes: Mapping[str, Change]) -> dict[str, Change]:
    """The changes whose distance from task to task counts: those whose values are drawn, and are numbers."""
    return {
        label: change
        for label, change in changes.items()
        if (change.drawn if isinstance(change, ScalarChange) else type(change).context is not Change.context)
    }


@dataclass(kw_only=True)
class Geometric(Schedule):
    """Switches come at random and without memory: after the shortest length, each step is as likely to end the task."""

    period: Annotated[int, Gt(0)]
    """Mean length of a task in environment steps of the run, over all parallel environments."""
    shortest: Annotated[int, Gt(0)] = 1
    """Length that every task has at least."""
    first: First = "original"
    """Task 0: the environment's own values (original) or drawn like all others (drawn)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortest > self.period:
            raise SettingError(self, "shortest", f"must be at most the period ({self.period}), not {self.shortest}")
        if self.shortest < self.align:
            raise SettingError(self, "shortest", f"must be at least align ({self.align}), not {self.shortest}")
        self._starts = [0]

    def _grow(self) -> None:
        """Draw the lengths of another block of tasks, with a generator of the block's own."""
        block = (len(self._starts) - 1) // BLOCK
        rng = np.random.default_rng([*self.stream, SWITCHES, block])
        lengths = self.shortest - 1 + rng.geometric(1 / (self.period - self.shortest + 1), BLOCK)
        self._starts += (self._starts[-1] + np.cumsum(lengths)).tolist()

    def at(self, step: int) -> int:
        """Number of switches up to `step`."""
        while self._starts[-1] <= step:
            self._grow()
        return bisect.bisect_right(self._starts, step) - 1

    def begins(self, task: int) -> int:
        """Sum of the lengths of the tasks before."""
        while len(self._starts) <= task:
            self._grow()
        return self._starts[task]

    def draws(self, task: int) -> bool:
        """All tasks but the first, and the first one too where asked for."""
        return task > 0 or self.first == "drawn"


@dataclass(kw_only=True)
class Sequence(Schedule):
    """Tasks of the lengths that are listed; changes list as many `values`, or draw."""

    lengths: tuple[Annotated[int, Gt(0)], ...]
    """Length of each task in environment steps of the run, over all parallel environments."""
    then: Literal["repeat", "hold"] = "repeat"
    """After the last length: begin again with the first (repeat), or stay in the last task for ever (hold)."""
    first: First = "original"
    """Task 0: the environment's own values (original) or drawn like all others (drawn)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lengths = tuple(self.lengths)
        if not self.lengths:
            raise SettingError(self, "lengths", "must list at least one length")
        if min(self.lengths) < self.align:
            raise SettingError(self, "lengths", f"must be at least align ({self.align}), not {min(self.lengths)}")
        self._starts = [0, *itertools.accumulate(self.lengths)]

    @property
    def last(self) -> int | None:
        """The last one that is listed, where it is held."""
        return len(self.lengths) - 1 if self.then == "hold" else None

    def at(self, step: int) -> int:
        """By the sums of the lengths."""
        rounds, rest = divmod(step, self._starts[-1])
        if self.then == "hold" and rounds:
            return len(self.lengths) - 1
        return rounds * len(self.lengths) + bisect.bisect_right(self._starts, rest) - 1

    def begins(self, task: int) -> int:
        """Sum of the lengths of the tasks before."""
        rounds, rest = divmod(task, len(self.lengths))
        return rounds * self._starts[-1] + self._starts[rest]

    def draws(self, task: int) -> bool:
        """All tasks but the first, and the first one too where asked for."""
        return task > 0 or self.first == "drawn"

    def check(self, changes: Mapping[str, Change]) -> None:
        """Lists of values must be as long as the list of lengths."""
        for label, change in changes.items():
            values: Any = getattr(change, "values", None)
            if values is not None and getattr(change, "drawn", True) is False and len(values) != len(self.lengths):
                raise ValueError(
                    f"{label} lists {len(values)} values for the {len(self.lengths)} lengths of the sequence; "
                    "list one for each"
                )
