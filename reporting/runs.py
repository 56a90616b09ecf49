"""Runs, as found in directories, and studies, the runs that may be compared."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from configs import arms as labels
from configs import studies
from configs.settings import UsageError
from reporting.directory import Run, read_run
from reporting.reading import Episodes

__all__ = ["Episodes", "Run", "Study", "find_runs", "group", "read_run"]


@dataclass
class Study:
    """Runs that differ in their arms and seeds only.

    Attributes:
        title: benchmark, environment and agent.
        arms: by label, the runs of each arm by seed, one a seed.
        differing: how the study differs from others of this title, in words; empty where there are none.
        left_out: runs that were not taken, in sentences.
    """

    title: str
    arms: dict[str, list[Run]]
    differing: str = ""
    left_out: list[str] = field(default_factory=list)


def find_runs(paths: Iterable[Path | str], unreadable: list[str] | None = None) -> list[Run]:
    """The runs in some directories and in all below them; links to other directories are not followed.

    Args:
        paths: run directories, or directories above some.
        unreadable: takes a sentence for each run whose configuration cannot be read, and which is left out.

    Raises:
        UsageError: a path does not exist or has no run in it, or, unless they are collected, a run is unreadable.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise UsageError(f"There is no directory {str(path)!r}.")
        here = [Path(folder) for folder, _, names in os.walk(path) if _is_run(names) or Path(folder) == path]
        here = [folder for folder in here if (folder / "config.yaml").is_file()]
        if not here:
            raise UsageError(f"{path}: there is no run in it, which is a directory with a config.yaml.")
        found |= {folder.resolve(): folder for folder in here}
    runs = []
    for key in sorted(found):
        try:
            runs.append(read_run(found[key]))
        except UsageError as error:
            if unreadable is None:
                raise
            unreadable.append(str(error))
    return runs


def group(runs: Iterable[Run]) -> list[Study]:
    """Put runs into studies, and each study's runs into arms, by seed."""
    alike: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        alike[studies.identity(run.config)][studies.activation(run.config)].append(run)
    members: list[list[Run]] = []
    for by_activation in alike.values():
        # An arm with a nonlinearity of its own belongs to the study of whichever it takes the place of.
        own = by_activation.pop(studies.ANY, [])
        members += [found + own for found in by_activation.values()] or [own]
    found = [_study(each) for each in members]
    for name in {study.title for study in found}:
        same = [index for index, study in enumerate(found) if study.title == name]
        ignored = (*studies.ARM_SETTINGS, *studies.MACHINE, studies.MEASURED)
        words = studies.differences([members[index][0].config for index in same], ignored)
        for index, differing in zip(same, words, strict=True):
            found[index].differing = differing
    return sorted(found, key=lambda study: (study.title, study.differing))


def _is_run(names: list[str]) -> bool:
    """Whether a directory with these files is a run's, and not somebody else's who has a config.yaml."""
    return "config.yaml" in names and bool({"status.json", "tasks.csv"} & set(names))


def _study(runs: list[Run]) -> Study:
    """One study; what all its arms share, such as a normalisation, belongs to its name and not to theirs."""
    variants = [labels.variants(run.config) for run in runs]
    shared = set.intersection(*map(set, variants))
    study = Study(studies.title(runs[0].config), {})
    study.title += "".join(f", {word}" for word in variants[0] if word in shared)
    by_label: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run, own in zip(runs, variants, strict=True):
        label = labels.join(labels.interventions(run.config), [word for word in own if word not in shared])
        settings = {key: run.config.get(key) for key in (*studies.ARM_SETTINGS[:-1], "network")}
        by_label[label][str(settings)].append(run)
    for label, by_settings in sorted(by_label.items()):
        alike = list(by_settings.values())
        words = studies.differences([each[0].config for each in alike], (*studies.MACHINE, studies.MEASURED, "metrics"))
        for each, differing in zip(alike, words, strict=True):
            study.arms[f"{label} ({differing})" if differing else label] = _one_a_seed(each, study.left_out)
    return study


def _one_a_seed(runs: list[Run], left_out: list[str]) -> list[Run]:
    """Of runs of one arm, the furthest of each seed; the others are noted."""
    best: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (run.state == "finished", len(run.tasks), run.steps), reverse=True):
        if run.seed in best:
            left_out.append(f"{run.path} is left out: {best[run.seed].path} has the same arm and seed.")
        else:
            best[run.seed] = run
    return [best[seed] for seed in sorted(best)]
