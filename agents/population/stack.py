"""What runs all members of a population at once, whichever their algorithm: their networks, rollouts and updates."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import nn

from agents.injection import leaves
from agents.population.by_hand import Shown
from agents.population.headed import Headed
from agents.population.rows import Rows
from agents.population.stepping import Stepper, Trained
from agents.population.streams import Streams
from envs.stepping import Steps

Scope = dict[str, Any]
"""What a member's callbacks find under the names that SB3's own local variables have."""


class Stack(ABC):
    """All members of a population.

    Args:
        models: the members, alike but for their seeds.
        streams: their random streams.
        parts: neighbouring members that are stepped together.

    Attributes:
        alike: what must be the same in all members.
        log_interval: how often members log unless told otherwise, as SB3 counts it for the algorithm.
        trained: what each optimiser of a member steps.
        networks: all that are trained.

    Raises:
        CannotStackError: the networks are of a kind that is not known stacked.
    """

    alike: ClassVar[tuple[str, ...]]
    log_interval: ClassVar[int]

    def __init__(self, models: Sequence[Any], streams: Sequence[Streams], parts: Sequence[slice]) -> None:
        self.models = list(models)
        self.streams = list(streams)
        self.parts = list(parts)
        self.first = self.models[0]
        self.steps = Steps([model.env for model in self.models], torch.get_num_threads())
        self.trained: list[Trained] = []
        self.networks: list[Headed] = []
        self._places: dict[nn.Module, tuple[nn.Module, slice]] = {}

    @classmethod
    @abstractmethod
    def refuses(cls, models: Sequence[Any]) -> str | None:
        """Why agents of this algorithm cannot be stacked for their settings, in one sentence; None where they can."""

    @abstractmethod
    def collect(self, callbacks: Sequence[BaseCallback], scopes: Sequence[Scope], log_interval: int) -> bool:
        """Collect one rollout of every member; returns whether all callbacks want to go on.

        Args:
            callbacks: one for each member.
            scopes: one for each member; its callbacks find there what they look for.
            log_interval: as SB3 counts it for the algorithm.
        """

    @abstractmethod
    def train(self) -> None:
        """Train every member on what it has collected, if there is enough of it."""

    def _stepped(
        self, rows: Rows, optimizers: Sequence[torch.optim.Optimizer], max_norm: float | None = None
    ) -> Trained:
        """Have parameters be stepped, one optimiser for each member; arguments as for `Trained`."""
        self.trained.append(Trained(rows, optimizers, self.parts, max_norm))
        return self.trained[-1]

    def _show(self, network: Headed, twins: Sequence[nn.Module] = ()) -> None:
        """Let it be known where a network runs.

        Args:
            network: a trained one.
            twins: where it is several that are alike, those of the first member.
        """
        self.networks.append(network)
        count = max(1, len(twins))
        self._places.update((module, (made, slice(0, None, count))) for module, made in network.made.items())
        for index, twin in enumerate(twins[1:], 1):
            for leaf, first in zip(leaves(twin), leaves(twins[0]), strict=True):
                self._places[leaf] = network.made[first], slice(index, None, count)

    def _hear(self, number: int, callback: BaseCallback, scope: Scope, stepped: VecEnvStepReturn) -> bool:
        """Have a member take in what a step of its environments gave; returns whether its callback wants to go on."""
        model, infos = self.models[number], stepped[3]
        model.num_timesteps += model.n_envs
        scope["new_obs"], scope["rewards"], scope["dones"], scope["infos"] = stepped
        if not callback.on_step():
            return False
        model._update_info_buffer(infos, stepped[2])
        return True

    def rows_of(self, module: nn.Module) -> tuple[nn.Module, slice]:
        """Where a leaf of the first member is computed; a KeyError for one that is not.

        Returns:
            The stacked module, and which rows of its inputs and outputs `[rows, samples, ...]` are the members'.
        """
        return self._places[module]

    def steppers_of(self, part: int) -> list[Stepper]:
        """What steps the members of a part, one for each of their optimisers."""
        return [trained.steppers[part] for trained in self.trained]

    def by_hand(self) -> list[Shown]:
        """Who shows what passes through modules that are not called."""
        return [shown for network in self.networks for shown in network.by_hand()]

    def release(self) -> None:
        """Give every member memory of its own again."""
        for trained in self.trained:
            trained.release()
