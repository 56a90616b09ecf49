"""What a schedule is: a pure function that cuts a run into tasks.

Tasks are numbered 0, 1, 2 ...: between two switches the environment's parameters belong to one task. The clock is the
run's number of environment steps, over all parallel environments, not the episode's. No answer depends on an earlier
question: what is kept between questions are results, never the state of a generator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from configs.settings import Settings
from envs.changes.base import Change

Boundary = Literal["immediate", "next_reset", "truncate"]
Signal = Literal["hidden", "info", "context"]


@dataclass(kw_only=True)
class Timing(Settings):
    """What schedules and compositions of them have in common: how a switch is applied, and what agents learn of it."""

    boundary: Boundary = "truncate"
    """When an environment applies a switch: at once in mid-episode (immediate), when its episode has ended by itself
    (next_reset), or by ending its episode there, as a truncation, and starting one of the new task (truncate)."""
    signal: Signal = "hidden"
    """What an agent is told of the values: nothing (hidden), `info["context"]` at every step (info), or numbers that
    are appended to its observations (context)."""
    seed: Annotated[int, Ge(0)] | None = None
    """Seed of everything drawn; none takes the run's seed."""


@dataclass(kw_only=True)
class Schedule(Timing):
    """Base of all schedules. Subclasses say when tasks begin (`begins`, `at`), before they are aligned."""

    align: Annotated[int, Ge(1)] = 1
    """Put switches off to the next multiple of so many environment steps. With the length of PPO's rollouts (n_steps x
    n_envs) no rollout holds two tasks."""

    gradual: ClassVar[bool] = False
    """Whether values also move within a task."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stream: tuple[int, ...] = (self.seed or 0,)

    def at(self, step: int) -> int:
        """Number of the task at environment step `step`, before switches are aligned."""
        raise NotImplementedError

    def begins(self, task: int) -> int:
        """First environment step of task number `task`, before it is aligned."""
        raise NotImplementedError

    @property
    def last(self) -> int | None:
        """Number of the task that never ends; None where there is none."""
        return None

    def task(self, step: int) -> int:
        """Number of the task at environment step `step`."""
        return self.at(step - step % self.align)

    def start(self, task: int) -> int:
        """First environment step of task number `task`.

        Raises:
            ValueError: there are no so many tasks.
        """
        if task < 0 or (self.last is not None and task > self.last):
            raise ValueError(f"this schedule has tasks 0 to {'no end' if self.last is None else self.last}, not {task}")
        return -(-self.begins(task) // self.align) * self.align

    def next_switch(self, step: int) -> int | None:
        """The first step after `step` at which a new task begins; None where there is none."""
        task = self.task(step)
        return None if task == self.last else self.start(task + 1)

    def draws(self, task: int) -> bool:
        """Whether task number `task` has drawn values; the environment's own ones otherwise."""
        return task > 0

    def listed(self, label: str, task: int) -> Any:
        """The value that the schedule itself gives to a change in task number `task`; None where it gives none."""
        return None

    def check(self, changes: Mapping[str, Change]) -> None:
        """Refuse changes that this schedule cannot drive.

        Raises:
            ValueError: one sentence says which, and why.
        """

    def check_bound(self, label: str, change: Change) -> None:
        """Refuse a change that this schedule cannot drive in the environment that it is bound to.

        Raises:
            ValueError: one sentence says why.
        """
