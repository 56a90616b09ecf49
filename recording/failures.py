"""What can go wrong while a run goes on, each in a sentence that says what happened, where, and how to go on.

    with run_errors(directory.path, env_id, where=lambda: "step 12,345 (task 2)", recovery=checkpointer.recovery):
        model.learn(...)

The environment may raise, or a process of it die; a disk may fill up; memory may run out; numbers may become nan; the
run's files may be deleted. Each is a `RunError`, and its traceback is kept in `error.txt`. What is none of these is a
mistake in the program: the exception goes on as it is, with a note.
"""

import errno
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from agents.finite import NonFiniteError
from configs.settings import UsageError

FILES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file has become larger than is allowed (see ulimit -f)",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk does not work (input/output error)",
    errno.ESTALE: "the network disk has lost the file (stale handle)",
}
"""What the system says when a file cannot be written."""

PIPES = (EOFError, ConnectionResetError, BrokenPipeError)
"""What is raised when the process at the other end of a pipe is gone."""

LONGEST = 300
"""Characters of another's message that are repeated."""


class RunError(Exception):
    """The run cannot go on; the message says what happened, where, and how to go on."""


@contextmanager
def run_errors(
    directory: Path,
    env_id: str,
    where: Callable[[], str],
    recovery: Callable[[], str] = lambda: "",
    broken_weights: Callable[[], str | None] = lambda: None,
) -> Iterator[None]:
    """Make a RunError of what a run can fail from, and keep the traceback in the run's directory.

    Args:
        directory: of the run.
        env_id: the environment's name.
        where: where the run is, such as "step 12,345 (task 2)".
        recovery: a sentence that says how to go on.
        broken_weights: what of the weights is not finite, which SB3 stumbles over sooner or later; None if nothing is.

    Raises:
        RunError: for what `explain` knows.
        Exception: anything else, with a note of where the run is and how to go on.
    """
    try:
        with _writer_threads():
            yield
    except UsageError:
        raise
    except RunError as error:
        raise RunError(_joined(str(error), directory, recovery)) from error
    except Exception as error:
        sentence = explain(error, directory, env_id, where())
        if isinstance(error, NonFiniteError):
            recovery = _repeats
        if sentence is None and isinstance(error, BrokenPipeError):  # nobody reads the output any more
            raise
        if sentence is None and (broken := broken_weights()):
            sentence, recovery = f"{where()}: {broken}.", _repeats
        kept = keep_traceback(error, directory)
        if sentence is not None:
            sentence = sentence[0].upper() + sentence[1:]
            raise RunError(_joined(sentence, directory, recovery)) from error
        written = f", and this traceback in {kept}" if kept else ""
        error.add_note(_joined(f"This happened at {where()}; the run is in {directory}{written}.", directory, recovery))
        raise


