"""Where jobs run: processes of this machine, or a Ray cluster (`sweeping.ray_engine`)."""

import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from sweeping.job import Job
from sweeping.work import Command, leave, start

LOOK_EVERY = 0.1
"""Seconds between two looks at processes."""


@dataclass(frozen=True)
class Ended:
    """A job that is no longer at work.

    Attributes:
        job: which.
        status: the exit status of its process, negative the signal that has ended it; None: its machine was lost.
    """

    job: Job
    status: int | None


class Engine(ABC):
    """Runs jobs side by side."""

    @abstractmethod
    def slots(self) -> int:
        """How many jobs can be at work at the same time, as things are now."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Have a job be worked on."""

    @abstractmethod
    def ended(self, seconds: float) -> list[Ended]:
        """What has ended since this was last asked, waited for as long as this where there is nothing."""

    @abstractmethod
    def leave(self, job: Job) -> None:
        """Have a job that is at work save what it does and leave; that it has ended is told as of any other."""

    @abstractmethod
    def stop(self) -> None:
        """Have all jobs save what they do and leave, and wait for it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Local(Engine):
    """Processes of this machine.

    Args:
        slots: how many at the same time.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._running: list[tuple[Job, subprocess.Popen[bytes]]] = []

    def slots(self) -> int:
        """As many as asked for."""
        return self._slots

    def start(self, job: Job) -> None:
        """Start a process."""
        self._running.append((job, start(Command.of(job))))

    def ended(self, seconds: float) -> list[Ended]:
        """Processes that have ended."""
        until = time.monotonic() + seconds
        while True:
            found = [Ended(job, process.returncode) for job, process in self._running if process.poll() is not None]
            if found or time.monotonic() >= until:
                self._running = [(job, process) for job, process in self._running if process.returncode is None]
                return found
            time.sleep(LOOK_EVERY)

    def leave(self, job: Job) -> None:
        """Ask a process to leave."""
        for own, process in self._running:
            if own == job and process.poll() is None:
                process.terminate()

    def stop(self) -> None:
        """End all processes."""
        leave([process for _, process in self._running])
        self._running = []
