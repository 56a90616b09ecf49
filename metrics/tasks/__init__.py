"""What an agent earns on each task, how soon, and how much less than an agent that starts afresh.

Every measure is a function of one task's episodes: `steps`, the environment steps since the task began at which they
ended (over all parallel environments, in order), and `returns`, what each earned, undiscounted. Episodes that a switch
cut short are left out by whoever asks. NaN is what could not be measured.
"""

from metrics.tasks.area import area
from metrics.tasks.drop import FIRST_EPISODES, at_beginning, drop
from metrics.tasks.forgetting import forgetting, visits
from metrics.tasks.gap import gap, later, normalized_gap
from metrics.tasks.jump_start import jump_start
from metrics.tasks.recovery import SHARE, Recovery, recovery, threshold
from metrics.tasks.returns import LAST_EPISODES, TaskReturns, at_end, over_task
from metrics.tasks.transfer import forward_transfer, scaled

__all__ = [
    "FIRST_EPISODES",
    "LAST_EPISODES",
    "SHARE",
    "Recovery",
    "TaskReturns",
    "area",
    "at_beginning",
    "at_end",
    "drop",
    "forgetting",
    "forward_transfer",
    "gap",
    "jump_start",
    "later",
    "normalized_gap",
    "over_task",
    "recovery",
    "scaled",
    "threshold",
    "visits",
]
