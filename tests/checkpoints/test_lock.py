"""No two processes write one run directory, and a lock never outlives its process."""

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from checkpoints import lock
from checkpoints.lock import Lease, RunLock
from configs.settings import UsageError

HOLDER = """
import sys
from pathlib import Path
from checkpoints.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("locked", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is sent a line."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def write_lease(path: Path, host: str, process: int, age: float = 0.0) -> None:
    path.write_text(json.dumps({"host": host, "process": process, "refreshed": time.time() - age}))


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOLCK) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def can_lock(path: Path) -> bool:
    try:
        with RunLock(path):
            return True
    except UsageError:
        return False


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it never was so")


def test_another_process_is_kept_out_until_the_lock_is_released(path: Path, holder: subprocess.Popen[str]) -> None:
    text = rf"^{path.parent} is being written by process {holder.pid} on host \S+; wait for it or end it\.$"
    with pytest.raises(UsageError, match=text):
        RunLock(path).acquire()
    holder.communicate("release\n")
    with RunLock(path) as taken:
        taken.check()


def test_a_killed_process_holds_nothing(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads(path.read_text())["process"] == holder.pid
    with RunLock(path):
        assert json.loads(path.read_text())["process"] == os.getpid()


def test_a_stopped_process_still_holds_it(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    write_lease(path, platform.node(), holder.pid, age=10 * lock.LEASE)
    with pytest.raises(UsageError, match=f"process {holder.pid}"):
        RunLock(path).acquire()
    holder.send_signal(signal.SIGCONT)


def test_two_locks_of_one_process_exclude_each_other(path: Path) -> None:
    with RunLock(path) as first:
        with pytest.raises(UsageError, match=f"process {os.getpid()}"):
            RunLock(path).acquire()
        with pytest.raises(RuntimeError, match="already"):
            first.acquire()
        first.check()
    assert path.read_text() == ""
    with first:
        first.check()
    first.release()  # twice does no harm


def test_a_forked_process_does_not_keep_the_lock(path: Path) -> None:
    forking = HOLDER.replace(
        "print(", "import os\nif not os.fork(): print(sys.stdin.readline()), sys.exit()\nprint(", 1
    )
    command = [sys.executable, "-c", forking, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        process.kill()
        process.wait()
        wait_until(lambda: can_lock(path))
        output, _ = process.communicate("the child is alive\n")
        assert "the child is alive" in output


@pytest.mark.parametrize("age", [0.0, lock.LEASE - 10, -1000.0], ids=["new", "old", "future"])
def test_another_host_is_believed(path: Path, age: float) -> None:
    write_lease(path, "elsewhere", 7, age)
    text = (
        rf"process 7 on host elsewhere, which said so {max(0, age):.0f} s ago; wait .* 120 s ago, or delete lock\)\.$"
    )
    with pytest.raises(UsageError, match=text):
        RunLock(path).acquire()
    assert json.loads(path.read_text())["host"] == "elsewhere"


def test_another_host_that_has_been_silent_is_not(path: Path) -> None:
    write_lease(path, "elsewhere", 7, lock.LEASE + 1)
    with RunLock(path):
        assert json.loads(path.read_text())["host"] == platform.node()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"host": 1, "process": "a", "refreshed": null}', "\0" * 256])
def test_half_a_lease_is_none(path: Path, text: str) -> None:
    path.write_text(text)
    with RunLock(path):
        assert json.loads(path.read_text())["process"] == os.getpid()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def test_where_nothing_can_be_locked_the_lease_counts(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_locks(monkeypatch, number)
    write_lease(path, platform.node(), os.getppid())
    with pytest.raises(UsageError, match=f"process {os.getppid()} "):
        RunLock(path).acquire()
    for lease in ((platform.node(), 2**22 + 1, 0.0), (platform.node(), os.getppid(), lock.LEASE + 1)):
        write_lease(path, *lease)
        with RunLock(path) as taken:
            taken.check()


def test_a_lease_is_renewed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW", 0.01)
    with RunLock(path):
        first = json.loads(path.read_text())["refreshed"]
        wait_until(lambda: json.loads(path.read_text())["refreshed"] > first)


def test_one_who_slept_too_long_is_told_and_takes_nothing_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW", 0.01)
    with RunLock(path) as sleeper:
        write_lease(path, "elsewhere", 7)
        with pytest.raises(UsageError, match="process 7 on host elsewhere"):
            sleeper.check()
        thread = sleeper._renewal
        assert thread is not None
        wait_until(lambda: not thread.is_alive())
    assert json.loads(path.read_text())["host"] == "elsewhere"


def test_a_failing_disk_does_not_end_the_renewal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW", 0.01)
    failures = []

    def fail(descriptor: int, lease: Lease) -> None:
        failures.append(lease)
        raise OSError(errno.EIO, "it failed")

    with RunLock(path), monkeypatch.context() as patch:
        patch.setattr(lock, "_write", fail)
        wait_until(lambda: len(failures) > 3)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^{tmp_path}/none/lock cannot be written to \(No such file"):
        RunLock(tmp_path / "none" / "lock").acquire()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="cannot be written to"):
        RunLock(tmp_path / "link").acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_no_lock_is_kept_after_a_refusal(path: Path) -> None:
    write_lease(path, "elsewhere", 7)
    refused = RunLock(path)
    with pytest.raises(UsageError, match="elsewhere"):
        refused.acquire()
    path.write_text("")
    with RunLock(path), pytest.raises(UsageError, match=f"process {os.getpid()}"):
        refused.acquire()


def test_a_disk_that_fails_when_it_is_released_hides_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def ends() -> None:
        monkeypatch.setattr(lock, "_read", fails)
        raise RuntimeError("what ended the run")

    with pytest.raises(RuntimeError, match="what ended the run"), RunLock(path):
        ends()
    monkeypatch.undo()
    with RunLock(path):
        pass  # the kernel's lock is gone
