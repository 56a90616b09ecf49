"""What an agent earned on each task: the return over the task, and at its end."""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

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
        return float(np.mean(self.returns)) if self.returns else math.nan

    @property
    def at_end(self) -> float:
        """Mean return of the last 20 episodes so far; NaN where none has ended."""
        return float(np.mean(self.recent)) if self.recent else math.nan
