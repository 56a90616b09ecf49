"""Forgetting, where tasks recur: what an agent earned when it left a task, less what it earns when it comes back.

    forgetting = mean of the last 20 returns of a visit  -  mean of the first 10 returns of the next visit

Two tasks are the same where their changes read the same, and a visit ends where another task begins. Chaudhry et al.,
"Riemannian walk for incremental learning", ECCV 2018, arXiv 1801.10112, and Wołczyk et al. (Continual World, NeurIPS
2021) evaluate every task at the end of training, which takes episodes of their own; here the run's own next visit is
the evaluation, so that nothing is said of tasks that never come back.

Forgetting is no loss of plasticity: an agent that forgets everything may learn as fast as ever. What tells of that is
the plasticity curve, the area under the learning curve on the j-th visit to the same task (the repeated visits of Abbas
et al., "Loss of plasticity in continual deep reinforcement learning", CoLLAs 2023, arXiv 2303.07507).
"""

from collections.abc import Sequence
from itertools import pairwise


def visits(changes: Sequence[str]) -> list[list[int]]:
    """Tasks that recur: for each, the numbers of its visits, in order, of which there are two or more.

    A task that follows upon itself has not been left: only the first of such visits stands here.

    Args:
        changes: the text of each task's change, in the order of the tasks.
    """
    found: dict[str, list[int]] = {}
    for task, change in enumerate(changes):
        if task == 0 or changes[task - 1] != change:
            found.setdefault(change, []).append(task)
    return [tasks for tasks in found.values() if len(tasks) > 1]


def forgetting(ends: Sequence[float], beginnings: Sequence[float], changes: Sequence[str]) -> list[float]:
    """What was forgotten between each two visits to a task, in units of return; empty where none recurs.

    Args:
        ends: return at the end of each task.
        beginnings: return of the first episodes of each task.
        changes: the text of each task's change.
    """
    lost = []
    for tasks in visits(changes):
        for earlier, later in pairwise(tasks):
            left = earlier
            while changes[left + 1] == changes[earlier]:  # a visit lasts until another task begins
                left += 1
            lost.append(ends[left] - beginnings[later])
    return lost
