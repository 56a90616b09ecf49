"""The files of a run directory as plain data, whatever state they are in.

A run may be going on, or have been stopped at any point: files are missing, last lines are torn, rows stand twice. It
may also come from somebody else: numbers without bounds, files that never end. What cannot be read is left out and
counted; nothing that is read is ever executed.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.files import read_bytes

MOST_BYTES = 2**28
"""A table larger than this, 256 MiB, is no table of ours."""
MOST_TASKS = 10_000
"""Numbers of tasks from here on are taken for damage; arrays have a column a task."""
LARGEST_WHOLE = 2**53
COLUMNS = ("step", "task", "return", "length", "cut_short")
WORDS = ("change", "resets")
WHOLE = ("task", "start", "end", "episodes")


@dataclass
class Episodes:
    """The episodes of a run, in the order in which they ended; every array is `[episodes]`.

    Attributes:
        step: environment step of the run at which each ended, over all parallel environments.
        task: the task that its last transition belonged to.
        earned: its undiscounted return.
        length: its steps.
        cut_short: whether a switch ended it, so that its return is not that of a whole episode.
    """

    step: NDArray[np.int64]
    task: NDArray[np.int64]
    earned: NDArray[np.float64]
    length: NDArray[np.int64]
    cut_short: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.step)


def text(path: Path) -> str | None:
    """The text of a run's file, undecodable bytes replaced; None where there is none that can be taken."""
    if problem(path) is not None:
        return None
    try:
        return read_bytes(path, MOST_BYTES).decode(errors="replace")
    except OSError:
        return None


def problem(path: Path) -> str | None:
    """Why a file that stands in a run's directory is not taken, as the end of a sentence; None where nothing is wrong.

    A link to elsewhere could have a page show what its maker could not read.
    """
    try:
        if not path.resolve().is_relative_to(path.parent.resolve()):
            return "is a link to somewhere outside of the run"
        if not path.exists():
            return None
        if not path.is_file():
            return "is no regular file"
        size = path.stat().st_size
        return f"has {size:,} bytes, and {MOST_BYTES:,} are the most" if size > MOST_BYTES else None
    except (OSError, RuntimeError) as error:  # a link that leads to itself is a RuntimeError
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        found = json.loads(text(path) or "")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def number(value: Any) -> float:
    """A finite number, from a cell or from JSON; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def whole(value: Any, most: int = LARGEST_WHOLE) -> int | None:
    """A whole number from 0 to `most`; None for anything else."""
    found = number(value)
    return int(found) if found >= 0 and found == math.floor(found) and found <= most else None


def task_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of `tasks.csv` by task, numbers as numbers (NaN where a cell is empty), and how many were damaged.

    A task that stands twice, as after a resumed run, counts with its last row.
    """
    found: dict[int, dict[str, Any]] = {}
    damaged = 0
    reader = csv.DictReader(io.StringIO(_finished(text(path) or "")), strict=False)
    for row in _rows(reader):
        task = whole(row.get("task"), MOST_TASKS)
        start, end = whole(row.get("start")), whole(row.get("end"))
        if task is None or start is None or end is None or end < start or None in row or None in row.values():
            damaged += 1
            continue
        cells = {key: value if key in WORDS else number(value) for key, value in row.items()}
        found[task] = cells | {key: whole(row.get(key)) or 0 for key in WHOLE}
    return [found[task] for task in sorted(found)], damaged


def episodes(path: Path) -> tuple[Episodes | None, int]:
    """The table `episodes.csv`, and how many of its rows were damaged; None where there is no such table."""
    content = text(path)
    if content is None:
        return None, 0
    header, _, body = _finished(content).partition("\n")
    names = [name.strip() for name in header.split(",")]
    if any(names.count(name) != 1 for name in COLUMNS):
        return None, 0
    columns = [names.index(name) for name in COLUMNS]
    table, damaged = _numbers(body, columns)
    counts = table[:, [0, 1, 3]]
    with np.errstate(invalid="ignore"):
        good = np.isfinite(table).all(1) & (counts >= 0).all(1) & (counts <= LARGEST_WHOLE).all(1)
        good &= table[:, 1] <= MOST_TASKS
    damaged += int((~good).sum())
    table = table[good]
    table = table[np.argsort(table[:, 0], kind="stable")]
    step, task, length = (table[:, column].astype(np.int64) for column in (0, 1, 3))
    return Episodes(step, task, table[:, 2], length, table[:, 4] != 0), damaged


def _finished(content: str) -> str:
    """Text without a last line that is still being written."""
    return content[: content.rfind("\n") + 1]


def _rows(reader: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows until one that is no CSV at all."""
    try:
        yield from reader
    except csv.Error:
        return


def _numbers(body: str, columns: list[int]) -> tuple[NDArray[np.float64], int]:
    """Columns of a table of numbers, and how many lines were no such row."""
    if not body.strip():
        return np.empty((0, len(columns))), 0
    try:
        return np.loadtxt(io.StringIO(body), delimiter=",", usecols=columns, ndmin=2, comments=None), 0
    except ValueError:  # somewhere is a damaged line: find the others one by one
        lines = [line.split(",") for line in body.splitlines()]
        good = [[number(line[column]) for column in columns] for line in lines if len(line) > max(columns)]
        return np.array(good).reshape(-1, len(columns)), len(lines) - len(good)
