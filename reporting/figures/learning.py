"""Learning curves: the return of episodes over environment steps, with the switches of task marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from reporting.figures.lines import Line, draw_line
from reporting.figures.naming import height, label_ends
from reporting.figures.style import FAINT, WIDTH, FloatArray, Looks, new_axes, styled

BINS = 240
"""Points on a curve at most, as many as can be told apart on a page (a choice)."""

BINS_A_TASK = 12
"""Points on a curve in each task, where there is room for them (a choice)."""


@dataclass(frozen=True)
class Earned:
    """Episodes of one run that count: the step each ended at, and its return; both `[episodes]`."""

    step: FloatArray
    returns: FloatArray


def learning_curves(
    arms: Mapping[str, Sequence[Earned]],
    looks: Looks,
    switches: Sequence[float],
    *,
    end: float,
    width: float = WIDTH,
) -> Figure:
    """Mean return of the episodes that ended in each bin of steps.

    Args:
        arms: by arm, its runs.
        looks: how each arm is drawn.
        switches: steps at which the task changed in all runs; empty where each run switched at its own.
        end: the last step.
        width: inches.
    """
    with styled():
        figure, axes = new_axes(width, height(width, arms))
        edges = bin_edges(switches, end)
        middles = (edges[:-1] + edges[1:]) / 2
        ends = {}
        for arm, runs in arms.items():
            line = Line(np.stack([binned(run, edges) for run in runs]))
            draw_line(axes, middles, line, looks[arm], small=True)
            mean = line.mean()
            ends[arm] = float(mean[np.isfinite(mean)][-1]) if np.isfinite(mean).any() else float("nan")
        for switch in switches:
            axes.axvline(switch, color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1, gid="switch")
        axes.set_xlim(0, end)
        axes.set_xlabel("environment steps")
        axes.set_title("return of episodes", loc="left")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        label_ends(figure, axes, ends, looks)
    return figure


def bin_edges(switches: Sequence[float], end: float) -> FloatArray:
    """Edges of the bins `[bins + 1]`: no bin reaches over a switch, all bins of a task are equally wide."""
    bounds = np.unique([0.0, *(switch for switch in switches if 0 < switch < end), end])
    if len(bounds) - 1 > BINS or len(bounds) < 3:
        return np.linspace(0, end, min(BINS, 120) + 1)
    each = max(1, min(BINS_A_TASK, BINS // (len(bounds) - 1)))
    parts = [np.linspace(low, high, each, endpoint=False) for low, high in pairwise(bounds)]
    return np.concatenate([*parts, [end]])


def binned(run: Earned, edges: FloatArray) -> FloatArray:
    """`[bins]`, mean return of the episodes that ended after a bin's left edge, up to its right one; NaN where none."""
    place = np.searchsorted(edges, run.step, side="left") - 1
    inside = (place >= 0) & (place < len(edges) - 1) & np.isfinite(run.returns)
    number = np.bincount(place[inside], minlength=len(edges) - 1)
    total = np.bincount(place[inside], weights=run.returns[inside], minlength=len(edges) - 1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
