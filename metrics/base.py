"""What a diagnostic is: a definition, its settings, and what it reads of a network.

A `Metric` reads networks as interventions do (`agents.layers`) and a `View`, one model at one moment on one batch of
observations; it knows neither Stable-Baselines3 nor who writes its numbers down. `agents.viewing` makes views of a
model, `recording.recorder` asks the chosen metrics while a run goes on, `metrics.diagnose` asks them of any model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from agents.layers import Layer, Network, Param
from configs.settings import Settings

Measured = dict[str, float]
"""Values by name: `dormant` for a network, `dormant/0` for its layer 0. A NaN is a value that could not be measured; it
is kept out of curves and tables."""

Family = Literal["units", "ranks", "weights", "gradients", "curvature", "policy", "trainability"]

Reads = Literal["weights", "batch", "rollout", "step"]
"""What a metric is measured on.

weights: the parameters alone. batch: any batch of observations, so that it is measured on the current one and on the
fixed probe batch. rollout: the current batch, with what the agent learns from there: actions, advantages, returns,
rewards. step: a sample of the optimiser's steps, averaged until the next measurement."""


@dataclass(frozen=True)
class Policy:
    """What a policy does on a batch: logits of each categorical part, or a Gaussian's moments.

    Attributes:
        logits: `[samples, choices]` for each categorical part; empty for real-valued actions.
        mean: `[samples, dimensions]` of the Gaussian, before any squashing; None for categorical actions.
        std: its standard deviation, in that shape; None for a deterministic policy.
        squashed: whether actions are the Gaussian's tanh.
    """

    logits: tuple[Tensor, ...] = ()
    mean: Tensor | None = None
    std: Tensor | None = None
    squashed: bool = False


@dataclass(frozen=True)
class Loss:
    """The loss that an agent trains one of its networks with, sample by sample, as a function of its parameters.

    Attributes:
        parameters: the network's trained tensors by `Param.name`, detached.
        samples: what the losses are computed from; every tensor in it has the samples in its first dimension.
        of: `of(parameters, samples)` gives the losses `[samples]`. Pure: it draws nothing, changes nothing, and is made
            of operations that `torch.func` can transform.
    """

    parameters: dict[str, Tensor]
    samples: Any
    of: Callable[[Mapping[str, Tensor], Any], Tensor]

    def mean(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The loss over the whole batch: a scalar."""
        return self.of(parameters, self.samples).mean()


class View(ABC):
    """One model at one moment on one batch; everything is computed when it is first asked for.

    Nothing here moves the model: no random number of its stream is drawn, no gradient, buffer or mode changed.
    """

    @abstractmethod
    def activations(self, network: Network) -> dict[Layer, Tensor]:
        """Outputs of the hidden units, `[samples, units]` a layer, as `Layer.samples` makes them."""

    @abstractmethod
    def preactivations(self, network: Network) -> dict[Layer, Tensor]:
        """What their nonlinearities were given, in the same shape."""

    @abstractmethod
    def features(self, network: Network) -> Tensor | None:
        """The representation that the network's heads read, behind any normalisation, flattened.

        `[observations, features]`; of a shared extractor its output. None where the network has no hidden layer.
        """

    @abstractmethod
    def inputs(self, network: Network) -> tuple[Any, ...]:
        """What `network.run` takes, of this batch."""

    @abstractmethod
    def outputs(self, network: Network) -> list[Tensor]:
        """What `network.run` gives: one tensor a head, `[samples, outputs]`."""

    @abstractmethod
    def policy(self) -> Policy | None:
        """What the agent's policy does on this batch; None where the agent has values alone (DQN)."""

    @abstractmethod
    def policy_before(self) -> Policy | None:
        """What it did on the same batch before it was trained on it; None where that is not known."""

    @abstractmethod
    def log_ratio(self) -> Tensor | None:
        """`[samples]`, log of pi(a|s) now over what it was when the actions were taken; None but on a rollout."""

    @abstractmethod
    def returns(self, network: Network) -> Tensor | None:
        """`[samples]`, the returns a critic is trained towards; None but for an on-policy critic on a rollout."""

    @abstractmethod
    def loss(self, network: Network) -> Loss | None:
        """The loss the agent trains this network with on this batch; None where it is not known or no rollout."""

    @abstractmethod
    def sample_gradients(self, network: Network) -> Tensor | None:
        """Gradient of each sample's loss `[samples, parameters]`, one row a sample; None without a loss."""

    @abstractmethod
    def initial(self, param: Param) -> Tensor | None:
        """The parameter as it was when the agent was made; None where that is not known."""

    @abstractmethod
    def generator(self, purpose: str) -> torch.Generator:
        """A generator of the measurement's own, the same at each asking for the same purpose, moment and run."""


@dataclass(frozen=True)
class StepView:
    """One of the optimiser's steps, seen from one network.

    Attributes:
        gradients: of the minibatch's loss for each parameter (penalties of regularisers included), complete and before
            any clipping.
        before: the network's outputs on the probe batch before the step, one tensor a head; empty where no metric that
            reads them was chosen.
        after: the same after it.
    """

    gradients: dict[Param, Tensor]
    before: list[Tensor]
    after: list[Tensor]


@dataclass
class Metric(Settings):
    """Base of all diagnostics; a subclass is one definition with its settings.

    Attributes:
        title: what a plot of it is called.
        family: where it stands in TensorBoard and in the docs.
        reads: what it is measured on.
        default: whether it belongs to the default set.
        costly: whether it is measured on the slower cadence only.
        at_switch: whether it is also measured on the first batch of each task, before the agent has learnt from it.
        names: all names of values that `measure` may give for a network, the first the one for tables; layers add
            theirs after a slash.
    """

    title: ClassVar[str]
    family: ClassVar[Family]
    reads: ClassVar[Reads]
    names: ClassVar[tuple[str, ...]]
    default: ClassVar[bool] = False
    costly: ClassVar[bool] = False
    at_switch: ClassVar[bool] = False
    reads_outputs: ClassVar[bool] = False
    """For metrics of steps: whether they read the outputs before and after."""

    def applies(self, network: Network) -> bool:
        """Whether there is anything to measure in this network."""
        return bool(network.hidden)

    def measure(self, network: Network, view: View) -> Measured:
        """The metric's values; for all but metrics of steps."""
        raise NotImplementedError

    def measure_step(self, network: Network, step: StepView) -> Measured:
        """Its values at one step; for metrics of steps."""
        raise NotImplementedError


def by_layer(name: str, total: float, layers: Mapping[Layer, float], network: Network) -> Measured:
    """A network's value and those of its layers, named as `Measured` wants it."""
    return {name: total} | {f"{name}/{label(layer, network)}": value for layer, value in layers.items()}


def label(layer: Layer, network: Network) -> str:
    """A layer's name without its network's: `0`, `head`, `features.1`."""
    return layer.name.removeprefix(f"{network.name}.")
