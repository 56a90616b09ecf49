"""What each task is: a schedule joined with the changes that it drives, and several of these joined to one.

`Tasks` answers, for any step of the run and in any order, which value every change has. The value of a change in
task k is drawn by a generator of its own, seeded by (seed, the change's label, k): labels draw independently, so that
adding a change never alters what another one draws, and no draw depends on an earlier one, unless the schedule asks
for a least distance between neighbours.
"""

import bisect
import copy
import itertools
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path as FilePath
from typing import Any, Self

import gymnasium as gym
import numpy as np

from configs.settings import did_you_mean
from envs.changes import CHANGES
from envs.changes.base import Change, ChangeError, ScalarChange
from envs.schedules import (
    COMPOSITIONS,
    SCHEDULES,
    STEP_SETTINGS,
    Boundary,
    Path,
    Schedule,
    Signal,
    Stages,
    Table,
    Together,
)
from envs.schedules.base import Timing
from envs.schedules.moving import Drift
from envs.schedules.switching import Periodic, measured

CACHED_TASKS = 8
WHOLE = "the environment"
"""What a change writes that exchanges the whole environment."""
ATTEMPTS = 1000
OWN = tuple(entry.name for entry in fields(Timing))
"""Settings that a part of a composition does not have: they are the composition's."""


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
        return {
            label: change.between(before[label], after[label], schedule.blend(before[label], after[label], share))
            for label, change in self.changes.items()
            if isinstance(change, ScalarChange)
        }

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


class Composition(Tasks):
    """Several tasks made one: side by side (`Together`) or one after another (`Stages`).

        >>> parts = {"slow": Tasks(Periodic(period=9000), {"gravity": MujocoGravity()}),
        ...          "fast": Tasks(Periodic(period=1000), {"reward": RewardScale(values=(1, -1))})}
        >>> tasks = Composition(Together(), parts, seed=3)

    Args:
        schedule: how the parts are joined. Boundary, signal and seed are those of it, not of its parts.
        parts: by name. Side by side, no two have a label in common.
        seed: the run's seed, at least 0.

    Raises:
        ValueError: a label stands twice, there are not as many stages as lengths and one, or the seed is negative.
    """

    def __init__(self, schedule: Together | Stages, parts: Mapping[str, Tasks], seed: int = 0) -> None:
        if not parts:
            raise ValueError("a composition needs at least one part")
        if isinstance(schedule, Stages) and len(schedule.lengths) != len(parts) - 1:
            raise ValueError(f"{len(parts)} stages need {len(parts) - 1} lengths, not {len(schedule.lengths)}")
        self.parts = dict(parts)
        self._set_seed(schedule, seed)
        self._bound = False
        # Labels of stages may return; each stage has a change of its own under them.
        self._names: dict[str, dict[str, str]] = {}
        self.changes = {}
        for number, (name, part) in enumerate(parts.items()):
            self.parts[name] = self._part(part, number, name)
            self._names[name] = {}
            for label, change in part.changes.items():
                unique = label
                if label in self.changes:
                    if isinstance(schedule, Together):
                        raise ValueError(f"two parts have a change labelled {label}; give one another label")
                    unique = f"{label}_{name}"
                self._names[name][label] = unique
                self.changes[unique] = change
        self._starts = [0]

    def _part(self, part: Tasks, number: int, name: str) -> Tasks:
        if isinstance(self.schedule, Together):
            return part.seeded(self.seed, clock=(zlib.crc32(name.encode()),))
        return part.seeded(self.seed, clock=(zlib.crc32(name.encode()),), salt=(number,))

    def seeded(self, seed: int, clock: tuple[int, ...] = (), salt: tuple[int, ...] = ()) -> Self:
        """A copy for another seed. Compositions within compositions are refused: they would be hard to read."""
        if clock:
            raise ValueError("a composition cannot be part of another one")
        return type(self)(replace(self.schedule, seed=None), self.parts, seed)

    def _attach(self, env: gym.Env[Any, Any]) -> None:
        # The copies of the parts hold copies of the changes: make them the same ones again.
        for name, names in self._names.items():
            self.parts[name].changes = {label: self.changes[unique] for label, unique in names.items()}
        self._starts = [0]
        super()._attach(env)

    def _meet(self, one: str, other: str) -> bool:
        """Stages never meet."""
        together = isinstance(self.schedule, Together)
        return together or any({one, other} <= set(names.values()) for names in self._names.values())

    def _check_bound(self) -> None:
        for part in self.parts.values():
            part._bound = True
            part._check_bound()

    @property
    def gradual(self) -> bool:
        """Whether values of any part also move within a task."""
        return any(part.gradual for part in self.parts.values())

    @property
    def _stages(self) -> list[tuple[int, Tasks]]:
        """Each stage with its first step."""
        starts = [0, *itertools.accumulate(self.schedule.lengths)]
        return list(zip(starts, self.parts.values(), strict=True))

    def _grow(self, until_step: int | None, until_task: int | None) -> None:
        """Find the switches of parts side by side up to and with one after a step, or up to a task."""
        while (until_step is not None and self._starts[-1] <= until_step) or (
            until_task is not None and len(self._starts) <= until_task
        ):
            switches = [part.next_switch(self._starts[-1]) for part in self.parts.values()]
            following = min((switch for switch in switches if switch is not None), default=None)
            if following is None:
                return
            self._starts.append(following)

    def task(self, step: int) -> int:
        """Number of the task at environment step `step`."""
        if isinstance(self.schedule, Together):
            self._grow(step, None)
            return bisect.bisect_right(self._starts, step) - 1
        before = 0
        for number, (start, stage) in enumerate(self._stages):
            if number == len(self.parts) - 1 or step < start + self.schedule.lengths[number]:
                return before + stage.task(step - start)
            before += stage.n_tasks(self.schedule.lengths[number])
        raise AssertionError

    def start(self, task: int) -> int:
        """First environment step of task number `task`."""
        if isinstance(self.schedule, Together):
            self._grow(None, task)
            if not 0 <= task < len(self._starts):
                raise ValueError(f"this schedule has tasks 0 to {len(self._starts) - 1}, not {task}")
            return self._starts[task]
        for number, (start, stage) in enumerate(self._stages):
            if number == len(self.parts) - 1 or task < stage.n_tasks(self.schedule.lengths[number]):
                return start + stage.start(task)
            task -= stage.n_tasks(self.schedule.lengths[number])
        raise AssertionError

    def next_switch(self, step: int) -> int | None:
        """The first step after `step` at which a new task begins; None where there is none."""
        if isinstance(self.schedule, Together):
            self._grow(step, None)
            after = bisect.bisect_right(self._starts, step)
            return self._starts[after] if after < len(self._starts) else None
        number = bisect.bisect_right([start for start, _ in self._stages], step) - 1
        start, stage = self._stages[number]
        switch = stage.next_switch(step - start)
        end = start + self.schedule.lengths[number] if number < len(self.parts) - 1 else None
        if switch is None or (end is not None and start + switch >= end):
            return end
        return start + switch

    def values(self, step: int) -> dict[str, Any]:
        """The value of every change at environment step `step`; the original of those whose stage it is not."""
        if not self._bound:
            raise RuntimeError("values depend on the environment: ask them of tasks.bind(env)")
        values = {label: change.original for label, change in self.changes.items()}
        for name, begin in self._active(step):
            found = self.parts[name].values(step - begin)
            values |= {unique: found[label] for label, unique in self._names[name].items()}
        return values

    def _active(self, step: int) -> list[tuple[str, int]]:
        """The parts whose values count at a step, each with the step at which its clock is 0."""
        if isinstance(self.schedule, Together):
            return [(name, 0) for name in self.parts]
        begins = [begin for begin, _ in self._stages]
        number = bisect.bisect_right(begins, step) - 1
        return [(list(self.parts)[number], begins[number])]

    def _words(self, start: int, end: int | None) -> list[str]:
        """What is changed between two steps, part by part."""
        texts: list[str] = []
        for name, begin in self._active(start):
            texts += self.parts[name]._words(start - begin, None if end is None else end - begin)
        return texts

    def files(self) -> list[FilePath]:
        """The files that the parts are read from."""
        return [file for part in self.parts.values() for file in part.files()]

    def as_dict(self) -> dict[str, Any]:
        """The composition as plain settings, which `read_tasks` and a schedule file understand."""
        kind = next(name for name, kind in COMPOSITIONS.items() if type(self.schedule) is kind)
        parts = {
            name: {key: value for key, value in part.as_dict().items() if key not in OWN}
            for name, part in self.parts.items()
        }
        return {"kind": kind, **asdict(self.schedule), "parts": parts}


