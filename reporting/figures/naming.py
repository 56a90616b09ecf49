"""Names of arms in figures: at the ends of lines, moved apart where they would cover one another; broken or shortened.

Labels beside lines, in the lines' colours, spare the reader a legend. Those that touch are moved by least squares: a
block of them stands around the mean of where its members wanted to be (pool adjacent violators).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reporting.figures.style import Looks


def height(width: float, arms: Iterable[str]) -> float:
    """Inches that a figure of lines needs, with a label for each arm beside it."""
    rows = sum(wrapped(arm, _letters(width)).count("\n") + 1 for arm in arms)
    return max(0.38 * width + 0.75, 0.135 * rows + 0.9)


def label_ends(figure: Figure, axes: Axes, ends: Mapping[str, float], looks: Looks) -> None:
    """Write each arm's name beside the end of its line, moved apart where they would cover one another."""
    points = 72 * 0.8 * figure.get_figheight()  # roughly: the rest is for the axis' label
    low, high = axes.get_ylim()
    names = sorted((name for name in ends if np.isfinite(ends[name])), key=lambda name: ends[name])
    texts = {name: wrapped(name, _letters(figure.get_figwidth())) for name in names}
    heights = [(texts[name].count("\n") + 1) * 9.5 / points for name in names]
    places = [(ends[name] - low) / (high - low) for name in names]
    for name, place, target in zip(names, spread(places, heights), places, strict=True):
        color = looks[name].color
        axes.plot(
            [1.0, 1.015, 1.03],
            [target, target, place],
            transform=axes.transAxes,
            color=color,
            linewidth=0.6,
            clip_on=False,
            gid="leader",
        )
        axes.text(1.035, place, texts[name], transform=axes.transAxes, color=color, va="center", fontsize=7.5)


def spread(places: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Places (ascending) moved apart as little as it takes for texts of these heights not to overlap.

    Texts that touch form a block around the mean of where they wanted to be (pool adjacent violators).
    """
    blocks: list[tuple[float, float, int]] = []  # sum of wished first places, total height, members
    for place, height in zip(places, heights, strict=True):
        # A block is told by where its lower edge would like to be; its members stand one on another.
        blocks.append((place - height / 2, height, 1))
        while len(blocks) > 1:
            (wish, tall, few), (next_wish, next_tall, more) = blocks[-2], blocks[-1]
            if wish / few + tall <= next_wish / more:
                break
            blocks[-2:] = [(wish + next_wish - more * tall, tall + next_tall, few + more)]
    found: list[float] = []
    remaining = iter(heights)
    for wish, _, members in blocks:
        edge = wish / members
        for _ in range(members):
            height = next(remaining)
            found.append(edge + height / 2)
            edge += height
    return found


def _letters(width: float) -> int:
    """Letters of a label on one line, beside a figure so many inches wide."""
    return max(18, round(3.8 * width))


def printable(label: str) -> str:
    """A name on one line, with a mark in the place of what cannot be written."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(label.split()))


def wrapped(label: str, most: int = 26) -> str:
    """An arm's name over as many lines as it needs, broken after a plus sign where there is one.

    At most three lines; what is longer ends in an ellipsis, since the page has the name in full.
    """
    lines = [""]
    for part in printable(label).replace("+", "+\n").split("\n"):
        for begin in range(0, len(part), most):
            piece = part[begin : begin + most]
            if len(lines[-1]) + len(piece) <= most:
                lines[-1] += piece
            else:
                lines.append(piece)
    if len(lines) > 3:
        lines = [*lines[:2], f"{lines[2][: most - 1]}…"]
    text = "\n".join(lines)
    return f"\u200a{text}" if text.startswith("_") else text  # matplotlib leaves out what begins with an underscore


def shortened(label: str, most: int = 40) -> str:
    """An arm's name on one line, its middle left out where it is long."""
    label = printable(label)
    if len(label) > most:
        label = f"{label[: most * 2 // 3]}…{label[-(most // 3) :]}"
    return f"\u200a{label}" if label.startswith("_") else label
