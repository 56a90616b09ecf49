"""The checkpoints of a run: each published in one step, so that a crash at any moment leaves the last one whole.

    step-000000012288/       a checkpoint: manifest.json, and two files for each part of the run
    step-000000012288-2/     another one of the same step
    segments/                what ring buffers hold, in files that checkpoints share
    .tmp-*                   an attempt that is not finished, or something being removed

Only one process may save at a time; see `checkpoints.lock`.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from checkpoints import files, manifest, segments, tree
from checkpoints.checkpoint import SEGMENTS, Checkpoint, folder_name, read_manifest
from checkpoints.errors import CheckpointError, UnknownFormatError
from checkpoints.files import TEMPORARY
from checkpoints.manifest import PLAIN, Manifest, RingManifest
from checkpoints.segments import Ring
from checkpoints.tree import Tree


class Place(NamedTuple):
    """Where a checkpoint stands among others: by its step, and among those of one step by its attempt."""

    step: int
    attempt: int = 1

    @classmethod
    def of(cls, name: str) -> "Place | None":
        """The place that the name of a folder says, if it is a checkpoint's."""
        match = re.fullmatch(r"step-(\d{12,18})(?:-(\d{1,9}))?", name)
        return cls(int(match[1]), int(match[2] or 1)) if match else None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return folder_name(self.step) + (f"-{self.attempt}" if self.attempt > 1 else "")


class Store:
    """The checkpoints in one folder.

    A run continues from what `newest` gave; where that was not the newest one there, because that is damaged, those
    after it belong to a course of the run that is abandoned, and the next `save` removes them.

    Args:
        folder: where they are; made by the first `save`.
        keep: how many to keep.

    Attributes:
        damaged: sentences on those that the last call of `newest` passed over.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, not {keep}")
        self.folder = folder
        self.keep = keep
        self.damaged: list[str] = []
        self._opened = False
        self._last: Place | None = None
        self._rings: Mapping[str, RingManifest] = {}

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, if there is any; `damaged` then says which ones are not.

        Raises:
            UnknownFormatError: one that is not older is of another format.
            OSError: the folder cannot be read.
        """
        self.damaged = []
        self._opened, self._last, self._rings = True, None, {}
        for place in reversed(self._places()):
            try:
                checkpoint = Checkpoint.open(self.folder / place.name)
            except UnknownFormatError:
                raise
            except CheckpointError as error:
                self.damaged.append(str(error))
            except OSError as error:
                self.damaged.append(f"{error.filename} cannot be read ({error.strerror}).")
            else:
                self._last, self._rings = place, checkpoint.manifest.rings
                return checkpoint
        return None

    def save(
        self,
        step: int,
        parts: Mapping[str, Tree],
        about: Mapping[str, Any],
        rings: Mapping[str, Ring] | None = None,
    ) -> Checkpoint:
        """Write a checkpoint, wait until the disk has it, and remove those that are too old.

        Args:
            step: the environment step, not before that of the checkpoint which the run continues from.
            parts: the state of each part of the run.
            about: what the run says of itself, as JSON.
            rings: ring buffers, of which only what is new is written.

        Raises:
            TypeError, ValueError: something cannot be written, by its type or size; nothing has been.
            OSError: the disk is full or has failed; the checkpoints that the run comes from are as they were.
        """
        if not self._opened:
            raise RuntimeError("newest() comes before save(): what a run does not continue from will be removed")
        if self._last is not None and step < self._last.step:
            raise ValueError(f"step {step} is before step {self._last.step}, which has a checkpoint")
        contents = _encode(parts)
        self._make_folders()
        place = self._next_place(step)
        temporary = self.folder / f"{TEMPORARY}{place.name}"
        try:
            written = self._write_rings(rings or {})
            temporary.mkdir()
            seals = {name: files.write(temporary / name, content) for name, content in contents.items()}
            found = Manifest(step, dict(about), seals, written)
            text = found.encode()
            files.write(temporary / manifest.NAME, text)
            files.sync_folder(temporary)
            self._remove_abandoned()
            temporary.replace(self.folder / place.name)
            files.sync_folder(self.folder)
        except BaseException:
            self._tidy()
            raise
        self._last, self._rings = place, written
        self._remove_old()
        return Checkpoint(self.folder / place.name, Manifest.decode(text, place.name))

    def _make_folders(self) -> None:
        is_new = not self.folder.is_dir()
        self.folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            files.sync_folder(self.folder.parent)
        self._tidy()

    def _places(self) -> list[Place]:
        """All checkpoints, the oldest first."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(place for name in names if (place := Place.of(name)) and place.name == name)

    def _next_place(self, step: int) -> Place:
        """A place that is free, so that nothing needs to be removed before the new checkpoint is there."""
        return Place(step, max((place.attempt for place in self._places() if place.step == step), default=0) + 1)

    def _write_rings(self, rings: Mapping[str, Ring]) -> dict[str, RingManifest]:
        if not rings:
            return {}
        folder = self.folder / SEGMENTS
        folder.mkdir(exist_ok=True)
        written = {}
        for name, ring in rings.items():
            before = self._rings[name].segments if name in self._rings else ()
            written[_plain(name)] = RingManifest(ring.added, tuple(segments.write(folder, name, ring, before)))
        files.sync_folder(folder)
        return written

    def _remove_abandoned(self) -> None:
        """Remove checkpoints that this run does not come from; left there, they would be found newer than its own."""
        for place in reversed(self._places()):
            if self._last is None or place > self._last:
                self._remove(place)

    def _remove_old(self) -> None:
        """Remove what is not among the newest; where that fails, the next `save` tries again."""
        newest = {place.step: place for place in self._places()}
        keep = sorted(newest.values())[-self.keep :]
        with suppress(OSError):
            for place in self._places():
                if place not in keep:
                    self._remove(place)
        self._tidy()

    def _remove(self, place: Place) -> None:
        """Remove a checkpoint, which is gone in one step."""
        removed = self.folder / f"{TEMPORARY}removed-{place.name}"
        (self.folder / place.name).replace(removed)
        files.remove(removed)

    def _tidy(self) -> None:
        """Remove what no checkpoint needs: unfinished attempts, and segments; what cannot be removed now stays."""
        with suppress(OSError, CheckpointError):
            for path in self.folder.iterdir():
                if path.name.startswith(TEMPORARY):
                    files.remove(path)
            needed = {
                segment.name
                for place in self._places()
                for ring in read_manifest(self.folder / place.name).rings.values()
                for segment in ring.segments
            }
            folder = self.folder / SEGMENTS
            files.check_folder(folder)
            for path in folder.iterdir():
                if path.name not in needed:
                    files.remove(path)


def _encode(parts: Mapping[str, Tree]) -> dict[str, bytes]:
    """The files of all parts by name."""
    contents = {}
    for name, state in parts.items():
        text, content = tree.encode(state, _plain(name))
        contents[f"{name}.json"] = text
        if content is not None:
            contents[f"{name}.safetensors"] = content
    return contents


def _plain(name: str) -> str:
    if not PLAIN.fullmatch(name) or f"{name}.json" == manifest.NAME:
        raise ValueError(f"{name!r} cannot be the name of a part or a ring buffer")
    return name
