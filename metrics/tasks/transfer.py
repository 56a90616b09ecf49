"""Forward transfer: how much faster an agent learns a task for having learnt others, against one that starts afresh.

    FT_k = (AUC_k - AUC_k^fresh) / (1 - AUC_k^fresh),    AUC = (area - floor) / (ceiling - floor)

Wołczyk, Zając, Pascanu, Kuciński and Miłoś, "Continual World: a robotic benchmark for continual reinforcement
learning", NeurIPS 2021, arXiv 2105.10919, where AUC is that of a success rate, in [0, 1] by itself. A return has no
such scale: here the floor is the return of a random policy, and for the ceiling, which nobody knows, stands the best
return at the end of a task that any run of the study has reached. 1 is perfect from the first step on, 0 as fast as
the fresh agent, and loss of plasticity is negative, without bound.

Trap: where the fresh agent's area is near the ceiling there is nothing left to transfer, and the quotient explodes;
then it is NaN (less than 5 % of the scale left, a choice). Another study has another ceiling: compare within one.
"""

import math

LEAST_LEFT = 0.05
"""Of the scale, that the fresh agent must leave to be gained."""


def scaled(value: float, floor: float, ceiling: float) -> float:
    """A return or an area on the scale from random to best: 0 at the floor, 1 at the ceiling; NaN without a scale."""
    return (value - floor) / (ceiling - floor) if ceiling > floor else math.nan


def forward_transfer(area: float, fresh: float, floor: float, ceiling: float) -> float:
    """Forward transfer to one task, at most 1.

    Args:
        area: of the continuing agent on the task.
        fresh: of the agent re-initialised at its beginning.
        floor: the return of a random policy.
        ceiling: the best return there is.

    Returns:
        NaN where nothing is left to gain, or something is not known.
    """
    left = 1 - scaled(fresh, floor, ceiling)
    return (scaled(area, floor, ceiling) - scaled(fresh, floor, ceiling)) / left if left >= LEAST_LEFT else math.nan
