"""Small SB3 models of every kind that the tests run interventions on."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from agents.interventions import Intervention, Step
from agents.layers import Network
from agents.plasticity import Plasticity
from agents.policies import Architecture, variant
from agents.watching import Watcher


class Noise(gym.Env[Any, Any]):
    """Random images or dictionaries of them, for policies with convolutions."""

    def __init__(self, continuous: bool = False, dictionary: bool = False) -> None:
        image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        # In alphabetical order, as Gymnasium has them: what comes before the image moves its columns.
        parts = {"a": spaces.Discrete(4), "b": spaces.Box(-1, 1, (2, 3)), "image": image}
        self.observation_space = spaces.Dict(parts) if dictionary else image
        self.action_space = spaces.Box(-1, 1, (2,)) if continuous else spaces.Discrete(3)
        self.observation_space.seed(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(np.sum(action)), False, False, {}


class NormedPolicy(sb3.common.policies.ActorCriticPolicy):
    """PPO's policy with layer normalisation before each nonlinearity."""

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        for name in ("policy_net", "value_net"):
            layers: list[nn.Module] = []
            for module in getattr(self.mlp_extractor, name):
                layers.append(module)
                if isinstance(module, nn.Linear):
                    layers.append(nn.LayerNorm(module.out_features))
            setattr(self.mlp_extractor, name, nn.Sequential(*layers))


def small() -> dict[str, Any]:
    """Arguments for a policy of two narrow layers; a new dictionary each time, since SB3 adds to what it is given."""
    return {"net_arch": [12, 10], "activation_fn": nn.ReLU}


def built(algorithm: type[Any], alias: str, env: Any, architecture: Architecture, **arguments: Any) -> BaseAlgorithm:
    """A model with two narrow layers of this architecture; with one where observations are images."""
    kwargs: dict[str, Any] = {"net_arch": [12]} if alias == "CnnPolicy" else small()
    kwargs |= {"architecture": architecture} | arguments.pop("policy_kwargs", {})
    model: BaseAlgorithm = algorithm(variant(algorithm, alias), env, policy_kwargs=kwargs, **arguments)
    return model


def ppo(alias: str, architecture: Architecture, **arguments: Any) -> BaseAlgorithm:
    """PPO on CartPole or on noise."""
    if alias == "MlpPolicy":
        return built(sb3.PPO, alias, "CartPole-v1", architecture, n_steps=64, n_epochs=2, **arguments)
    env = Noise(dictionary=alias == "MultiInputPolicy")
    return built(sb3.PPO, alias, env, architecture, n_steps=16, batch_size=8, n_epochs=1, **arguments)


def off_policy(algorithm: type[Any], architecture: Architecture, **arguments: Any) -> BaseAlgorithm:
    """An off-policy agent on Pendulum or CartPole."""
    env = "CartPole-v1" if algorithm is sb3.DQN else "Pendulum-v1"
    return built(algorithm, "MlpPolicy", env, architecture, **OFF, **arguments)


