"""What a step of an environment costs: `python bench/stepping.py`.

Steps SB3's `DummyVecEnv` and what `make_vec_env` makes side by side, in turns in one process: the same rows (SB3's
`Monitor` around `NonStationary`, whose friction or, in CartPole, whose order of observations and actions switches every
1000 steps, in mid-episode), the same seeds and the same random actions, so that both go through the same episodes. Ant
and Humanoid also come without the forces of contacts.

Times are those of the processor, since other programs share it. Figures are medians over rounds, ratios each
`DummyVecEnv`'s time just before and just after over ours; the range is that of the middle half of the
rounds. `--write` keeps them in `bench/results/`, where those that were not measured now stay as they are.
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from keeping import keep
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from envs import Stepping, Tasks, make_env, make_vec_env
from envs.changes import Change
from envs.changes.actions import ActionPermutation
from envs.changes.mujoco import MujocoFriction
from envs.changes.observations import ObservationPermutation
from envs.schedules import Periodic

RESULTS = Path(__file__).parent / "results" / "stepping.json"
WITHOUT = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0}
ENVS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {},
    "HalfCheetah-v5": {},
    "Hopper-v5": {},
    "Walker2d-v5": {},
    "Swimmer-v5": {},
    "Ant-v5": {},
    "Ant-v5-without": WITHOUT,
    "Humanoid-v5": {},
    "Humanoid-v5-without": WITHOUT,
}
"""Environments by name, and their arguments."""


def changes(env_id: str) -> dict[str, Change]:
    """What switches in an environment."""
    if env_id == "CartPole-v1":
        return {"seen": ObservationPermutation(signs=True), "done": ActionPermutation(probability=0.5)}
    return {"friction": MujocoFriction()}


def draw(space: gym.Space[Any], rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """As many random actions."""
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=shape)
    return rng.uniform(-1, 1, (*shape, *(space.shape or ()))).astype(np.float32)


def seconds(vec_env: VecEnv, actions: NDArray[Any]) -> float:
    """Time of the processor for each step of each environment."""
    start = time.process_time()
    for action in actions:
        vec_env.step(action)
    return (time.process_time() - start) / (len(actions) * vec_env.num_envs)


def figures(name: str, n_envs: int, steps: int, rounds: int) -> dict[str, float]:
    """Microseconds a step with both, and their ratio: median and middle half over the rounds."""
    env_id = name.removesuffix("-without")
    tasks = Tasks(Periodic(period=1000, boundary="immediate"), changes(env_id), seed=0)
    dummy = DummyVecEnv([partial(make_env, env_id, tasks, stride=n_envs, env_kwargs=ENVS[name])] * n_envs)
    stepping: Stepping = "dummy" if env_id == "CartPole-v1" else "batch"
    ours = make_vec_env(env_id, tasks, n_envs, 0, stepping, env_kwargs=ENVS[name])
    dummy.seed(0)
    for vec_env in (dummy, ours):
        vec_env.reset()
    rng = np.random.default_rng(0)
    before = seconds(dummy, draw(dummy.action_space, rng, (steps, n_envs)))
    found, times = [], []
    for _ in range(rounds):
        actions = draw(dummy.action_space, rng, (steps, n_envs))
        own = seconds(ours, actions)
        after = seconds(dummy, actions)
        found.append((before + after) / 2 / own)
        times.append((after, own))
        before = after
    quarters = statistics.quantiles(found, n=4)
    theirs, own = (statistics.median(column) * 1e6 for column in zip(*times, strict=True))
    return {
        "dummy": round(theirs, 1),
        "ours": round(own, 1),
        "ratio": round(quarters[1], 2),
        "low": round(quarters[0], 2),
        "high": round(quarters[2], 2),
    }


def main() -> None:
    """Time all environments, print the table, and keep the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"environments, of {', '.join(ENVS)}; all without any")
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100, help="steps of all environments in a round")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    options = parser.parse_args()
    if unknown := set(options.only) - set(ENVS):
        parser.error(f"there is no {', '.join(sorted(unknown))} here: choose from {', '.join(ENVS)}")
    console = Console()
    chosen = options.only or list(ENVS)
    made = {
        name: figures(name, options.n_envs, options.steps, options.rounds)
        for name in track(chosen, "environments", console=console, transient=True)
    }
    table = Table(
        "environment",
        "DummyVecEnv, µs",
        "ours, µs",
        "times faster",
        title=f"time of the processor for a step, {options.n_envs} environments",
    )
    for name, figure in made.items():
        ratio = f"{figure['ratio']:.2f} ({figure['low']:.2f}-{figure['high']:.2f})"
        table.add_row(name, f"{figure['dummy']:.0f}", f"{figure['ours']:.0f}", ratio)
    console.print(table)
    if options.write:
        keep(RESULTS, made, "environments")


if __name__ == "__main__":
    main()
