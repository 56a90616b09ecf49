"""What a study lacks, and how to read its numbers, in sentences."""

from collections.abc import Iterator, Sequence

import numpy as np

from configs import arms as labels
from metrics.tasks import SHARE
from reporting import statistics
from reporting.arms import ArmSummary, Reference
from reporting.moved import Moved, by_chance
from reporting.runs import Study

MOST_LISTED = 5
"""Runs that lack the same which are named one by one."""


def missing(study: Study, arms: Sequence[ArmSummary], tasks: int, scaled: bool) -> Iterator[str]:
    """What the study lacks."""
    yield from study.left_out
    by_label = {arm.label: arm for arm in arms}
    if labels.FRESH not in by_label:
        yield "No arm starts afresh at every switch (--reset full), so that there is no plasticity gap."
    if labels.NONE not in by_label:
        yield "There is no plain agent (--reset none) to compare the other arms with."
    seeds = {arm.label: set(arm.seeds) for arm in arms}
    if lacking := [label for label, own in seeds.items() if own != set.union(*seeds.values())]:
        yield f"Not all arms have the same seeds; some are missing of: {', '.join(lacking)}."
    if not scaled and labels.FRESH in by_label:
        yield "The return of a random policy is not known, so that gap and transfer have no scale from 0 to 1."
    if scaled and any(arm.gap for arm in arms) and not any(arm.normalized_gap for arm in arms):
        yield "No gap is normalised, since fresh does not clearly earn more than a random policy."
    by_problem: dict[str, list[str]] = {}
    for run in (run for own in study.arms.values() for run in own):
        for problem in run.missing:
            by_problem.setdefault(problem, []).append(run.path.name)
    total = sum(map(len, study.arms.values()))
    for problem, names in by_problem.items():
        more = f" and {len(names) - MOST_LISTED} more" if names[MOST_LISTED:] else ""
        listed = "All runs" if len(names) == total > 1 else ", ".join(names[:MOST_LISTED]) + more
        yield f"{listed}: {problem}."
    if short := [arm.label for arm in arms if np.isnan(arm.per_task).any()]:
        yield f"Of {tasks} tasks some are missing in runs of: {', '.join(short)}."


def notes(arms: Sequence[ArmSummary], moved: Sequence[Moved], tasks: int, reference: Reference) -> Iterator[str]:
    """How to read the numbers."""
    if not arms:
        return
    fewest = min(arm.runs for arm in arms)
    if tasks == 1:
        yield "There is one task only, so that it stands for the later tasks, and no gap can be seen."
    yield (
        f"Intervals are 95 % percentile bootstrap intervals from {statistics.RESAMPLES:,} resamples of whole runs; the "
        "gap and what else is computed against the fresh agent are paired by seed."
    )
    if fewest == 1:
        yield "An arm with one run has no interval: nothing in it can be told from chance."
    elif fewest < statistics.ENOUGH:
        yield (
            f"With as few as {fewest} runs an arm, intervals are too narrow: of normal numbers, a 95 % interval holds "
            "the truth in about 75 % of cases with 3 runs, 84 % with 5 and 91 % with 10."
        )
    yield (
        f"Recovered is an agent whose last episodes earn {100 * SHARE:.0f} % of what "
        f"{'the fresh agent earns at the end of the same task' if reference.fresh else 'it earned in its first task'}; "
        "the mean number of steps is restricted to the length of a task."
    )
    if reference.floor is not None and reference.fresh:
        yield (
            "Forward transfer is on a scale from a random policy to the best return at the end of any task of these "
            f"runs, {reference.ceiling:,.1f}."
        )
    if moved:
        expected = by_chance(max(found.correlation.runs for found in moved))
        yield (
            f"{sum(found.moved for found in moved)} of {len(moved)} diagnostics moved with the loss of return; with so "
            f"many runs about {100 * expected:.0f} % would without any connection. A correlation names suspects, not "
            "causes."
        )
