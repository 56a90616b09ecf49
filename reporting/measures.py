"""Arrays `[runs, tasks]` of what the runs of an arm earned and measured, NaN where something is missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics import tasks as measure
from reporting.runs import Run
from reporting.statistics import NAN, Cells

AT_SWITCH = "switch/"


class TaskEpisodes(NamedTuple):
    """The whole episodes of one task: steps since its start at which they ended, their returns, and its length."""

    steps: NDArray[np.int64]
    returns: NDArray[np.float64]
    length: int


@dataclass
class Learning:
    """What is known of one run, task by task."""

    run: Run
    episodes: dict[int, TaskEpisodes]

    @classmethod
    def of(cls, run: Run) -> "Learning":
        """Put a run's episodes into its finished tasks."""
        if run.episodes is None:
            return cls(run, {})
        whole = np.flatnonzero(~run.episodes.cut_short)
        whole = whole[np.argsort(run.episodes.task[whole], kind="stable")]
        task, step, earned = run.episodes.task[whole], run.episodes.step[whole], run.episodes.earned[whole]
        found = {}
        for row in run.tasks:
            first, last = np.searchsorted(task, [row["task"], row["task"] + 1])
            steps = np.maximum(step[first:last] - row["start"], 0)
            found[row["task"]] = TaskEpisodes(steps, earned[first:last], row["end"] - row["start"])
        return cls(run, found)


def column(runs: Sequence[Run], tasks: int, name: str) -> Cells:
    """A column of `tasks.csv`."""
    found = np.full((len(runs), tasks), NAN)
    for index, run in enumerate(runs):
        for row in run.tasks:
            if row["task"] < tasks and isinstance(value := row.get(name, NAN), (int, float)):
                found[index, row["task"]] = value
    return found


def columns(runs: Sequence[Run], tasks: int) -> tuple[dict[str, Cells], dict[str, Cells]]:
    """Diagnostics at the ends of tasks, and on their first batches, by `<network>/<name>`."""
    names = dict.fromkeys(name for run in runs for row in run.tasks[:1] for name in row if "/" in name)
    found = {name: column(runs, tasks, name) for name in names}
    ends = {name: cells for name, cells in found.items() if not name.startswith(AT_SWITCH)}
    return ends, {name.removeprefix(AT_SWITCH): found[name] for name in names if name.startswith(AT_SWITCH)}


def each(learning: Sequence[Learning], tasks: int, value: Callable[[Learning, int], float]) -> Cells:
    """A measure of every task that a run has finished and has episodes of."""
    found = np.full((len(learning), tasks), NAN)
    for index, run in enumerate(learning):
        for task in run.episodes:
            if task < tasks:
                found[index, task] = value(run, task)
    return found


def areas(learning: Sequence[Learning], tasks: int) -> Cells:
    """Area under the learning curve of each task, in units of return."""
    return each(learning, tasks, lambda run, task: measure.area(*run.episodes[task]))


def drops(learning: Sequence[Learning], tasks: int) -> Cells:
    """What the switch to each task cost."""

    def value(run: Learning, task: int) -> float:
        before = run.episodes.get(task - 1)
        return measure.drop(before.returns, run.episodes[task].returns) if before else NAN

    return each(learning, tasks, value)


def jump_starts(learning: Sequence[Learning], fresh: dict[int, Learning], tasks: int) -> Cells:
    """How much higher each task starts than for the fresh agent of the same seed."""

    def value(run: Learning, task: int) -> float:
        other = fresh[run.run.seed].episodes.get(task) if run.run.seed in fresh else None
        return measure.jump_start(run.episodes[task].returns, other.returns) if other else NAN

    return each(learning, tasks, value)


def goals(references: Cells, floor: NDArray[np.float64] | None) -> Cells:
    """The return that counts as recovered in each task, from references `[runs, tasks]`; `floor` is `[tasks]`."""
    found = np.full(references.shape, NAN)
    for at in np.ndindex(references.shape):
        found[at] = measure.threshold(float(references[at]), floor=None if floor is None else float(floor[at[1]]))
    return found


def recoveries(learning: Sequence[Learning], goals: Cells) -> tuple[Cells, NDArray[np.bool_]]:
    """Steps until each task's goal was reached or watched in vain, and whether it was; `goals` is `[runs, tasks]`."""
    times, reached = np.full(goals.shape, NAN), np.zeros(goals.shape, bool)
    for index, run in enumerate(learning):
        for task, found in run.episodes.items():
            back = measure.recovery(*found, goals[index, task]) if task < goals.shape[1] else None
            if back is not None:
                times[index, task], reached[index, task] = back
    return times, reached


def transfers(area: Cells, fresh: Cells, floor: NDArray[np.float64], ceiling: float) -> Cells:
    """Forward transfer to each task, from areas `[runs, tasks]` paired by row; `floor` is `[tasks]`."""
    found = np.full(area.shape, NAN)
    for at in np.ndindex(area.shape):
        found[at] = measure.forward_transfer(float(area[at]), float(fresh[at]), float(floor[at[1]]), ceiling)
    return found


def changes(run: Run) -> list[str]:
    """The text of each task's change; those of missing tasks stand for themselves alone."""
    known: dict[int, Any] = {row["task"]: row.get("change") for row in run.tasks}
    return [str(known.get(task, f"task {task}")) for task in range(max(known, default=-1) + 1)]


def forgotten(learning: Sequence[Learning]) -> Cells:
    """What each run forgot between visits to the same task, `[runs, returns to a task]`."""
    lists = []
    for run in learning:
        texts = changes(run.run)
        ends, starts = [NAN] * len(texts), [NAN] * len(texts)
        for task, found in run.episodes.items():
            ends[task], starts[task] = measure.at_end(found.returns), measure.at_beginning(found.returns)
        lists.append(measure.forgetting(ends, starts, texts))
    return padded(lists)


def visits(learning: Sequence[Learning], area: Cells) -> Cells:
    """The plasticity curve: area on the j-th visit, a mean over the tasks that recur, `[runs, visits]`."""
    lists = []
    for index, run in enumerate(learning):
        recurring = padded([list(area[index, numbers]) for numbers in measure.visits(changes(run.run))])
        known = ~np.isnan(recurring)
        total = np.where(known, recurring, 0).sum(0)
        lists.append([total[j] / known[:, j].sum() if known[:, j].any() else NAN for j in range(recurring.shape[1])])
    return padded(lists)


def padded(lists: Sequence[Sequence[float]]) -> Cells:
    """Rows of unequal length as one array, with NaN behind the shorter ones."""
    found = np.full((len(lists), max(map(len, lists), default=0)), NAN)
    for row, values in zip(found, lists, strict=True):
        row[: len(values)] = values
    return found
