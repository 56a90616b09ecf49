"""How long a sweep will take and how much disk it will need, from a short trial of each benchmark."""

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from configs.building import check_times, usage_errors
from configs.population import Population, read
from configs.settings import UsageError
from recording.directory import RunDirectory
from sweeping.job import Job
from sweeping.plan import Sweep
from sweeping.work import Command, start

SHORT, LONGER = 1000, 3
"""Steps of each member in a trial, and how many times as long another one is: their difference tells how files grow."""


@dataclass(frozen=True)
class Cost:
    """Of the jobs of one benchmark.

    Attributes:
        start: seconds until a job learns, and after.
        step: seconds for one environment step of one cell.
        fixed: bytes of a cell that has just begun.
        grown: bytes for one environment step.
    """

    start: float
    step: float
    fixed: float
    grown: float

    def seconds(self, job: Job) -> float:
        """Of a job from its beginning."""
        return self.start + self.step * job.steps

    def size(self, job: Job) -> float:
        """Bytes of a finished job."""
        return self.fixed * job.cells + self.grown * job.steps


def measure(sweep: Sweep) -> dict[str, Cost]:
    """Train an arm of each benchmark for some thousand steps, in a scratch folder, which is removed.

    Raises:
        UsageError: a trial fails; with the last lines that it has printed.
    """
    found = {}
    for benchmark in sweep.benchmarks:
        jobs = [job for job in sweep.jobs if job.benchmark == benchmark]
        job = next(filter(_has_time, jobs), jobs[0])
        short = _trial(job, SHORT)
        long = _trial(job, LONGER * short.steps // job.cells)  # it has gone on to the end of a rollout
        grown = max(0.0, (long.size - short.size) / (long.steps - short.steps))
        found[benchmark] = Cost(
            start=long.seconds - long.learning,
            step=long.learning / long.steps,
            fixed=max(0.0, short.size - grown * short.steps) / job.cells,
            grown=grown,
        )
    return found


def _has_time(job: Job) -> bool:
    """Whether what a job does at switches, or now and then, has its time in a trial; else `train.py` refuses it."""
    try:
        with usage_errors():
            asked = read((*job.words, "--steps", str(SHORT)))
            config = asked.members[0] if isinstance(asked, Population) else asked
            check_times(config, config.tasks)
    except UsageError:
        return False
    return True


class Trial(NamedTuple):
    """Of a short run: seconds in all and of learning, environment steps of all members, bytes."""

    seconds: float
    learning: float
    steps: int
    size: int


def _trial(job: Job, steps: int) -> Trial:
    """Train for so many steps."""
    with tempfile.TemporaryDirectory() as scratch:
        words = (*job.words, "--steps", str(steps), "--checkpoint-every", "never", "--no-preflight")
        trial = replace(job, words=words, path=Path(scratch) / "trial")
        began = time.monotonic()
        process = start(Command.of(trial))
        try:
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        seconds = time.monotonic() - began
        if status:
            raise UsageError(f"a trial of {job.benchmark} has failed: {trial.problem(1)}")
        members = [trial.path / name for name in trial.names] or [trial.path]
        done = sum(int(RunDirectory(member).status()["steps"]) for member in members)
        size = sum(path.stat().st_size for path in trial.path.rglob("*") if path.is_file())
        return Trial(seconds, trial.seconds(), done, size)


def free_bytes(folder: Path) -> int:
    """Of the disk that a folder is on, or will be."""
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free
