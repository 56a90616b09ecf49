"""The directory of a run: self-contained, named after its configuration, so that a command finds its own run again.

config.yaml    the resolved configuration; `--config` repeats the run
versions.json  versions of Python, of every package that matters, and of the system
status.json    running, finished, interrupted or failed, and how far it came; once trained, which runs it pairs with
events.jsonl   every switch and every reset, a line each
tasks.csv      a row for each task
episodes.csv   a row for each episode
metrics.jsonl  what was measured, a line each time; probe.npz holds the observations that it was measured on
model.zip      the SB3 model at the end
*.csv, *.json  also the tables that tasks were read from
normalizer.npz what observations were normalised by, where they were
events.out.*   TensorBoard
checkpoints/   the whole run as it was some time ago, while it is unfinished
error.txt      what went wrong, where something did
run.lock       held by the process that writes here
"""

import csv
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from configs import files
from configs.command_line import Config, parse
from configs.settings import UsageError

RUNS = Path("runs")
POPULATION = "population.yaml"
LOCK = "run.lock"
EVENT_FILES = "events.out.tfevents.*"
PACKAGES = ("torch", "stable-baselines3", "sb3-contrib", "gymnasium", "mujoco", "numpy", "tensorboard", "tyro")
State = Literal["running", "finished", "interrupted", "failed"]


def default_path(config: Config) -> Path:
    """`runs/<benchmark>/<agent>-<arm>-s<seed>-<hash>`; the hash covers everything that the run depends on."""
    return default_folder(config) / f"{config.names['agent']}-{config.arm}-s{config.run.seed}-{config.digest[:6]}"


def default_folder(config: Config) -> Path:
    """`runs/<benchmark>`, or the environment's name and the schedule's where there is no benchmark."""
    env = re.sub(r"[^A-Za-z0-9.]+", "-", config.run.env)
    return RUNS / (config.benchmark or f"{env}-{Path(config.names['schedule']).stem}")


class Recorded(Protocol):
    """What a directory is for: the configuration of a run, or a population."""

    def as_dict(self) -> dict[str, Any]:
        """As it is written into the directory."""


