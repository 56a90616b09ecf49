"""Jump-start: what the first episodes of a continuing agent earn above those of an agent that starts afresh.

    jump-start_k = mean of the first 10 returns of task k  -  the same of a fresh agent on task k

Taylor and Stone, "Transfer learning for reinforcement learning domains: a survey", JMLR 10, 2009: what is carried over
from earlier tasks, before anything of the new one is learnt. Negative where old habits do harm: a policy that is sure
of the wrong thing earns less than a random one. The 10 episodes, and their trap, are those of `drop`.
"""

import numpy as np
from numpy.typing import NDArray

from metrics.tasks.drop import at_beginning


def jump_start(returns: NDArray[np.float64], fresh: NDArray[np.float64]) -> float:
    """In units of return; positive where the continuing agent starts higher.

    Args:
        returns: of the continuing agent on one task, `[episodes]`, in order.
        fresh: of the agent re-initialised at its beginning, on the same task.
    """
    return at_beginning(returns) - at_beginning(fresh)
