"""A sweep is run: jobs go to an engine until all are finished, or have failed as often as they may."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from checkpoints.lock import BUSY
from sweeping.engines import Ended, Engine
from sweeping.job import Job
from sweeping.plan import Sweep

MISTAKE = 2
"""Exit status after a mistake of the user's, which repeating does not mend."""
ASKED_TO_LEAVE = (130, 143)
"""Exit statuses of a process that somebody has asked to leave, after SIGINT and SIGTERM."""
WAIT_FOR_OTHERS = 5.0
"""Seconds, at least, after which a job that another process works on is looked at again."""
LOOKS = 40.0
"""Such jobs that are looked at in a second, at most; with more of them it takes longer until each has its turn."""
MOST_LOSSES = 20
"""Machines that a job may lose; after so many it is the job that ends them."""


@dataclass
class Progress:
    """How a sweep stands.

    Attributes:
        sweep: what it consists of.
        waiting: jobs nobody works on yet.
        running: jobs at work, each with the time at which it was started here.
        elsewhere: jobs that another process works on, each with the time at which to look again.
        finished: those that are done, whether now or before.
        failed: those given up, and what they have failed from.
        dropped: those that were not wanted any more.
    """

    sweep: Sweep
    waiting: deque[Job] = field(default_factory=deque)
    running: dict[Job, float] = field(default_factory=dict)
    elsewhere: dict[Job, float] = field(default_factory=dict)
    finished: list[Job] = field(default_factory=list)
    failed: dict[Job, str] = field(default_factory=dict)
    dropped: list[Job] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.waiting or self.running or self.elsewhere)


class Display(Protocol):
    """Shows how a sweep gets on."""

    def say(self, sentence: str) -> None:
        """Something has happened."""

    def draw(self, progress: Progress) -> None:
        """Called about once a second."""


def run(
    sweep: Sweep,
    engine: Engine,
    display: Display,
    retries: int,
    is_leaving: Callable[[], bool] = lambda: False,
    is_unwanted: Callable[[Job], bool] = lambda job: False,
) -> Progress:
    """Train all that is not finished.

    Args:
        sweep: what there is to do.
        engine: does it; what is at work when this returns, since it was to leave, is at work still.
        display: shows it.
        retries: how often a job that has failed is started again, after all others that wait.
        is_leaving: asked about once a second whether to stop here.
        is_unwanted: asked about once a second of each job at work, and before it is started, whether to give it up.

    Returns:
        How it stands at the end.
    """
    progress = Progress(sweep)
    for job in sweep.jobs:
        progress.finished.append(job) if job.state() == "finished" else progress.waiting.append(job)
    failures: Counter[Job] = Counter()
    losses: Counter[Job] = Counter()
    unwanted: set[Job] = set()
    while not progress.is_over and not is_leaving():
        _look_elsewhere(progress)
        while progress.waiting and len(progress.running) < engine.slots():
            job = progress.waiting.popleft()
            if is_unwanted(job):
                progress.dropped.append(job)
                continue
            if (state := job.state()) in ("running", "finished"):  # by another driver
                progress.finished.append(job) if state == "finished" else _leave_to_others(job, progress)
                continue
            engine.start(job)
            progress.running[job] = time.monotonic()
        display.draw(progress)
        for job in progress.running:
            if job not in unwanted and is_unwanted(job):
                unwanted.add(job)
                engine.leave(job)
        for ended in engine.ended(1.0):
            progress.running.pop(ended.job)
            if ended.job in unwanted and ended.status != 0:
                progress.dropped.append(ended.job)
                display.say(f"{ended.job.name}: given up")
            else:
                _settle(ended, progress, failures, losses, retries, display)
    return progress


def _look_elsewhere(progress: Progress) -> None:
    """Take up jobs that others were at work on, once it is time to look again."""
    now = time.monotonic()
    for job in [job for job, due in progress.elsewhere.items() if due <= now]:
        del progress.elsewhere[job]
        progress.finished.append(job) if job.state() == "finished" else progress.waiting.append(job)


def _leave_to_others(job: Job, progress: Progress) -> None:
    """Look at a job again later, and go on in an order of one's own, so that drivers do not meet at each job."""
    if not progress.elsewhere:  # the first that is met
        progress.waiting = deque(random.SystemRandom().sample(list(progress.waiting), len(progress.waiting)))
    wait = max(WAIT_FOR_OTHERS, len(progress.elsewhere) / LOOKS)
    progress.elsewhere[job] = time.monotonic() + wait


def _settle(
    ended: Ended, progress: Progress, failures: Counter[Job], losses: Counter[Job], retries: int, display: Display
) -> None:
    """Decide what becomes of a job that has ended."""
    job = ended.job
    if ended.status == 0:
        progress.finished.append(job)
        display.say(f"{job.name}: finished")
        return
    if ended.status == BUSY:
        _leave_to_others(job, progress)
        display.say(f"{job.name}: another process is at work on it")
        return
    lost = ended.status is None or ended.status < 0 or ended.status in ASKED_TO_LEAVE
    counts, most = (losses, MOST_LOSSES) if lost else (failures, retries)
    counts[job] += 1
    how = "its worker was lost" if ended.status is None else f"it was ended from outside (status {ended.status})"
    how = how if lost else f"it failed with status {ended.status}"
    if counts[job] > most or ended.status == MISTAKE:
        progress.failed[job] = job.problem()
        display.say(f"{job.name}: {how}, for good")
        return
    progress.waiting.append(job)
    display.say(f"{job.name}: {how}; it goes on later")
