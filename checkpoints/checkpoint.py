"""One checkpoint on disk: a folder with a manifest and, for each part of the run, the two files of a tree."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpoints import files, manifest, segments, tensors, tree
from checkpoints.errors import CheckpointError
from checkpoints.manifest import Manifest
from checkpoints.segments import Arrays, Ring
from checkpoints.tree import Tree

SEGMENTS = "segments"
"""The folder beside the checkpoints that holds the segments of ring buffers."""


class Checkpoint:
    """A whole checkpoint.

    Args:
        path: its folder.
        manifest: what it consists of.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """The checkpoint in a folder, once every file of it is known to be what was written.

        Raises:
            UnknownFormatError: it is of another format.
            CheckpointError: something of it is missing or damaged.
            OSError: it cannot be read.
        """
        checkpoint = cls(path, read_manifest(path))
        checkpoint._verify()
        return checkpoint

    @property
    def step(self) -> int:
        """The environment step at which it was written."""
        return self.manifest.step

    @property
    def about(self) -> dict[str, Any]:
        """What the run said of itself, as JSON."""
        return self.manifest.about

    @property
    def parts(self) -> list[str]:
        """The names of its parts."""
        return [name.removesuffix(".json") for name in self.manifest.files if name.endswith(".json")]

    def read(self, part: str) -> Tree:
        """The state of a part.

        Raises:
            CheckpointError: there is no such part, or its files are not those of a tree.
            OSError: it cannot be read.
        """
        if part not in self.parts:
            raise CheckpointError(f"{self.path} has no part {part!r}; it has {', '.join(self.parts)}.")
        text = self._file(f"{part}.json", tree.LIMIT)
        name = f"{part}.safetensors"
        content = self._file(name, tensors.LIMIT) if name in self.manifest.files else None
        return tree.decode(text, content, str(self.path / part))

    def load_ring(self, name: str, arrays: Arrays) -> int:
        """Fill the arrays of a ring buffer, each with the rows of the ring as its first dimension.

        Returns:
            How many insertions there had been.

        Raises:
            CheckpointError: there is no such ring, it does not fit the arrays, or a segment is damaged.
            OSError: it cannot be read.
        """
        ring = self.manifest.rings.get(name)
        if ring is None:
            raise CheckpointError(f"{self.path} has no ring buffer {name!r}.")
        segments.load(self._segments, ring.segments, Ring(arrays, ring.added))
        return ring.added

    @property
    def _segments(self) -> Path:
        return self.path.parent / SEGMENTS

    def _file(self, name: str, limit: int) -> bytes:
        return files.read_sealed(self.path / name, self.manifest.files[name], limit)

    def _verify(self) -> None:
        # What file systems leave behind is hidden.
        found = {path.name for path in self.path.iterdir() if not path.name.startswith(".")}
        strange = found - {manifest.NAME, *self.manifest.files}
        if strange:
            raise CheckpointError(f"{self.path} holds {min(strange)!r}, which is not in its manifest.")
        for path, seal in self._sealed():
            files.verify(path, seal)

    def _sealed(self) -> Iterator[tuple[Path, files.Seal]]:
        for name, seal in self.manifest.files.items():
            yield self.path / name, seal
        for ring in self.manifest.rings.values():
            files.check_folder(self._segments)
            for segment in ring.segments:
                yield self._segments / segment.name, segment.seal


def read_manifest(path: Path) -> Manifest:
    """The manifest of the checkpoint in a folder; raises as `Checkpoint.open` does."""
    files.check_folder(path)
    found = Manifest.decode(files.read(path / manifest.NAME, manifest.LIMIT), str(path / manifest.NAME))
    if not path.name.startswith(folder_name(found.step)):
        raise CheckpointError(f"{path} holds the checkpoint of step {found.step}.")
    return found


def folder_name(step: int) -> str:
    """The name of a checkpoint's folder, where it is the only one of its step."""
    return f"step-{step:012d}"
