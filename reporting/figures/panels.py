"""Small multiples: one panel a diagnostic, one line an arm, one legend for all."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reporting.figures.lines import Line, draw_line
from reporting.figures.naming import shortened
from reporting.figures.style import WIDTH, Looks, new_figure, styled

LEAST_WIDTH = 1.6
"""Inches of a panel: type of this size leaves room for four over a page (a choice)."""


def panels(
    diagnostics: Mapping[str, Mapping[str, Line]],
    looks: Looks,
    *,
    width: float = WIDTH,
) -> Figure:
    """Each diagnostic against the task.

    Args:
        diagnostics: by name, the lines by arm.
        looks: how each arm is drawn.
        width: inches.
    """
    with styled():
        rows = max(1, -(-len(diagnostics) // int(width / LEAST_WIDTH)))
        columns = max(1, -(-len(diagnostics) // rows))  # as even a grid as can be
        arms = list(dict.fromkeys(arm for lines in diagnostics.values() for arm in lines))
        names = [shortened(arm) for arm in arms]
        longest = max(map(len, names), default=1)
        legend_columns = max(1, min(len(arms), int(width / (0.062 * longest + 0.42))))
        legend_rows = -(-len(arms) // legend_columns)
        figure = new_figure(width, (1.0 + 0.9 / columns) * rows + 0.16 * legend_rows + 0.3)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, (name, lines) in zip(grid.flat, diagnostics.items(), strict=False):
            for arm, line in lines.items():
                x = np.arange(line.runs.shape[1], dtype=float)
                draw_line(axes, x, line, looks[arm], small=True, each=False)
            axes.set_title(name.replace("_", " "), loc="left", fontsize=7.5)
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.tick_params(labelsize=6.5)
            axes.margins(x=0.03, y=0.08)
        for number, axes in enumerate(grid.flat):
            if number >= len(diagnostics):
                axes.remove()
            elif number + columns >= len(diagnostics):  # the lowest panel of its column
                axes.tick_params(labelbottom=True)
        figure.supxlabel("task", fontsize=8)
        handles = [
            Line2D([], [], color=look.color, ls=look.line, marker=look.marker, ms=3.5, mew=0)
            for look in (looks[arm] for arm in arms)
        ]
        figure.legend(
            handles,
            names,
            loc="outside upper left",
            ncols=legend_columns,
            fontsize=7.5,
            handlelength=2.2,
            borderpad=0.3,
        )
    return figure
