"""What an intervention is, seen from an agent: whatever an arm adds to the plain agent's training.

An intervention is its settings plus a `state`. It implements the moments it needs: `loss_term` for what is added to the
loss, `after_step` for what is defined per gradient step, `between_rollouts` for anything large or rare.
`agents.plasticity` calls them; `resets.base` and `regularizers.base` build on them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from agents.layers import Layer, Network
from configs.settings import Settings

ROLES = {"all": ("actor", "critic", "shared", "temperature"), "actor": ("actor",), "critic": ("critic",)}


@dataclass(frozen=True)
class Moment:
    """A point between two rollouts, when the last training is done and the buffers are consistent.

    Attributes:
        env_steps: environment steps of the run so far, over all parallel environments.
        rollouts: rollouts collected so far.
        gradient_steps: for each optimiser the steps it has taken.
        switched: whether the task has changed since the last such moment.
        activations: the outputs of a network's hidden units on observations of the last rollout, or drawn from the
            replay buffer, `[samples, units]` a layer; empty while there are none.
    """

    env_steps: int
    rollouts: int
    gradient_steps: dict[torch.optim.Optimizer, int]
    switched: bool
    activations: Callable[[Network], dict[Layer, Tensor]]


@dataclass(frozen=True)
class ResetEvent:
    """What one reset did to one part of a network: `count` things of the kind `what` (units, weights, networks)."""

    network: str
    part: str
    what: Literal["units", "weights", "networks"]
    count: int
    why: str


@dataclass(kw_only=True)
class Intervention(Settings):
    """Base of resets, regularisers and whatever else acts on networks while they learn.

    `state` is all that an intervention remembers: a flat dictionary of tensors and numbers.
    """

    networks: Literal["all", "actor", "critic"] = "all"
    """Which networks to act on; a feature extractor shared by both counts only under all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.state: dict[str, Any] = {}

    def acts_on(self, network: Network) -> bool:
        """Whether the settings include this network."""
        return network.role in ROLES[self.networks]

    def loss_term(self, network: Network) -> Tensor | None:
        """What is added to the loss that the network is trained on, a scalar with a gradient; None for nothing."""
        return None

    def after_step(self, networks: list[Network], generator: torch.Generator) -> Iterable[ResetEvent]:
        """Called after each step of an optimiser with those of its networks that this acts on."""
        return ()

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterable[ResetEvent]:
        """Called before each rollout with the networks this acts on; yields what it did."""
        return ()

    def uses(self, moment: Literal["loss_term", "after_step", "between_rollouts"]) -> bool:
        """Whether this kind of intervention implements a moment."""
        return getattr(type(self), moment) is not getattr(Intervention, moment)

    def state_dict(self) -> dict[str, Any]:
        """What the intervention has to remember to go on exactly: tensors and plain values."""
        return {key: value.clone() if isinstance(value, Tensor) else value for key, value in self.state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.state = {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
