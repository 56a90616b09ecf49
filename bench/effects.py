"""What each change does in each environment: `python bench/effects.py --write`.

Every change, at its defaults and for each constant that it can turn, is bound to every environment and given two drawn
values; transitions under them are compared with those of the plain environment (`envs.verify`). Found is one of
"effective", "no effect" (the change fits, but 5,000 transitions are the same) and "refused" (it says that it does not
fit). What is effective must also pass the environment checkers of Gymnasium and SB3, as far as the plain environment
passes them; what one of them says otherwise is found instead. `--write` keeps all in `bench/results/`, from where
`docs/environments.md` takes it.
"""

import argparse
import json
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args, get_origin

import gymnasium as gym
import mujoco
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from rich.console import Console
from rich.progress import track
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import NonStationary, Tasks, make_plain_env
from envs.changes import CHANGES, Change
from envs.schedules import Periodic
from envs.verify import VerificationError, verify

RESULTS = Path(__file__).parent / "results" / "effects.json"
ENVIRONMENTS = (
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "LunarLander-v3",
    "BipedalWalker-v3",
    "Perennial/NineRooms-v0",
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Walker2d-v5",
    "Humanoid-v5",
    "Swimmer-v5",
    "Reacher-v5",
    "Pusher-v5",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "environment": {"ids": ("CartPole-v1", "Acrobot-v1"), "pad": True},
    "mujoco_friction": {"low": 0.02, "high": 2.0},
    "mujoco_mass": {"mode": "factor", "low": 0.5, "high": 2.0},
    "mujoco_damping": {"mode": "factor", "low": 0.5, "high": 2.0},
    "mujoco_armature": {"low": 0.01, "high": 2.0},
    "mujoco_gear": {"mode": "factor", "low": 0.5, "high": 2.0},
}
"""What changes are measured with where their defaults need to be told something."""
ELSEWHERE = {"attribute"}
"""What is for other environments than these."""


CHECKS: tuple[Callable[[gym.Env[Any, Any]], Any], ...] = (
    partial(gymnasium_check_env, skip_render_check=True),
    partial(sb3_check_env, skip_render_check=True),
)


def forms(kind: type[Change]) -> Iterator[dict[str, Any]]:
    """The settings to try a change with: one for each constant that it can turn."""
    given = SETTINGS.get(kind.__new__(kind).name, {})
    choice = next((entry for entry in fields(kind) if entry.name == "parameter" and get_origin(entry.type)), None)
    for constant in get_args(choice.type) if choice is not None else (None,):
        yield given if constant is None else {**given, "parameter": constant}


def measure(env_id: str, name: str, settings: dict[str, Any]) -> str:
    """What a change does in an environment, in a word or two."""
    try:
        change = CHANGES[name](**settings)
        rows = verify(env_id, Tasks(Periodic(period=100, first="drawn"), {"change": change}, seed=1), 200)
    except VerificationError:
        return "no effect"
    except ValueError:
        return "refused"
    return (unsound(env_id, change) or "effective") if rows else "refused"


@cache
def passes(env_id: str) -> tuple[Callable[[gym.Env[Any, Any]], Any], ...]:
    """The checkers that the plain environment passes."""
    return tuple(check for check in CHECKS if not fails(check, make_plain_env(env_id)))


def fails(check: Callable[[gym.Env[Any, Any]], Any], env: gym.Env[Any, Any]) -> str:
    """What a checker says against an environment, if anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(env)
    except Exception as error:  # whatever a checker finds
        return f"{type(error).__name__}: {error}"
    return ""


def unsound(env_id: str, change: Change) -> str:
    """What a checker that the plain environment passes says against the changed one, if anything."""
    tasks = Tasks(Periodic(period=10**6, first="drawn"), {"change": change}, seed=1)
    found = (fails(check, NonStationary(make_plain_env(env_id), tasks)) for check in passes(env_id))
    return next(filter(None, found), "")


def main() -> None:
    """Measure all changes in all environments."""
    parser = argparse.ArgumentParser(description="What each change does in each environment.")
    parser.add_argument("--write", action="store_true", help="keep the results in bench/results")
    arguments = parser.parse_args()
    found: dict[str, dict[str, str]] = {}
    for name, kind in track(CHANGES.items(), "changes", console=Console(stderr=True)):
        if name in ELSEWHERE:
            continue
        for settings in forms(kind):
            key = f"{name} {settings['parameter']}" if "parameter" in settings else name
            found[key] = {env_id: measure(env_id, name, settings) for env_id in ENVIRONMENTS}
    made = {
        "command": "python bench/effects.py --write",
        "date": date.today().isoformat(),
        "versions": {"gymnasium": gym.__version__, "mujoco": mujoco.__version__, "python": platform.python_version()},
    }
    console = Console()
    for key, row in found.items():
        console.print(key, {env_id: what for env_id, what in row.items() if what != "refused"})
    if arguments.write:
        RESULTS.write_text(json.dumps({"made": made, "effects": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
