"""Training in one go and in two, and comparing what comes of it."""

from dataclasses import asdict
from pathlib import Path

import pytest

import train
from recording.checkpointer import Checkpointer
from recording.comparing import differences
from resets import RESETS
from tests.methods import Method


class StoppedError(Exception):
    """Stands for whatever ends a run."""


def stop_after(patch: pytest.MonkeyPatch, saves: int) -> None:
    """Have the run stop as soon as it has been saved so often."""
    plain, left = Checkpointer.save, [saves]

    def save(self: Checkpointer) -> None:
        plain(self)
        left[0] -= 1
        if left[0] == 0:
            raise StoppedError

    patch.setattr(Checkpointer, "save", save)


def check_resume(flags: str, every: int = 64, saves: int = 3) -> None:
    """Train to the end in the current folder, then again with a stop after some checkpoints; both must be the same.

    Args:
        flags: for `train.py`.
        every: environment steps between two checkpoints; one more is made at the start.
        saves: after which of them to stop.
    """
    words = [*flags.split(), "--quiet", "--no-preflight"]
    assert train.main([*words, "--run-dir", "whole", "--checkpoint-every", "never"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, saves)
        with pytest.raises(StoppedError):
            train.main([*words, "--run-dir", "parts", "--checkpoint-every", str(every)])
    assert train.main([*words, "--run-dir", "parts"]) == 0
    found = differences(Path("whole"), Path("parts"))
    assert found == [], " ".join(found)


def flags_of(method: Method) -> str:
    """The flags that choose a method with the settings by which it acts within a few updates."""
    group = "reset" if method.name in RESETS else "regularizer"
    words = [f"--{group} {method.name}"]
    for name, value in asdict(method.acting()).items():
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        words.append(f"--{group}.{name.replace('_', '-')} {text.lower() if isinstance(value, bool) else text}")
    return " ".join(words)
