"""The manifest of a checkpoint: what it is, and the seal of every file that belongs to it.

`manifest.json` holds these keys, and `sha256`, the checksum of all others as JSON with sorted keys and without spaces.
Every format, also one to come, has `format` and this checksum, so that a damaged manifest can be told from an unknown
one.

    format   FORMAT
    step     the environment step
    about    whatever the run says of itself
    files    name: {size, sha256}
    rings    name: {added, segments: [{start, end, size, sha256}, ...]}
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from checkpoints.errors import CheckpointError, UnknownFormatError
from checkpoints.files import Seal
from checkpoints.segments import Segment
from checkpoints.tree import parse_json

FORMAT = 1
"""The format of checkpoints that this version writes and reads."""

NAME = "manifest.json"
LIMIT = 16 * 2**20
"""Bytes that a manifest may have."""

PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""Names of parts, files and rings: never a path, never hidden."""


@dataclass(frozen=True)
class RingManifest:
    """A ring buffer in a checkpoint: how many insertions there were, and the segments that hold those it still has."""

    added: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of.

    Attributes:
        step: the environment step.
        about: what the run says of itself, as JSON.
        files: the seal of each file in the checkpoint's folder but for the manifest.
        rings: the ring buffers.
    """

    step: int
    about: dict[str, Any]
    files: Mapping[str, Seal]
    rings: Mapping[str, RingManifest]

    def encode(self) -> bytes:
        """The manifest as a file.

        Raises:
            TypeError, ValueError: `about` is not JSON.
        """
        content = {
            "format": FORMAT,
            "step": self.step,
            "about": self.about,
            "files": {name: seal.as_json() for name, seal in self.files.items()},
            "rings": {name: _ring_as_json(ring) for name, ring in self.rings.items()},
        }
        content = json.loads(json.dumps(content, allow_nan=False))
        return json.dumps({**content, "sha256": _checksum(content)}, indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, text: bytes, source: str) -> "Manifest":
        """The manifest in a file.

        Raises:
            UnknownFormatError: it is of another format.
            CheckpointError: it is damaged.
        """
        content = parse_json(text, source, LIMIT)
        if not isinstance(content, dict) or content.pop("sha256", None) != _checksum(content):
            raise CheckpointError(f"{source} has been damaged: its checksum is not the one it was written with.")
        if content.get("format") != FORMAT:
            raise UnknownFormatError(
                f"{source} is of format {content.get('format')!r:.20}; this version knows only format {FORMAT}."
            )
        try:
            return cls(
                step=_count(content["step"]),
                about=_object(content["about"]),
                files={_plain(name): _seal(value) for name, value in _object(content["files"]).items()},
                rings={_plain(name): _ring(name, value) for name, value in _object(content["rings"]).items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{source} is not a manifest ({error!r:.200}).") from error


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _ring_as_json(ring: RingManifest) -> dict[str, Any]:
    segments = [
        {"start": segment.start, "end": segment.end, **segment.seal.as_json()}  # the name follows from these
        for segment in ring.segments
    ]
    return {"added": ring.added, "segments": segments}


def _ring(name: str, value: Any) -> RingManifest:
    segments = tuple(
        Segment(name, _count(item["start"]), _count(item["end"]), _seal(item)) for item in _object(value)["segments"]
    )
    if any(segment.start >= segment.end for segment in segments):
        raise ValueError("a segment without insertions")
    return RingManifest(_count(value["added"]), segments)


def _seal(value: Any) -> Seal:
    sha256 = _object(value)["sha256"]
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError("a checksum that is none")
    return Seal(_count(value["size"]), sha256)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("a count that is none")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("something else than an object")
    return value


def _plain(name: str) -> str:
    if not PLAIN.fullmatch(name):
        raise ValueError(f"the name {name!r:.100}, which is not plain")
    return name
