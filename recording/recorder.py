"""The callback that follows a run and writes down what happens: tasks, episodes, switches, resets, measurements.

It goes before the `Plasticity` callback, so that a network is measured before a reset changes it. It draws random
numbers from nowhere but generators of its own, so that recording leaves the run as it would have been.
"""

import csv
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from stable_baselines3.common.callbacks import BaseCallback

from agents.plasticity import Plasticity
from metrics.tasks import TaskReturns
from recording.directory import RunDirectory
from recording.measuring import Measurement, Measurer
from recording.tensorboard import Curves

Measures = dict[str, dict[str, float]]
"""For each network its values by name."""

COUNTERS = ("task", "_measured", "_measured_costly", "_measured_switch")
"""What the recorder remembers in a number each."""

BETWEEN_COSTLY = 0.75
"""Costly metrics at the beginnings and ends of tasks: after this share of their interval at the earliest. A choice: in
the default benchmark every beginning and every end is measured, and with shorter tasks the cost stays below a tenth."""

EPISODE = ("step", "task", "return", "length", "cut_short")
"""Columns of `episodes.csv`."""


@dataclass
class TaskRow:
    """One finished task, a row of `tasks.csv`.

    Attributes:
        measures: values of the whole networks at the task's end.
        at_switch: those of its first batch, before the agent learnt from it.
        columns: all columns of measures that the table has, so that every row has the same.
    """

    task: int
    start: int
    end: int
    change: str
    returns: TaskReturns
    measures: Measures
    resets: Counter[str] = field(default_factory=Counter)
    at_switch: dict[str, float] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)

    def mean(self, measure: str) -> float:
        """A measure averaged over the networks that have it."""
        values = [found[measure] for found in self.measures.values() if not math.isnan(found.get(measure, math.nan))]
        return sum(values) / len(values) if values else math.nan

    def flat(self) -> dict[str, Any]:
        """The row's cells by column."""
        row: dict[str, Any] = {
            "task": self.task,
            "start": self.start,
            "end": self.end,
            "change": self.change,
            "episodes": len(self.returns.returns),
            "return": self.returns.mean,
            "return_end": self.returns.at_end,
            "dormant": self.mean("dormant"),
            "effective_rank": self.mean("effective_rank"),
            "resets": reset_text(self.resets),
        }
        found = {f"{network}/{name}": value for network, own in self.measures.items() for name, value in own.items()}
        found |= {f"switch/{name}": value for name, value in self.at_switch.items()}
        return row | {column: found.get(column, math.nan) for column in self.columns or found}


def reset_text(resets: Counter[str]) -> str:
    """Such as `17 units, 2 networks`."""
    return ", ".join(f"{count} {what if count != 1 else what[:-1]}" for what, count in resets.items()) or "0"


