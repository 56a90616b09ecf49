"""Figures of a report: functions of plain arrays that return a matplotlib figure and touch no global state."""

from reporting.figures.dots import Dot, dots
from reporting.figures.learning import Earned, learning_curves
from reporting.figures.lines import Line, over_tasks
from reporting.figures.panels import panels
from reporting.figures.style import COLUMN, WIDTH, Look, Looks, looks, png, save_pdf

__all__ = [
    "COLUMN",
    "WIDTH",
    "Dot",
    "Earned",
    "Line",
    "Look",
    "Looks",
    "dots",
    "learning_curves",
    "looks",
    "over_tasks",
    "panels",
    "png",
    "save_pdf",
]