OFF: dict[str, Any] = {"buffer_size": 400, "batch_size": 16, "learning_starts": 20}
OFF_CNN: dict[str, Any] = {"buffer_size": 100, "batch_size": 8, "learning_starts": 24}
MODELS: dict[str, Callable[..., BaseAlgorithm]] = {
    "ppo": lambda **k: sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=2, policy_kwargs=small(), **k),
    "ppo-box": lambda **k: sb3.PPO("MlpPolicy", "Pendulum-v1", n_steps=64, n_epochs=2, policy_kwargs=small(), **k),
    "ppo-long": lambda **k: sb3.PPO(
        "MlpPolicy", "CartPole-v1", n_steps=64, batch_size=16, n_epochs=25, policy_kwargs=small(), **k
    ),
    "ppo-gsde": lambda **k: sb3.PPO("MlpPolicy", "Pendulum-v1", n_steps=64, use_sde=True, policy_kwargs=small(), **k),
    "ppo-norm": lambda **k: sb3.PPO(NormedPolicy, "CartPole-v1", n_steps=64, n_epochs=2, policy_kwargs=small(), **k),
    "ppo-cnn": lambda **k: sb3.PPO("CnnPolicy", Noise(), n_steps=16, batch_size=8, n_epochs=1, **k),
    "ppo-cnn-separate": lambda **k: sb3.PPO(
        "CnnPolicy",
        Noise(),
        n_steps=16,
        batch_size=8,
        n_epochs=1,
        policy_kwargs={"share_features_extractor": False},
        **k,
    ),
    "ppo-dict": lambda **k: sb3.PPO(
        "MultiInputPolicy", Noise(dictionary=True), n_steps=16, batch_size=8, n_epochs=1, **k
    ),
    "a2c": lambda **k: sb3.A2C("MlpPolicy", "CartPole-v1", n_steps=16, policy_kwargs=small(), **k),
    "sac": lambda **k: sb3.SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=small(), **OFF, **k),
    "sac-gsde": lambda **k: sb3.SAC("MlpPolicy", "Pendulum-v1", use_sde=True, policy_kwargs=small(), **OFF, **k),
    "sac-cnn": lambda **k: sb3.SAC("CnnPolicy", Noise(continuous=True), policy_kwargs={"net_arch": [12]}, **OFF, **k),
    "sac-cnn-shared": lambda **k: sb3.SAC(
        "CnnPolicy",
        Noise(continuous=True),
        policy_kwargs={"net_arch": [12], "share_features_extractor": True},
        **OFF_CNN,
        **k,
    ),
    "td3": lambda **k: sb3.TD3("MlpPolicy", "Pendulum-v1", policy_kwargs=small(), **OFF, **k),
    "dqn": lambda **k: sb3.DQN("MlpPolicy", "CartPole-v1", policy_kwargs=small(), **OFF, **k),
    "tqc": lambda **k: sb3_contrib.TQC("MlpPolicy", "Pendulum-v1", policy_kwargs=small(), **OFF, **k),
    "qrdqn": lambda **k: sb3_contrib.QRDQN("MlpPolicy", "CartPole-v1", policy_kwargs=small(), **OFF, **k),
    "crossq": lambda **k: sb3_contrib.CrossQ("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [12]}, **OFF, **k),
    "trpo": lambda **k: sb3_contrib.TRPO(
        "MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, policy_kwargs=small(), **k
    ),
}


def tiny() -> dict[str, Any]:
    """Arguments for a policy with SB3's convolutions and next to nothing behind them."""
    return {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}


