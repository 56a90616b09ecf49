"""Processes that train at the same time, their clocks started together."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from .work import Lap, Work

BENCH = Path(__file__).resolve().parent.parent


class RaceError(Exception):
    """A process ended before it answered."""


def race(works: Sequence[Work], python: str = sys.executable) -> list[Lap]:
    """Run each work in a fresh process, all at the same time; returns their laps.

    Raises:
        RaceError: one of them failed; the message is the last line it wrote.
    """
    with tempfile.TemporaryFile("w+") as errors:
        processes = [_start(work, python, errors) for work in works]
        try:
            for process in processes:
                _answer(process, errors)
            for process in processes:
                assert process.stdin is not None  # a pipe
                process.stdin.write("go\n")
                process.stdin.flush()
            return [Lap(**json.loads(_answer(process, errors))) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.communicate()


def _start(work: Work, python: str, errors: IO[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(BENCH), str(BENCH.parent)))}
    if work.threads is not None:
        environment["OMP_NUM_THREADS"] = str(work.threads)
    if work.trainer == "sbx":
        environment["JAX_PLATFORMS"] = "cpu" if work.device == "cpu" else "cuda"
        if work.threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    command = [python, "-m", "racing.worker", work.to_json()]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    )


def _answer(process: subprocess.Popen[str], errors: IO[str]) -> str:
    """The next line that the process prints."""
    assert process.stdout is not None  # a pipe
    line = process.stdout.readline()
    if not line:
        errors.seek(0)
        told = errors.read().strip().splitlines() or [f"it ended with status {process.wait()}"]
        raise RaceError(told[-1])
    return line