class Recorder(BaseCallback):
    """Follows tasks, has networks measured, and writes `tasks.csv`, `episodes.csv`, `metrics.jsonl` and `events.jsonl`.

    Args:
        directory: where to write.
        plasticity: the callback whose events are written down.
        describe: gives a task's change in words.
        curves: the TensorBoard writer.
        measurer: what measures the networks.
        measure_every: environment steps between two measurements.
        costly_every: environment steps between two measurements of costly metrics.
        on_task: called with each finished task.
    """

    def __init__(
        self,
        directory: RunDirectory,
        plasticity: Plasticity,
        describe: Callable[[int], str],
        curves: Curves,
        measurer: Measurer,
        measure_every: int = 2048,
        costly_every: int = 40_960,
        on_task: Callable[[TaskRow], None] = lambda row: None,
    ) -> None:
        super().__init__()
        self.directory = directory
        self.plasticity = plasticity
        self.describe = describe
        self.curves = curves
        self.measurer = measurer
        self.measure_every = measure_every
        self.costly_every = costly_every
        self.on_task = on_task
        self.task = 0
        self.new_resets: Counter[str] = Counter()
        self._returns: dict[int, TaskReturns] = defaultdict(TaskReturns)
        self._resets: dict[int, Counter[str]] = defaultdict(Counter)
        self._at_switch: dict[int, dict[str, float]] = {}
        self._starts: dict[int, int] = {0: 0}
        self._measured = 0
        self._measured_costly = 0
        self._measured_switch = -costly_every
        self._next_tasks: list[int] = [0]
        self._files: dict[str, TextIO] = {}
        measurer.listen = self._on_measurement
        plasticity.listeners.append(self._on_event)

    def _on_training_start(self) -> None:
        self._events = self._open(self.directory.events, buffering=1)
        self._tasks = self._open(self.directory.tasks, buffering=1)
        self._episodes = self._open(self.directory.episodes)
        self._measurements = self._open(self.directory.measurements)
        if not self._episodes.tell():
            self._episodes.write(",".join(EPISODE) + "\n")
        self.measurer.start(self.model)
        self.curves.start(self.logger, self.measurer)

    def state_dict(self) -> dict[str, Any]:
        """What is remembered between two rollouts, and how long each file is, all of it on the disk."""
        return {
            **{name: getattr(self, name) for name in COUNTERS},
            "new_resets": dict(self.new_resets),
            "returns": {task: list(found.returns) for task, found in self._returns.items()},
            "resets": {task: dict(found) for task, found in self._resets.items()},
            "at_switch": {task: dict(found) for task, found in self._at_switch.items()},
            "starts": dict(self._starts),
            "next_tasks": list(self._next_tasks),
            "measurer": self.measurer.state_dict(),
            "curves": self.curves.state_dict(),
            "lengths": self._lengths() | self.curves.lengths(),
        }

    def paths(self) -> list[Path]:
        """The files that are being written."""
        return [self.directory.path / name for name in self._files]

    def _lengths(self) -> dict[str, int]:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {name: os.fstat(file.fileno()).st_size for name, file in self._files.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, once the interventions and the agent have; the files are as long again."""
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.new_resets = Counter(state["new_resets"])
        for task, returns in state["returns"].items():
            for earned in returns:
                self._returns[task].add(earned)
        self._resets.update({task: Counter(found) for task, found in state["resets"].items()})
        self._at_switch, self._starts = dict(state["at_switch"]), dict(state["starts"])
        self._next_tasks = list(state["next_tasks"])
        self.measurer.load_state_dict(state["measurer"])
        self.curves.load_state_dict(state["curves"])

    def _open(self, path: Any, buffering: int = -1) -> TextIO:
        file: TextIO = path.open("a", buffering=buffering, newline="")
        self._files[path.name] = file
        return file

    def _on_step(self) -> bool:
        infos = self.locals["infos"]
        self._next_tasks = [info.get("next_task", 0) for info in infos]
        for index, info in enumerate(infos):
            task = info.get("task", 0)
            self._starts.setdefault(task, self.num_timesteps - self.training_env.num_envs)
            if "switch" in info:
                self._write_event({"event": "switch", "env": index, **info["switch"]})
            if "episode" in info:
                self._episode_ended(task, info["episode"], bool(info.get("cut_short")))
        return True

    def _episode_ended(self, task: int, episode: dict[str, Any], cut_short: bool) -> None:
        earned = float(episode["r"])
        self._episodes.write(f"{self.num_timesteps},{task},{earned:.9g},{int(episode['l'])},{int(cut_short)}\n")
        # The return of an episode that the switch cut short says nothing of how good the agent is.
        if not cut_short:
            self._returns[task].add(earned)

    @property
    def returns(self) -> TaskReturns:
        """The episodes of the current task so far."""
        return self._returns[self.task]

    def _on_rollout_end(self) -> None:
        self.measurer.collected(self.num_timesteps)
        task = self._task_now()
        if task in self._starts and task not in self._at_switch:
            self._at_switch[task] = {}
            so_far = self.num_timesteps - self._starts[task]
            costly = self.num_timesteps - self._measured_switch >= BETWEEN_COSTLY * self.costly_every
            if not self.measurer.measure_switch(self.num_timesteps, task, so_far, costly):
                del self._at_switch[task]
            elif costly:
                self._measured_switch = self.num_timesteps

    def _on_rollout_start(self) -> None:
        task = self._task_now()
        if task != self.task:
            self._finish_tasks(before=task)
            self.task = task
        elif self.num_timesteps - self._measured >= self.measure_every:
            self.measure(costly=self.num_timesteps - self._measured_costly >= self.costly_every)

    def _on_training_end(self) -> None:
        self._finish_tasks(before=self._task_now() + 1)
        self.close()

    def close(self) -> None:
        """Stop measuring and close the files; also after an interrupted run."""
        self.measurer.close()
        for file in self._files.values():
            file.close()
        self._files = {}

    def _task_now(self) -> int:
        """The task of the next step; the earliest, where environments wait for a reset of their own to enter it."""
        return min(self._next_tasks)

    def measure(self, costly: bool) -> Measures:
        """Measure every network and write the curves."""
        recent = max(1, self.num_timesteps - self._measured)
        self._measured = self.num_timesteps
        if costly:
            self._measured_costly = self.num_timesteps
            self.curves.distributions(self.num_timesteps)
        measures = self.measurer.measure(self.num_timesteps, self.task, recent, costly)
        penalties = {f"{name}_{network}": float(value) for (name, network), value in self.plasticity.penalties.items()}
        self.curves.penalties(self.num_timesteps, penalties)
        self.curves.progress(self.num_timesteps, self.task, self.returns.at_end, self.new_resets)
        self.new_resets = Counter()
        self._episodes.flush()
        self._measurements.flush()
        return measures

    def _finish_tasks(self, before: int) -> None:
        """Write a row for each task up to `before`; several may have begun and ended within one long rollout."""
        # At the end of a task also what is costly, unless that was not long ago.
        measures = self.measure(costly=self.num_timesteps - self._measured_costly >= BETWEEN_COSTLY * self.costly_every)
        whole = {
            network: {name: value for name, value in found.items() if "/" not in name}
            for network, found in measures.items()
        }
        for task in sorted(task for task in self._starts if task < before):
            following = [start for other, start in self._starts.items() if other > task]
            row = TaskRow(
                task=task,
                start=self._starts.pop(task),
                end=min(following, default=self.num_timesteps),
                change=self.describe(task),
                returns=self._returns.pop(task, TaskReturns()),
                measures=whole,
                resets=self._resets.pop(task, Counter()),
                at_switch=self._at_switch.pop(task, {}),
                columns=self.measurer.columns(),
            )
            self._write_row(row)

    def _write_row(self, row: TaskRow) -> None:
        flat = row.flat()
        writer = csv.DictWriter(self._tasks, list(flat), restval="")
        if not self._tasks.tell():
            writer.writeheader()
        writer.writerow({key: _cell(value) for key, value in flat.items()})
        self.curves.task(row.end, row.task, row.returns.mean, row.returns.at_end)
        self.on_task(row)

    def _on_measurement(self, measurement: Measurement) -> None:
        self._measurements.write(json.dumps(measurement.as_dict()) + "\n")
        self.curves.measurement(measurement)
        if measurement.when == "switch":
            self._at_switch[measurement.task] |= measurement.values

    def _on_event(self, event: dict[str, Any]) -> None:
        self._resets[event["task"]][event["what"]] += event["count"]
        self.new_resets[event["what"]] += event["count"]
        self._write_event({"event": "reset", **event})
        if event["method"] == "PlasticityInjection":
            self.measurer.read_networks()

    def _write_event(self, event: dict[str, Any]) -> None:
        self._events.write(json.dumps(event) + "\n")


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
