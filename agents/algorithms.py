"""The agents one can choose: stock SB3 and sb3-contrib algorithms and their settings.

Names, meanings and defaults of the settings are SB3's own (a test compares them), but for the number of environments
and TD3's exploration noise; published hyperparameters that differ stand in `configs/agents/`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
from annotated_types import Ge, Gt, Le, Lt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv

from agents.networks import NetworkSettings
from configs.settings import SettingError, Settings

Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Gt(0), Le(10**9)]
StepSize = Annotated[float, Gt(0), Le(1e30)]  # beyond that, float32 overflows inside the optimiser


@dataclass
class AgentSettings(Settings, ABC):
    """Base of all agents."""

    algorithm: ClassVar[type[BaseAlgorithm]]
    action_spaces: ClassVar[tuple[type[gym.Space[Any]], ...]]
    adam_eps: ClassVar[float] = 1e-8

    learning_rate: StepSize
    """Step size of the optimisers, constant over the run."""

    n_envs: Annotated[int, Gt(0), Le(4096)] = 1
    """Parallel copies of the environment."""

    @abstractmethod
    def rollout(self) -> int:
        """Environment steps between two updates, over all parallel environments."""

    @abstractmethod
    def transitions(self, steps: int) -> int:
        """Transitions that are kept at the same time in a run of so many environment steps."""

    def check_spaces(self, env_id: str, action_space: gym.Space[Any]) -> None:
        """Raise a ValueError where the agent cannot act in this space."""
        if not isinstance(action_space, self.action_spaces):
            able = " or ".join(space.__name__ for space in self.action_spaces)
            raise ValueError(
                f"agent {type(self).__name__.lower()} needs {able} actions, but {env_id} has {action_space}."
            )

    def build(
        self, env: VecEnv, network: NetworkSettings, seed: int, device: str, **policy_kwargs: Any
    ) -> BaseAlgorithm:
        """Make the SB3 model.

        Args:
            env: the vectorised environment, with `n_envs` members.
            network: which policy, and its layers.
            seed: of the model, its environments and all global random generators.
            device: as in torch.
            policy_kwargs: more arguments for the policy.
        """
        kwargs = network.policy_kwargs() | policy_kwargs
        return self.algorithm(
            network.policy(env.observation_space, self.algorithm),
            env,
            policy_kwargs=kwargs or None,
            seed=seed,
            device=device,
            **self.arguments(env),
        )

    def arguments(self, env: VecEnv) -> dict[str, Any]:
        """The settings as keyword arguments of the algorithm."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "n_envs"}


@dataclass
class OnPolicy(AgentSettings):
    """Base of agents that learn from the rollout they have just collected, then throw it away."""

    adam_eps = 1e-5  # what SB3's actor-critic policies give Adam

    n_steps: Count = 2048
    """Steps of each environment in a rollout."""

    gamma: Share = 0.99
    """Discount factor."""

    gae_lambda: Share = 0.95
    """Trade-off of bias and variance in generalised advantage estimation."""

    ent_coef: NonNegative = 0.0
    """Weight of the entropy bonus."""

    vf_coef: NonNegative = 0.5
    """Weight of the value loss."""

    max_grad_norm: Positive = 0.5
    """Gradients are clipped to this norm, actor and critic together."""

    normalize_advantage: bool = True
    """Standardise the advantages of a minibatch."""

    def rollout(self) -> int:
        """Steps per rollout of all environments together."""
        return self.n_steps * self.n_envs

    def transitions(self, steps: int) -> int:
        """One rollout, whole also where the run is shorter."""
        return self.rollout()


@dataclass
class PPO(OnPolicy):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347)."""

    algorithm = sb3.PPO
    action_spaces = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)

    learning_rate: StepSize = 3e-4
    """Step size of Adam, constant over the run."""

    batch_size: Annotated[int, Gt(1)] = 64
    """Samples in a minibatch; must divide n_steps times n_envs."""

    n_epochs: Count = 10
    """Passes over each rollout."""

    clip_range: Positive = 0.2
    """How far the probability ratio may move from 1."""

    target_kl: Positive | None = None
    """Stop the epochs of an update early when the policy has moved this far."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rollout() % self.batch_size:
            raise SettingError(
                self, "batch_size", f"must divide n_steps x n_envs = {self.rollout()}, not be {self.batch_size}"
            )


@dataclass
class A2C(OnPolicy):
    """Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783)."""

    algorithm = sb3.A2C
    action_spaces = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)

    learning_rate: StepSize = 7e-4
    """Step size of RMSprop, constant over the run."""

    n_steps: Count = 5
    """Steps of each environment in a rollout."""

    gae_lambda: Share = 1.0
    """Trade-off of bias and variance in generalised advantage estimation; 1: the plain advantage."""

    normalize_advantage: bool = False
    """Standardise the advantages of a rollout."""


