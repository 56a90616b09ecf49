"""Schedules whose values move all the time: only changes between two of whose values there are others can follow them.

Such are numbers and, for a drift, lists of numbers (offsets and gains of sensors), each of which goes its own way.

They have tasks too, of `period` steps each, so that returns and resets can be told apart by task; but nothing jumps
where one begins.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from envs.changes.base import Change, ScalarChange
from envs.schedules.base import Schedule
from envs.schedules.switching import Periodic

BLOCK = 4096
PATH = 0x9A7B0


@dataclass(kw_only=True)
class Drift(Periodic):
    """Values that move all the time: from task k's at its first step to task k+1's at that one's first step."""

    curve: Literal["linear", "exponential", "sigmoid"] = "linear"
    """How values move within a period: at equal speed (linear), at equal speed of their logarithm, so that ratios
    count (exponential, positive values only), or slowly at both ends (sigmoid)."""

    gradual: ClassVar[bool] = True

    def mix(self, step: int) -> float:
        """Share of the task that has passed, bent by the sigmoid where that is the curve."""
        start = self.start(self.task(step))
        share = (step - start) / (self.start(self.task(step) + 1) - start)
        return _sigmoid(share) if self.curve == "sigmoid" else share

    def blend(self, before: float, after: float, share: float) -> float:
        """The number `share` of the way from `before` to `after`; between the logarithms for the exponential curve."""
        if self.curve == "exponential":
            return before * math.pow(after / before, share)
        return before + share * (after - before)

    def check(self, changes: Mapping[str, Change]) -> None:
        """Only numbers and lists of them can drift."""
        for label, change in changes.items():
            if not change.drifts:
                raise ValueError(f"{label} cannot drift, because its values are not numbers: use a periodic schedule")
        super().check(changes)

    def check_bound(self, label: str, change: Change) -> None:
        """Refuse a drift through values between which the curve does not exist."""
        lowest = change.lowest()
        if not self.draws(0) and change.listed(0) is None:
            if change.original is None:
                raise ValueError(
                    f"{label} cannot drift away from the environment's own values, which are not one number: "
                    "set first to drawn"
                )
            lowest = min(lowest, np.min(change.original))
        if self.curve == "exponential" and lowest <= 0:
            raise ValueError(f"{label} cannot drift exponentially through {lowest:g}: all its values must be above 0")


@dataclass(kw_only=True)
class Path(Schedule):
    """Base of the schedules that move each number along a path between its low (place 0) and high (place 1).

    The way from low to high is even in the number, or in its logarithm where the change's draw is log_uniform. Every
    label has a path of its own.
    """

    period: Annotated[int, Gt(0)]
    """Length of a task in environment steps of the run; the path does not know of tasks."""
    first: Literal["original", "drawn"] = "original"
    """Where the path begins: at the environment's own value (original), or anywhere (drawn)."""

    gradual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._homes: dict[str, float] = {}
        self._latest: dict[str, tuple[int, float]] = {}

    def at(self, step: int) -> int:
        """Number of whole periods before `step`."""
        return step // self.period

    def begins(self, task: int) -> int:
        """`task` periods."""
        return task * self.period

    def place(self, step: int, label: str, home: float) -> float:
        """Where the path of a label is at environment step `step`, between 0 and 1.

        Args:
            step: the step.
            label: the change's label.
            home: where the path begins.
        """
        raise NotImplementedError

    def value(self, step: int, label: str, change: ScalarChange) -> float:
        """The number of a bound change at environment step `step`."""
        move = self.move(step)
        latest = self._latest.get(label)
        if latest is not None and latest[0] == move:
            return latest[1]
        home = self._homes.get(label)
        if home is None:
            home = change.place(change.original) if self.first == "original" and change.original is not None else None
            home = self.draw_home(self.entropy(label)) if home is None else home
            self._homes[label] = home
        value = change.at(self.place(step, label, home))
        self._latest[label] = (move, value)
        return value

    def move(self, step: int) -> int:
        """Number of the move that has brought the path where it is: between two moves it stays."""
        return step

    def entropy(self, label: str) -> list[int]:
        """What seeds the path of a label."""
        return [*self.stream, zlib.crc32(label.encode()), PATH]

    def draw_home(self, entropy: list[int]) -> float:
        """Where a path begins that may begin anywhere."""
        return float(np.random.default_rng([*entropy, 1]).uniform())

    def check(self, changes: Mapping[str, Change]) -> None:
        """Only numbers within bounds can follow a path."""
        for label, change in changes.items():
            if not isinstance(change, ScalarChange):
                raise ValueError(
                    f"{label} cannot follow a path, because its values are not numbers: use a periodic schedule"
                )
        for label, change in changes.items():
            if isinstance(change, ScalarChange) and change.values is not None:
                raise ValueError(f"{label} follows a path from low to high; leave its values out")

    def check_bound(self, label: str, change: Change) -> None:
        """The bounds must be known; a path from the original needs one that is one number."""
        assert isinstance(change, ScalarChange)
        self._homes, self._latest = {}, {}
        low, high = change.bounds()
        if self.first == "drawn":
            return
        if change.original is None:
            raise ValueError(
                f"{label} cannot start at the environment's own values, which are not one number: set first to drawn"
            )
        if not low <= change.original <= high:
            raise ValueError(
                f"{label} cannot start at the environment's own value {change.original:g}, which is not within low "
                f"({low:g}) and high ({high:g}): set first to drawn, or other bounds"
            )


