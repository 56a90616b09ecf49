"""A process that dies between any two calls of the system, and a disk that fails at any of them, lose no checkpoint."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from checkpoints.checkpoint import Checkpoint
from checkpoints.store import Store
from tests.checkpoints.test_store import content, expected, save

CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "truncate")


class Killed(BaseException):
    """The process is no more: not even what would tidy up can do anything."""


class System:
    """Counts the calls that change the disk, and lets one of them, and perhaps all after it, not happen.

    Args:
        patch: puts the fakes in place.
        number: the call that does not happen; a write happens by half.
        error: what it raises.
        lasts: whether no later call happens either.
    """

    def __init__(self, patch: pytest.MonkeyPatch, number: int, error: Callable[[], BaseException], lasts: bool) -> None:
        self.calls = 0
        self.number = number
        self.error = error
        self.lasts = lasts
        self.not_on_disk: set[int] = set()  # inodes, which stay when a folder is renamed
        for name in CALLS:
            patch.setattr(os, name, self._fake(name, getattr(os, name)))

    def _fake(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def fake(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return real(*arguments, **named)
            self.calls += 1
            if self.calls == self.number or (self.lasts and self.calls > self.number):
                if name == "write" and self.calls == self.number:
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise self.error()
            if name == "fsync":
                self.not_on_disk.discard(os.fstat(arguments[0]).st_ino)
                return None
            result = real(*arguments, **named)
            if name == "open":
                self.not_on_disk.add(os.fstat(result).st_ino)
            return result

        return fake


def healthy(folder: Path) -> None:
    """Two checkpoints, the newer of which is continued from."""
    store = Store(folder)
    store.newest()
    save(store, 10)
    save(store, 15)


def fallen_back(folder: Path) -> None:
    """Three, the newest of which is damaged, so that the one before is continued from."""
    healthy(folder)
    store = Store(folder)
    store.newest()
    save(store, 18)
    (folder / "step-000000000018" / "agent.json").write_text("")


def nothing(folder: Path) -> None:
    """A run that begins."""


SITUATIONS = {healthy: 15, fallen_back: 15, nothing: None}


@contextmanager
def saving(
    before: Path, tmp_path: Path, number: int, error: Callable[[], BaseException], lasts: bool
) -> Iterator[tuple[Store, System, bool]]:
    """Save at step 20 in a copy of `before`, with a call that does not happen; gives whether it was noticed."""
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    if before.exists():
        shutil.copytree(before, tmp_path / "run")
    store = Store(tmp_path / "run")
    store.newest()
    noticed = False
    with pytest.MonkeyPatch.context() as patch:
        system = System(patch, number, error, lasts)
        try:
            save(store, 20)
        except (Killed, OSError):
            noticed = True
    yield store, system, noticed


def lose(folder: Path, inodes: set[int]) -> None:
    """Empty the files that had not reached the disk."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_ino in inodes:
            os.truncate(path, 0)


def prepare(situation: Callable[[Path], None], tmp_path: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        situation(tmp_path / "before")
    return tmp_path / "before"


@pytest.mark.parametrize(
    ("situation", "power_fails"), [(healthy, False), (healthy, True), (fallen_back, False), (nothing, True)]
)
def test_a_process_killed_at_any_call_can_be_continued(
    situation: Callable[[Path], None], power_fails: bool, tmp_path: Path
) -> None:
    """Where the power fails, files that were not yet on the disk are empty afterwards."""
    before = prepare(situation, tmp_path)
    found_new = found_old = number = 0
    while True:
        number += 1
        with saving(before, tmp_path, number, Killed, lasts=True) as (store, system, _):
            if power_fails:
                lose(store.folder, system.not_on_disk)
            again = Store(store.folder)
            found = content(again.newest())
            assert found in (expected(20), expected(SITUATIONS[situation]) if SITUATIONS[situation] else None)
            found_new += found == expected(20)
            found_old += found != expected(20)
            if number % 3 == 0:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(os, "fsync", lambda descriptor: None)
                    save(again, 21)
                assert content(Store(store.folder).newest()) == expected(21)
                assert_tidy(store.folder, newest=21)
            if system.calls < number:
                break
    assert found_old > 10
    assert found_new > 1


@pytest.mark.parametrize("number_of_error", [errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EIO])
def test_a_disk_that_fails_at_any_call_costs_nothing(number_of_error: int, tmp_path: Path) -> None:
    def error() -> OSError:
        return OSError(number_of_error, os.strerror(number_of_error))

    before = prepare(healthy, tmp_path)
    step = 1 if number_of_error == errno.ENOSPC else 7
    failed = 0
    for number in range(1, 1000, step):
        with saving(before, tmp_path, number, error, lasts=False) as (store, system, noticed):
            if system.calls < number:
                break
            found = content(Store(store.folder).newest())
            assert found in (expected(15), expected(20))
            if noticed:
                failed += 1
                left = {path.name for path in store.folder.iterdir()}
                assert left - {"step-000000000020"} == {"segments", "step-000000000010", "step-000000000015"}
                assert "step-000000000020" in left or len(list((store.folder / "segments").iterdir())) == 2
            else:
                assert found == expected(20)
            # The process goes on, and saves again later.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda descriptor: None)
                save(store, 22)
            assert content(Store(store.folder).newest()) == expected(22)
            assert_tidy(store.folder, newest=22)
    assert failed > 14 / step


def assert_tidy(folder: Path, newest: int) -> None:
    """Only whole checkpoints are left, two at most, and the segments that they need."""
    kept = sorted(path for path in folder.iterdir() if path.name != "segments")
    assert kept[-1].name == f"step-{newest:012d}"
    assert len(kept) <= 2
    needed = {segment.name for path in kept for segment in Checkpoint.open(path).manifest.rings["replay"].segments}
    assert {path.name for path in (folder / "segments").iterdir()} == needed


@pytest.mark.parametrize("name", ["write", "fsync"])
def test_a_full_disk_is_told_with_the_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(tmp_path / "run")
    store.newest()
    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}.*'"):
        save(store, 20)


def test_folders_that_cannot_be_synchronised_are_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    store = Store(tmp_path / "run")
    store.newest()
    save(store, 20)
    assert content(Store(tmp_path / "run").newest()) == expected(20)
