"""What an engine does with a job: run its command line in a process of its own, wherever that is.

The process ends with the one that has started it, however that ends, so that a driver that is started again finds no
half of its predecessor at work. `train.py` does the rest: what is finished is not trained again, what has begun is
taken up where it was last saved, and no two processes write to the same run.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recording.signals import end_with_parent
from sweeping.job import PROMPT, Job

GRACE = 60.0
"""Seconds that a process has to save what it does and leave."""


@dataclass(frozen=True)
class Command:
    """How to run a job, on any machine that has these folders.

    Attributes:
        words: of the process.
        folder: where it runs, since words may name files from there.
        log: what its output is added to.
    """

    words: tuple[str, ...]
    folder: Path
    log: Path

    @classmethod
    def of(cls, job: Job) -> "Command":
        """How to run a job, from the folder that this process is in."""
        # -P: a train.py of the user's own, in the folder where the sweep was started, is not ours.
        words = (sys.executable, "-P", "-m", "train", *job.words, "--run-dir", str(job.path.absolute()), "--quiet")
        return cls(words, Path.cwd(), job.log.absolute())


def start(command: Command) -> "subprocess.Popen[bytes]":
    """Start a job's process."""
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("ab") as log:
        log.write(f"{PROMPT}{shlex.join(command.words)}\n".encode())
        log.flush()
        return subprocess.Popen(
            command.words,
            cwd=command.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the driver only, which passes it on
            preexec_fn=end_with_parent,
        )


def work(command: Command) -> int:
    """Run a job to its end, in the process that an engine has for it; returns the exit status."""
    process = start(command)
    try:
        return process.wait()
    finally:
        leave([process])


def leave(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Have processes save what they do and leave, and wait for it."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """That of this process; modules are found where this one finds them."""
    here = str(Path(__file__).resolve().parent.parent)
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
