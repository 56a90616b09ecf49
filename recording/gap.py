"""What a finished run earned in one number each, and how much less than the fresh agent beside it.

The fresh arm of a run is the one in the same folder whose configuration differs in the interventions alone and which
makes every network anew at every switch. Whichever of the two finishes last writes the gap down for both, so that
TensorBoard's HParams tab can sort runs by it.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from configs import files
from configs.settings import UsageError
from recording.directory import RunDirectory

ARM = ("reset", "regularizer", "optimizer", "normalize", "metrics", "histograms", "stepping", "threads")
"""What may differ between the runs of one comparison: the arm, and what leaves the results as they are."""

FRESH = {"networks": "all", "when": "switch", "parts": "all"}
"""The settings by which `full` is the fresh arm."""

FIRST_LATER = 2
"""The first task that counts: the third, when plasticity can have been lost. Of one or two tasks all count."""


def later(rows: list[dict[str, Any]], column: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """A column of `tasks.csv` for the later tasks; NaN where a task has no number."""
    values = np.array([row[column] if isinstance(row[column], (int, float)) else math.nan for row in rows], dtype=float)
    return values[FIRST_LATER:] if len(values) > FIRST_LATER else values


def finals(directory: RunDirectory) -> dict[str, float]:
    """Mean returns over the later tasks, and the plasticity gap where the fresh arm has finished too; NaN where not."""
    rows = directory.read_tasks()
    found = {column: _mean(later(rows, column)) for column in ("return", "return_end")}
    fresh = next((other for other in beside(directory) if is_fresh(_config(other))), None)
    if is_fresh(_config(directory)):
        return found | {"plasticity_gap": 0.0}
    if fresh is not None:
        found["plasticity_gap"] = gap(fresh.read_tasks(), rows)
    return found


def gap(fresh: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """Mean over the later tasks of what the fresh agent earned more at a task's end."""
    ours, theirs = later(rows, "return_end"), later(fresh, "return_end")
    return _mean(theirs[: len(ours)] - ours[: len(theirs)])


def beside(directory: RunDirectory) -> Iterator[RunDirectory]:
    """The finished runs in the same folder that differ in the arm alone."""
    own = comparable(_config(directory))
    for path in sorted(directory.path.resolve().parent.iterdir()):
        other = RunDirectory(path)
        if path == directory.path.resolve() or not path.is_dir() or path.is_symlink() or other.state() != "finished":
            continue
        if comparable(_config(other)) == own:
            yield other


def tell_others(directory: RunDirectory) -> None:
    """A fresh arm has finished: give those that have waited for it their gap."""
    if not is_fresh(_config(directory)):
        return
    fresh = directory.read_tasks()
    for other in beside(directory):
        found = gap(fresh, other.read_tasks())
        if not math.isnan(found):
            with SummaryWriter(str(other.path)) as writer:
                writer.add_scalar("final/plasticity_gap", found, other.status().get("steps", 0))


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what may differ."""
    return {key: value for key, value in config.items() if key not in ARM and not key.startswith("measure_")}


def is_fresh(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is that of the fresh arm."""
    reset = config.get("reset")
    if not isinstance(reset, dict) or list(reset) != ["full"] or config.get("regularizer") != "none":
        return False
    return all(reset["full"].get(key) == value for key, value in FRESH.items())


def _config(directory: RunDirectory) -> dict[str, Any]:
    try:
        return files.read(directory.config)
    except UsageError:
        return {}


def _mean(values: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
