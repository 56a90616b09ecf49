"""How every figure looks: one colour, marker and line for an arm wherever it is drawn, thin axes, readable type.

Colours are those that Okabe and Ito chose for colour-blind readers ("Color Universal Design", 2008). Their yellow can
hardly be seen on white; wine and olive of Paul Tol's muted scheme (SRON/EPS/TN/09-002, 2021) stand in for it. Beyond
eight arms colours come again with another line and marker. Sizes and weights of lines and type are choices.
"""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from configs import arms as labels

FloatArray = NDArray[np.float64]
Stroke = Literal["-", "--", "-.", ":"]

WIDTH = 6.8
"""Inches of a figure on the page and of one over both columns of a paper."""

COLUMN = 3.4
"""Inches of a paper's column; type keeps its size."""

INK, FAINT = "#333333", "#9a9a9a"

COLORS = ("#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9", "#882255", "#999933")
MARKERS = ("s", "^", "D", "v", "P", "X", "p")
LINES: tuple[Stroke, ...] = ("-", "--", "-.", ":")

STYLE: dict[str, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "text.parse_math": False,  # an arm may be called anything, $ included
    "axes.formatter.useoffset": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # TrueType, as conferences ask for
}


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    color: str
    marker: str
    line: Stroke


Looks = dict[str, Look]


def looks(arms: Iterable[str]) -> Looks:
    """A look for each arm: the plain agent dark grey, the fresh one green, the others in the order they come in."""
    found: Looks = {}
    numbers = count()
    for label in arms:
        if label in found:
            continue
        if label == labels.NONE:
            found[label] = Look(INK, "o", "-")
        elif label == labels.FRESH:
            found[label] = Look("#009E73", "o", "--")
        else:
            number = next(numbers)
            turn = number // len(COLORS)
            found[label] = Look(
                COLORS[number % len(COLORS)],
                MARKERS[(number + turn) % len(MARKERS)],
                LINES[turn % len(LINES)],
            )
    return found


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style; whoever calls keeps matplotlib's settings as they were."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that belongs to no window and no global list."""
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one panel."""
    figure = new_figure(width, height)
    return figure, figure.subplots()


def png(figure: Figure, dpi: int) -> bytes:
    """The figure as a PNG file, without the date and version that would make it another file each time."""
    file = io.BytesIO()
    with styled():
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def save_pdf(figure: Figure, path: Path) -> None:
    """Write the figure as a PDF with its fonts in it."""
    with styled():
        figure.savefig(path, format="pdf", metadata={"CreationDate": None})
