"""Where results come from: the commands that made the runs, and the versions they were made with."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reporting.reading import json_object
from reporting.runs import Run
from reporting.words import counted


def command(run: Run) -> str:
    """The command that made a run or, where it was not recorded, one that repeats it from its configuration."""
    return run.command or f"python train.py --config {shlex.quote(str(run.path / 'config.yaml'))}"


def versions(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What the runs were made with: name and version, or versions with the number of runs of each."""
    found: dict[str, Counter[str]] = {}
    for run in runs:
        for name, version in _versions(run.path / "versions.json").items():
            found.setdefault(name, Counter())[version] += 1
    return [
        (
            name,
            next(iter(each))
            if len(each) == 1
            else ", ".join(f"{version} ({counted(amount, 'run')})" for version, amount in each.most_common()),
        )
        for name, each in found.items()
    ]


def _versions(path: Path) -> dict[str, str]:
    """What a run has written down, but for its command."""
    found = json_object(path)
    return {name: value for name, value in found.items() if isinstance(value, str) and name != "command"}
