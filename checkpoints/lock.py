"""The lock of a run directory, so that no two processes write to it.

Two things together, since neither suffices:

- a lock of the kernel on a file (`flock`), which vanishes with its process, however that ends;
- a lease in this file, since on file systems shared by several hosts such locks often reach no further than one host:
  who is writing, and when it last said so. A lease of another host counts until it has not been renewed for `LEASE`
  seconds; one of this host counts only where the kernel's lock does not work.

The file stays, empty, where nobody holds the lock: removing it would let two processes lock two files of one name.
Only a finished run removes its own, while it is locked: who then locks another file of this name finds nothing to do.
"""

import errno
import fcntl
import json
import os
import platform
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from configs.settings import UsageError

LEASE = 120.0
"""Seconds after which a lease that has not been renewed no longer counts."""

RENEW = 30.0
"""Seconds between two renewals."""

LIMIT = 4096
"""Bytes of a lease that are read."""

UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems that know no locks."""

BUSY = 75
"""Exit status of a process that has found its run's directory locked; EX_TEMPFAIL of sysexits.h, try again later."""


class BusyError(UsageError):
    """Another process holds a lock; one sentence that names it."""


_descriptors: set[int] = set()
"""The files that this process holds locks on."""


def _close_in_child() -> None:
    """A forked process, such as a worker of a vectorised environment, must not hold the lock after its parent."""
    while _descriptors:
        os.close(_descriptors.pop())


os.register_at_fork(after_in_child=_close_in_child)


@dataclass(frozen=True)
class Lease:
    """Who writes to a directory, and when it last said so, in seconds since 1970."""

    host: str
    process: int
    refreshed: float

    def is_of(self, host: str, process: int) -> bool:
        """Whether this process of this host holds it."""
        return (self.host, self.process) == (host, process)

    def age(self) -> float:
        """Seconds since it was renewed, by this host's clock."""
        return time.time() - self.refreshed


class RunLock:
    """The lock of a run directory; a context manager that acquires and releases it.

    Args:
        path: its file, in the run directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._released = threading.Event()
        self._renewal: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            BusyError: another process holds it.
            UsageError: its file cannot be written.
        """
        if self._descriptor >= 0:
            raise RuntimeError(f"{self.path} is already locked by this object")
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                self._take(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written to ({error.strerror}).") from error
        self._descriptor = descriptor
        _descriptors.add(descriptor)
        self._released = threading.Event()
        self._renewal = threading.Thread(target=self._keep_renewing, name="run lock", daemon=True)
        self._renewal.start()

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except BlockingIOError:
            raise self._refusal(_read(descriptor)) from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            is_locked = False
        lease = _read(descriptor)
        if lease and _counts(lease, is_locked):
            raise self._refusal(lease)
        _write(descriptor, _own_lease())

    def check(self) -> None:
        """Make sure that the lock is still this process's.

        It may not be on a file system without locks between hosts, once this process stood still for minutes.

        Raises:
            BusyError: another process has taken it over.
            OSError: the lock's file cannot be read.
        """
        lease = _read(self._descriptor)
        if lease and not lease.is_of(platform.node(), os.getpid()):
            raise self._refusal(lease)

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor < 0:
            return
        self._released.set()
        if self._renewal:
            self._renewal.join()
        descriptor, self._descriptor = self._descriptor, -1
        _descriptors.discard(descriptor)
        # A disk that fails must not hide what has ended the run: its lease then ends by itself.
        with suppress(OSError):
            lease = _read(descriptor)
            if lease and lease.is_of(platform.node(), os.getpid()):
                os.ftruncate(descriptor, 0)
        with suppress(OSError):  # closing would do, but for a child that has not closed its own yet
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        with suppress(OSError):
            os.close(descriptor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def _keep_renewing(self) -> None:
        while not self._released.wait(RENEW):
            try:
                lease = _read(self._descriptor)
                if lease and not lease.is_of(platform.node(), os.getpid()):
                    return
                _write(self._descriptor, _own_lease())
            except OSError:  # a server that does not answer now may do so the next time
                continue

    def _refusal(self, lease: Lease | None) -> BusyError:
        folder = self.path.absolute().parent
        if lease is None:
            return BusyError(f"{folder} is being written by another process; wait for it or end it.")
        who = f"process {lease.process} on host {lease.host}"
        if lease.host == platform.node():
            return BusyError(f"{folder} is being written by {who}; wait for it or end it.")
        return BusyError(
            f"{folder} is being written by {who}, which said so {max(0.0, lease.age()):.0f} s ago; wait for it "
            f"or end it (if it has died, wait until that is {LEASE:.0f} s ago, or delete {self.path.name})."
        )


def is_held(path: Path) -> bool:
    """Whether a process, of this host or another, says in this file that it holds the lock; the lock is left alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        lease = _read(descriptor)
    finally:
        os.close(descriptor)
    if lease is None or lease.age() >= LEASE:
        return False
    return lease.host != platform.node() or _is_alive(lease.process)


def _counts(lease: Lease, is_locked: bool) -> bool:
    """Whether a lease that was found keeps this process out."""
    if lease.host != platform.node():
        # One from the future is of a host whose clock is wrong; it may well be alive.
        return lease.age() < LEASE
    return not is_locked and lease.process != os.getpid() and lease.age() < LEASE and _is_alive(lease.process)


def _is_alive(process: int) -> bool:
    """Whether there is such a process on this host."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _own_lease() -> Lease:
    return Lease(platform.node(), os.getpid(), time.time())


def _read(descriptor: int) -> Lease | None:
    """The lease in a file, if there is a whole one."""
    try:
        found = json.loads(os.pread(descriptor, LIMIT, 0))
        lease = Lease(found["host"], found["process"], found["refreshed"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_lease = type(lease.host) is str and type(lease.process) is int and type(lease.refreshed) in (int, float)
    return lease if is_lease and 0 < lease.process < 2**31 else None


def _write(descriptor: int, lease: Lease) -> None:
    """Write a lease in one call, padded over what was there, so that no half of it is found."""
    os.pwrite(descriptor, json.dumps(asdict(lease)).ljust(256).encode(), 0)