class RunDirectory:
    """The files of one run.

    Args:
        path: where they are; made by `create`.
    """

    COMMENT = "Everything this run depends on; train.py --config repeats it."
    OTHER, OTHERS = POPULATION, "a population, not one run"

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def tasks(self) -> Path:
        """The table of tasks."""
        return self.path / "tasks.csv"

    @property
    def episodes(self) -> Path:
        """The table of episodes."""
        return self.path / "episodes.csv"

    @property
    def measurements(self) -> Path:
        """What the metrics gave, a line a measurement."""
        return self.path / "metrics.jsonl"

    @property
    def probe(self) -> Path:
        """The observations and actions that networks are measured on all through the run."""
        return self.path / "probe.npz"

    @property
    def events(self) -> Path:
        """The log of switches and resets."""
        return self.path / "events.jsonl"

    @property
    def normalizer(self) -> Path:
        """The statistics by which observations were normalised, where they were."""
        return self.path / "normalizer.npz"

    @property
    def model(self) -> Path:
        """The SB3 model."""
        return self.path / "model.zip"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """What an unfinished run goes on from."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """Held by the process that writes here."""
        return self.path / LOCK

    def status(self) -> dict[str, Any]:
        """How the run stood last; empty where no run has been, state `failed` where the file says nothing."""
        path = self.path / "status.json"
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text())
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, dict) and "state" in found else {"state": "failed"}

    def state(self) -> State | None:
        """The state alone."""
        return self.status().get("state")

    def check(self, config: Recorded) -> None:
        """Refuse, with a UsageError, a place where this run must not be written; changes nothing there."""
        try:
            problem = self._problem(config)
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        if problem:
            raise UsageError(f"--run-dir {self.path} {problem}.")

    def _problem(self, config: Recorded) -> str | None:
        if self.path.exists() and not self.path.is_dir():
            return "is a file, not a directory"
        if (self.path / self.OTHER).exists():
            return f"holds {self.OTHERS}; name another directory"
        status = self.status()
        if self.path.exists() and not status and any(path.name != LOCK for path in self.path.iterdir()):
            return "holds something else than a run; name a new or an empty directory"
        if status.get("state") == "finished" and not self._is_of(config):
            return "holds a finished run of another configuration; name another directory"
        return None

    def is_unfinished(self, config: Recorded) -> bool:
        """Whether an unfinished run of this very configuration is here."""
        if self.state() in (None, "finished") or not self.config.is_file():
            return False
        with suppress(UsageError):  # an older release's file may lack settings, which then have their defaults
            return config.as_dict() in (files.read(self.config), parse(["--config", str(self.config)]).as_dict())
        return False

    def rewind(self, lengths: Mapping[str, int]) -> list[str]:
        """Cut every file to the length that it had at a checkpoint; later event files go.

        Args:
            lengths: bytes by name of file.

        Returns:
            Sentences about what is missing and can be done without.

        Raises:
            UsageError: the run cannot go on, since what it had recorded is no longer there.
        """
        own, notes = {path.name for path in (self.tasks, self.episodes, self.events, self.measurements)}, []
        for path in self.path.glob(EVENT_FILES):
            if path.name not in lengths:
                path.unlink()
        for name, length in lengths.items():
            path = self.path / name
            if name not in own and not re.fullmatch(r"events\.out\.tfevents\.[^/]+", name):
                raise UsageError(
                    f"{self.checkpoints} names the file {name!r}, which no run has; --restart begins anew."
                )
            found = path.stat().st_size if path.is_file() and not path.is_symlink() else 0
            if found >= length:
                if found > length:
                    os.truncate(path, length)
            elif path.match(EVENT_FILES):
                notes.append(f"{path} is gone or shorter than it was: its TensorBoard curves begin later.")
            else:
                raise UsageError(
                    f"{path} has {found:,} bytes, but {length:,} when the run was last saved, so that it cannot go on; "
                    "--restart begins it anew."
                )
        return notes

    def read_tasks(self) -> list[dict[str, Any]]:
        """The rows of `tasks.csv`, numbers as numbers; empty where no task has been finished."""
        if not self.tasks.is_file():
            return []
        with self.tasks.open(newline="") as file:
            return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def set_status(self, state: State, steps: int, seconds: float = 0.0, pair: str = "") -> None:
        """Record how the run stands and how long it took, so that a reader never sees half a file.

        Args:
            state: how it stands.
            steps: environment steps that are done.
            seconds: that they took.
            pair: digest of study and seed (`configs.studies.pair`), from when all its tasks are in the table.
        """
        status: dict[str, Any] = {"state": state, "steps": steps, "seconds": round(seconds, 1), "process": os.getpid()}
        status |= {"host": platform.node()} | ({"pair": pair} if pair else {})
        write_atomically(self.path / "status.json", json.dumps(status))

    def make(self) -> None:
        """Make the directory, empty where there is none, so that it can be locked; a UsageError where that fails."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--run-dir {self.path} cannot be written to ({error.strerror}).") from error

    def create(self, config: Recorded, command: str = "") -> Path | None:
        """Make the directory with the configuration, the versions and the command in it.

        An earlier, unfinished run in its place is moved aside, never lost, if it has recorded anything.

        Returns:
            Where the earlier run is now, if there was one.

        Raises:
            UsageError: the directory cannot be made or written to.
        """
        self.check(config)
        try:
            moved = self._move_aside() if self.status() and self._has_recorded() else None
            self.make()
            self.set_status("running", 0)
            files.write(self.config, config.as_dict(), self.COMMENT)
            for table in self._tables(config):
                shutil.copy(table, self.path)
            (self.path / "versions.json").write_text(json.dumps({**versions(), "command": command}, indent=2) + "\n")
        except OSError as error:
            raise UsageError(f"--run-dir {self.path} cannot be written to ({error.strerror}).") from error
        return moved

    def _is_of(self, config: Recorded) -> bool:
        return files.read(self.config) == config.as_dict()

    def _has_recorded(self) -> bool:
        return self.episodes.exists()

    def _tables(self, config: Any) -> list[Path]:
        """Files that the configuration names, and that go with it."""
        found: list[Path] = config.tasks.files()
        return found

    def _move_aside(self) -> Path:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        aside.mkdir()
        for path in sorted(self.path.iterdir()):
            if path.name != LOCK:  # whoever moves it holds the lock, which stays
                path.rename(aside / path.name)
        return aside


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step, so that it is never found half-written."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
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
