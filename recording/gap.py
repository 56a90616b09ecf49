"""What a finished run earned in one number each, and how much less than the fresh agent beside it.

The fresh arm of a run is the one in the same folder whose configuration differs in the interventions alone and which
makes every network anew at every switch. Whichever of the two finishes last writes the gap down for both, so that
TensorBoard's HParams tab can sort runs by it.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from configs import arms, files, studies
from configs.settings import UsageError
from metrics import tasks
from metrics.tasks import later
from recording.directory import RunDirectory


def column(rows: list[dict[str, Any]], name: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """A column of `tasks.csv`; NaN where a task has no number."""
    return np.array([row[name] if isinstance(row[name], (int, float)) else math.nan for row in rows], dtype=float)


def finals(directory: RunDirectory) -> dict[str, float]:
    """Mean returns over the later tasks, and the plasticity gap where the fresh arm has finished too; NaN where not."""
    rows = directory.read_tasks()
    if _is_fresh(directory):
        return figures(rows) | {"plasticity_gap": 0.0}
    fresh = next((other for other in beside(directory) if _is_fresh(other)), None)
    return figures(rows, None if fresh is None else fresh.read_tasks())


def figures(rows: list[dict[str, Any]], fresh: list[dict[str, Any]] | None = None) -> dict[str, float]:
    """Mean returns over the later tasks, and the gap to the fresh agent where its tasks are given."""
    found = {name: _mean(later(column(rows, name))) for name in ("return", "return_end")}
    return found if fresh is None else found | {"plasticity_gap": gap(fresh, rows)}


def gap(fresh: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """Mean over the later tasks of what the fresh agent earned more at a task's end."""
    ours, theirs = column(rows, "return_end"), column(fresh, "return_end")
    known = min(len(ours), len(theirs))
    return _mean(later(tasks.gap(theirs[:known], ours[:known])))


def beside(directory: RunDirectory) -> Iterator[RunDirectory]:
    """The finished runs in the same folder that differ in the arm alone."""
    own = _config(directory)
    for path in sorted(directory.path.resolve().parent.iterdir()):
        other = RunDirectory(path)
        with suppress(OSError):  # somebody else's, which may not be read
            if path == directory.path.resolve() or not path.is_dir() or path.is_symlink():
                continue
            if other.state() == "finished":
                theirs = _config(other)
                if theirs.get("seed") == own.get("seed") and studies.comparable(own, theirs):
                    yield other


def tell_others(directory: RunDirectory) -> None:
    """A fresh arm has finished: give those that have waited for it their gap."""
    if not _is_fresh(directory):
        return
    fresh = directory.read_tasks()
    for other in beside(directory):
        found = gap(fresh, other.read_tasks())
        if not math.isnan(found) and os.access(other.path, os.W_OK):
            with SummaryWriter(str(other.path)) as writer:
                writer.add_scalar("final/plasticity_gap", found, other.status().get("steps", 0))


def _is_fresh(directory: RunDirectory) -> bool:
    return arms.arm(_config(directory)) == arms.FRESH


def _config(directory: RunDirectory) -> dict[str, Any]:
    try:
        return files.read(directory.config)
    except UsageError:
        return {}


def _mean(values: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
