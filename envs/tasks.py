"""What each task is: a schedule joined with the changes that it drives.

`Tasks` answers, for any step of the run and in any order, which value every change has. The value of a change in
task k is drawn by a generator of its own, seeded by (seed, the change's label, k): labels draw independently, so that
adding a change never alters what another one draws, and no draw depends on an earlier one.
"""

import copy
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import gymnasium as gym
import numpy as np

from envs.changes.base import Change, ChangeError, ScalarChange
from envs.schedules import Boundary, Drift, Schedule, Signal

CACHED_TASKS = 8


class Tasks:
    """The values of all changes at every step of a run, a pure function of (seed, step).

    A change's values may depend on the environment (how many observations there are to permute, which gravity is its
    own), so values are asked of `tasks.bind(env)`. Pickling keeps everything but the live environment: values and
    descriptions can still be asked of a pickled copy, and it can be bound anew.

    Args:
        schedule: when tasks change. Its own seed, where it has one, takes the place of `seed`.
        changes: what changes, by label. A label names the change in logs and seeds its draws.
        seed: the run's seed, at least 0.

    Raises:
        ValueError: the schedule drifts and a change's value is not a number, or the seed is negative.
    """

    def __init__(self, schedule: Schedule, changes: Mapping[str, Change], seed: int = 0) -> None:
        if seed < 0:
            raise ValueError(f"the seed of the tasks must be at least 0, not {seed}")
        self.seed = seed if schedule.seed is None else schedule.seed
        self.schedule = replace(schedule, seed=self.seed)
        self.changes = dict(changes)
        self._bound = False
        self._cache: dict[int, dict[str, Any]] = {}
        for label, change in self.changes.items():
            if schedule.gradual and not isinstance(change, ScalarChange):
                raise ValueError(f"{label} cannot drift, because its values are not numbers: use a periodic schedule")

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """A copy of these tasks whose changes are attached to the live environment `env`.

        Raises:
            ChangeError: a change does not fit the environment.
            ValueError: a change cannot drift along the schedule's curve in this environment.
        """
        bound = copy.deepcopy(self)
        bound._bound, bound._cache = True, {}
        space = env.observation_space
        written: dict[str, str] = {}
        for label, change in bound.changes.items():
            change.bind(env, space)
            space = change.observation_space(space)
            for place in change.writes():
                if place in written:
                    raise ChangeError(f"{written[place]} and {label} both change {place}; let one of them")
                written[place] = label
            if isinstance(bound.schedule, Drift) and isinstance(change, ScalarChange):
                _check_drift(label, change, bound.schedule)
        return bound

    def only(self, label: str) -> Self:
        """These tasks with one change alone, whose values stay what they are."""
        copied = copy.copy(self)
        copied.changes = {label: self.changes[label]}
        return copied

    @property
    def boundary(self) -> Boundary:
        """When an environment applies a switch."""
        return self.schedule.boundary

    @property
    def signal(self) -> Signal:
        """What an agent is told of the values."""
        return self.schedule.signal

    @property
    def gradual(self) -> bool:
        """Whether values also move within a task."""
        return self.schedule.gradual

    def task(self, step: int) -> int:
        """Number of the task at environment step `step`."""
        return self.schedule.task(step)

    def start(self, task: int) -> int:
        """First environment step of task number `task`."""
        return self.schedule.start(task)

    def next_switch(self, step: int) -> int | None:
        """The first step after `step` at which a new task begins; None where there is none."""
        return self.schedule.next_switch(step)

    def n_tasks(self, steps: int) -> int:
        """How many tasks a run of `steps` environment steps meets."""
        return self.schedule.n_tasks(steps)

    def values(self, step: int) -> dict[str, Any]:
        """The value of every change at environment step `step`, by label; JSON-able.

        A value of None stands for the environment's own where that is not one number.
        """
        task = self.schedule.task(step)
        share = self.schedule.mix(step)
        before = self._values_of(task)
        if share == 0.0:
            return before.copy()
        after = self._values_of(task + 1)
        return {label: self.schedule.blend(before[label], after[label], share) for label in before}

    def describe(self, task: int) -> str:
        """A short text for people, such as "friction 0.31"; "original" where nothing is changed."""
        before = self._values_of(task)
        after = self._values_of(task + 1) if self.gradual else before
        texts = []
        for label, change in self.changes.items():
            if change.is_original(before[label]) and change.is_original(after[label]):
                continue
            text = change.describe(before[label])
            texts.append(text if after[label] == before[label] else f"{text} to {change.number(after[label])}")
        return ", ".join(texts) or "original"

    def _values_of(self, task: int) -> dict[str, Any]:
        """The values at the first step of a task, from the cache where they are in it."""
        values = self._cache.get(task)
        if values is None:
            if not self._bound:
                raise RuntimeError("values depend on the environment: ask them of tasks.bind(env)")
            values = {label: self._value(label, change, task) for label, change in self.changes.items()}
            if len(self._cache) >= CACHED_TASKS:
                self._cache.clear()
            self._cache[task] = values
        return values

    def _value(self, label: str, change: Change, task: int) -> Any:
        listed = change.listed(task)
        if listed is not None:
            return listed
        if not self.schedule.draws(task):
            return change.original
        entropy = [self.seed, zlib.crc32(label.encode()), task]
        return change.sample(np.random.default_rng(np.random.SeedSequence(entropy)))


def _check_drift(label: str, change: ScalarChange, schedule: Drift) -> None:
    """Refuse a drift through values between which the schedule's curve does not exist."""
    lowest = change.lowest()
    if not schedule.draws(0) and change.listed(0) is None:
        if change.original is None:
            raise ValueError(
                f"{label} cannot drift away from the environment's own values, which are not one number: "
                "set first to drawn, or mode to factor"
            )
        lowest = min(lowest, change.original)
    if schedule.curve == "exponential" and lowest <= 0:
        raise ValueError(f"{label} cannot drift exponentially through {lowest:g}: all its values must be above 0")
