"""A small sweep, and what tests hold it against."""

import os
from pathlib import Path
from typing import Any

import yaml

from recording.comparing import differences
from sweeping.job import Job
from sweeping.plan import read_sweep
from sweeping.running import Progress

TREE: dict[str, Any] = {
    "seeds": 2,
    "settings": {"env": "CartPole-v1", "steps": 6144, "agent": {"n_steps": 256}, "checkpoint_every": "512"},
    "benchmarks": {"switching": {"schedule": {"name": "permuted", "period": 1024}}},
    "arms": {"none": None, "redo": {"reset": {"redo": {"every": 1}}}},
}


STEPS = 2048
"""Of a cell, in sweeps of which nothing is trained."""


def written(folder: Path, **changes: object) -> Path:
    path = folder / "tiny.yaml"
    part = folder / f"tiny.yaml.{os.getpid()}"
    part.write_text(yaml.safe_dump({**TREE, **changes}, sort_keys=False))
    part.replace(path)  # at once: another process of the tests may be reading it
    return path


def jobs(path: Path, out: Path) -> list[Job]:
    return read_sweep(path, out).jobs


def same(one: list[Job], other: list[Job]) -> None:
    """Hold the members of some jobs against those of others."""
    for job, twin in zip(one, other, strict=True):
        assert job.state() == twin.state() == "finished"
        for name in job.names:
            assert differences(job.path / name, twin.path / name) == []


def at_work(job: Job) -> bool:
    """Whether a job has saved something to go on from, and goes on."""
    return job.state() == "running" and any(job.directory.checkpoints.glob("step-*")) and job.directory.status() != {}


def worker(job: Job) -> int:
    return int(job.directory.status()["process"])


class Heard:
    """Keeps what is said, and looks whether every job is somewhere."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def draw(self, progress: Progress) -> None:
        known = [*progress.waiting, *progress.running, *progress.elsewhere, *progress.finished, *progress.failed]
        known += progress.dropped
        assert sorted(job.name for job in known) == sorted(job.name for job in progress.sweep.jobs)
