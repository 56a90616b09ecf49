"""One arm of a study in numbers.

Means over tasks leave the first task out, on which all arms are still the same agent (a study of one task has only
that). What compares with the fresh agent does so seed by seed: both met the same tasks, in the same environments.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reporting.runs import Run
from reporting.statistics import Cells, Interval


@dataclass
class ArmSummary:
    """One arm; arrays are `[runs, tasks]`, NaN where something is missing; None is what cannot be computed here.

    Attributes:
        label: of the arm.
        runs: how many.
        seeds: of the runs, in the order of the rows.
        per_task: return at the end of each task.
        mean_per_task: its mean over runs, `[tasks]`.
        low: lower ends of its intervals, `[tasks]`.
        high: upper ends.
        aggregate: interquartile mean of the return at the end, over later tasks.
        gap: mean over later tasks of what the fresh agent earns more at the end. A mean, not an interquartile mean:
            that single tasks collapse is what there is to see.
        normalized_gap: gap / (fresh - random).
        gap_per_task: fresh less arm, `[paired seeds, tasks]`.
        gap_seeds: the seeds of its rows.
        improvement: P(arm > none) in later tasks.
        area: mean over later tasks, as the following.
        recovery: restricted mean of the environment steps to recover.
        recovery_median: Kaplan-Meier median; infinite where fewer than half recover.
        recovery_censored: share of later tasks that ended before the agent had recovered.
        drop: at switches.
        jump_start: above the fresh agent.
        forward_transfer: against the fresh agent.
        forgetting: between visits to the same task.
        visits: area on the j-th visit to tasks that recur, `[runs, visits]`.
        diagnostics: by `<network>/<name>`, at the end of each task.
        at_switch: the same on the first batch of each task, before the agent learnt from it.
        steps_per_second: mean over runs.
    """

    label: str
    runs: int
    seeds: list[int]
    per_task: Cells
    mean_per_task: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    aggregate: Interval
    gap: Interval | None = None
    normalized_gap: Interval | None = None
    gap_per_task: Cells | None = None
    gap_seeds: list[int] = field(default_factory=list)
    improvement: Interval | None = None
    area: Interval | None = None
    recovery: Interval | None = None
    recovery_median: float | None = None
    recovery_censored: float | None = None
    drop: Interval | None = None
    jump_start: Interval | None = None
    forward_transfer: Interval | None = None
    forgetting: Interval | None = None
    visits: Cells | None = None
    diagnostics: dict[str, Cells] = field(default_factory=dict)
    at_switch: dict[str, Cells] = field(default_factory=dict)
    steps_per_second: float | None = None


@dataclass
class Reference:
    """What an arm is compared with.

    Attributes:
        tasks: how many tasks the study has.
        fresh: runs of the arm that starts each task afresh; empty where there is none.
        plain: return at the end of each task of the arm none, `[runs, tasks]`; None where there is none.
        floor: return of a random policy in each task, `[tasks]`; None where it is not known.
        ceiling: the best return at the end of any task of any run.
    """

    tasks: int
    fresh: list[Run]
    plain: Cells | None
    floor: NDArray[np.float64] | None
    ceiling: float
