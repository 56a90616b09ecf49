"""Dots with whiskers: one value and its interval a row, the best on top."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reporting.figures.naming import wrapped
from reporting.figures.style import FAINT, WIDTH, FloatArray, Look, new_axes, styled


@dataclass(frozen=True)
class Dot:
    """A row.

    Attributes:
        label: its name.
        value: the dot.
        low: left end of the whisker; NaN where there is none.
        high: its right end.
        look: how it is drawn.
        points: `[runs]`, values of single runs, drawn faintly; None where there are none.
    """

    label: str
    value: float
    low: float
    high: float
    look: Look
    points: FloatArray | None = None


def dots(
    rows: Sequence[Dot],
    label: str,
    *,
    references: Sequence[tuple[float, str]] = (),
    limits: tuple[float, float] | None = None,
    share: bool = False,
    width: float = WIDTH,
) -> Figure:
    """A value and its interval for each row.

    Args:
        rows: from top to bottom.
        label: what the value is.
        references: values that a line is drawn at, and what they mean.
        limits: least range of the axis; the data may go beyond.
        share: whether values are fractions to be written as percentages.
        width: inches.
    """
    with styled():
        names = [wrapped(row.label) for row in rows]
        lines = sum(name.count("\n") * 0.6 + 1 for name in names)
        figure, axes = new_axes(width, 0.26 * lines + 0.55 + 0.15 * bool(references))
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        for place, text in references:
            axes.axvline(place, color=FAINT, linewidth=0.8, zorder=1)
            axes.annotate(
                text,
                (place, 1),
                (0, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                color="#777777",
                fontsize=7,
            )
        for place, row in enumerate(rows):
            if row.points is not None:
                seen = row.points[np.isfinite(row.points)]
                axes.plot(
                    seen, np.full(len(seen), place + 0.26), ".", color=row.look.color, alpha=0.45, markersize=3.5, mew=0
                )
            if np.isfinite(row.low) and np.isfinite(row.high):
                axes.plot([row.low, row.high], [place, place], color=row.look.color, linewidth=1.6, zorder=2)
            if np.isfinite(row.value):
                axes.plot(row.value, place, row.look.marker, color=row.look.color, markersize=6, mew=0, zorder=3)
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(label, loc="right")  # on the left there may be room for no more than names
        if limits:
            low, high = axes.get_xlim()
            axes.set_xlim(min(low, limits[0]), max(high, limits[1]))
        if share:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    return figure