def read_tasks(tree: Mapping[str, Any], seed: int = 0) -> Tasks:
    """Tasks from the plain settings that a schedule file holds.

    Args:
        tree: `kind`, the settings of this schedule, and `changes` (or `parts`, for a composition) as nested mappings.
        seed: the run's seed.

    Raises:
        ValueError: a name or a value is wrong; one sentence.
    """
    settings = dict(tree)
    kind = settings.pop("kind", None)
    known = {**SCHEDULES, **COMPOSITIONS}
    if kind not in known:
        raise ValueError(f"kind must be one of {', '.join(known)}, not {kind!r}{did_you_mean(kind, known)}")
    if kind in COMPOSITIONS:
        parts = {name: read_tasks(part, seed) for name, part in (settings.pop("parts", None) or {}).items()}
        return Composition(_made(COMPOSITIONS[kind], settings, kind), parts, seed)
    changes = {}
    for label, block in (settings.pop("changes", None) or {}).items():
        content = dict(block or {})
        name = content.pop("change", label)
        if name not in CHANGES:
            raise ValueError(f"there is no change {name!r}{did_you_mean(name, CHANGES)}")
        changes[label] = _made(CHANGES[name], content, label)
    return Tasks(_made(SCHEDULES[kind], settings, kind), changes, seed)


def _made(kind: type[Any], settings: Mapping[str, Any], where: str) -> Any:
    """The settings of a kind, from plain values."""
    names = [entry.name for entry in fields(kind) if entry.init]
    if (unknown := next((name for name in settings if name not in names), None)) is not None:
        raise ValueError(f"{where}: {unknown!r} is not a setting here{did_you_mean(unknown, names) or '.'}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})


def scaled(tree: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The plain settings of tasks with every number of environment steps times `factor`, rounded, at least 1."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found[name] = scaled(value, factor)
        elif name in STEP_SETTINGS and value is not None:
            many = isinstance(value, (list, tuple))
            steps = [max(1, round(number * factor)) for number in (value if many else [value])]
            found[name] = steps if many else steps[0]
        else:
            found[name] = value
    return found
