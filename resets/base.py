"""What all resets share: which networks they act on, when they fire, and the state they keep."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
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
        activations: the outputs of a network's hidden units on recent observations, `[samples, units]` a layer;
            empty while no observation has been collected.
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
    """Base of resets and regularisers: anything an arm adds to the plain agent.

    An intervention is its settings plus a `state`, a flat dictionary of tensors and numbers that is all it remembers.
    """

    networks: Literal["all", "actor", "critic"] = "all"
    """Which networks to act on; a feature extractor shared by both counts only under all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.state: dict[str, Any] = {}

    def acts_on(self, network: Network) -> bool:
        """Whether the `networks` setting includes this one."""
        return network.role in ROLES[self.networks]

    def state_dict(self) -> dict[str, Any]:
        """What the intervention has to remember to go on exactly: tensors and plain values."""
        return {key: value.clone() if isinstance(value, Tensor) else value for key, value in self.state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.state = {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}


@dataclass
class Reset(Intervention):
    """Base of everything that overwrites weights.

    A reset implements the moments it needs: `between_rollouts` for anything large or rare, `after_step` for methods
    that are defined per gradient step.
    """

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterable[ResetEvent]:
        """Called before each rollout with the networks this reset acts on; yields what it did."""
        return ()

    def after_step(self, networks: list[Network], generator: torch.Generator) -> Iterable[ResetEvent]:
        """Called after each step of an optimiser with those of its networks that this reset acts on."""
        return ()


@dataclass(kw_only=True)
class TimedReset(Reset):
    """Base of resets that fire periodically or when the task switches, between two rollouts."""

    when: Literal["periodic", "switch"] = "periodic"
    """periodic: every `every` `unit`s. switch: when the task changes, an oracle that real life does not offer."""

    every: Annotated[int, Gt(0)] = 1000
    """Period of periodic resets, counted in `unit` and rounded up to the next rollout."""

    unit: Literal["gradient_steps", "env_steps", "rollouts"] = "gradient_steps"
    """What `every` counts: steps of the network's own optimiser, steps in the environment, or rollouts."""

    def due(self, network: Network, moment: Moment) -> bool:
        """Whether it is time for this network; a periodic reset never fires before a first full period."""
        if self.when == "switch":
            return moment.switched
        clocks = {"env_steps": moment.env_steps, "rollouts": moment.rollouts}
        if self.unit == "gradient_steps":
            now = moment.gradient_steps.get(network.optimizer, 0) if network.optimizer else 0
        else:
            now = clocks[self.unit]
        last = self.state.setdefault(f"last.{network.name}", 0)
        if now - last < self.every:
            return False
        self.state[f"last.{network.name}"] = now
        return True

    def why(self) -> str:
        """The reason that events give."""
        return "task switch" if self.when == "switch" else f"every {self.every} {self.unit.replace('_', ' ')}"

    def due_networks(self, networks: list[Network], moment: Moment) -> Iterator[Network]:
        """The networks whose time has come."""
        return (network for network in networks if self.due(network, moment))
