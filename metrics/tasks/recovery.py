"""Steps to recover: how long an agent needs on a task to come back to x per cent of a reference.

    steps = min { t : mean of the last 20 returns up to t >= threshold }
    threshold = floor + x (reference - floor)

the "time to threshold" of Taylor and Stone, "Transfer learning for reinforcement learning domains: a survey", JMLR 10,
2009. The reference is a return at the end of a task: that of an agent that started afresh on this very task, or the
run's own on its first task. The floor is the return of a random policy; where none is known, x per cent of a return are
meant as (1 - x) |reference| below it, so that 80 % of -100 is -120 and not -80, which would be better than -100.

An agent that never gets there has not needed the task's length: it is censored there, and a mean over tasks that takes
the length for its time is too small. `reporting.statistics` does what is right with such times (Kaplan and Meier 1958).

Smoothed, since one lucky episode is no recovery: over up to 20 episodes of this task, and no fewer than 5 (both are
choices, x = 80 % too). Where episodes are long, so is the delay of the smoothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.tasks.returns import LAST_EPISODES

SHARE = 0.8
"""Of the reference, which counts as recovered."""
FEWEST = 5
"""Episodes of a task that must have ended before anything counts as recovered."""

ROUNDING = 1e-9


class Recovery(NamedTuple):
    """Environment steps until an agent had recovered; where `reached` is false, those it was watched for in vain."""

    steps: int
    reached: bool


def threshold(reference: float, floor: float | None = None) -> float:
    """The return that counts as recovered, in units of return; NaN for a NaN reference."""
    if floor is None:
        return reference - (1 - SHARE) * abs(reference)
    return floor + SHARE * (reference - floor)


def recovery(steps: NDArray[np.int64], returns: NDArray[np.float64], length: int, goal: float) -> Recovery | None:
    """When the mean over the last episodes of this task first reached a goal.

    Args:
        steps: when each episode ended, `[episodes]`, in order, counted from the task's first step.
        returns: what each earned, `[episodes]`.
        length: the task's environment steps.
        goal: the return to reach.

    Returns:
        Steps in 0 to `length`; None where the goal is no number.
    """
    if np.isnan(goal):
        return None
    totals = np.concatenate(([0.0], np.cumsum(returns)))
    ends = np.arange(FEWEST, len(returns) + 1)
    starts = np.maximum(ends - LAST_EPISODES, 0)
    means = (totals[ends] - totals[starts]) / (ends - starts) if len(ends) else ends
    # Sums of many returns are rounded; a mean that is the goal shall not miss it for that.
    reached = np.flatnonzero(means >= goal - ROUNDING * abs(goal))
    if not len(reached):
        return Recovery(length, False)
    return Recovery(int(np.clip(steps[ends[reached[0]] - 1], 0, length)), True)
