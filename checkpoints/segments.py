"""Ring buffers, such as replay buffers, written piece by piece: each checkpoint adds only what is new.

A ring of capacity N after `added` insertions holds the insertions max(0, added - N) to added - 1, insertion i in row
i % N. A segment is an immutable file of consecutive insertions, shared by all checkpoints that need it. Its name ends
with the beginning of its checksum, so that a segment of another course of the run can never be taken for it.

Small segments are merged as in a log-structured merge tree (O'Neil et al. 1996): there are some logarithmically many of
them, and each insertion is written a logarithmic number of times. What is merged comes from the ring in memory, not
from files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from checkpoints import files, tensors
from checkpoints.errors import CheckpointError
from checkpoints.files import Seal

Arrays = Mapping[str, np.ndarray[Any, Any]]
"""The arrays of a ring by name, each with the rows of the ring as its first dimension."""

FAN = 8
"""How many segments of about the same size are merged into one; a choice."""

SEGMENT_BYTES = 2**28
"""Bytes of arrays in one segment at most, so that reading and writing take little memory; a choice."""


@dataclass(frozen=True)
class Ring:
    """A ring buffer to be written.

    What it holds of an insertion must not change later; whatever does belongs to another part of the checkpoint.

    Attributes:
        arrays: its arrays, all of the same length N.
        added: how many insertions there have been so far.
    """

    arrays: Arrays
    added: int

    def __post_init__(self) -> None:
        lengths = {len(array) for array in self.arrays.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"the arrays of a ring must have one length above 0, not {sorted(lengths)}")
        if self.added < 0:
            raise ValueError(f"a ring cannot have {self.added} insertions")

    @property
    def capacity(self) -> int:
        """How many insertions it can hold."""
        return len(next(iter(self.arrays.values())))

    @property
    def oldest(self) -> int:
        """The first insertion that it still holds."""
        return max(0, self.added - self.capacity)

    def rows_per_segment(self) -> int:
        """How many insertions a segment may have."""
        row = sum(array.nbytes for array in self.arrays.values()) // self.capacity
        return max(1, SEGMENT_BYTES // max(1, row))


@dataclass(frozen=True)
class Segment:
    """The insertions from `start` up to, but without, `end`, in one file."""

    ring: str
    start: int
    end: int
    seal: Seal

    @property
    def name(self) -> str:
        """The name of the file."""
        return f"{self.ring}-{self.start:012d}-{self.end:012d}-{self.seal.sha256[:16]}.safetensors"

    def __len__(self) -> int:
        return self.end - self.start


def write(folder: Path, name: str, ring: Ring, written: Sequence[Segment]) -> list[Segment]:
    """Write what a ring holds and no segment has.

    Args:
        folder: where the segments are.
        name: the ring's.
        ring: the ring.
        written: the segments of this very ring at an earlier checkpoint; of other rings, or of another course of this
            one, they would be wrong.

    Returns:
        The segments that together hold the whole ring, in order.

    Raises:
        OSError: they cannot be written.
    """
    if written and written[-1].end > ring.added:
        raise ValueError(f"ring {name} has {ring.added} insertions, fewer than the {written[-1].end} in its segments")
    kept = [segment for segment in written if segment.end > ring.oldest]
    start = kept[-1].end if kept else ring.oldest
    most = ring.rows_per_segment()
    while start < ring.added:
        end = min(start + most, ring.added)
        kept, start = _merge(kept, start, end, ring.oldest, most)
        kept.append(_write_one(folder, name, ring, start, end))
        start = end
    return kept


def _merge(kept: list[Segment], start: int, end: int, oldest: int, most: int) -> tuple[list[Segment], int]:
    """Which segments stay beside a new one, and where that begins so that it holds those which do not stay."""
    while len(kept) >= FAN - 1:
        last = kept[-(FAN - 1) :]
        merged_start = max(last[0].start, oldest)
        if end - merged_start > most or max(map(len, last)) >= FAN * (end - start):
            break
        kept, start = kept[: -(FAN - 1)], merged_start
    return kept, start


def _write_one(folder: Path, name: str, ring: Ring, start: int, end: int) -> Segment:
    rows = np.arange(start, end) % ring.capacity
    content = tensors.encode({key: torch.from_numpy(array[rows]) for key, array in ring.arrays.items()})
    segment = Segment(name, start, end, Seal.of(content))
    # The same segment may be there already, and another checkpoint's: it is replaced by its like in one step.
    temporary = folder / f"{files.TEMPORARY}{segment.name}"
    files.write(temporary, content)
    temporary.replace(folder / segment.name)
    return segment


def load(folder: Path, segments: Sequence[Segment], ring: Ring) -> None:
    """Fill the arrays of a ring with what its segments hold.

    Args:
        folder: where the segments are.
        segments: what `write` gave.
        ring: arrays of the same capacity, and the number of insertions; rows without any are left alone.

    Raises:
        CheckpointError: a segment is missing or damaged, or does not fit the ring.
        OSError: a segment cannot be read.
    """
    check_complete(segments, ring.oldest, ring.added)
    for segment in segments:
        content = files.read_sealed(folder / segment.name, segment.seal, tensors.LIMIT)
        found = tensors.decode(content, segment.name)
        if found.keys() != ring.arrays.keys():
            raise CheckpointError(f"{segment.name} holds {', '.join(sorted(found))}, not {', '.join(ring.arrays)}.")
        first = max(segment.start, ring.oldest)
        rows = np.arange(first, segment.end) % ring.capacity
        for key, array in ring.arrays.items():
            array[rows] = _fitting(found[key], array, len(segment), f"{key} in {segment.name}")[first - segment.start :]


def _fitting(tensor: torch.Tensor, array: np.ndarray[Any, Any], rows: int, source: str) -> np.ndarray[Any, Any]:
    shape = (rows, *array.shape[1:])
    if tensor.dtype == torch.bfloat16 or tensor.numpy().dtype != array.dtype or tuple(tensor.shape) != shape:
        raise CheckpointError(f"{source} is {tensor.dtype} {tuple(tensor.shape)}, not {array.dtype} {shape}.")
    return tensor.numpy()


def check_complete(segments: Iterable[Segment], oldest: int, added: int) -> None:
    """Raise a CheckpointError unless segments hold all insertions from `oldest` up to `added`, each once."""
    found = list(segments)
    gap = any(first.end != second.start for first, second in pairwise(found))
    if (found and (found[0].start > oldest or found[-1].end != added)) or gap or (not found and oldest != added):
        ranges = ", ".join(f"{segment.start} to {segment.end}" for segment in found) or "nothing"
        raise CheckpointError(f"The segments of a ring hold {ranges}; {oldest} to {added} are needed.")
