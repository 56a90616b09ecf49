"""Where results come from: the commands that made runs and figures, and the versions they were made with."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from reporting.reading import json_object
from reporting.runs import Run
from reporting.words import counted

SHOWN = {"python": "Python", "torch": "torch", "stable-baselines3": "stable-baselines3"}
"""Versions that are told of with measured figures."""


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


def sources(made: Mapping[str, Mapping[str, str]]) -> str:
    """How the figures of some cases were made, as `bench/keeping.py` keeps it: that of most of them first.

    Args:
        made: by case, as it is to be called.

    Returns:
        Clauses; all but the first begin with the cases that they are about.
    """
    ways: dict[str, list[str]] = {}
    for case, one in made.items():
        named = (f"{title} {one[name]}" for name, title in SHOWN.items() if name in one)
        ways.setdefault(", ".join([f"`{one['command']}`", one["date"], *named]), []).append(case)
    first, *others = sorted(ways, key=lambda way: -len(ways[way]))
    return "; ".join([first, *(f"{', '.join(ways[way])}: {way}" for way in others)])


def _versions(path: Path) -> dict[str, str]:
    """What a run has written down, but for its command."""
    found = json_object(path)
    return {name: value for name, value in found.items() if isinstance(value, str) and name != "command"}
