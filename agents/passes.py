"""Two passes over each minibatch, for optimisers that need its loss twice (SAM).

SB3's `train` of PPO, A2C and DQN computes the loss of each minibatch, then steps its one optimiser. While one of these
trains, between the end of a rollout and the start of the next, its buffer gives each minibatch twice; the first step
is then the optimiser's ascent, the second, from the weights put back, its step. Who listens to steps hears the second
only.
"""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.hooks import OptimizerHooks
from agents.layers import Network
from agents.sb3 import penalties_reach


@runtime_checkable
class Ascends(Protocol):
    """What an optimiser needs to be given two passes."""

    def ascend(self) -> None:
        """Move the weights for the second pass."""

    def restore(self) -> None:
        """Put them back exactly where they were, if they have been moved."""


class TwoPasses:
    """Shows a model each minibatch twice while it trains, where one of its optimisers asks for it.

    Args:
        model: the agent.
        networks: the model's networks.

    Raises:
        ValueError: an optimiser asks for two passes, but the algorithm's training cannot give them.
    """

    def __init__(self, model: BaseAlgorithm, networks: list[Network]) -> None:
        self.model: Any = model
        optimizers = list(dict.fromkeys(network.optimizer for network in networks if network.optimizer is not None))
        asking = [optimizer for optimizer in optimizers if isinstance(optimizer, Ascends)]
        self.optimizer: Any = asking[0] if asking else None
        self._hooks: OptimizerHooks | None = None
        self._patched: list[tuple[Any, str]] = []
        self._first = False
        if asking and (len(optimizers) > 1 or not all(penalties_reach(model, network) for network in networks)):
            raise ValueError(
                f"{type(asking[0]).__name__.removesuffix('Optimizer')} needs the loss of each minibatch twice, which "
                f"PPO, A2C and DQN can give, but not {type(model).__name__}."
            )

    def begin(self) -> None:
        """Called before the model trains."""
        if self.optimizer is None:
            return
        self._hooks = OptimizerHooks(self.optimizer, allow_step=self._is_second)
        if isinstance(self.model, OnPolicyAlgorithm):
            self._patch(self.model.rollout_buffer, "get", self._twice(self.model.rollout_buffer.get))
        elif isinstance(self.model, OffPolicyAlgorithm):
            assert self.model.replay_buffer is not None
            self._patch(self.model.replay_buffer, "sample", self._again(self.model.replay_buffer.sample))
            self._patch(self.model, "train", self._train(self.model.train))

    def end(self) -> None:
        """Called once it has trained, and whenever learning ends: everything is as it was."""
        for owner, name in self._patched:
            vars(owner).pop(name, None)
        self._patched = []
        if self._hooks:
            self._hooks.remove()
            self._hooks = None
        if self.optimizer is not None:
            self.optimizer.restore()

    def _patch(self, owner: Any, name: str, function: Any) -> None:
        setattr(owner, name, function)
        self._patched.append((owner, name))

    def _is_second(self, optimizer: torch.optim.Optimizer) -> bool:
        """Ascend after the first pass, which is no step; let the step be taken after the second."""
        if self._first:
            self.optimizer.ascend()
        else:
            self.optimizer.restore()
        return not self._first

    def _twice(self, plain: Any) -> Any:
        def get(*arguments: Any, **named: Any) -> Iterator[Any]:
            try:
                for batch in plain(*arguments, **named):
                    self._first = True
                    yield batch
                    self._first = False
                    yield batch
            finally:  # PPO may stop at the second pass, its target_kl exceeded: no step, weights back
                self.optimizer.restore()

        return get

    def _again(self, plain: Any) -> Any:
        kept: list[Any] = []

        def sample(*arguments: Any, **named: Any) -> Any:
            self._first = not kept
            if kept:
                return kept.pop()
            kept.append(plain(*arguments, **named))
            return kept[0]

        return sample

    def _train(self, plain: Any) -> Any:
        def train(gradient_steps: int, **named: Any) -> None:
            self.model._n_updates -= gradient_steps  # before, since what it has counted is logged
            plain(gradient_steps=2 * gradient_steps, **named)

        return train
