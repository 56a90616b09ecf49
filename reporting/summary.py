"""A study in numbers and words: its arms ranked, where the gap comes from, what the plain agent suffers from.

What cannot be computed is None, and `missing` says in sentences what would be needed.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from configs import arms as labels
from reporting import measures
from reporting.arms import ArmSummary, Reference
from reporting.attribution import Attribution, PartEffect, attribute
from reporting.caveats import missing, notes
from reporting.comparing import summarize_arm
from reporting.illness import diagnose
from reporting.moved import Moved, find_moved
from reporting.runs import Study

__all__ = ["ArmSummary", "Attribution", "Moved", "PartEffect", "Summary", "summarize"]


@dataclass
class Summary:
    """A study.

    Attributes:
        study: the runs.
        arms: best first.
        attribution: the gap divided among parts; None without the arms none and fresh.
        illness: what the plain agent suffers from, in sentences.
        moved: correlations of diagnostics with the loss of return, the strongest first.
        missing: what the study lacks, in sentences.
        notes: how to read the numbers, in sentences.
    """

    study: Study
    arms: list[ArmSummary]
    attribution: Attribution | None = None
    illness: list[str] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def summarize(study: Study, random_return: float | NDArray[np.float64] | None = None) -> Summary:
    """Compare the arms of a study.

    Args:
        study: as from `runs.group`.
        random_return: of a random policy, one for all tasks or `[tasks]`; without it nothing is normalised.
    """
    runs = [run for own in study.arms.values() for run in own]
    tasks = max((row["task"] + 1 for run in runs for row in run.tasks), default=0)
    plain = study.arms.get(labels.NONE)
    ends = measures.column(runs, tasks, "return_end")
    reference = Reference(
        tasks,
        study.arms.get(labels.FRESH, []),
        None if plain is None else measures.column(plain, tasks, "return_end"),
        None if random_return is None else _floor(random_return, tasks),
        float(np.nanmax(ends)) if (~np.isnan(ends)).any() else float("nan"),
    )
    arms = [
        summarize_arm(label, own, reference, label == labels.FRESH, label == labels.NONE)
        for label, own in study.arms.items()
    ]
    arms.sort(key=lambda arm: -np.inf if np.isnan(arm.aggregate.value) else arm.aggregate.value, reverse=True)
    attribution = attribute(arms)
    by_label = {arm.label: arm for arm in arms}
    moved = find_moved(by_label[labels.NONE]) if plain and tasks > 1 else []
    return Summary(
        study,
        arms,
        attribution,
        diagnose(arms, attribution),
        moved,
        list(missing(study, arms, tasks, random_return is not None)),
        list(notes(arms, moved, tasks, reference)),
    )


def _floor(random_return: float | NDArray[np.float64], tasks: int) -> NDArray[np.float64]:
    """A random policy's return for every task: the mean of the others for those that were not tried."""
    given = np.atleast_1d(np.asarray(random_return, float))
    if len(given) == 1:
        return np.full(tasks, given[0])
    known = given[~np.isnan(given)]
    found = np.full(tasks, known.mean() if len(known) else np.nan)
    given = given[:tasks]
    found[: len(given)] = np.where(np.isnan(given), found[: len(given)], given)
    return found