@dataclass(kw_only=True)
class RandomWalk(Path):
    """Each number takes random steps and is reflected at low and high."""

    deviation: Annotated[float, Ge(0)] = 0.5
    """Standard deviation of the way of one period, as a share of the way from low to high."""
    every: Annotated[int, Gt(0)] = 100
    """Environment steps of the run between two steps of the walk."""

    def move(self, step: int) -> int:
        """Whole numbers of `every` steps."""
        return step // self.every

    def place(self, step: int, label: str, home: float) -> float:
        """The sum of all steps so far, folded into the range: a reflected random walk."""
        size = self.deviation * math.sqrt(self.every / self.period)
        return _fold(home + size * self._sums(label, 1.0).at(self.move(step))) if size else home

    def __post_init__(self) -> None:
        super().__post_init__()
        self._found: dict[str, Sums] = {}

    def _sums(self, label: str, keep: float) -> "Sums":
        if label not in self._found or self._found[label].entropy != self.entropy(label):
            self._found[label] = Sums(self.entropy(label), keep)
        return self._found[label]


@dataclass(kw_only=True)
class OrnsteinUhlenbeck(RandomWalk):
    """Each number wanders about the value it begins at, to which it is drawn back, reflected at low and high.

    An Ornstein-Uhlenbeck process seen every `every` steps, with its exact transition: x' = m + a (x - m) + s sqrt(1 -
    a^2) e, where a = exp(-every / memory) and e is standard normal (Gillespie 1996, Phys. Rev. E 54, 2084).
    """

    deviation: Annotated[float, Ge(0), Le(1)] = 0.2
    """Standard deviation of the number in the long run, as a share of the way from low to high."""
    memory: Annotated[int, Gt(0)] | None = None
    """Environment steps after which the correlation has fallen to 1/e; none takes the period."""

    def place(self, step: int, label: str, home: float) -> float:
        """The process at its last move, folded into the range."""
        if not self.deviation:
            return home
        keep = math.exp(-self.every / (self.memory or self.period))
        size = self.deviation * math.sqrt(1 - keep * keep)
        return _fold(home + size * self._sums(label, keep).at(self.move(step)))


@dataclass(kw_only=True)
class Sinusoid(Path):
    """Each number swings between low and high, once a period, upwards at first."""

    def place(self, step: int, label: str, home: float) -> float:
        """The sine whose phase is such that it begins at home."""
        if step % self.period == 0:
            return home
        phase = math.asin(min(max(2 * home - 1, -1.0), 1.0))
        return 0.5 + 0.5 * math.sin(2 * math.pi * (step % self.period) / self.period + phase)


class Sums:
    """y(k) = keep y(k-1) + e(k) from y(0) = 0, with standard normal e, for any k in any order.

    Numbers are drawn in blocks, each with a generator of its own. Kept are the values at the ends of the blocks, always
    found in the same way, and the block looked at last.

    Args:
        entropy: seeds the blocks.
        keep: in (0, 1]: 1 for plain sums.
    """

    def __init__(self, entropy: list[int], keep: float) -> None:
        self.entropy = entropy
        self.keep = keep
        self._ends = [0.0]
        self._weights = keep ** np.arange(BLOCK - 1, -1, -1.0)
        self._block = -1
        self._values: NDArray[np.float64] = np.zeros(0)

    def at(self, k: int) -> float:
        """y(k)."""
        if k == 0:
            return 0.0
        block, place = divmod(k - 1, BLOCK)
        while len(self._ends) <= block:
            end = len(self._ends) - 1
            share = self.keep**BLOCK * self._ends[end]
            self._ends.append(share + float(self._weights @ self._numbers(end)))
        if block != self._block:
            values, y = np.empty(BLOCK), self._ends[block]
            for index, number in enumerate(self._numbers(block).tolist()):
                y = self.keep * y + number
                values[index] = y
            self._block, self._values = block, values
        return float(self._values[place])

    def _numbers(self, block: int) -> NDArray[np.float64]:
        return np.random.default_rng([*self.entropy, 0, block]).standard_normal(BLOCK)


def _fold(x: float) -> float:
    """The place in [0, 1] that a walk without walls, reflected at 0 and 1, has at `x`."""
    x %= 2.0
    return x if x <= 1.0 else 2.0 - x


def _sigmoid(share: float, steepness: float = 10.0) -> float:
    """The logistic curve over [0, 1], stretched so that it is exactly 0 at 0 and 1 at 1."""
    low, high = _logistic(-steepness / 2), _logistic(steepness / 2)
    return (_logistic(steepness * (share - 0.5)) - low) / (high - low)


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))
