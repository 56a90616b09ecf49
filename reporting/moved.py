"""Which diagnostics move with the loss of return, over the later tasks of the plain agent.

    rho = Spearman's rank correlation between x and y, over all (run, task)

    y   what was lost in task k: fresh less none at its end, with the same seed; without a fresh arm, the run's own
        return at the end of its first task less that of task k
    x   the diagnostic as the agent entered task k: at the end of task k-1, or (`switch/...`) on the first batch of k

The value before, not that at the end of the same task, since an agent that has failed a task also looks different for
it. rho > 0: more is lost where the diagnostic is higher. Ranks within a tie share their mean (Spearman 1904). Intervals
draw whole runs, with all their tasks, and rank anew.

It is a correlation and names suspects, not causes: most diagnostics simply grow with the age of the agent, and so does
the loss; which of them matters, only an arm that changes it can tell. Many are looked at, and of those without any
connection some have an interval that leaves out 0 all the same (`BY_CHANCE`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reporting import statistics
from reporting.arms import ArmSummary
from reporting.measures import AT_SWITCH
from reporting.statistics import Cells, Interval

RESAMPLES = 1000
"""Fewer than elsewhere, since there are many diagnostics. A choice."""
FEWEST = 5
"""Cells below which no correlation is computed. A choice."""
FEWEST_RUNS = 3
"""Runs below which none counts as moved: two have three different resamples. A choice."""
BY_CHANCE = {3: 0.21, 5: 0.14, 10: 0.09, 20: 0.06}
"""Runs, and the share of unconnected diagnostics that would count as moved with so many; of white noise over 5 and 19
tasks, simulated here."""


@dataclass
class Moved:
    """A diagnostic and the loss of return.

    Attributes:
        name: such as `actor/dormant`, at the end of the task before, or `switch/actor/entropy`.
        correlation: Spearman's; positive where more return is lost the higher it is.
        cells: pairs of a run and a task.
        moved: whether the interval leaves out 0, and is from three runs or more.
    """

    name: str
    correlation: Interval
    cells: int
    moved: bool


def find_moved(plain: ArmSummary) -> list[Moved]:
    """Every diagnostic that varies, the strongest correlation first."""
    loss = losses(plain)
    entered: dict[str, Cells] = {}
    rows = [plain.seeds.index(seed) for seed in plain.gap_seeds] if plain.gap is not None else slice(None)
    for name, cells in plain.diagnostics.items():
        entered[name] = cells[rows, :-1]
    for name, cells in plain.at_switch.items():
        entered[AT_SWITCH + name] = cells[rows, 1:]
    return sorted(_correlations(entered, loss[:, 1:]), key=lambda found: -abs(found.correlation.value))


def by_chance(runs: int) -> float:
    """The share of diagnostics without any connection that would count as moved."""
    return next((share for most, share in BY_CHANCE.items() if runs <= most), min(BY_CHANCE.values()))


def losses(plain: ArmSummary) -> Cells:
    """What was lost in each task, `[runs, tasks]`; of the paired seeds alone where there is a fresh arm."""
    if plain.gap is not None and plain.gap_per_task is not None:
        return plain.gap_per_task
    return plain.per_task[:, :1] - plain.per_task


def _correlations(entered: Mapping[str, Cells], loss: Cells) -> list[Moved]:
    found = []
    rows = statistics.counts(statistics.draws(len(loss), RESAMPLES, 0)) if len(loss) else np.empty((0, 0))
    for name, cells in entered.items():
        known = ~(np.isnan(cells) | np.isnan(loss))
        if known.sum() < FEWEST or np.ptp(cells[known]) == 0 or np.ptp(loss[known]) == 0:
            continue
        run = np.nonzero(known)[0]
        weights = np.vstack([np.ones(len(run)), rows[:, run]])
        estimates = spearman(cells[known], loss[known], weights)
        runs = len(np.unique(run))
        interval = statistics.of_resamples(float(estimates[0]), estimates[1:], runs)
        moved = runs >= FEWEST_RUNS and (interval.is_positive or interval.is_negative)
        found.append(Moved(name, interval, int(known.sum()), moved))
    return found


def spearman(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank correlation of samples in which each cell stands as often as its weight says.

    Args:
        x: `[cells]`.
        y: `[cells]`.
        weights: whole numbers, `[..., cells]`.

    Returns:
        `[...]`, in [-1, 1]; NaN where either does not vary.
    """
    one, other = ranks(x, weights), ranks(y, weights)
    total = weights.sum(-1, keepdims=True)
    one = one - statistics.quotient((weights * one).sum(-1, keepdims=True), total)
    other = other - statistics.quotient((weights * other).sum(-1, keepdims=True), total)
    squares = (weights * one**2).sum(-1) * (weights * other**2).sum(-1)
    return statistics.quotient((weights * one * other).sum(-1), np.sqrt(np.maximum(squares, 0)))


def ranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mid-ranks of values `[cells]`, each standing `weights` times, `[..., cells]`."""
    order = np.argsort(values, kind="stable")
    group = np.unique(values, return_inverse=True)[1]
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    size = np.add.reduceat(weights[..., order], starts, axis=-1)
    middle = np.cumsum(size, axis=-1) - size + (size + 1) / 2
    return np.asarray(middle[..., group])
