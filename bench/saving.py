"""What checkpoints cost: `python bench/saving.py`.

Trains with the default interval for some minutes, and prints, for each case, how long a checkpoint takes, how large it
is, and which share of the run's time went into them, the first one (written at once) left out.
`--write` keeps the figures in `bench/results/saving.json`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

import train
from recording.checkpointer import Checkpointer
from recording.directory import versions

RESULTS = Path(__file__).parent / "results" / "saving.json"
CASES = {
    "PPO, CartPole, 64x64, 8 environments": "--schedule stationary",
    "PPO, HalfCheetah, 256x256, 8 environments": "--config slippery_cheetah --schedule stationary",
    "SAC, HalfCheetah, 256x256": "--agent sac --env HalfCheetah-v5 --agent.learning-starts 1000",
}


class EnoughError(Exception):
    """The case has been measured long enough."""


def run(flags: str, minutes: float) -> tuple[list[float], float, int]:
    """Train for some minutes; returns the seconds of each checkpoint, those of training, and bytes of a checkpoint."""
    plain, step, spent = Checkpointer.save, Checkpointer.at_rollout, list[float]()
    size, began = 0, time.monotonic()

    def save(self: Checkpointer) -> None:
        nonlocal size
        start = time.monotonic()
        plain(self)
        spent.append(time.monotonic() - start)
        newest = max(self.store.folder.glob("step-*"))
        size = sum(path.stat().st_size for path in newest.iterdir())

    def rollout(self: Checkpointer) -> None:
        step(self)
        if time.monotonic() - began > 60 * minutes:
            raise EnoughError

    measured = patch.multiple(Checkpointer, save=save, at_rollout=rollout)
    with measured, suppress(EnoughError), tempfile.TemporaryDirectory() as folder:
        train.main([*flags.split(), "--steps", "1e8", "--no-preflight", "--quiet", "--run-dir", f"{folder}/run"])
    return spent[1:], time.monotonic() - began, size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.5)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.minutes <= 1.1:
        parser.error(
            f"--minutes must be above 1.1, so that there is a checkpoint after the first, not {arguments.minutes:g}"
        )
    table = Table("case", "checkpoints", "ms each", "KiB", "share of the time")
    found = {}
    for name, flags in CASES.items():
        spent, seconds, size = run(flags, arguments.minutes)
        each, share = 1000 * statistics.median(spent), sum(spent) / seconds
        table.add_row(name, str(len(spent)), f"{each:.0f}", f"{size / 1024:,.0f}", f"{100 * share:.2f} %")
        found[name] = {"checkpoints": len(spent), "milliseconds": each, "bytes": size, "share": share}
    Console().print(table)
    if arguments.write:
        load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        made = {"date": date.today().isoformat(), **versions(), "machine": load}
        RESULTS.write_text(json.dumps({"cases": found, "made": made}, indent=1) + "\n")


if __name__ == "__main__":
    main()
