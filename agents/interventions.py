"""What an intervention is, seen from an agent: whatever an arm adds to the plain agent's training.

An intervention is its settings plus a `state`. It implements the moments it needs:

| moment | for |
|---|---|
| `loss_term` | a penalty whose gradient autograd finds |
| `before_backward` | a penalty whose gradient is known in closed form, which it adds to `.grad` |
| `before_step` | what belongs between the gradient and the step: decoupled decay |
| `after_step` | resets and projections that are defined per gradient step |
| `between_rollouts` | anything large or rare |

`agents.plasticity` calls them; `resets.base` and `regularizers.base` build on them.

In a population the interventions of neighbouring members may act at once around gradient steps: one of the same
settings, their stack, is given stacks of their networks (`agents.stacking`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from agents.layers import Layer, Network
from agents.stacking import At, Random, SharedMemory
from agents.watching import Watched, Watcher
from configs.settings import Settings

MomentName = Literal["loss_term", "before_backward", "before_step", "after_step", "between_rollouts"]
Part = Literal["hidden", "norm", "heads", "log_std", "temperature", "targets"]
"""What an intervention may change: weights and biases of hidden layers, normalisations, output layers, what belongs to
no layer (a policy's `log_std`; SAC's entropy coefficient), target networks."""

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
class Step:
    """One step of one optimiser, and the forward pass that its gradient comes from.

    What is asked for here must be named by the intervention's `watches`. In `before_backward` tensors of the forward
    pass have their graph. In `loss_term` they are stand-ins, whose gradient is handed on into SB3's own backward pass:
    the penalty is all that may be differentiated there. Later they are detached; `.grad` of parameters then holds the
    step's gradient (after any clipping).

    Attributes:
        optimizer: whose step it is.
        number: how many steps it has taken before this one.
        watcher: what the forward pass has left.
    """

    optimizer: torch.optim.Optimizer
    number: int
    watcher: Watcher

    def activations(self, network: Network) -> dict[Layer, Tensor]:
        """Outputs of the hidden units on the minibatch, `[samples, units]` a layer."""
        return self.watcher.read(network, "activations")

    def preactivations(self, network: Network) -> dict[Layer, Tensor]:
        """What the nonlinearities of the hidden units were given, `[samples, units]` a layer."""
        return self.watcher.read(network, "preactivations")

    def gradients(self, network: Network) -> dict[Layer, Tensor]:
        """Gradient of the loss (a mean over the minibatch) with respect to the activations, in their shape."""
        return self.watcher.read(network, "gradients")

    def inputs(self, network: Network) -> tuple[Any, ...] | None:
        """What `network.run` takes, of this minibatch, detached; None where the network was not run."""
        return self.watcher.inputs(network)

    def outputs(self, network: Network) -> list[Tensor]:
        """What `network.run` gave on this minibatch: one tensor a head, `[samples, outputs]`."""
        return self.watcher.outputs(network)

    def run(self, network: Network, inputs: tuple[Any, ...]) -> list[Tensor]:
        """The network's outputs on other inputs, unwatched, so that what this step has left stays readable."""
        with self.watcher.paused():
            return network.run(*inputs)


@dataclass(frozen=True)
class ResetEvent:
    """What one reset did to one part of a network: `count` things of the kind `what` (units, weights, networks).

    A stack says to which of its members.
    """

    network: str
    part: str
    what: Literal["units", "weights", "networks"]
    count: int
    why: str
    member: At = ...


@dataclass(kw_only=True)
class Intervention(Settings):
    """Base of resets, regularisers and whatever else acts on networks while they learn.

    `state` is all that an intervention remembers: a flat dictionary of tensors and numbers. `touches` says what it
    changes, by overwriting or by a gradient, at any of its settings; a test holds it to that. `apart` are the first
    words of what members remember for themselves where they are stacked. `needs` is what a network must have to be
    acted on: layers, as all but SAC's temperature have, or hidden ones.
    """

    touches: ClassVar[tuple[Part, ...]] = ()
    apart: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[Literal["layers", "hidden"] | None] = None

    networks: Literal["all", "actor", "critic"] = "all"
    """Which networks to act on; a feature extractor shared by both counts only under all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.state: dict[str, Any] = {}
        self.members: list[Self] = []
        self.memory: SharedMemory | None = None

    @classmethod
    def stack(cls, members: Sequence[Self]) -> Self:
        """What acts for several members of the same settings at once."""
        stack = replace(members[0])
        stack.members = list(members)
        stack.memory = SharedMemory(stack, members, cls.apart)
        return stack

    def member(self, at: At) -> Self:
        """What acts for one member alone."""
        return self if isinstance(at, EllipsisType) else self.members[at]

    def remind(self) -> None:
        """Have the members of a stack remember what it does, before one of them acts alone."""
        if self.memory is not None:
            self.memory.scatter()

    def acts_on(self, network: Network) -> bool:
        """Whether the settings include this network, and it has what is needed."""
        return network.role in ROLES[self.networks] and (self.needs is None or bool(getattr(network, self.needs)))

    def watches(self) -> set[Watched]:
        """What has to be kept of every forward pass with gradients, for `Step` to show."""
        return set()

    def check(self, networks: list[Network], others: Sequence["Intervention"]) -> None:
        """Raise a ValueError, one sentence, where this cannot work on these networks or beside these `others`."""

    def loss_term(self, network: Network, step: Step) -> Tensor | None:
        """What is added to the loss that the network is trained on, a scalar with a gradient; None for nothing."""
        return None

    def before_backward(self, networks: list[Network], step: Step) -> Mapping[str, Tensor]:
        """Add gradients of terms of the loss to `.grad` (`Param.add_gradient`); gives their values by network name."""
        return {}

    def before_step(self, networks: list[Network], step: Step, generator: Random) -> None:
        """Called between backward pass (and clipping) and step with those of the optimiser's networks acted on."""

    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterable[ResetEvent]:
        """Called after each step of an optimiser with those of its networks that this acts on."""
        return ()

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterable[ResetEvent]:
        """Called before each rollout with the networks this acts on; yields what it did."""
        return ()

    def uses(self, moment: MomentName) -> bool:
        """Whether this intervention implements a moment; one whose settings decide overrides this too."""
        return getattr(type(self), moment) is not getattr(Intervention, moment)

    def idle(self, number: int) -> float:
        """How many of the coming steps of an optimiser, from that of this number on, it has nothing to do at."""
        return 0

    def stacks(self, number: int) -> float:
        """How many of the coming steps, from that of this number on, a stack can take: those with nothing to do.

        What is written on the last dimensions of tensors overrides this.
        """
        return self.idle(number)

    @property
    def needs_gradients(self) -> bool:
        """Whether it does nothing to networks that learn without the gradients of their optimiser (TRPO's actor)."""
        return self.uses("loss_term") or self.uses("before_backward") or self.uses("before_step")

    def reshape(self, networks: list[Network], state: dict[str, Any]) -> None:
        """Give new networks, those acted on, the form that they had when `state` was taken; most never change it."""

    def state_dict(self) -> dict[str, Any]:
        """What the intervention has to remember to go on exactly: tensors and plain values."""
        return {key: value.clone() if isinstance(value, Tensor) else value for key, value in self.state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.state = {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
