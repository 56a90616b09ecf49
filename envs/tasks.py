"""What each task is: a schedule joined with the changes that it drives.

`Tasks` answers, for any step of the run and in any order, which value every change has. The value of a change in
task k is drawn by a generator of its own, seeded by (seed, the change's label, k): labels draw independently, so that
adding a change never alters what another one draws, and no draw depends on an earlier one, unless the schedule asks
for a least distance between neighbours.
"""

import copy
import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Self

import gymnasium as gym
import numpy as np

from envs.changes.base import WHOLE, Change, ChangeError, ScalarChange
from envs.schedules import SCHEDULES, Boundary, Path, Schedule, Signal, Table
from envs.schedules.moving import Drift
from envs.schedules.switching import Periodic, measured

CACHED_TASKS = 8
ATTEMPTS = 1000


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
        ValueError: the schedule cannot drive a change, or the seed is negative.
    """

    schedule: Any
    changes: dict[str, Change]

    def __init__(self, schedule: Schedule, changes: Mapping[str, Change], seed: int = 0) -> None:
        self.changes = dict(changes)
        self._bound = False
        self._salt: tuple[int, ...] = ()
        self._set_seed(schedule, seed)
        schedule = self.schedule
        schedule.check(self.changes)

    def _set_seed(self, timing: Any, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"the seed of the tasks must be at least 0, not {seed}")
        self.seed = seed if timing.seed is None else timing.seed
        self.schedule = replace(timing, seed=self.seed)
        self._cache: dict[int, dict[str, Any]] = {}
        self._chain: list[dict[str, Any]] = []

    def seeded(self, seed: int, clock: tuple[int, ...] = (), salt: tuple[int, ...] = ()) -> Self:
        """A copy for another seed, as a part of a composition: `clock` and `salt` tell its draws from other parts'."""
        copied = copy.copy(self)
        copied._set_seed(replace(self.schedule, seed=None), seed)
        copied._salt = salt
        copied.schedule.stream = (seed, *clock)
        return copied

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """A copy of these tasks whose changes are attached to the live environment `env`.

        Raises:
            ChangeError: a change does not fit the environment, or two changes write to the same place in it.
            ValueError: the schedule cannot drive a change in this environment.
        """
        bound = copy.deepcopy(self)
        bound._attach(env)
        return bound

    def _attach(self, env: gym.Env[Any, Any]) -> None:
        """Bind the changes, in order, and check that they fit the environment, each other and the schedule."""
        self._bound, self._cache, self._chain = True, {}, []
        space = env.observation_space
        written: dict[str, str] = {}
        rewarding = ""
        for label, change in self.changes.items():
            if change.at_reset and self.boundary == "immediate":
                raise ChangeError(f"{label} can change between episodes only: choose boundary truncate or next_reset")
            if change.own_reward and rewarding:
                raise ChangeError(f"{label} must stand before {rewarding}: it takes the environment's own reward apart")
            if type(change).reward is not Change.reward and not change.own_reward:
                rewarding = label
            change.bind(env, space)
            space = change.observation_space(space)
            for place in change.writes():
                other = written.setdefault(place, label)
                if other != label and self._meet(other, label):
                    raise ChangeError(f"{other} and {label} both change {place}; one of them must leave it alone")
        self._check_whole()
        self._check_bound()

    def _check_whole(self) -> None:
        """Refuse what is bound to the parts of an environment beside what exchanges the whole."""
        whole = next((label for label, change in self.changes.items() if WHOLE in change.writes()), None)
        for label, change in self.changes.items():
            if whole not in (None, label) and (change.writes() or change.live - Change.live):
                raise ChangeError(
                    f"{label} would act on one environment alone, of those between which {whole} changes; "
                    "beside it only observations, actions and rewards can change"
                )

    def _meet(self, one: str, other: str) -> bool:
        """Whether two changes can have other values than the original at the same time."""
        return True

    def _check_bound(self) -> None:
        for label, change in self.changes.items():
            if change.at_reset and self.gradual:
                raise ChangeError(f"{label} can change between episodes only, and not move: use a periodic schedule")
            self.schedule.check_bound(label, change)
        if isinstance(self.schedule, Periodic):
            self.schedule.check_distance(self.changes)

    @property
    def boundary(self) -> Boundary:
        """When an environment applies a switch."""
        boundary: Boundary = self.schedule.boundary
        return boundary

    @property
    def signal(self) -> Signal:
        """What an agent is told of the values."""
        signal: Signal = self.schedule.signal
        return signal

    @property
    def gradual(self) -> bool:
        """Whether values also move within a task."""
        return bool(self.schedule.gradual)

    def task(self, step: int) -> int:
        """Number of the task at environment step `step`."""
        return int(self.schedule.task(step))

    def start(self, task: int) -> int:
        """First environment step of task number `task`."""
        return int(self.schedule.start(task))

    def next_switch(self, step: int) -> int | None:
        """The first step after `step` at which a new task begins; None where there is none."""
        switch: int | None = self.schedule.next_switch(step)
        return switch

    def n_tasks(self, steps: int) -> int:
        """How many tasks a run of `steps` environment steps meets."""
        return self.task(steps - 1) + 1 if steps > 0 else 0

    def values(self, step: int) -> dict[str, Any]:
        """The value of every change at environment step `step`, by label; JSON-able.

        A value of None stands for the environment's own where that is not one number.
        """
        if not self._bound:
            raise RuntimeError("values depend on the environment: ask them of tasks.bind(env)")
        schedule = self.schedule
        if isinstance(schedule, Path):
            moving = {label: change for label, change in self.changes.items() if isinstance(change, ScalarChange)}
            return {label: schedule.value(step, label, change) for label, change in moving.items()}
        task = schedule.task(step)
        before = self._values_of(task)
        if not isinstance(schedule, Drift) or (share := schedule.mix(step)) == 0.0:
            return before.copy()
        after = self._values_of(task + 1)
        blend = partial(schedule.blend, share=share)
        return {label: change.between(before[label], after[label], blend) for label, change in self.changes.items()}

    def describe(self, task: int) -> str:
        """A short text for people, such as "friction 0.31"; "original" where nothing is changed."""
        start = self.start(task)
        return ", ".join(self._words(start, self.next_switch(start))) or "original"

    def _words(self, start: int, end: int | None) -> list[str]:
        """What is changed between two steps, change by change."""
        before = self.values(start)
        after = self.values(end) if self.gradual and end is not None else before
        texts = []
        for label, change in self.changes.items():
            same = change.is_original(before[label]) and change.is_original(after[label])
            if same and not change.names_original:
                continue
            text = change.describe(before[label])
            texts.append(text if after[label] == before[label] else f"{text} to {change.number(after[label])}")
        return texts

    def _values_of(self, task: int) -> dict[str, Any]:
        """The values at the first step of a task, from the cache where they are in it."""
        if isinstance(self.schedule, Periodic) and self.schedule.distance is not None:
            while len(self._chain) <= task:
                self._chain.append(self._apart(len(self._chain), self.schedule.distance))
            return self._chain[task]
        values = self._cache.get(task)
        if values is None:
            values = {label: self._value(label, change, task) for label, change in self.changes.items()}
            if len(self._cache) >= CACHED_TASKS:
                self._cache.clear()
            self._cache[task] = values
        return values

    def _value(self, label: str, change: Change, task: int, attempt: tuple[int, ...] = ()) -> Any:
        listed = self.schedule.listed(label, task)
        if listed is None:
            listed = change.listed(task)
        if listed is not None:
            return listed
        if not self.schedule.draws(task):
            return change.original
        entropy = [self.seed, zlib.crc32(label.encode()), *self._salt, task, *attempt]
        return change.sample(np.random.default_rng(np.random.SeedSequence(entropy)))

    def _apart(self, task: int, distance: float) -> dict[str, Any]:
        """The values of a task, drawn anew until they are far enough from those of the task before."""
        for attempt in range(ATTEMPTS):
            again = (attempt,) if attempt else ()
            values = {label: self._value(label, change, task, again) for label, change in self.changes.items()}
            if not task or not self.schedule.draws(task):
                return values
            before, apart = self._chain[task - 1], 0.0
            for label, change in measured(self.changes).items():
                pairs = zip(change.context(values[label]), change.context(before[label]), strict=True)
                apart += sum(abs(now - then) for now, then in pairs)
            if apart >= distance:
                return values
        raise ValueError(f"in {ATTEMPTS} draws no values were at a distance of {distance:g} from those before")

    def files(self) -> list[FilePath]:
        """The files that these tasks are read from."""
        return [self.schedule.path] if isinstance(self.schedule, Table) else []

    def as_dict(self) -> dict[str, Any]:
        """These tasks as plain settings, which `read_tasks` and a schedule file understand."""
        kind = next(name for name, kind in SCHEDULES.items() if type(self.schedule) is kind)
        changes = {label: {"change": change.name, **asdict(change)} for label, change in self.changes.items()}
        return {"kind": kind, **asdict(self.schedule), "changes": changes}
