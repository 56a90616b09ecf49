"""What an illustration is, and the words around it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from reporting.figures.style import FloatArray
from reporting.runs import Run
from reporting.statistics import Interval
from reporting.summary import Summary
from reporting.words import Write, number, written


@dataclass(frozen=True)
class Illustration:
    """A figure, or the reason why there is none.

    Attributes:
        name: stem of its files.
        title: its heading.
        caption: how to read it; where there is no figure, why not.
        draw: draws it so many inches wide; None where there is nothing to draw.
        alt: what it shows, in words, for who cannot see it.
        wide: whether it needs both columns of a paper.
        command: what would make the runs that it takes.
    """

    name: str
    title: str
    caption: str
    draw: Callable[..., Figure] | None = None
    alt: str = ""
    wide: bool = False
    command: str = ""


def ranked(summary: Summary) -> list[tuple[str, list[Run]]]:
    """The runs of each arm, the best arm first."""
    return [(arm.label, summary.study.arms.get(arm.label, [])) for arm in summary.arms]


def any_known(cells: FloatArray) -> bool:
    """Whether there is anything to draw."""
    return bool(np.isfinite(cells).any())


def told(interval: Interval, write: Write | None = None) -> str:
    """A value and its interval, for who hears the page."""
    value, ends = written(interval, write)
    return f"{value} ({ends})" if ends else value


def from_to(values: FloatArray, what: str = "task", first: int = 0) -> str:
    """The first and the last value of a line, for who hears the page; one of them is known."""
    places = np.flatnonzero(np.isfinite(values))
    begin, end = places[0], places[-1]
    if begin == end:
        return f"{number(values[begin])} in {what} {begin + first}"
    return f"{number(values[begin])} in {what} {begin + first}, {number(values[end])} in {what} {end + first}"


def slug(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60] or "study"