def explain(error: BaseException, directory: Path, env_id: str, where: str) -> str | None:
    """What happened, in a sentence; None where the exception is of no known kind."""
    owners = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    workers = next((owner for owner in owners if isinstance(owner, SubprocVecEnv)), None)
    if workers and isinstance(error, PIPES):
        return f"a process of {env_id} has died at {where}: {_cause_of_death(workers)}."
    environments = [owner for owner in owners if isinstance(owner, (gym.Env, VecEnv))]
    if environments and not _is_ours(environments[-1]):
        return f"{env_id} raised {type(error).__name__} at {where}{_said(error)}"
    if isinstance(error, NonFiniteError):
        return str(error)
    for cause in _causes(error):
        number = _errno(cause)
        if number == errno.ENOENT and not directory.is_dir():
            return f"the run's directory {directory} was deleted before {where}."
        if number in FILES:
            path = getattr(cause, "filename", None) or directory
            return f"{FILES[number]}: {path} could not be written at {where}."
        if isinstance(cause, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(cause):
            return f"memory is used up at {where}{_said(cause)}"
        if isinstance(cause, torch.OutOfMemoryError):
            return f"the device's memory is used up at {where}{_said(cause)}"
    return None


def _repeats() -> str:
    return "A run repeats itself exactly, so the same command would end here again."


def _joined(sentence: str, directory: Path, recovery: Callable[[], str]) -> str:
    """The sentence, and how to go on, as long as there is anything to go on from."""
    return f"{sentence} {recovery()}".rstrip() if directory.is_dir() else sentence


@contextmanager
def _writer_threads() -> Iterator[None]:
    """Let what TensorBoard's writing thread fails from be raised here, rather than printed by Python.

    The next write raises it too, but there may be none.
    """
    lost: list[BaseException] = []
    plain = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if type(failure.thread).__module__.startswith("tensorboard.") and isinstance(failure.exc_value, OSError):
            lost.append(failure.exc_value)
        else:
            plain(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = plain
    if lost:
        raise lost[0]


def keep_traceback(error: BaseException, directory: Path) -> Path | None:
    """Write the traceback to `error.txt`; returns its path, None where that was not possible."""
    path = directory / "error.txt"
    try:
        path.write_text("".join(traceback.format_exception(error)))
    except OSError:
        return None
    return path


def abandon(env: VecEnv) -> None:
    """Close an environment after a failure, in which it may hang, be half through a step, or have lost processes."""
    workers = env.unwrapped
    if isinstance(workers, SubprocVecEnv):
        for process in workers.processes:
            process.kill()
        return
    with suppress(Exception):  # what it failed from is being told already
        env.close()


class FilesWatch:
    """Notices when files that a run writes are deleted, replaced or cut off under its hands.

    On Linux one can go on writing to a file that has been deleted; what is written is gone. A look costs microseconds.

    Args:
        directory: of the run, which must stay as well.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[Path, tuple[tuple[int, int] | None, int, Callable[[str], None]]] = {}
        self.add(directory)

    def add(self, path: Path, lost: Callable[[str], None] | None = None) -> None:
        """Watch a file that is there now and grows only.

        Args:
            path: the file.
            lost: called with a sentence, once, instead of raising; the file is watched no longer, unless it is added.
        """
        identity, size = _look(path)
        self._files[path] = identity, size, lost or _raise

    def check(self) -> None:
        """Look at all of them.

        Raises:
            RunError: one without a `lost` is not what it was.
        """
        for path, (identity, size, lost) in list(self._files.items()):
            now, size_now = _look(path)
            if now == identity and size_now >= size:
                self._files[path] = identity, size_now, lost
                continue
            del self._files[path]
            happened = "deleted or moved" if now is None else "replaced" if now != identity else "cut off"
            lost(f"{path} was {happened} while the run went on.")


def _raise(sentence: str) -> None:
    raise RunError(sentence)


def _look(path: Path) -> tuple[tuple[int, int] | None, int]:
    """Which file it is, None where there is none, and its size; a directory has no size that matters."""
    try:
        found = path.stat()
    except OSError:
        return None, 0
    return (found.st_dev, found.st_ino), 0 if path.is_dir() else found.st_size


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, and what it was raised from or while."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _errno(error: BaseException) -> int | None:
    """The system's number of an error; safetensors has it in its text only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _is_ours(environment: Any) -> bool:
    """Whether it is a wrapper of this project's or of SB3's, whose exceptions are not the environment's."""
    return type(environment).__module__.partition(".")[0] in ("envs", "stable_baselines3")


def _said(error: BaseException) -> str:
    """The end of a sentence with an exception's own words, on one line."""
    words = " ".join(str(error).split())
    words = f"{words[:LONGEST]}…" if len(words) > LONGEST else words
    return f": {words.rstrip('.')}." if words else "."


def _cause_of_death(workers: SubprocVecEnv, patience: float = 1.0) -> str:
    """What ended the first of an environment's processes that has ended."""
    deadline = time.monotonic() + patience
    while not any(process.exitcode is not None for process in workers.processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    code = next((process.exitcode for process in workers.processes if process.exitcode is not None), None)
    if code is None:
        return "it no longer answers"
    if code >= 0:
        return "what it failed from stands above"
    name = signal.Signals(-code).name
    likely = ", as the system does when memory is used up" if -code == signal.SIGKILL else ""
    return f"it was ended by {name}{likely}"
