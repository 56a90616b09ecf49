"""Plasticity gap: what an agent that starts afresh on a task earns above one that has come through others.

    gap_k          = R_k^fresh - R_k
    normalised gap = mean_k (R_k^fresh - R_k) / mean_k (R_k^fresh - R_k^random)

R_k is the return at the end of task k, with the same seed, budget and settings for both. Positive: what came before
does harm. Its absence is no proof of plasticity, since an agent may also profit from earlier tasks while it learns
less well. The fresh agent is the "oracle" of Tang et al. (C-CHAIN, ICML 2025, arXiv 2506.00592) and the "reset"
baseline of He et al. ("Spectral collapse drives loss of plasticity in deep continual learning", arXiv 2509.22335). The
normalised gap says which share of what can be learnt on the tasks is lost: 0 none, 1 all that a random policy does not
earn anyway.

Traps: the fresh agent is told of the switch. On the first task both are one and the same agent, so that it is left out
of every mean. Means are taken above and below the line before they are divided, since on a single task the fresh agent
may learn next to nothing; where it does so on average, there is no share.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Kind = TypeVar("Kind", bound=np.generic)


def later(cells: NDArray[Kind]) -> NDArray[Kind]:
    """The tasks that count, of `[..., tasks]`: all but the first; that one too where there is no other."""
    return cells[..., 1:] if cells.shape[-1] > 1 else cells


def gap(fresh: NDArray[np.float64], continuing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Task by task, in units of return; positive where the fresh agent earns more."""
    return fresh - continuing


def normalized_gap(fresh: NDArray[np.float64], continuing: NDArray[np.float64], floor: NDArray[np.float64]) -> float:
    """Over tasks that are known of both agents, as a share of what the fresh agent earns above a random policy.

    Args:
        fresh: return at the end of each task, `[tasks]` or `[runs, tasks]`.
        continuing: of the continuing agent, in the same shape.
        floor: of a random policy, in a shape that fits.

    Returns:
        NaN where the fresh agent does not earn more than the random policy.
    """
    gaps = gap(fresh, continuing)
    known = ~np.isnan(gaps)
    span = (fresh - floor)[known].mean() if known.any() else 0.0
    return float(gaps[known].mean() / span) if span > 0 else math.nan
