"""What each reset and regulariser costs a population.

Methods are at their defaults, but those that fire between rollouts do so between all of them: an upper bound.
"""

import time
from collections.abc import Sequence
from functools import partial

import stable_baselines3 as sb3
import torch
from interventions import at_every_rollout
from stable_baselines3.common.env_util import make_vec_env

from agents.interventions import Intervention
from agents.plasticity import Plasticity
from agents.population import Population
from regularizers import REGULARIZERS
from resets import RESETS

from .ratios import Spread

METHODS: dict[str, type[Intervention]] = {**RESETS, **REGULARIZERS}
STEPS = 1024
"""Of a rollout: half of SB3's default, so that all methods take minutes."""


class Subject:
    """A population of PPO agents, each with interventions of its own, ready to be trained over and over."""

    def __init__(self, methods: Sequence[str], members: int, device: str) -> None:
        self.population = Population.build(partial(_make, device), range(members))
        self.callbacks = [Plasticity(*(at_every_rollout(METHODS[name]) for name in methods)) for _ in range(members)]

    def seconds(self) -> float:
        """Processor time of one rollout and its updates."""
        began = time.process_time()
        self.population.learn(STEPS, callbacks=self.callbacks)
        return time.process_time() - began


def _make(device: str, seed: int) -> sb3.PPO:
    # SNR asks for units that can be silent.
    kwargs = {"net_arch": [64, 64], "activation_fn": torch.nn.ReLU}
    env = make_vec_env("CartPole-v1", seed=seed)
    return sb3.PPO("MlpPolicy", env, n_steps=STEPS, seed=seed, device=device, policy_kwargs=kwargs)


def cost(method: str, members: int, rounds: int, device: str = "cpu") -> Spread:
    """Time of a population with a method over that of one without, each beside those just before and after it.

    Raises:
        ValueError: populations train members with this method one after another; the message says why.
    """
    torch.set_num_threads(1)
    plain, subject = Subject([], members, device), Subject([method], members, device)
    subject.seconds()
    before, found = plain.seconds(), []
    for _ in range(rounds):
        own, after = subject.seconds(), plain.seconds()
        found.append(2 * own / (before + after))
        before = after
    return Spread.of(found)
