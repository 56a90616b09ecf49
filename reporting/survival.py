"""Times of which some were not awaited: steps to recover, where some tasks ended before the agent had.

    S(t) = prod over event times s <= t of (1 - d_s / n_s)

with n_s the cells still waiting just before s and d_s those that recover at s: the product-limit estimate of Kaplan and
Meier, "Nonparametric estimation from incomplete observations", JASA 53, 1958. Its median is the first t with S(t) <=
1/2, infinite where S never comes that low. The restricted mean is the area under S up to a horizon: the mean time that
a cell waits within it. Where all tasks are as long as the horizon, that is the mean of all times with the horizon for
those of cells that never recovered.

Cells of one run are not independent of each other: intervals draw whole runs.
"""

import numpy as np
from numpy.typing import NDArray

from reporting import statistics
from reporting.statistics import Cells, Interval


def curve(
    times: NDArray[np.float64], reached: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share that still waits after each time at which anything happened.

    Args:
        times: when each cell recovered, or until when it was watched, `[cells]`.
        reached: whether it recovered, `[cells]`.
        weights: how often each cell counts, `[..., cells]`; once unless given.

    Returns:
        The times `[steps]`, in order, and the share `[..., steps]`.
    """
    weights = np.ones(len(times)) if weights is None else weights
    moments, where = np.unique(times, return_inverse=True)
    member = np.zeros((len(times), len(moments)))
    member[np.arange(len(times)), where] = 1
    events = (weights * reached) @ member
    leaving = weights @ member
    waiting = np.flip(np.cumsum(np.flip(leaving, -1), -1), -1)
    stay = 1 - np.divide(events, waiting, out=np.zeros_like(events), where=waiting > 0)
    return moments, np.cumprod(stay, axis=-1)


def median(times: NDArray[np.float64], reached: NDArray[np.bool_]) -> float:
    """The time after which at most half still wait; infinite where more do, NaN without cells."""
    if not len(times):
        return float("nan")
    moments, share = curve(times, reached)
    low = np.flatnonzero(share <= 0.5 + 1e-12)
    return float(moments[low[0]]) if len(low) else float("inf")


def restricted_mean(times: Cells, reached: NDArray[np.bool_], resamples: int = statistics.RESAMPLES) -> Interval:
    """Mean time waited within the median length that cells were watched at most.

    Args:
        times: `[runs, tasks]`, NaN where there is no cell.
        reached: whether each recovered, `[runs, tasks]`.
        resamples: of runs.
    """
    runs = int((~np.isnan(times)).any(1).sum())
    known = ~np.isnan(times)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"), runs)
    row = np.nonzero(known)[0]
    flat, done = times[known], reached[known]
    # The longest that can be said anything of in every resample: the usual length of a task.
    horizon = float(np.median(flat[~done])) if not done.all() else float(flat.max())
    drawn = statistics.counts(statistics.draws(len(times), resamples, 0))
    weights = np.vstack([np.ones(len(flat)), drawn[:, row]])
    moments, share = curve(flat, done, weights)
    edges = np.concatenate([[0.0], np.minimum(moments, horizon), [horizon]])
    steps = np.concatenate([np.ones((len(weights), 1)), share], axis=1)
    area = steps @ np.diff(edges)
    return statistics.of_resamples(float(area[0]), np.where(weights[1:].any(1), area[1:], np.nan), runs)
