"""Drop at the switch: what an agent earned at the end of the former task, less what its first episodes now earn.

    drop_k = mean of the last 20 returns of task k-1  -  mean of the first 10 returns of task k

How hard the switch hits the old behaviour, before there was time to learn: it says how far the tasks are apart for this
agent, not how well the agent learns. An agent re-initialised at the switch drops to a random policy by design. No
paper's definition; 10 episodes are a choice, few so that little is learnt meanwhile.

Trap: of episodes that run side by side, short ones end first, so that the first to end are not the first to begin;
where a short episode is a bad one, this makes the drop larger. And where 10 episodes are longer than a rollout, some
learning is in it already.
"""

import numpy as np
from numpy.typing import NDArray

from metrics.tasks.returns import at_end, over_task

FIRST_EPISODES = 10
"""How many of a task's first episodes its beginning is the mean of."""


def at_beginning(returns: NDArray[np.float64]) -> float:
    """Mean return of the first episodes of a task; NaN where there is none."""
    return over_task(returns[:FIRST_EPISODES])


def drop(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """What a switch cost, in units of return; positive where the agent earns less than before.

    Args:
        before: returns of the former task, `[episodes]`, in order.
        after: those of the new one.
    """
    return at_end(before) - at_beginning(after)
