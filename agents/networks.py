"""The networks that an agent can be given, as arguments of an SB3 policy."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import gymnasium as gym
from annotated_types import Gt
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn

from configs.settings import Settings

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "leaky_relu": nn.LeakyReLU}


@dataclass
class NetworkSettings(Settings):
    """Base of all networks: fully connected layers, one body for the actor and one for the critic."""

    hidden: tuple[Annotated[int, Gt(0)], ...] | None = None
    """Widths of the hidden layers of actor and critic, such as 64,64; none: the agent's own."""

    activation: Literal["agent", "relu", "tanh", "elu", "leaky_relu"] = "agent"
    """Nonlinearity between the layers; agent: the agent's own (SB3: tanh for PPO and A2C, ReLU for the others)."""

    def policy(self, space: gym.Space[Any]) -> str:
        """The name of the SB3 policy for this observation space; raises ValueError where it does not fit."""
        raise NotImplementedError

    def policy_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for the SB3 policy: only what differs from the agent's own defaults."""
        kwargs: dict[str, Any] = {}
        if self.hidden is not None:
            kwargs["net_arch"] = list(self.hidden)
        if self.activation != "agent":
            kwargs["activation_fn"] = ACTIVATIONS[self.activation]
        return kwargs


@dataclass
class MLP(NetworkSettings):
    """Fully connected layers on flat observations."""

    def policy(self, space: gym.Space[Any]) -> str:
        """MlpPolicy, or MultiInputPolicy for dictionaries of observations."""
        return "MultiInputPolicy" if isinstance(space, gym.spaces.Dict) else "MlpPolicy"


@dataclass
class CNN(NetworkSettings):
    """The convolutions of Mnih et al. (2015) on images, then fully connected layers."""

    share_features: bool | None = None
    """Whether actor and critic share the convolutions; none: the agent's own (SB3: PPO and A2C share)."""

    def policy(self, space: gym.Space[Any]) -> str:
        """CnnPolicy; a ValueError where observations are not images."""
        if isinstance(space, gym.spaces.Dict):
            return "MultiInputPolicy"
        if not is_image_space(space, check_channels=False):
            raise ValueError(
                f"network cnn needs images (a uint8 Box of three dimensions), but observations are {space}."
            )
        return "CnnPolicy"

    def policy_kwargs(self) -> dict[str, Any]:
        """Those of all networks, and whether the convolutions are shared."""
        share = {} if self.share_features is None else {"share_features_extractor": self.share_features}
        return super().policy_kwargs() | share
