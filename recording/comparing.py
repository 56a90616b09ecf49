"""Are two runs the same, bit for bit? `python -m recording.comparing ONE OTHER` says where they differ.

What a clock says differs always and is left out: speed, times of day, the seconds that a run took.
"""

import io
import re
import struct
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from recording.directory import EVENT_FILES, RunDirectory

CLOCKS = {"time/fps"}
"""Curves of the clock."""


def differences(one: Path, other: Path) -> list[str]:
    """In what two runs differ, a sentence each; empty where they are the same.

    Compared are the final model's weights and optimisers, the tables of tasks and episodes, what was measured and what
    happened, all byte for byte, and every point of every TensorBoard curve, in order.

    Raises:
        OSError: a run lacks a file.
    """
    first, second = RunDirectory(one), RunDirectory(other)
    found = []
    for path in (first.tasks, first.episodes, first.measurements, first.events):
        if path.read_bytes() != (second.path / path.name).read_bytes():
            found.append(f"{path.name} differs.")
    ours, theirs = tensors(first.model), tensors(second.model)
    if ours.keys() != theirs.keys():
        found.append(f"{first.model.name} holds other tensors.")
    found += [
        f"{name} of {first.model.name} differs."
        for name in ours.keys() & theirs
        if not _equal(ours[name], theirs[name])
    ]
    mine, others = list(points(one)), list(points(other))
    if mine != others:
        tags = sorted({tag for tag, *_ in set(mine) ^ set(others)}) or ["the order of points"]
        found.append(f"TensorBoard curves differ: {', '.join(tags[:5])}{' …' if len(tags) > 5 else ''}.")
    return found


def tensors(model: Path) -> dict[str, Any]:
    """Everything in the weights and optimisers of a saved SB3 model, by its place."""
    found: dict[str, Any] = {}
    with zipfile.ZipFile(model) as archive:
        for name in archive.namelist():
            if name.endswith(".pth"):
                state = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                found |= dict(_leaves(state, name))
    return found


def points(run: Path) -> Iterator[tuple[str, int, bytes]]:
    """Every point of every curve, its value as the bytes that it has, in the order of the event files."""
    for path in sorted(run.glob(EVENT_FILES), key=by_number):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag not in CLOCKS and not value.tag.startswith("_hparams_"):
                    tensor = value.tensor
                    content = tensor.tensor_content or struct.pack(f"{len(tensor.float_val)}f", *tensor.float_val)
                    yield value.tag, event.step, content + b"".join(tensor.string_val)


def by_number(path: Path) -> list[int]:
    """The numbers in an event file's name: seconds, process, how many this process has begun."""
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _leaves(tree: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, part in tree.items():
            yield from _leaves(part, f"{place}/{key}")
    elif isinstance(tree, (list, tuple)):
        for index, part in enumerate(tree):
            yield from _leaves(part, f"{place}/{index}")
    else:
        yield place, tree


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two run directories; returns 0 where they are the same, 1 where not, 2 where they cannot be compared."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if len(words) != 2:
        print("usage: python -m recording.comparing ONE OTHER", file=sys.stderr)
        return 2
    try:
        found = differences(Path(words[0]), Path(words[1]))
    except (OSError, zipfile.BadZipFile) as error:
        print(f"They cannot be compared: {error}", file=sys.stderr)
        return 2
    print("\n".join(found) or "They are the same, bit for bit.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
