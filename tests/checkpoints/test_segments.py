"""Ring buffers come back as they were, whatever was added between checkpoints and whichever of them is resumed from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import files, segments
from checkpoints.errors import CheckpointError
from checkpoints.segments import Ring, Segment


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def rows(capacity: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"observations": np.zeros((capacity, 2, 3), np.float32), "dones": np.zeros((capacity, 2), bool)}


@dataclass
class Buffer:
    """A ring that is filled insertion by insertion, as plainly as can be."""

    arrays: dict[str, np.ndarray[Any, Any]]
    added: int = 0

    def add(self, count: int, generator: np.random.Generator) -> None:
        for _ in range(count):
            for array in self.arrays.values():
                array[self.added % len(array)] = generator.random(array.shape[1:]) * 2 > 1
            self.arrays["observations"][self.added % len(self.arrays["observations"])] += self.added
            self.added += 1

    def copy(self) -> "Buffer":
        return Buffer({name: array.copy() for name, array in self.arrays.items()}, self.added)

    @property
    def ring(self) -> Ring:
        return Ring(self.arrays, self.added)


def check_loads(folder: Path, written: list[Segment], expected: Buffer) -> None:
    found = Buffer(rows(expected.ring.capacity), expected.added)
    segments.load(folder, written, found.ring)
    for name, array in expected.arrays.items():
        assert np.array_equal(found.arrays[name], array), name


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.integers(1, 40),
    most=st.integers(1, 60),
    fan=st.integers(2, 4),
    actions=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=1, max_size=15),
)
def test_every_checkpoint_comes_back(
    tmp_path_factory: pytest.TempPathFactory, capacity: int, most: int, fan: int, actions: list[tuple[int, int]]
) -> None:
    """Add some, write, and now and then go back to an earlier checkpoint and take another course from there."""
    folder = tmp_path_factory.mktemp("segments")
    generator = np.random.default_rng(0)
    buffer = Buffer(rows(capacity))
    row = sum(array[0].nbytes for array in buffer.arrays.values())
    checkpoints: list[tuple[list[Segment], Buffer]] = [([], buffer.copy())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SEGMENT_BYTES", most * row)
        patch.setattr(segments, "FAN", fan)
        for added, back in actions:
            if back == 3:
                buffer = checkpoints[-min(2, len(checkpoints))][1].copy()
                checkpoints = checkpoints[: -min(2, len(checkpoints)) + 1] or checkpoints
            buffer.add(added, generator)
            written = segments.write(folder, "replay", buffer.ring, checkpoints[-1][0])
            assert all(len(segment) <= min(most, capacity) for segment in written)
            checkpoints.append((written, buffer.copy()))
            for earlier, expected in checkpoints:
                check_loads(folder, earlier, expected)


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    buffer = Buffer(rows(100))
    generator = np.random.default_rng(0)
    buffer.add(30, generator)
    first = segments.write(tmp_path, "replay", buffer.ring, [])
    buffer.add(10, generator)
    second = segments.write(tmp_path, "replay", buffer.ring, first)
    assert [(segment.start, segment.end) for segment in second] == [(0, 30), (30, 40)]
    assert second[0] is first[0]
    assert segments.write(tmp_path, "replay", buffer.ring, second) == second
    assert {path.name for path in tmp_path.iterdir()} == {segment.name for segment in second}
    assert second[1].name.startswith("replay-000000000030-000000000040-")


@pytest.mark.parametrize("sizes", [[10], [1], [10, 1], [1, 9, 30], [64, 8, 1]], ids=str)
def test_segments_stay_few_and_each_row_is_written_few_times(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity = 4096
    sizes_written: list[int] = []
    write_one = segments._write_one

    def count(folder: Path, name: str, ring: Ring, start: int, end: int) -> Segment:
        sizes_written.append(end - start)
        return write_one(folder, name, ring, start, end)

    monkeypatch.setattr(segments, "_write_one", count)
    monkeypatch.setattr("checkpoints.files.write", lambda path, content: path.touch())
    arrays = {"rewards": np.zeros((capacity, 1), np.float32)}
    written: list[Segment] = []
    most = added = 0
    for number in range(600):
        added += sizes[number % len(sizes)]
        written = segments.write(tmp_path, "replay", Ring(arrays, added), written)
        most = max(most, len(written))
    assert most <= 8 * 4  # eight of each size: 1, 8, 64, 512
    assert sum(sizes_written) <= 5 * added


def test_segments_are_small_enough_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = Buffer(rows(50))
    buffer.add(70, np.random.default_rng(0))
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 26 * 12)
    written = segments.write(tmp_path, "replay", buffer.ring, [])
    assert [(segment.start, segment.end) for segment in written] == [(20, 32), (32, 44), (44, 56), (56, 68), (68, 70)]
    check_loads(tmp_path, written, buffer)


def test_another_course_of_the_run_is_never_mistaken(tmp_path: Path) -> None:
    """Two courses write the same range; each loads its own, and without it, none."""
    buffer = Buffer(rows(100))
    buffer.add(30, np.random.default_rng(0))
    common = segments.write(tmp_path, "replay", buffer.ring, [])
    one, other = buffer.copy(), buffer.copy()
    one.add(10, np.random.default_rng(1))
    other.add(10, np.random.default_rng(2))
    written = [segments.write(tmp_path, "replay", course.ring, common) for course in (one, other)]
    check_loads(tmp_path, written[0], one)
    check_loads(tmp_path, written[1], other)
    (tmp_path / written[0][1].name).rename(tmp_path / written[1][1].name)
    with pytest.raises(CheckpointError, match="checksum"):
        check_loads(tmp_path, written[1], other)
    with pytest.raises(CheckpointError, match="missing"):
        check_loads(tmp_path, written[0], one)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    buffer = Buffer(rows(20))
    buffer.add(30, np.random.default_rng(0))
    first = segments.write(tmp_path, "replay", buffer.ring, [])
    buffer.add(5, np.random.default_rng(0))
    written = segments.write(tmp_path, "replay", buffer.ring, first)
    good = buffer.arrays
    for arrays, problem in (
        ({"dones": good["dones"]}, "holds dones, observations, not dones"),
        ({**good, "observations": good["observations"].astype(np.float64)}, r"float32 .*, not float64"),
        ({**good, "observations": good["observations"][:, :, :2]}, r"\(20, 2, 3\), not float32 \(20, 2, 2\)"),
    ):
        with pytest.raises(CheckpointError, match=problem):
            segments.load(tmp_path, written, Ring(arrays, 35))
    for wrong, added in ((written[1:], 35), (written[:1], 35), (written, 34), (written[::-1], 35), ([], 35)):
        with pytest.raises(CheckpointError, match="are needed"):
            segments.load(tmp_path, wrong, Ring(good, added))
    with pytest.raises(ValueError, match="35 insertions, fewer than the 40"):
        segments.write(tmp_path, "replay", buffer.ring, [Segment("replay", 0, 40, files.Seal(0, ""))])


def test_what_is_no_ring_is_refused() -> None:
    for arrays in ({}, {"a": np.zeros((0, 1))}, {"a": np.zeros(2), "b": np.zeros(3)}):
        with pytest.raises(ValueError, match="one length"):
            Ring(arrays, 0)
    with pytest.raises(ValueError, match="-1 insertions"):
        Ring({"a": np.zeros(1)}, -1)
