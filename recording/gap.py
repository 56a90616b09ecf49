"""What a finished run earned in one number each, and how much less than the fresh agent beside it.

The fresh arm of a run is the one in the same folder whose configuration differs in the interventions alone and which
makes every network anew at every switch. Whichever of the two is trained last writes the gap down, or both do where
they end at the same moment, so that TensorBoard's HParams tab can sort runs by it.
"""

import csv
import io
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from configs import arms, files, studies
from configs.settings import UsageError
from metrics import tasks
from metrics.tasks import later
from recording.directory import RunDirectory

FILE = "events.out.tfevents.9999999999.gap"
"""The event file of a gap; its name comes after those of all others, which begin with the seconds of a clock."""


def column(rows: list[dict[str, Any]], name: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """A column of `tasks.csv`; NaN where a task has no number."""
    values = (row.get(name) for row in rows)
    return np.array([value if isinstance(value, (int, float)) else math.nan for value in values], dtype=float)


def finals(directory: RunDirectory) -> dict[str, float]:
    """Mean returns over the later tasks, and the fresh arm's gap to itself, which is 0."""
    own = figures(directory.read_tasks())
    return own | {"plasticity_gap": 0.0} if _is_fresh(_config(directory)) else own


def figures(rows: list[dict[str, Any]], fresh: list[dict[str, Any]] | None = None) -> dict[str, float]:
    """Mean returns over the later tasks, and the gap to the fresh agent where its tasks are given."""
    found = {name: _mean(later(column(rows, name))) for name in ("return", "return_end")}
    return found if fresh is None else found | {"plasticity_gap": gap(fresh, rows)}


def gap(fresh: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """Mean over the later tasks of what the fresh agent earned more at a task's end."""
    ours, theirs = column(rows, "return_end"), column(fresh, "return_end")
    known = min(len(ours), len(theirs))
    return _mean(later(tasks.gap(theirs[:known], ours[:known])))


def write_gaps(directory: RunDirectory) -> None:
    """Write down the gap of a run that is trained, or, where it is the fresh arm, those of all that are beside it."""
    own = _config(directory)
    others = beside(directory)
    if not _is_fresh(own):
        fresh = next((other for other, config in others if _is_fresh(config)), None)
        if fresh is not None:
            write_gap(directory, gap(_tasks(fresh), directory.read_tasks()))
        return
    everyone = sorted([(directory, own), *others], key=lambda entry: entry[0].path.resolve().name)
    # Whoever looks, the first by name is it.
    first = _tasks(next(other for other, config in everyone if _is_fresh(config)))
    for other, config in everyone:
        # That another's directory is somebody else's, moved away just now or on a full disk is not this run's affair.
        if not _is_fresh(config) and os.access(other.path, os.W_OK):
            with suppress(OSError):
                write_gap(other, gap(first, _tasks(other)))


def write_gap(directory: RunDirectory, found: float) -> None:
    """Put a gap into TensorBoard's curves, in an event file of its own that replaces the one that may be there.

    So nobody needs to know who else writes it: it stands there once, however often and by however many it is written.
    """
    if math.isnan(found):
        return
    now, steps = time.time(), directory.status().get("steps")
    point = Summary(value=[Summary.Value(tag="final/plasticity_gap", simple_value=found)])
    content = io.BytesIO()
    writer = RecordWriter(content)
    for event in (
        Event(wall_time=now, file_version="brain.Event:2"),
        Event(wall_time=now, step=steps if isinstance(steps, int) else 0, summary=point),
    ):
        writer.write(event.SerializeToString())
    temporary = directory.path / f".gap-{platform.node()}-{os.getpid()}.tmp"  # not that of others who write it now
    try:
        temporary.write_bytes(content.getvalue())
        temporary.replace(directory.path / FILE)
    finally:
        temporary.unlink(missing_ok=True)


def beside(directory: RunDirectory) -> Iterator[tuple[RunDirectory, dict[str, Any]]]:
    """The trained runs in the same folder that differ in the arm alone, by name, each with its configuration.

    A folder may hold thousands of runs, and YAML takes long to read: status files say which are of this study and seed.
    Those of older releases do not, so that their configurations are read.
    """
    own, here = _config(directory), directory.path.resolve()
    pair = studies.pair(own)
    names: list[str] = []
    with suppress(OSError), os.scandir(here.parent) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in names:
        other = RunDirectory(here.parent / name)
        with suppress(OSError):  # somebody else's, which may not be read
            status = other.status()
            if name == here.name or status.get("pair", pair if status.get("state") == "finished" else "") != pair:
                continue
            theirs = _config(other)
            if theirs.get("seed") == own.get("seed") and studies.comparable(own, theirs):
                yield other, theirs


def _is_fresh(config: Mapping[str, Any]) -> bool:
    return arms.arm(config) == arms.FRESH


def _tasks(directory: RunDirectory) -> list[dict[str, Any]]:
    """The tasks of another run; none where its table cannot be read, which is not this run's affair."""
    try:
        return directory.read_tasks()
    except (OSError, ValueError, csv.Error):
        return []


def _config(directory: RunDirectory) -> dict[str, Any]:
    try:
        return files.read(directory.config)
    except UsageError:
        return {}


def _mean(values: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
