"""The networks that an agent can be given, as arguments of an SB3 policy."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Annotated, Any

import gymnasium as gym
from annotated_types import Gt, Le
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space

from agents.policies import STOCK, Architecture, variant
from configs.settings import SettingError

MOST_LAYERS = 100


@dataclass
class NetworkSettings(Architecture, ABC):
    """Base of all networks: fully connected layers, one body for the actor and one for the critic."""

    hidden: tuple[Annotated[int, Gt(0), Le(16_384)], ...] | None = None
    """Widths of the hidden layers of actor and critic, such as 64,64; none: the agent's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden and len(self.hidden) > MOST_LAYERS:
            raise SettingError(self, "hidden", f"must be at most {MOST_LAYERS} layers, not {len(self.hidden)}")
        odd = next((width for width in self.hidden or () if width * self.growth % self.expansion), None)
        if odd is not None:
            raise SettingError(
                self, "hidden", f"must be even widths while {self.activation} halves the units, not {odd}"
            )

    def policy(self, space: gym.Space[Any], algorithm: type[BaseAlgorithm]) -> str | type[BasePolicy]:
        """The SB3 policy for this observation space, by name, or the variant of it that has these layers.

        Raises:
            ValueError: the network does not fit the space, or the algorithm's policy has no variants.
        """
        alias = self.alias(space)
        return alias if self.is_stock else variant(algorithm, alias)

    @abstractmethod
    def alias(self, space: gym.Space[Any]) -> str:
        """The name of the SB3 policy for this observation space; raises ValueError where it does not fit."""

    @property
    def is_stock(self) -> bool:
        """Whether SB3's own policy class can be given these layers."""
        return self.activation in ("agent", *STOCK) and self.layer_norm == self.spectral_norm == "none"

    def policy_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for the SB3 policy: only what differs from the agent's own defaults."""
        kwargs: dict[str, Any] = {}
        if self.hidden is not None:
            kwargs["net_arch"] = list(self.hidden)
        if not self.is_stock:
            kwargs["architecture"] = Architecture(
                **{field.name: getattr(self, field.name) for field in fields(Architecture)}
            )
        elif self.activation != "agent":
            kwargs["activation_fn"] = STOCK[self.activation]
        return kwargs


@dataclass
class MLP(NetworkSettings):
    """Fully connected layers on flat observations."""

    def alias(self, space: gym.Space[Any]) -> str:
        """MlpPolicy, or MultiInputPolicy for dictionaries of observations."""
        return "MultiInputPolicy" if isinstance(space, gym.spaces.Dict) else "MlpPolicy"


@dataclass
class CNN(NetworkSettings):
    """The convolutions of Mnih et al. (2015) on images, then fully connected layers."""

    share_features: bool | None = None
    """Whether actor and critic share the convolutions; none: the agent's own (SB3: PPO and A2C share)."""

    def alias(self, space: gym.Space[Any]) -> str:
        """CnnPolicy; a ValueError where observations are not images."""
        if isinstance(space, gym.spaces.Dict):
            return "MultiInputPolicy"
        if not is_image_space(space, check_channels=False):
            raise ValueError(
                f"network cnn needs images (a uint8 Box of three dimensions), but observations are {space}."
            )
        return "CnnPolicy"

    @property
    def is_stock(self) -> bool:
        """Whether SB3's own policy class can be given these layers: its convolutions always have ReLUs."""
        return super().is_stock and self.activation == "agent"

    def policy_kwargs(self) -> dict[str, Any]:
        """Those of all networks, and whether the convolutions are shared."""
        share = {} if self.share_features is None else {"share_features_extractor": self.share_features}
        return super().policy_kwargs() | share
