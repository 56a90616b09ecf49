"""The directory of a run: self-contained, named after its configuration, so that a command finds its own run again.

config.yaml    the resolved configuration; `--config` repeats the run
versions.json  versions of Python, of every package that matters, and of the system
status.json    running, finished, interrupted or failed, and how far it came
events.jsonl   every switch and every reset, a line each
tasks.csv      a row for each task
model.zip      the SB3 model at the end
events.out.*   TensorBoard
"""

import csv
import hashlib
import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from configs import files
from configs.command_line import Config

RUNS = Path("runs")
PACKAGES = ("torch", "stable-baselines3", "sb3-contrib", "gymnasium", "mujoco", "numpy", "tensorboard", "tyro")
State = Literal["running", "finished", "interrupted", "failed"]


def default_path(config: Config) -> Path:
    """`runs/<benchmark>/<agent>-<arm>-s<seed>-<hash>`; the hash covers everything that the run depends on."""
    benchmark = config.benchmark or f"{config.run.env.replace('/', '-')}-{Path(config.names['schedule']).stem}"
    content = json.dumps(config.as_dict(), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:6]
    return RUNS / benchmark / f"{config.names['agent']}-{config.arm}-s{config.run.seed}-{digest}"


class RunDirectory:
    """The files of one run.

    Args:
        path: where they are; made by `create`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def tasks(self) -> Path:
        """The table of tasks."""
        return self.path / "tasks.csv"

    @property
    def events(self) -> Path:
        """The log of switches and resets."""
        return self.path / "events.jsonl"

    @property
    def model(self) -> Path:
        """The SB3 model."""
        return self.path / "model.zip"

    def state(self) -> State | None:
        """How the run stood last; None where no run has been."""
        path = self.path / "status.json"
        return json.loads(path.read_text())["state"] if path.is_file() else None

    def read_tasks(self) -> list[dict[str, Any]]:
        """The rows of `tasks.csv`, numbers as numbers; empty where no task has been finished."""
        if not self.tasks.is_file():
            return []
        with self.tasks.open(newline="") as file:
            return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def set_status(self, state: State, steps: int) -> None:
        """Record how the run stands, so that a reader never sees half a file."""
        write_atomically(self.path / "status.json", json.dumps({"state": state, "steps": steps}))

    def create(self, config: Config) -> Path | None:
        """Make the directory with the configuration and versions in it.

        An earlier, unfinished run in its place is moved aside, never lost.

        Returns:
            Where the earlier run is now, if there was one.
        """
        moved = self._move_aside() if self.path.exists() and any(self.path.iterdir()) else None
        self.path.mkdir(parents=True, exist_ok=True)
        tree = config.as_dict()
        files.write(self.path / "config.yaml", tree, "Everything this run depends on; train.py --config repeats it.")
        (self.path / "versions.json").write_text(json.dumps(versions(), indent=2) + "\n")
        self.set_status("running", 0)
        return moved

    def _move_aside(self) -> Path:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        return self.path.rename(aside)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step, so that it is never found half-written."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    found = {"python": sys.version.split()[0], "system": platform.platform(), "processor": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
