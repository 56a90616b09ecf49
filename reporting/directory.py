"""One run, as its directory has it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs import arms as labels
from configs import files
from configs.settings import UsageError
from reporting import reading
from reporting.reading import Episodes

READ = ("status.json", "versions.json", "tasks.csv", "episodes.csv")
STATES = ("running", "finished", "interrupted", "failed")


@dataclass
class Run:
    """What one run directory holds.

    Attributes:
        path: the directory.
        config: its resolved configuration.
        benchmark: the benchmark or file that it started from; empty where it was none.
        label: the arm in words, with settings that are not the default.
        seed: of the run.
        state: running, finished, interrupted or failed; unknown where nothing says so.
        steps: environment steps done.
        tasks: rows of `tasks.csv`, in order of tasks; missing values are NaN.
        episodes: every episode; None in older runs.
        command: the command line that made the run, where that is known.
        missing: what the run lacks, in sentences without its name.
        seconds: how long it took, where that is known.
    """

    path: Path
    config: dict[str, Any]
    benchmark: str
    label: str
    seed: int
    state: str
    steps: int
    tasks: list[dict[str, Any]]
    episodes: Episodes | None
    command: str | None
    missing: list[str] = field(default_factory=list)
    seconds: float | None = None


def read_run(path: Path | str) -> Run:
    """Everything that is known of a run.

    Raises:
        UsageError: it is no run directory, or its configuration cannot be read; one sentence.
    """
    path = Path(path)
    if not files.is_file(path / "config.yaml"):
        raise UsageError(f"{path} is no run directory: it has no config.yaml.")
    if why := reading.problem(path / "config.yaml"):
        raise UsageError(f"{path / 'config.yaml'}: {why}.")
    config = files.read(path / "config.yaml")
    status, versions = reading.json_object(path / "status.json"), reading.json_object(path / "versions.json")
    tasks, torn_tasks = reading.task_rows(path / "tasks.csv")
    episodes, torn_episodes = reading.episodes(path / "episodes.csv")
    state = str(status.get("state")) if status.get("state") in STATES else "unknown"
    steps = reading.whole(status.get("steps")) or max((row["end"] for row in tasks), default=0)
    planned = reading.whole(config.get("steps")) or 0
    missing = [f"{name} left out: it {why}" for name in READ if (why := reading.problem(path / name))]
    missing += [
        f"{count} damaged {'row' if count == 1 else 'rows'} of {name} left out"
        for name, count in (("tasks.csv", torn_tasks), ("episodes.csv", torn_episodes))
        if count
    ]
    if state != "finished":
        missing.append(f"{state}, not finished: {steps:,} of {planned:,} steps, {len(tasks)} tasks")
    if not tasks:
        missing.append("no finished task in tasks.csv")
    if episodes is None:
        missing.append("no episodes.csv, which learning curves, areas and recovery are made of")
    command, seconds = versions.get("command"), reading.number(status.get("seconds"))
    return Run(
        path=path,
        config=config,
        benchmark=str(config.get("benchmark") or ""),
        label=labels.join(labels.interventions(config), labels.variants(config)),
        seed=reading.whole(config.get("seed")) or 0,
        state=state,
        steps=steps,
        tasks=tasks,
        episodes=episodes,
        command=command if isinstance(command, str) and command else None,
        missing=missing,
        seconds=seconds if seconds > 0 else None,
    )
