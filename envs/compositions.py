"""Several tasks made one: side by side, or one after another."""

import bisect
import itertools
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Self

import gymnasium as gym

from envs.schedules import COMPOSITIONS, Stages, Timing, Together
from envs.tasks import Tasks

OWN = tuple(entry.name for entry in fields(Timing))
"""Settings that a part of a composition does not have: they are the composition's."""


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
            part._bound, part._cache, part._chain = True, {}, []
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

    def files(self) -> list[Path]:
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
