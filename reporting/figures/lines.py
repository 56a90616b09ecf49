"""Lines over tasks or steps: the mean of the runs, its band, each run faintly behind, the arm's name at the end."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reporting.figures.naming import height, label_ends
from reporting.figures.style import FAINT, WIDTH, FloatArray, Look, Looks, new_axes, styled

MOST_MARKED = 30
"""Points on a line up to which each is marked (a choice)."""


@dataclass(frozen=True)
class Line:
    """One arm in a figure of lines.

    Attributes:
        runs: `[runs, points]`, NaN where a run has no value.
        low: `[points]`, lower end of an interval around the mean; None where none is drawn.
        high: its upper end.
    """

    runs: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None

    def mean(self) -> FloatArray:
        """`[points]`, mean of the runs that have a value; NaN where none has."""
        counted = np.isfinite(self.runs)
        number = counted.sum(axis=0)
        total = np.where(counted, self.runs, 0.0).sum(axis=0)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def over_tasks(
    lines: Mapping[str, Line],
    looks: Looks,
    label: str,
    *,
    x_label: str = "task",
    first: int = 0,
    zero: bool = False,
    width: float = WIDTH,
) -> Figure:
    """A value of each task, a line for each arm.

    Args:
        lines: by arm; all with the tasks in their columns.
        looks: how each arm is drawn.
        label: what the value is.
        x_label: what the columns are.
        first: number of the first column.
        zero: whether 0 means something and gets a line of its own.
        width: inches.
    """
    with styled():
        figure, axes = new_axes(width, height(width, lines))
        points = max((_known(line.runs) for line in lines.values()), default=0)
        for name, line in lines.items():
            draw_line(axes, np.arange(first, first + line.runs.shape[1], dtype=float), line, looks[name])
        if zero:
            axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
        axes.set_xlabel(x_label)
        axes.set_title(label, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        room = 0.025 * (points - 1) if points > 1 else 0.5
        axes.set_xlim(first - room, first + max(points - 1, 0) + room)
        label_ends(figure, axes, {name: _last(line.mean()) for name, line in lines.items()}, looks)
    return figure


def draw_line(axes: Axes, x: FloatArray, line: Line, look: Look, *, small: bool = False, each: bool = True) -> None:
    """One arm: band, runs, mean. Points without a value are left out, and the line goes on at the next one.

    Args:
        axes: where.
        x: `[points]`.
        line: what.
        look: how.
        small: for small panels: thinner.
        each: whether each run is drawn behind the mean.
    """
    mean = line.mean()
    there = np.isfinite(mean)
    marked = there.sum() <= MOST_MARKED
    if line.low is not None and line.high is not None:
        axes.fill_between(x, line.low, line.high, color=look.color, alpha=0.13, linewidth=0, zorder=2)
    if each and len(line.runs) > 1:
        for run in line.runs:
            seen = np.isfinite(run)
            axes.plot(x[seen], run[seen], color=look.color, alpha=0.25, linewidth=0.5, zorder=2.2)
    axes.plot(
        x[there],
        mean[there],
        color=look.color,
        linestyle=look.line,
        marker=look.marker if marked else "",
        markersize=2 if small else 3.5,
        markeredgewidth=0,
        linewidth=1.0 if small else 1.5,
        zorder=3,
    )


def _known(runs: FloatArray) -> int:
    """The number of columns up to the last with a value."""
    return int(np.flatnonzero(np.isfinite(runs).any(axis=0)).max(initial=-1)) + 1


def _last(values: FloatArray) -> float:
    there = values[np.isfinite(values)]
    return float(there[-1]) if len(there) else float("nan")