MODELS |= {
    "ppo-cnn-tiny": lambda **k: sb3.PPO(
        "CnnPolicy", Noise(), n_steps=16, batch_size=8, n_epochs=1, policy_kwargs=tiny(), **k
    ),
    "a2c-cnn-tiny": lambda **k: sb3.A2C("CnnPolicy", Noise(), n_steps=8, policy_kwargs=tiny(), **k),
    "sac-cnn-tiny": lambda **k: sb3.SAC("CnnPolicy", Noise(True), policy_kwargs=tiny(), **OFF_CNN, **k),
    "td3-cnn-tiny": lambda **k: sb3.TD3("CnnPolicy", Noise(True), policy_kwargs=tiny(), **OFF_CNN, **k),
    "dqn-cnn-tiny": lambda **k: sb3.DQN("CnnPolicy", Noise(), policy_kwargs=tiny(), **OFF_CNN, **k),
    "tqc-cnn-tiny": lambda **k: sb3_contrib.TQC("CnnPolicy", Noise(True), policy_kwargs=tiny(), **OFF_CNN, **k),
}
VARIANTS: dict[str, Callable[..., BaseAlgorithm]] = {
    "ppo-crelu": lambda **k: ppo("MlpPolicy", Architecture("crelu"), **k),
    "ppo-crelu-wide": lambda **k: ppo("MlpPolicy", Architecture("crelu", halve=False), **k),
    "ppo-crelu-layernorm": lambda **k: ppo("MlpPolicy", Architecture("crelu", layer_norm="after"), **k),
    "ppo-fourier": lambda **k: ppo("MlpPolicy", Architecture("fourier", layer_norm="before"), **k),
    "ppo-adaptive": lambda **k: ppo(
        "MlpPolicy", Architecture("adaptive_linear"), policy_kwargs={"activation_fn": nn.Tanh}, **k
    ),
    "ppo-spectral-norm": lambda **k: ppo("MlpPolicy", Architecture(spectral_norm="all"), **k),
    "ppo-cnn-crelu": lambda **k: ppo("CnnPolicy", Architecture("crelu", layer_norm="after"), **k),
    "ppo-cnn-adaptive": lambda **k: ppo("CnnPolicy", Architecture("adaptive_linear", layer_norm="before"), **k),
    "ppo-cnn-spectral-norm": lambda **k: ppo("CnnPolicy", Architecture(spectral_norm="hidden"), **k),
    "ppo-dict-fourier": lambda **k: ppo("MultiInputPolicy", Architecture("fourier", halve=False), **k),
    "sac-fourier": lambda **k: off_policy(sb3.SAC, Architecture("fourier"), **k),
    "sac-layernorm": lambda **k: off_policy(sb3.SAC, Architecture(layer_norm="before"), **k),
    "sac-spectral-norm": lambda **k: off_policy(sb3.SAC, Architecture(spectral_norm="hidden"), **k),
    "sac-gsde-crelu": lambda **k: off_policy(sb3.SAC, Architecture("crelu", halve=False), use_sde=True, **k),
    "sac-cnn-crelu": lambda **k: built(
        sb3.SAC,
        "CnnPolicy",
        Noise(continuous=True),
        Architecture("crelu"),
        policy_kwargs={"share_features_extractor": True},
        **OFF,
        **k,
    ),
    "td3-smooth": lambda **k: off_policy(sb3.TD3, Architecture("smooth_leaky_relu", layer_norm="after"), **k),
    "dqn-crelu": lambda **k: off_policy(sb3.DQN, Architecture("crelu", spectral_norm="last_hidden"), **k),
    "tqc-fourier": lambda **k: off_policy(sb3_contrib.TQC, Architecture("fourier", layer_norm="after"), **k),
}
"""Agents with network variants, under the names that `make` knows as well."""
MODELS |= VARIANTS


def make(kind: str, seed: int = 0) -> BaseAlgorithm:
    """A model of one kind on the CPU."""
    torch.set_num_threads(1)
    return MODELS[kind](seed=seed, device="cpu")


def weights(model: BaseAlgorithm) -> torch.Tensor:
    """All parameters of the policy, and SAC's temperature, in one vector."""
    tensors = [*model.policy.parameters()]
    if isinstance(temperature := getattr(model, "log_ent_coef", None), torch.Tensor):
        tensors.append(temperature)
    return torch.cat([tensor.detach().flatten().clone() for tensor in tensors])


STEPS = {"ppo": 128, "ppo-box": 128, "a2c": 64, "sac": 36, "td3": 36, "dqn": 64, "tqc": 36, "sac-cnn-shared": 34}
"""Environment steps that make a model of each kind take a few updates, and that reach a period of 32."""
STEPS_CNN = {f"{agent}-cnn-tiny": 36 for agent in ("sac", "td3", "tqc")}
STEPS_CNN |= {"ppo-cnn-tiny": 48, "a2c-cnn-tiny": 40, "dqn-cnn-tiny": 48}


def train(kind: str, *interventions: Intervention, steps: int | None = None) -> tuple[BaseAlgorithm, Plasticity]:
    """A model that has learnt with these interventions."""
    model, plasticity = make(kind), Plasticity(*interventions)
    model.learn(steps or (STEPS | STEPS_CNN)[kind], callback=plasticity)
    return model, plasticity


@functools.cache
def plain_weights(kind: str) -> torch.Tensor:
    """The weights of a model of this kind that has learnt without interventions."""
    model = make(kind)
    model.learn((STEPS | STEPS_CNN)[kind])
    return weights(model)


def step_of(network: Network, watcher: Watcher | None = None, number: int = 0) -> Step:
    """A step of the network's optimiser, for calling interventions without a callback."""
    assert network.optimizer is not None
    return Step(network.optimizer, number, watcher or Watcher())
