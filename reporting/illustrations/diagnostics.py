"""Diagnostics against tasks: at their ends, and on the first batch after each switch."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from reporting.figures import Line, Looks, panels
from reporting.figures.style import FloatArray
from reporting.illustrations.base import Illustration, any_known, slug
from reporting.summary import Summary


def diagnostics(summary: Summary, looks: Looks) -> Iterator[Illustration]:
    """A figure for each network, a panel for each diagnostic."""
    names = dict.fromkeys(name for arm in summary.arms for name in arm.diagnostics)
    networks = dict.fromkeys(name.partition("/")[0] for name in names)
    found = False
    for network in networks:
        mine = {
            name.partition("/")[2]: lines
            for name in names
            if name.startswith(f"{network}/") and (lines := _spread_lines(summary, name, "diagnostics"))
        }
        if mine:
            found = True
            yield Illustration(
                f"diagnostics_{slug(network)}",
                f"Diagnostics of the {network}",
                "Each diagnostic at the end of each task: mean over runs and, shaded, the range of the runs.",
                partial(panels, mine, looks),
                f"One panel for each of {', '.join(mine)}.",
                wide=True,
            )
    if not found:
        yield Illustration("diagnostics", "Diagnostics", "No diagnostic was recorded at the end of a task.")


def first_batches(summary: Summary, looks: Looks) -> Illustration:
    """What was measured on the first batch of each task."""
    name, title = "first_batch", "First batch after each switch"
    names = dict.fromkeys(name for arm in summary.arms for name in arm.at_switch)
    found = {
        name.replace("/", ": ", 1): lines for name in names if (lines := _spread_lines(summary, name, "at_switch"))
    }
    if not found:
        return Illustration(name, title, "Nothing was measured on the first batch of a task.")
    return Illustration(
        name,
        title,
        "Measured on the first batch of each task, before the agent has learnt from it: mean over runs and, shaded, "
        "their range. Low entropy or a wide gap between logits here means that the agent meets the new task with the "
        "certainty of the old one.",
        partial(panels, found, looks),
        f"One panel for each of {', '.join(found)}.",
        wide=True,
    )


def _spread_lines(summary: Summary, name: str, kind: str) -> dict[str, Line]:
    """Lines by arm with the range of the runs as band; arms without a value are left out."""
    lines = {}
    for arm in summary.arms:
        cells: FloatArray | None = getattr(arm, kind).get(name)
        if cells is not None and any_known(cells):
            low = np.where(np.isfinite(cells), cells, np.inf).min(axis=0)
            high = np.where(np.isfinite(cells), cells, -np.inf).max(axis=0)
            several = len(cells) > 1
            lines[arm.label] = Line(cells, low if several else None, high if several else None)
    return lines
