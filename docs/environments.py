"""Writes `docs/environments.md` and the plot of all schedules in it: `python docs/environments.py`.

The page comes from the code and from `bench/results/effects.json`; a test compares it, so that it can't go stale.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from configs import files
from configs.help import first_line
from envs import make_plain_env
from envs.changes import CHANGES
from envs.reading import read_tasks
from envs.registration import BENCHMARKS
from envs.schedules import COMPOSITIONS, SCHEDULES, Timing
from envs.tasks import Tasks

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).with_name("environments.md")
PLOT = Path(__file__).with_name("schedules.png")
EFFECTS = ROOT / "bench" / "results" / "effects.json"
MARKS = {"effective": "●", "no effect": "○", "refused": ""}

PENDULUM = {"change": "pendulum", "parameter": "m", "low": 0.5, "high": 2.0}
EXAMPLES: dict[str, dict[str, Any]] = {
    "constant": {"kind": "constant", "changes": {"mass": PENDULUM}},
    "periodic, drawn": {"kind": "periodic", "period": 1000, "changes": {"mass": PENDULUM}},
    "periodic, distance: 0.5": {"kind": "periodic", "period": 1000, "distance": 0.5, "changes": {"mass": PENDULUM}},
    "periodic, values in turn": {
        "kind": "periodic",
        "period": 1000,
        "changes": {"mass": {**PENDULUM, "values": [1.0, 0.6, 1.8]}},
    },
    "geometric, shortest: 300": {
        "kind": "geometric",
        "period": 1000,
        "shortest": 300,
        "changes": {"mass": PENDULUM},
    },
    "sequence": {
        "kind": "sequence",
        "lengths": [500, 2500, 1000],
        "changes": {"mass": {**PENDULUM, "values": [1.0, 1.8, 0.6]}},
    },
    "drift, linear": {"kind": "drift", "period": 1000, "changes": {"mass": PENDULUM}},
    "drift, exponential": {"kind": "drift", "period": 1000, "curve": "exponential", "changes": {"mass": PENDULUM}},
    "drift, sigmoid": {"kind": "drift", "period": 1000, "curve": "sigmoid", "changes": {"mass": PENDULUM}},
    "random_walk": {"kind": "random_walk", "period": 1000, "every": 20, "changes": {"mass": PENDULUM}},
    "ornstein_uhlenbeck": {
        "kind": "ornstein_uhlenbeck",
        "period": 1000,
        "every": 20,
        "memory": 300,
        "changes": {"mass": PENDULUM},
    },
    "sinusoid": {"kind": "sinusoid", "period": 2000, "changes": {"mass": PENDULUM}},
    "together: two clocks": {
        "kind": "together",
        "parts": {
            "slow": {"kind": "periodic", "period": 2500, "changes": {"mass": PENDULUM}},
            "fast": {"kind": "sinusoid", "period": 1000, "changes": {"length": {**PENDULUM, "parameter": "l"}}},
        },
    },
    "stages: one after another": {
        "kind": "stages",
        "lengths": [2000],
        "parts": {
            "first": {"kind": "drift", "period": 1000, "changes": {"mass": PENDULUM}},
            "then": {"kind": "periodic", "period": 1500, "first": "drawn", "changes": {"mass": PENDULUM}},
        },
    },
}
STEPS = 6000

HEAD = """<!-- Made by `python docs/environments.py`; change the docstrings instead. -->

# Environments that keep changing

A schedule says **when** things change, its `changes` say **what**; both stand in a few lines of YAML, and every setting
is a flag as well:

```yaml
# pole.yaml: the pole's length changes every 20,480 steps, from a fifth to four times its own.
kind: periodic
period: 20480
boundary: truncate # or immediate, or next_reset
signal: hidden # or info, or context
changes:
  length: {change: cartpole, parameter: length, draw: log_uniform, low: 0.1, high: 2.0}
```

```console
python train.py --env CartPole-v1 --schedule pole.yaml --schedule.period 40960 --schedule.length.high 3
python train.py --env CartPole-v1 --schedule pole.yaml --verify     what every value does, measured
```

- The clock counts **environment steps of the run**, over all parallel environments. A value is a pure function of the
  seed and that step: the same in any process, in any order of asking, after any resume.
- **`boundary`** says when an environment applies a switch: `truncate` ends the episode there, as a truncation;
  `immediate` changes the values between two steps of an episode; `next_reset` waits until it has ended by itself. The
  step at which each environment really did it is written to `events.jsonl`.
