"""The clock of one process: it starts once training is warm, and ends training once the time is up."""

import resource
import time
from collections.abc import Callable

from .work import Lap, Work


class TimeIsUpError(Exception):
    """Leaves `learn`: enough has been measured."""


class Stopwatch:
    """To be asked at the start of each rollout, where nothing is half done.

    Args:
        work: says when to start, and for how long to run.
        wait: returns when the other processes of the race are warm too.
        synchronize: returns when the device has finished its work.

    Attributes:
        lap: what was done, once the time is up.
    """

    def __init__(self, work: Work, wait: Callable[[], None], synchronize: Callable[[], None] = lambda: None) -> None:
        self.work, self.wait, self.synchronize = work, wait, synchronize
        self.lap: Lap | None = None
        self._began: tuple[int, float, float] | None = None

    def rollout_starts(self, steps: int) -> None:
        """Start or stop the clock where its time has come.

        Args:
            steps: environment steps of each member so far.

        Raises:
            TimeIsUpError: the lap is over.
        """
        if self._began is None:
            if steps >= self.work.warm_up:
                self.synchronize()
                self.wait()
                self._began = steps, time.monotonic(), processor_seconds()
            return
        before, clock, processor = self._began
        if time.monotonic() - clock < self.work.seconds:
            return
        self.synchronize()
        self.lap = Lap(
            steps=(steps - before) * self.work.members,
            seconds=time.monotonic() - clock,
            processor=processor_seconds() - processor,
            peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
        raise TimeIsUpError


def processor_seconds() -> float:
    """Processor time of this process and all its threads, in the kernel too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
