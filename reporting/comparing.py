"""Computes one arm of a study, from its runs and what it is compared with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metrics import tasks as measure
from metrics.tasks import later
from reporting import measures, statistics, survival
from reporting.arms import ArmSummary, Reference
from reporting.measures import Learning
from reporting.runs import Run
from reporting.statistics import Cells, Interval


def summarize_arm(label: str, runs: Sequence[Run], reference: Reference, is_fresh: bool, is_plain: bool) -> ArmSummary:
    """Everything about one arm."""
    tasks, learning = reference.tasks, [Learning.of(run) for run in runs]
    per_task = measures.column(runs, tasks, "return_end")
    found = ArmSummary(
        label,
        len(runs),
        [run.seed for run in runs],
        per_task,
        *statistics.per_task(per_task),
        statistics.interval(statistics.interquartile_mean, later(per_task)),
    )
    found.diagnostics, found.at_switch = measures.columns(runs, tasks)
    speeds = [run.steps / run.seconds for run in runs if run.seconds and run.steps]
    found.steps_per_second = float(np.mean(speeds)) if speeds else None
    if reference.plain is not None and not is_plain:
        found.improvement = statistics.probability_of_improvement(later(per_task), later(reference.plain))
    fresh = paired(runs, reference.fresh)
    if reference.fresh and not is_fresh:
        _compare(found, runs, fresh, reference)
    if any(item.episodes for item in learning):
        _follow(found, learning, fresh, reference, is_fresh)
    return found


def paired(runs: Sequence[Run], fresh: Sequence[Run]) -> list[Run | None]:
    """For each run the fresh one of its seed, if there is one."""
    by_seed = {run.seed: run for run in fresh}
    return [by_seed.get(run.seed) for run in runs]


def _compare(found: ArmSummary, runs: Sequence[Run], fresh: Sequence[Run | None], reference: Reference) -> None:
    """The gap to the fresh agent, over the seeds that both arms have."""
    rows = [index for index, run in enumerate(fresh) if run is not None]
    best = measures.column([run for run in fresh if run is not None], reference.tasks, "return_end")
    found.gap_per_task = measure.gap(best, found.per_task[rows])
    found.gap_seeds = [runs[index].seed for index in rows]
    found.gap = _known(statistics.interval(statistics.mean, later(found.gap_per_task)))
    if reference.floor is None or found.gap is None:
        return
    span = later(np.where(np.isnan(found.gap_per_task), np.nan, best - reference.floor))
    learnt = statistics.interval(statistics.mean, span)
    # Where the fresh agent may as well have learnt nothing, shares of what it learns are any number.
    if learnt.is_positive or learnt.runs == 1:
        found.normalized_gap = _known(statistics.interval(ratio, later(found.gap_per_task), span))


def ratio(above: Cells, below: Cells) -> NDArray[np.float64]:
    """Quotient of two means over runs and tasks; NaN where the lower one is not positive."""
    top, bottom = statistics.mean(above), statistics.mean(below)
    return statistics.quotient(top, np.where(bottom > 0, bottom, 0))


def _follow(
    found: ArmSummary, learning: list[Learning], fresh: Sequence[Run | None], reference: Reference, is_fresh: bool
) -> None:
    """What is known where single episodes are."""
    tasks = reference.tasks
    by_seed = {run.seed: Learning.of(run) for run in fresh if run is not None}
    area = measures.areas(learning, tasks)
    found.area = _mean(area)
    found.drop = _mean(measures.drops(learning, tasks))
    times, reached = measures.recoveries(
        learning, measures.goals(_references(found, fresh, reference), reference.floor)
    )
    times, reached = later(times), later(reached)
    if (known := ~np.isnan(times)).any():
        found.recovery = survival.restricted_mean(times, reached)
        found.recovery_median = survival.median(times[known], reached[known])
        found.recovery_censored = float(1 - reached[known].mean())
    found.forgetting = _known(statistics.interval(statistics.mean, measures.forgotten(learning)))
    visits = measures.visits(learning, area)
    found.visits = visits if visits.size else None
    if by_seed and not is_fresh:
        found.jump_start = _mean(measures.jump_starts(learning, by_seed, tasks))
        rows = [index for index, run in enumerate(fresh) if run is not None]
        others = measures.areas([by_seed[learning[index].run.seed] for index in rows], tasks)
        if reference.floor is not None:
            found.forward_transfer = _mean(measures.transfers(area[rows], others, reference.floor, reference.ceiling))


def _references(found: ArmSummary, fresh: Sequence[Run | None], reference: Reference) -> Cells:
    """What each task's return is to come back to: the fresh agent's, or the run's own at the end of its first task."""
    if not reference.fresh:
        return np.repeat(found.per_task[:, :1], reference.tasks, axis=1)
    best = np.full(found.per_task.shape, np.nan)
    for row, run in zip(best, fresh, strict=True):
        if run is not None:
            row[:] = measures.column([run], reference.tasks, "return_end")[0]
    return best


def _mean(cells: Cells) -> Interval | None:
    """Mean over runs and later tasks with its interval."""
    return _known(statistics.interval(statistics.mean, later(cells)))


def _known(interval: Interval) -> Interval | None:
    """None for an estimate that there is not."""
    return None if np.isnan(interval.value) else interval