- **`signal`** says what the agent learns of it: nothing (`hidden`), `info["context"]` (`info`), or the values appended
  to a flat observation (`context`).
- A switch in the middle of a PPO rollout mixes two tasks in one estimate of advantages: `align` puts switches off to
  the next multiple of a rollout, and `train.py` warns where they are not.
- Before training, the first eight values of every change are tried on a scratch environment, and one that does nothing
  is an error (`--no-preflight` leaves that out). Lowering the floor's friction alone, say, does nothing on any of the
  walkers. A run without `--config` has 100,000 steps: choose `--steps` of several periods; `train.py` says where no
  switch falls into a run.
- **`--normalize`** `off`, `cumulative`, `moving`, `freeze` or `reset`: what becomes of the statistics by which
  observations are normalised when the task changes. It is a factor of the experiment like any other, hence off unless
  asked for. `freeze` and `reset` are told of switches, as a reset at a switch is.
"""

SCHEDULES_HEAD = """
## Schedules

![The value of one parameter under each kind of schedule](schedules.png)

| kind | what it does | settings |
|---|---|---|
"""

COMPOSED = """
Every schedule also has `boundary`, `signal`, `seed` and `align`. A composition has `parts`, each with a kind and
changes of its own:

```yaml
kind: together
parts:
  grip: {kind: periodic, period: 100000, changes: {mujoco_friction: {low: 0.02, high: 2.0}}}
  tilt: {kind: random_walk, period: 100000, changes: {mujoco_gravity: {low: 8.0, high: 11.0}}}
```

A table is a CSV or JSON file, for all seeds or with a list of tasks for each: this one has two tasks for seed 0.

```csv
seed,steps,friction,direction
0,500000,0.2,1
0,300000,1.5,-1
```

Numbers come from `values` (in turn; `then: hold` stays at the last), or are drawn between `low` and `high` as `draw`
says: `uniform`, `log_uniform`, `normal`, or any one of the values (`choice`).

The change `environment` exchanges everything: its `ids` are any ids of Gymnasium with equal spaces, or with `pad: true`
also unequal ones. `walker_stand_walk_run.yaml`, `breakout_flavours.yaml` and `minigrid_rooms.yaml` (configs/schedules)
are examples from optional packages (`pip install "perennial[dm_control]"`, `[atari]`, `[minigrid]`):

```yaml
kind: periodic
period: 1000000
changes:
  environment: {ids: [dm_control/walker-stand-v0, dm_control/walker-walk-v0, dm_control/walker-run-v0]}
```

## An environment of your own

Any Gymnasium environment can be changed from outside: observations, actions and rewards by the changes below, numbers
that it keeps as attributes by `attribute`.

```python
{own}```

With this in a file `reach.py`, `python train.py --env reach:Reach-v0 --schedule goal.yaml` trains in it and finds the
file in the folder that you are in; `goal.yaml` is:

```yaml
kind: periodic
period: 20480
changes:
  goal: {change: attribute, parameter: goal, low: -1.0, high: 1.0}
```

What is no number, or must be derived anew when it changes, is a class of your own: [contributing](CONTRIBUTING.md) says
how.

## Benchmarks

`python train.py --config NAME`; `--scale 0.1` shrinks tasks and run to a tenth, `--schedule stationary` is the control
in which nothing changes. As a Gymnasium id, for any loop:

```python
{script}```

| name | id | what it is |
|---|---|---|
"""

CHANGES_HEAD = """
## Changes

