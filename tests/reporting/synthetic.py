"""Run directories made of known numbers, without training anything."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

PERIOD = 1000
"""Environment steps a task."""
EPISODE = 10
"""Steps an episode: 100 episodes a task."""
POOR = 10.0
"""What an episode earns before the agent has learnt the task."""

FULL = {"networks": "all", "when": "switch", "every": 200_000, "unit": "env_steps", "parts": "all"}
REDO = {
    "networks": "all",
    "when": "periodic",
    "every": 1000,
    "unit": "gradient_steps",
    "tau": 0.1,
    "score": "activation",
    "max_fraction": 1.0,
    "moments": "zero",
}
ARMS: dict[str, dict[str, Any]] = {
    "none": {},
    "fresh": {"full": FULL},
    "redo": {"redo": REDO},
    "redo tau=0.05": {"redo": REDO | {"tau": 0.05}},
    "actor's head renewed": {"full": FULL | {"parts": "head", "networks": "actor"}},
    "actor's body renewed": {"full": FULL | {"parts": "body", "networks": "actor"}},
    "critic renewed": {"full": FULL | {"parts": "critic"}},
    "moments renewed": {"full": FULL | {"parts": "moments"}},
}
"""The `reset` block of each arm, by its label."""


def config(arm: str = "none", seed: int = 0, tasks: int = 4, **other: Any) -> dict[str, Any]:
    """A resolved configuration, of the settings that reports look at."""
    return {
        "benchmark": "synthetic",
        "env": "CartPole-v1",
        "steps": tasks * PERIOD,
        "seed": seed,
        "device": "cpu",
        "threads": 1,
        "measure_every": 2048,
        "stepping": "auto",
        "agent": {"name": "ppo", "learning_rate": 0.0003, "n_envs": 1},
        "network": {
            "name": "mlp",
            "activation": "relu",
            "layer_norm": "none",
            "spectral_norm": "none",
            "halve": True,
            "hidden": [64, 64],
        },
        "optimizer": {"name": "agent"},
        "schedule": {
            "name": "permuted",
            "kind": "periodic",
            "boundary": "truncate",
            "signal": "hidden",
            "seed": None,
            "align": 1,
            "period": PERIOD,
            "first": "original",
            "distance": None,
            "changes": {"observation_permutation": {"change": "observation_permutation", "signs": True}},
        },
        "normalize": {"policy": "off", "observations": True, "rewards": False},
        "reset": ARMS[arm] or "none",
        "regularizer": "none",
        **other,
    }


def write_run(
    path: Path,
    arm: str = "none",
    seed: int = 0,
    returns: Sequence[float] = (100.0, 80.0, 60.0, 40.0),
    learnt: float = 0.5,
    columns: Mapping[str, Sequence[float]] | None = None,
    changes: Sequence[str] | None = None,
    state: str = "finished",
    finished: int | None = None,
    episodes: bool = True,
    **other: Any,
) -> Path:
    """Write one run: every episode earns POOR until the share `learnt` of its task has passed, then the task's return.

    Args:
        path: the directory of the run.
        arm: one of ARMS.
        seed: of the run.
        returns: what each task's later episodes earn; NaN for tasks that the agent never learns.
        learnt: share of each task after which it is learnt.
        columns: further columns of tasks.csv, such as "actor/dormant" and "switch/actor/entropy", a value a task.
        changes: text of each task's change.
        state: as in status.json.
        finished: how many tasks have been finished; all unless given.
        episodes: whether there is an episodes.csv.
        other: further settings of the configuration.
    """
    path.mkdir(parents=True)
    tasks = len(returns)
    done = tasks if finished is None else finished
    (path / "config.yaml").write_text(yaml.safe_dump(config(arm, seed, tasks, **other), sort_keys=False))
    (path / "versions.json").write_text(json.dumps({"python": "3.11", "command": f"train.py --seed {seed}"}))
    (path / "status.json").write_text(json.dumps({"state": state, "steps": done * PERIOD}))
    rows, ended = [], []
    for task in range(done):
        per_task = PERIOD // EPISODE
        step = task * PERIOD + EPISODE * np.arange(1, per_task + 1)
        poor = np.arange(per_task) < round(learnt * per_task)
        earned = np.where(poor | np.isnan(returns[task]), POOR, returns[task])
        ended += [(int(at), task, float(gain), EPISODE, 0) for at, gain in zip(step, earned, strict=True)]
        row = {
            "task": task,
            "start": task * PERIOD,
            "end": (task + 1) * PERIOD,
            "change": changes[task] if changes else f"signs {task}",
            "episodes": per_task,
            "return": float(earned.mean()),
            "return_end": float(earned[-20:].mean()),
            "dormant": 0.0,
            "effective_rank": 10.0,
            "resets": "0",
        }
        rows.append(row | {name: values[task] for name, values in (columns or {}).items()})
    if rows:
        with (path / "tasks.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            # As the recorder does it: what could not be measured is an empty cell.
            writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
    if episodes:
        with (path / "episodes.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["step", "task", "return", "length", "cut_short"])
            table.writerows(ended)
    return path


def write_study(
    folder: Path, arms: Mapping[str, Sequence[float]] | None = None, seeds: int = 3, spread: float = 2.0, **other: Any
) -> list[Path]:
    """Runs of several arms and seeds; seed s earns `spread * s` more than the arm's returns in every task.

    Args:
        folder: where to put them.
        arms: label -> returns by task; none, fresh and redo unless given.
        seeds: how many runs an arm.
        spread: how much better each next seed is.
        other: as for `write_run`.
    """
    arms = arms or {
        "none": (100.0, 60.0, 40.0, 20.0),
        "fresh": (100.0, 100.0, 100.0, 100.0),
        "redo": (100.0, 80.0, 70.0, 60.0),
    }
    return [
        write_run(
            folder / f"ppo-{arm.replace(' ', '-')}-s{seed}",
            arm,
            seed,
            [gain + spread * seed for gain in returns],
            **other,
        )
        for arm, returns in arms.items()
        for seed in range(seeds)
    ]
