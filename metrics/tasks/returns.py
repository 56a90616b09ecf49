"""What an agent earned on each task: the return over the task, and at its end.

    over the task = mean of the returns of all its episodes
    at its end    = mean of the returns of its last 20 episodes

The mean over a task counts every episode alike, so that the many short episodes of an agent that falls soon outweigh
the few long ones of an agent that has learnt: `area` counts environment steps instead. The return at the end is that of
the exploring agent while it learns, as a run goes by; no evaluation episodes are played. Both are conventions, not from
a paper; papers report either one (Tang et al., "Mitigating plasticity loss in continual reinforcement learning by
reducing churn", ICML 2025, the mean over a run; Juliani and Ash, NeurIPS 2024, arXiv 2405.19153, the last window of
each task). That the end is 20 episodes is a choice.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LAST_EPISODES = 20
"""How many of a task's last episodes its return at the end is the mean of."""


@dataclass
class TaskReturns:
    """The episodes that ended in one task.

    An episode counts for the task that its last transition belonged to.

    Attributes:
        returns: undiscounted return of each episode, in the order in which they ended.
    """

    returns: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_EPISODES))

    def add(self, episode_return: float) -> None:
        """Count one more episode."""
        self.returns.append(episode_return)
        self.recent.append(episode_return)

    @property
    def mean(self) -> float:
        """Mean return of all episodes of the task; NaN where none has ended."""
        return over_task(self.returns)

    @property
    def at_end(self) -> float:
        """Mean return of the last 20 episodes so far; NaN where none has ended."""
        return over_task(self.recent)


def over_task(returns: Sequence[float] | deque[float] | NDArray[np.float64]) -> float:
    """Mean return of all episodes of a task; NaN where there is none."""
    return float(np.mean(returns)) if len(returns) else math.nan


def at_end(returns: NDArray[np.float64]) -> float:
    """Mean return of the last episodes of a task; NaN where there is none."""
    return over_task(returns[-LAST_EPISODES:])
