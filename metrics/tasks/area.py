"""Area under a task's learning curve, a mean over environment steps.

    area = 1/T sum_j R_j (t_(j+1) - t_j),    t_j the step at which episode j ended,

that is the mean over the T steps of the task of the return of the episode that ended last: a piecewise constant curve
over environment steps. Before the first end it has the first episode's return, after the last one it keeps the last.
Episodes of parallel environments that end at one step are averaged.

Over steps, not over episodes: while an agent fails, its episodes are short and many, and a mean over episodes would be
that of its first minutes. Nor is an episode weighted by its own length, which would favour long ones also where nothing
is learnt (a step falls into a long episode more often): what is held is the return of the one before, whose length says
nothing of the return of the next. Divided by T, the area is in units of return and comparable between tasks of unlike
length.

It is the "total reward" of Taylor and Stone, "Transfer learning for reinforcement learning domains: a survey", JMLR 10,
2009, per step; Wołczyk et al. (NeurIPS 2021, arXiv 2105.10919) call the like of success rates AUC.
"""

import math

import numpy as np
from numpy.typing import NDArray


def area(steps: NDArray[np.int64], returns: NDArray[np.float64], length: int) -> float:
    """Mean of the return over a task's environment steps.

    Args:
        steps: when each episode ended, `[episodes]`, in order, counted from the task's first step.
        returns: what each earned, `[episodes]`.
        length: the task's environment steps.

    Returns:
        In units of return; NaN where no episode has ended, or the task has no steps.
    """
    if len(steps) == 0 or length <= 0:
        return math.nan
    # Where environments enter a task each at its own reset, an episode of it may end beyond the others' task.
    times, where = np.unique(np.clip(steps, 0, length), return_inverse=True)
    levels = np.bincount(where, weights=returns) / np.bincount(where)
    edges = np.concatenate(([0], times[1:], [length]))
    return float(np.diff(edges) @ levels / length)
