"""Jobs as Ray tasks, on this machine or on an existing cluster whose machines share the folder of the runs."""

import logging
import os
import socket
import time
from contextlib import suppress
from typing import Any

import ray

from configs.settings import UsageError
from sweeping.engines import Ended, Engine
from sweeping.job import Job
from sweeping.work import Command, work

ANSWER = 10.0
"""Seconds that a cluster has to answer."""
CANCELLED = 60.0
"""Seconds that tasks have to save what they do and leave."""


class Ray(Engine):
    """A cluster's processors, one for each job.

    Ray tells when a worker or its machine is lost; the sweep then starts the job anew, which goes on from its last
    checkpoint.

    Args:
        address: of an existing cluster; None: a new one on this machine.
        slots: jobs at a time, at most; None: as many as there are processors.

    Raises:
        UsageError: there is no cluster at the address.
    """

    def __init__(self, address: str | None, slots: int | None = None) -> None:
        if address is not None:
            _check(address)
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a warning that concerns nobody here
        own: dict[str, Any] = {"num_cpus": slots, "include_dashboard": False} if address is None else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            why = str(error).splitlines()[0].rstrip(".")
            if address is not None and "RAY_AUTH_MODE" not in os.environ:
                why += "; where it wants a token, as clusters mostly do from Ray 2.59 on, set RAY_AUTH_MODE=token"
            raise _nothing_at(address, why) from error
        self._most = slots
        # Retries are the sweep's, which alone knows what is worth one.
        self._work = ray.remote(work).options(num_cpus=1, max_retries=0)
        self._running: dict[Any, Job] = {}

    def slots(self) -> int:
        """The processors of all machines that are there now, or fewer where that is asked for."""
        there = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]  # of Ray's
        return there if self._most is None else min(there, self._most)

    def start(self, job: Job) -> None:
        """Submit a task."""
        self._running[self._work.remote(Command.of(job))] = job

    def ended(self, seconds: float) -> list[Ended]:
        """Tasks that have ended, well or with their worker."""
        if not self._running:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [Ended(self._running.pop(task), self._status(task)) for task in ready]

    def _status(self, task: Any) -> int | None:
        try:
            return int(ray.get(task))
        except ray.exceptions.RayError:
            return None

    def leave(self, job: Job) -> None:
        """Cancel a task."""
        for task, own in self._running.items():
            if own == job:
                ray.cancel(task)

    def stop(self) -> None:
        """Cancel all tasks, and leave the cluster."""
        for task in self._running:
            ray.cancel(task)
        if self._running:
            with suppress(ray.exceptions.RayError):
                ray.wait(list(self._running), num_returns=len(self._running), timeout=CANCELLED)
        self._running = {}
        ray.shutdown()


def _check(address: str) -> None:
    """Refuse an address at which nobody answers, for which Ray itself waits for minutes.

    Raises:
        UsageError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # such as auto, which Ray looks for on this machine
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise _nothing_at(address, getattr(error, "strerror", None) or str(error)) from error


def _nothing_at(address: str | None, why: str) -> UsageError:
    return UsageError(f"--address {address}: there is no Ray cluster ({why.rstrip('.')}).")
