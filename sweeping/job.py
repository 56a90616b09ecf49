"""One piece of a sweep: a run of `train.py` that trains one cell, or several seeds of an arm as a population.

What is known of it stands in its directory, so that whoever looks, from this machine or another, sees the same.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from checkpoints.lock import is_held
from configs.command_line import Config
from configs.population import Population
from recording.directory import RunDirectory
from recording.members import PopulationDirectory

State = Literal["waiting", "running", "unfinished", "finished", "failed", "dropped"]
"""`unfinished` is what has been interrupted, by whatever, and can be taken up; `dropped` what a search has given up, of
which nobody else knows."""

PROMPT = "$ "
"""What a line of a log begins with that says what was run; what it has printed follows."""


@dataclass(frozen=True)
class Job:
    """A run of `train.py`.

    Attributes:
        benchmark: its name in the sweep.
        arm: its name in the sweep.
        seeds: of its cells.
        words: the command line, but for where to record.
        path: where it is recorded; its name has the hash of all that it depends on.
        digest: that hash, whole.
        steps: environment steps of all its cells.
        names: of the members' directories; empty where it is a run by itself.
    """

    benchmark: str
    arm: str
    seeds: tuple[int, ...]
    words: tuple[str, ...]
    path: Path
    digest: str
    steps: int
    names: tuple[str, ...]

    def __hash__(self) -> int:
        """Of the digest alone: tables of many thousand jobs look each one up several times a second."""
        return hash(self.digest)

    @classmethod
    def of(cls, words: list[str], asked: Config | Population, folder: Path, benchmark: str, arm: str) -> "Job":
        """The job of a command line, as `configs.population.read` has read it."""
        if isinstance(asked, Population):
            seeds, names = tuple(asked.seeds), tuple(asked.names)
            shown = asked.title.removeprefix(",".join(asked.arms))
        else:
            seeds, names, shown = (asked.run.seed,), (), f"-s{asked.run.seed}"
        digest = asked.digest
        path = folder / benchmark / f"{arm}{shown}-{digest[:6]}"
        return cls(benchmark, arm, seeds, tuple(words), path, digest, asked.run.steps * len(seeds), names)

    @property
    def cells(self) -> int:
        """How many runs it trains."""
        return len(self.seeds)

    @property
    def name(self) -> str:
        """What it is called in tables."""
        seeds = f"seed {self.seeds[0]}" if self.cells == 1 else f"{self.cells} seeds from {self.seeds[0]} on"
        return f"{self.benchmark} · {self.arm} · {seeds}"

    @cached_property
    def directory(self) -> RunDirectory:
        """Where it is recorded."""
        return PopulationDirectory(self.path) if self.names else RunDirectory(self.path)

    @property
    def log(self) -> Path:
        """What its processes have printed, one after another."""
        return self.path.with_name(f"{self.path.name}.log")

    def state(self) -> State:
        """How it stands, whoever works on it."""
        found = self.directory.state()
        if found == "finished":
            return "finished"
        if is_held(self.directory.lock):
            return "running"
        if found is None:
            return "waiting"
        return "failed" if found == "failed" else "unfinished"

    def done(self) -> int:
        """Environment steps that are done, of all its cells."""
        status = self.directory.status()
        if status.get("state") == "finished":
            return self.steps
        together = int(status.get("steps", 0)) * self.cells
        apart = (RunDirectory(self.path / name).status() for name in self.names)  # where they cannot be stacked
        return min(self.steps, max(together, sum(int(own.get("steps", 0)) for own in apart)))

    def seconds(self) -> float:
        """How long it took, if it is finished."""
        found = float(self.directory.status().get("seconds", 0.0))
        apart = (RunDirectory(self.path / name).status() for name in self.names)
        return found or sum(float(own.get("seconds", 0.0)) for own in apart)

    def problem(self, lines: int = 3) -> str:
        """The last lines that its last process has printed."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            text = ""
        _, run, last = f"\n{text}".rpartition(f"\n{PROMPT}")
        printed = last.strip().splitlines()[1 if run else 0 :]
        return "\n".join(printed[-lines:]) or "it has printed nothing"