● it fits, has an effect, and passes the environment checkers of Gymnasium and SB3 (if the plain environment does);
○ it fits, but 5,000 transitions under random, highest and lowest actions showed no effect (the preflight refuses it
there); empty: it says that it does not fit. `car_racing`, for CarRacing-v3, is not in the tables: that world takes too
long to draw; nor is `attribute`, for environments of your own. `{command}`, {date}, {versions}.
"""

FAMILIES = {
    "Classic control, Box2D and the grid world": (
        ("CartPole-v1", "CartPole"),
        ("Acrobot-v1", "Acrobot"),
        ("MountainCar-v0", "Mountain Car"),
        ("MountainCarContinuous-v0", "M. C. Continuous"),
        ("Pendulum-v1", "Pendulum"),
        ("LunarLander-v3", "Lunar Lander"),
        ("BipedalWalker-v3", "Bipedal Walker"),
        ("Perennial/NineRooms-v0", "Nine Rooms"),
    ),
    "MuJoCo": (
        ("Ant-v5", "Ant"),
        ("HalfCheetah-v5", "Half Cheetah"),
        ("Hopper-v5", "Hopper"),
        ("Walker2d-v5", "Walker2d"),
        ("Humanoid-v5", "Humanoid"),
        ("Swimmer-v5", "Swimmer"),
        ("Reacher-v5", "Reacher"),
        ("Pusher-v5", "Pusher"),
        ("InvertedPendulum-v5", "Inv. Pendulum"),
        ("InvertedDoublePendulum-v5", "Inv. Double P."),
    ),
}


def page() -> str:
    """The whole page."""
    parts = [HEAD, SCHEDULES_HEAD]
    common = {entry.name for entry in fields(Timing)} | {"align"}
    for name, kind in {**SCHEDULES, **COMPOSITIONS}.items():
        settings = ", ".join(f"`{entry.name}`" for entry in fields(kind) if entry.name not in common)
        parts.append(f"| `{name}` | {first_line(kind)} | {settings} |\n")
    script = (ROOT / "docs" / "any_loop.py").read_text()
    own = (ROOT / "docs" / "own_environment.py").read_text()
    parts.append(COMPOSED.replace("{script}", script).replace("{own}", own))
    ids = {benchmark: env_id for env_id, benchmark in BENCHMARKS.items()}
    for name, told in files.shipped("benchmarks").items():
        parts.append(f"| `{name}` | {'`' + ids[name] + '`' if name in ids else ''} | {told} |\n")
    parts.append("\nWhat each reproduces, and what differs, stands in its file in `configs/benchmarks`.\n")
    measured = json.loads(EFFECTS.read_text())
    made = measured["made"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    parts.append(CHANGES_HEAD.format(command=made["command"], date=made["date"], versions=versions))
    for title, columns in FAMILIES.items():
        parts.append(f"\n### {title}\n\n| change | {' | '.join(short for _, short in columns)} |\n")
        parts.append("|---" + "|:-:" * len(columns) + "|\n")
        for key, row in measured["effects"].items():
            marks = [MARKS[row[env_id]] for env_id, _ in columns]
            if any(marks):
                parts.append(f"| `{key}` | {' | '.join(marks)} |\n")
    parts.append("\n### What they do\n\n| change | what it does |\n|---|---|\n")
    parts += [f"| `{name}` | {first_line(kind)} |\n" for name, kind in CHANGES.items()]
    return "".join(parts)


def example(settings: Mapping[str, Any]) -> Tasks:
    """Tasks of one of the examples, bound to a Pendulum."""
    return read_tasks(settings, seed=4).bind(make_plain_env("Pendulum-v1"))


def plot() -> None:
    """The value of one parameter under each kind of schedule."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns, colors = 3, ["#1f6f8b", "#d1495b"]
    rows = -(-len(EXAMPLES) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(11, 1.75 * rows), sharex=True, sharey=True)
    for axis in axes.flat[len(EXAMPLES) :]:
        axis.set_visible(False)
    for axis, (title, settings) in zip(axes.flat, EXAMPLES.items(), strict=False):
        tasks = example(settings)
        for task in range(0, tasks.n_tasks(STEPS), 2):
            start = tasks.start(task)
            axis.axvspan(start, min(tasks.next_switch(start) or STEPS, STEPS), color="#f1efe9", linewidth=0)
        steps = range(0, STEPS, 10)
        found = [tasks.values(step) for step in steps]
        lines: dict[str, list[float]] = {}
        for label in found[0]:
            # Stages have a change each for the same thing; what counts is the one that is not at its original.
            name = label.removesuffix("_then")
            values = [value[label] for value in found]
            lines[name] = [b if a == 1.0 else a for a, b in zip(lines.get(name, values), values, strict=True)]
        for color, (label, line) in zip(colors, lines.items(), strict=False):
            jumps = not tasks.gradual
            axis.plot(steps, line, color=color, linewidth=1.6, drawstyle="steps-post" if jumps else "default")
            if len(lines) > 1:
                axis.text(STEPS, line[-1], f" {label}", color=color, fontsize=8, va="center")
        axis.set_title(title, fontsize=9, loc="left", family="monospace")
        axis.set_xlim(0, STEPS)
        axis.set_ylim(0.4, 2.1)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, length=2)
    for axis in axes[-1]:
        axis.set_xlabel("environment steps of the run", fontsize=8)
    figure.supylabel("value of the parameter (its own: 1)", fontsize=9)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    plot()
    if "--plot" not in sys.argv:
        PAGE.write_text(page())
