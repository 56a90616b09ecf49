"""Files that last: written so that a crash cannot lose them, read so that neither damage nor a link is overlooked."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from checkpoints.errors import CheckpointError

CHUNK = 2**20
"""Bytes read at a time where a file is only verified."""


TEMPORARY = ".tmp-"
"""What the name of a file or folder begins with until it is whole."""


@dataclass(frozen=True)
class Seal:
    """What a file must be: its size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "Seal":
        """The seal of a file with this content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())

    def as_json(self) -> dict[str, Any]:
        """The seal as JSON."""
        return asdict(self)

    def check(self, path: Path, size: int, sha256: str) -> None:
        """Raise a CheckpointError unless this size and this checksum are the sealed ones."""
        if size != self.size:
            raise CheckpointError(f"{path} has {size} bytes instead of {self.size}.")
        if sha256 != self.sha256:
            raise CheckpointError(f"{path} has been damaged: its checksum is not the one it was written with.")


def write(path: Path, content: bytes) -> Seal:
    """Write a new file and wait until the disk has it.

    Raises:
        OSError: it cannot be written, or already exists.
    """
    with _named(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return Seal.of(content)


def sync_folder(folder: Path) -> None:
    """Wait until the disk knows which files a folder holds.

    Raises:
        OSError: the disk failed.
    """
    with _named(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems cannot do this for folders; that is not a failure of the disk.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


def read(path: Path, limit: int) -> bytes:
    """The content of a file.

    Raises:
        CheckpointError: it is missing, is a link or something else than a file, or has more than `limit` bytes.
        OSError: it cannot be read.
    """
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise CheckpointError(f"{path} has {size} bytes; at most {limit} are read.")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit)


def read_sealed(path: Path, seal: Seal, limit: int) -> bytes:
    """The content of a file, once it is known to be the one that was written; raises as `read` and `Seal.check` do."""
    content = read(path, min(limit, seal.size))
    seal.check(path, len(content), hashlib.sha256(content).hexdigest())
    return content


def verify(path: Path, seal: Seal) -> None:
    """Compare a file of any size with its seal, in little memory; raises as `read` and `Seal.check` do."""
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        digest = hashlib.sha256()
        if size == seal.size:
            while chunk := os.read(descriptor, CHUNK):
                digest.update(chunk)
    seal.check(path, size, digest.hexdigest())


def check_folder(path: Path) -> None:
    """Raise a CheckpointError unless this is a folder, and not a link to one; OSError where that cannot be known."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.") from None
    if not stat.S_ISDIR(mode):
        raise CheckpointError(f"{path} is not a folder.")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        # O_NONBLOCK, so that a named pipe cannot make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CheckpointError(f"{path} is a link, not a file.") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CheckpointError(f"{path} is not a file.")
        with _named(path):
            yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have errors of the disk name the file, which those of `os.write` and `os.fsync` do not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
