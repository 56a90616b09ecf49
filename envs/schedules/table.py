"""Tasks listed in a file, the same for all seeds or a list for each."""

import bisect
import csv
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le

from configs import files
from configs.settings import SettingError, did_you_mean
from envs.changes.base import Change, ChangeError
from envs.schedules.base import Schedule

MOST_BYTES = 2**24
"""A file larger than this, 16 MiB, is no table of tasks."""
TABLES = Path(__file__).parents[2] / "configs" / "tables"
WORDS = ("seed", "task", "steps")
Row = dict[str, Any]


@dataclass(kw_only=True)
class Table(Schedule):
    """Tasks and their values are read from a CSV or JSON file, which may hold a list of tasks for each seed.

    A row is a task, in order; a column (or key) named like a change's label holds its values. Columns of their own have
    `steps` (the length of the task), `seed` (rows belong to runs of this seed) and `task` (its number from 0, which is
    then checked). A JSON file holds a list of rows, or such a list under each seed. Values that are no single numbers
    are written as JSON: [3, 1, 2].
    """

    file: str
    """Path of the file, ending in .csv or .json; relative ones are looked for here and then in configs/tables."""
    period: Annotated[int, Gt(0)] | None = None
    """Length of every task in environment steps of the run, where the file has no column `steps`."""
    scale: Annotated[float, Gt(0), Le(1e6)] = 1.0
    """Factor on the file's own lengths, its column `steps`; what `--scale` sets here."""
    then: Literal["repeat", "hold"] = "repeat"
    """After the last task: begin again with the first (repeat), or stay in the last for ever (hold)."""
    sha256: str | None = None
    """Digest of the file, kept with the run; a file that has changed since is refused. None: not compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        path = Path(self.file)
        self.path = path if files.is_file(path) or path.is_absolute() else TABLES / path
        try:
            content = files.read_bytes(self.path, MOST_BYTES)
        except OSError as error:
            raise SettingError(self, "file", f"cannot be read: {self.file!r} ({error.strerror})") from error
        digest = hashlib.sha256(content).hexdigest()
        if self.sha256 not in (None, digest):
            raise SettingError(self, "file", f"{self.file!r} is not what it was when sha256 was noted")
        self.sha256 = digest
        try:
            text = content.decode("utf-8-sig")
            rows = _from_csv(text) if path.suffix == ".csv" else _from_json(text)
        except (ValueError, TypeError, AttributeError, RecursionError, csv.Error) as error:
            raise SettingError(self, "file", f"{self.file!r} is no table of tasks: {error}") from error
        self._rows = self._by_seed(rows)

    def _by_seed(self, rows: list[Row]) -> dict[int | None, list[Row]]:
        """The rows of each seed (None: of all), checked."""
        if not rows:
            raise SettingError(self, "file", f"{self.file!r} holds no tasks")
        found: dict[int | None, list[Row]] = {}
        for row in rows:
            seed = row.get("seed")
            if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
                raise SettingError(self, "file", f"{self.file!r}: seeds must be whole numbers from 0, not {seed!r}")
            found.setdefault(seed, []).append(row)
        for seed, tasks in found.items():
            for number, row in enumerate(tasks):
                where = f"{self.file!r}, task {number}" + ("" if seed is None else f" of seed {seed}")
                steps = row.get("steps", self.period)
                if steps is None:
                    raise SettingError(self, "period", "must be given, because the file has no column 'steps'")
                is_whole = isinstance(steps, int) and not isinstance(steps, bool)
                if not is_whole or steps < 1 or self._length(row) < self.align:
                    least = f"at least {self.align}" + (" (align)" if self.align > 1 else "")
                    raise SettingError(self, "file", f"{where}: steps must be a whole number of {least}, not {steps!r}")
                if row.get("task", number) != number:
                    raise SettingError(
                        self, "file", f"{where}: tasks must be numbered from 0, but this is {row['task']!r}"
                    )
        return found

    @cached_property
    def rows(self) -> list[Row]:
        """The tasks of this schedule's seed.

        Raises:
            ValueError: the file has tasks for other seeds only.
        """
        rows = self._rows.get(None) or self._rows.get(self.seed or 0)
        if rows is None:
            seeds = sorted(seed for seed in self._rows if seed is not None)
            raise ValueError(f"{self.file} has no tasks for seed {self.seed or 0}; it has seeds {_spans(seeds)}")
        return rows

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *itertools.accumulate(map(self._length, self.rows))]

    def _length(self, row: Row) -> int:
        """Steps of a task."""
        if "steps" not in row:
            return self.period or 0
        return int(row["steps"]) if self.scale == 1 else max(1, round(row["steps"] * self.scale))

    @property
    def last(self) -> int | None:
        """The last one in the file, where it is held."""
        return len(self.rows) - 1 if self.then == "hold" else None

    def at(self, step: int) -> int:
        """By the sums of the lengths."""
        starts = self._starts
        rounds, rest = divmod(step, starts[-1])
        if self.then == "hold" and rounds:
            return len(self.rows) - 1
        return rounds * len(self.rows) + bisect.bisect_right(starts, rest) - 1

    def begins(self, task: int) -> int:
        """Sum of the lengths of the tasks before."""
        starts = self._starts
        rounds, rest = divmod(task, len(self.rows))
        return rounds * starts[-1] + starts[rest]

    def listed(self, label: str, task: int) -> Any:
        """The value in the file."""
        rows = self.rows
        return rows[task % len(rows)][label]

    def check(self, changes: Mapping[str, Change]) -> None:
        """Every change needs its column, in every row, and every column its change."""
        for row in self.rows:
            for label in changes:
                if label not in row:
                    columns = [name for name in row if name not in WORDS]
                    raise ValueError(
                        f"{self.file} has no {label}; it has {', '.join(columns) or 'no values'}"
                        f"{did_you_mean(label, columns)}"
                    )
            if surplus := next((name for name in row if name not in changes and name not in WORDS), None):
                raise ValueError(f"{self.file} has values for {surplus}, but no change has this label")

    def check_bound(self, label: str, change: Change) -> None:
        """Every value in the file must be one of the change's."""
        for number, row in enumerate(self.rows):
            try:
                change.check(row[label])
            except ChangeError as error:
                raise ValueError(f"{self.file}, task {number}: {error}") from error


def _from_csv(text: str) -> list[Row]:
    """The rows of a CSV file; empty cells are left out."""
    reader = csv.DictReader(text.splitlines(), strict=True, skipinitialspace=True)
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} has not as many cells as the first line")
        rows.append({name.strip(): _cell(cell) for name, cell in row.items() if cell.strip()})
    return rows


def _cell(text: str) -> Any:
    """A number, a list ... or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _from_json(text: str) -> list[Row]:
    """The rows of a JSON file."""
    content = json.loads(text)
    if isinstance(content, dict):
        content = [{"seed": int(seed), **row} for seed, rows in content.items() for row in rows]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError("it must be a list of rows, or such a list under each seed")
    return content


def _spans(numbers: Iterable[int]) -> str:
    """Whole numbers in few words: 0 to 4, 7."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in spans)
