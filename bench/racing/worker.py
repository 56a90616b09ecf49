"""One process of a race: `python -m racing.worker WORK` trains, and answers with what it took.

It prints `ready` when it is warm, starts its clock when it is sent a line, and prints its lap. Runs under a Python that
has Stable-Baselines3; of this repository it imports nothing but for populations.
"""

import importlib
import json
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import TextIO

import stable_baselines3 as sb3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from .stopwatch import Stopwatch, TimeIsUpError
from .work import Lap, Work

FOREVER = 10**9
"""Environment steps that nobody waits for: the stopwatch ends training."""


class AtRollouts(BaseCallback):
    """Asks the stopwatch at the start of each rollout."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        super().__init__()
        self.stopwatch = stopwatch

    def _on_rollout_start(self) -> None:
        self.stopwatch.rollout_starts(self.num_timesteps)

    def _on_step(self) -> bool:
        return True


def make(work: Work, seed: int) -> BaseAlgorithm:
    """An agent as a user of SB3 or SBX would make it."""
    package = importlib.import_module("sbx") if work.trainer == "sbx" else sb3
    env = our_vec_env(work, seed) if work.our_envs else make_vec_env(work.env, seed=seed, env_kwargs=work.env_kwargs)
    algorithm: type[BaseAlgorithm] = getattr(package, work.algorithm)
    kwargs = {"net_arch": list(work.hidden)}
    return algorithm("MlpPolicy", env, seed=seed, device=work.device, policy_kwargs=kwargs, **work.settings)


def our_vec_env(work: Work, seed: int) -> VecEnv:
    """The environment as `train.py` would make it, with nothing that changes."""
    from envs import Tasks, make_vec_env
    from envs.schedules import Constant

    return make_vec_env(work.env, Tasks(Constant(), {}, seed), 1, seed, env_kwargs=work.env_kwargs)


def learn(work: Work, stopwatch: Stopwatch) -> Lap:
    """Train until the time is up."""
    with suppress(TimeIsUpError):
        if work.trainer == "population":
            from agents.population import Population

            population = Population.build(lambda seed: make(work, seed), work.seeds)
            first = population.models[0]
            population.learn(FOREVER, at_rollout=lambda: stopwatch.rollout_starts(first.num_timesteps))
        else:
            make(work, work.seeds[0]).learn(FOREVER, callback=AtRollouts(stopwatch))
    assert stopwatch.lap is not None, "training ended before the clock was stopped"
    return stopwatch.lap


def main() -> None:
    """Train as told by the command line, and answer on standard output."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    work = Work.from_json(sys.argv[1])
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    synchronize = torch.cuda.synchronize if torch.device(work.device).type == "cuda" else lambda: None
    stopwatch = Stopwatch(work, lambda: wait(answers), synchronize)
    print(json.dumps(asdict(learn(work, stopwatch))), file=answers)


def wait(answers: TextIO) -> None:
    """Tell that this process is warm, and wait until all are."""
    print("ready", file=answers, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