@dataclass
class OffPolicy(AgentSettings):
    """Base of agents that learn from a replay buffer."""

    learning_rate: StepSize = 3e-4
    """Step size of Adam, constant over the run."""

    buffer_size: Count = 1_000_000
    """Transitions that the replay buffer holds."""

    learning_starts: Annotated[int, Ge(0)] = 100
    """Steps with random actions before learning starts."""

    batch_size: Count = 256
    """Transitions in a minibatch."""

    tau: Annotated[float, Gt(0), Le(1)] = 0.005
    """How far target networks move towards the trained ones at each update."""

    gamma: Share = 0.99
    """Discount factor."""

    train_freq: Count = 1
    """Steps of each environment between two updates."""

    gradient_steps: Annotated[int, Ge(-1)] = 1
    """Gradient steps in an update, the replay ratio; -1: as many as steps were taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gradient_steps == 0:
            raise SettingError(self, "gradient_steps", "must be -1 or at least 1, not 0")

    def rollout(self) -> int:
        """Steps between two updates, of all environments together."""
        return self.train_freq * self.n_envs

    def transitions(self, steps: int) -> int:
        """What the replay buffer holds at the end."""
        return min(self.buffer_size, steps)


@dataclass
class SAC(OffPolicy):
    """Soft actor-critic with a learnt entropy coefficient (Haarnoja et al. 2018, arXiv 1812.05905)."""

    algorithm: ClassVar[type[BaseAlgorithm]] = sb3.SAC
    action_spaces = (gym.spaces.Box,)

    ent_coef: str = "auto"
    """Entropy coefficient: auto (learnt), auto_0.1 (learnt, starting there), or a number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        start = self.ent_coef.removeprefix("auto_")
        if self.ent_coef != "auto" and not _is_coefficient(start, above_zero=start != self.ent_coef):
            raise SettingError(self, "ent_coef", f"must be auto, auto_<number> or a number, not {self.ent_coef!r}")


@dataclass
class TD3(OffPolicy):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv 1802.09477)."""

    algorithm = sb3.TD3
    action_spaces = (gym.spaces.Box,)

    learning_rate: StepSize = 1e-3
    """Step size of Adam, constant over the run."""

    policy_delay: Count = 2
    """Critic steps per actor step."""

    target_policy_noise: NonNegative = 0.2
    """Standard deviation of the noise on target actions."""

    target_noise_clip: NonNegative = 0.5
    """Limit of the noise on target actions."""

    exploration_noise: NonNegative = 0.1
    """Standard deviation of Gaussian noise on the actions taken, in units of the action range's half (same paper)."""

    def arguments(self, env: VecEnv) -> dict[str, Any]:
        """SB3's arguments, with the exploration noise as the object it wants; SB3 scales actions to [-1, 1]."""
        arguments = super().arguments(env)
        sigma = arguments.pop("exploration_noise")
        assert isinstance(env.action_space, gym.spaces.Box)
        shape = env.action_space.shape
        return arguments | {
            "action_noise": NormalActionNoise(np.zeros(shape), sigma * np.ones(shape)) if sigma else None
        }


@dataclass
class DQN(OffPolicy):
    """Deep Q-network (Mnih et al. 2015)."""

    algorithm = sb3.DQN
    action_spaces = (gym.spaces.Discrete,)

    learning_rate: StepSize = 1e-4
    """Step size of Adam, constant over the run."""

    batch_size: Count = 32
    """Transitions in a minibatch."""

    tau: Annotated[float, Gt(0), Le(1)] = 1.0
    """How far the target network moves at each target update; 1: a copy."""

    train_freq: Count = 4
    """Steps of each environment between two updates."""

    target_update_interval: Count = 10_000
    """Environment steps between two updates of the target network."""

    exploration_fraction: Share = 0.1
    """Share of the run over which random actions give way to greedy ones."""

    exploration_initial_eps: Share = 1.0
    """Share of random actions at the start."""

    exploration_final_eps: Share = 0.05
    """Share of random actions once exploration has given way."""

    max_grad_norm: Positive = 10.0
    """Gradients are clipped to this norm."""


@dataclass
class TQC(SAC):
    """Truncated quantile critics, of sb3-contrib (Kuznetsov et al. 2020, arXiv 2005.04269)."""

    algorithm = sb3_contrib.TQC

    top_quantiles_to_drop_per_net: Annotated[int, Ge(0), Lt(25)] = 2
    """Largest of each critic's 25 quantiles left out of the target, against overestimation."""


def _is_coefficient(text: str, above_zero: bool) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and (value > 0 if above_zero else value >= 0)
