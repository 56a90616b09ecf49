"""The words that interventions speak: parameters, layers, consumers, networks.

A network is a list of layers; a layer owns an incoming weight matrix (one row a unit) and a bias; its units are read by
consumers, layers whose columns they feed. Nothing here knows Stable-Baselines3 (`agents.sb3` makes these objects from a
model) and nothing in `resets/` or `regularizers/` knows anything else, so that a method is arithmetic on these tensors.

Shapes: a weight matrix is `[..., units, fan_in]`, a bias or a mask of units `[..., units]`. Convolutions appear as the
matrix `[channels_out, channels_in * height * width]` of their kernel; a unit is then an output channel.

Of a population's members the same networks may be seen as one, a stack: its tensors have a leading dimension, the
members, and a layer or a parameter knows those that it is made of.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agents.stacking import At, Generators, Random

Initializer = Callable[[Tensor, torch.Generator], Tensor]
"""Makes a fresh tensor like the given one from a generator: the distribution the parameter was born from."""

Role = Literal["actor", "critic", "shared", "temperature"]

MomentPolicy = Literal["keep", "zero", "zero_and_step"]
"""What becomes of the optimiser's statistics of overwritten weights: they stay, those of these very weights return to
their start, or these do and the step count of the whole tensor as well."""


@dataclass(eq=False)
class Param:
    """One parameter tensor with everything that has to follow when it is overwritten.

    Attributes:
        name: where it stands, for logs and saved states, such as `actor.0.weight`.
        tensor: the parameter itself; only ever changed in place.
        initializer: draws a fresh tensor from the distribution this parameter was initialised with.
        optimizer: the optimiser that owns it, None where it is not trained.
        target: its copy in a target network, None where there is none.
        moment_start: the values at which the optimiser's element-wise statistics start, by name, where not zero.
        kernel: how many trailing dimensions are those of a convolution's kernel.
        block: how many neighbouring entries of a vector each unit owns: 2 for the normalisation of a layer whose
            nonlinearity makes two outputs of a unit.
        buffers: untrained tensors that go with it, each with its copy in a target network: a power iteration's vector.
        members: where this is a stack, the same parameter of each member.
    """

    name: str
    tensor: Tensor
    initializer: Initializer
    optimizer: torch.optim.Optimizer | None = None
    target: Tensor | None = None
    moment_start: dict[str, float] = field(default_factory=dict)
    kernel: int = 0
    block: int = 1
    buffers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    members: list["Param"] = field(default_factory=list)

    @property
    def shape(self) -> torch.Size:
        """The parameter's shape, in a stack that of each member's."""
        return self.members[0].tensor.shape if self.members else self.tensor.shape

    @property
    def matrix(self) -> Tensor:
        """The tensor as a matrix `[..., units, fan_in]` (a view): a convolution's kernel flattened per channel."""
        return self.as_matrix(self.tensor)

    def as_matrix(self, like: Tensor) -> Tensor:
        """A view of a tensor in the parameter's shape, such as a moment, as its matrix."""
        return like.view(*like.shape[: -1 - self.kernel], -1) if self.kernel else like

    def member(self, at: At) -> "Param":
        """The parameter of one member."""
        return self if isinstance(at, EllipsisType) else self.members[at]

    def fresh(self, random: Random) -> Tensor:
        """A new draw from the parameter's own initialiser, in its own shape."""
        if isinstance(random, Generators):
            pairs = zip(self.members, random.members, strict=True)
            return torch.stack([param.fresh(generator) for param, generator in pairs])
        return self.initializer(self.tensor, random)

    def moments(self) -> Iterator[tuple[Tensor, float]]:
        """The optimiser's element-wise statistics of this parameter, each with the value it starts from.

        Only tensors in the parameter's own shape are element-wise; a step count, one scalar per tensor, is not (that
        of `optimizers.UnitAdam` is).
        """
        if self.optimizer is None:
            return
        for key, value in self.optimizer.state.get(self.tensor, {}).items():
            if isinstance(value, Tensor) and value.shape == self.tensor.shape and value.dim() > 0:
                yield value, self.moment_start.get(key, 0.0)

    @torch.no_grad()
    def overwrite(self, values: Tensor | float, where: Tensor | None = None, moments: MomentPolicy = "keep") -> None:
        """Set the elements selected by `where` (all without it) to `values`, in place.

        Args:
            values: a number or a tensor in the shape of the parameter or of its matrix.
            where: boolean mask that broadcasts against the matrix (or against a vector parameter itself, of whose
                entries a mask of units selects the unit's whole block).
            moments: what becomes of the optimiser's statistics of these elements.
        """
        _assign(self.matrix, values, self.entries(where))
        self.reset_moments(where, moments)

    def entries(self, where: Tensor | None) -> Tensor | None:
        """The mask of a vector's entries that belong to the masked units, and any other mask as it is."""
        if where is None or self.block == 1 or where.shape[-1] == self.tensor.shape[-1]:
            return where
        return where.repeat_interleave(self.block, dim=-1)

    @torch.no_grad()
    def reset_moments(self, where: Tensor | None = None, moments: MomentPolicy = "zero") -> None:
        """Put the optimiser's statistics of the elements selected by `where` (all without it) back to their start."""
        if moments == "keep":
            return
        for moment, start in self.moments():
            _assign(self.as_matrix(moment), start, self.entries(where))
        if moments == "zero_and_step" and self.optimizer is not None:
            state = self.optimizer.state.get(self.tensor, {})
            step = state.get("step")
            if isinstance(step, Tensor) and step.dim() == len(self.members[:1]):
                step.zero_()
            elif isinstance(step, int):
                state["step"] = 0

    @torch.no_grad()
    def add_gradient(self, gradient: Tensor) -> None:
        """Add to `.grad`; a backward pass that follows adds its own."""
        if self.tensor.grad is None:
            self.tensor.grad = gradient.reshape(self.tensor.shape)
        else:
            self.tensor.grad += gradient.reshape(self.tensor.shape)

    def forget(self) -> None:
        """Drop the optimiser's whole state of this parameter, its step count too: as if it had never been trained."""
        if self.optimizer is not None:
            self.optimizer.state.pop(self.tensor, None)

    @torch.no_grad()
    def sync_target(self) -> None:
        """Copy the parameter, and the buffers that go with it, into its target copy, where there is one."""
        if self.target is not None:
            self.target.copy_(self.tensor)
        for buffer, target in self.buffers:
            target.copy_(buffer)


def _assign(tensor: Tensor, values: Tensor | float, where: Tensor | None) -> None:
    new = torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device)
    new = new.reshape(tensor.shape) if new.numel() == tensor.numel() else new
    tensor.copy_(new if where is None else torch.where(where, new, tensor))


@dataclass(eq=False)
class Consumer:
    """A layer that reads another layer's units, and which of its columns belong to which unit.

    The columns of the `units` units start at `start`; each unit owns `block` neighbouring columns: 1 between linear
    layers, kernel height times width between convolutions, the size of the feature map where a convolution is
    flattened; all that twice where a nonlinearity makes two outputs of a unit (CReLU).
    """

    layer: "Layer"
    start: int
    block: int
    units: int

    def columns(self, units: Tensor) -> Tensor:
        """The mask `[..., fan_in]` of the consumer's columns that the masked `units` `[..., n]` feed."""
        fan_in = self.layer.weight.matrix.shape[-1]
        spread = units.repeat_interleave(self.block, dim=-1)
        padding = (self.start, fan_in - self.start - spread.shape[-1])
        return nn.functional.pad(spread, padding, value=False)

    def by_unit(self, matrix: Tensor) -> Tensor:
        """The columns of the units in a tensor shaped like the consumer's weight matrix: `[..., rows, units, block]`.

        A view: what is written into it in place is written into the matrix.
        """
        own = matrix.narrow(-1, self.start, self.units * self.block)
        return own.view(*own.shape[:-1], self.units, self.block)


@dataclass(eq=False)
class Layer:
    """An affine layer with its nonlinearity, seen as units.

    Attributes:
        name: such as `actor.0`; heads are named by what they give, such as `actor.action`.
        module: the Linear or Conv2d.
        weight: incoming weights, matrix `[units, fan_in]`.
        bias: `[units]`, or None.
        norm: scale and offset of a normalisation between this layer and the next, where there is one.
        slopes: parameters of the nonlinearity itself, one entry a unit, where it has any.
        output: the module whose output are the units' activations: the nonlinearity where there is one.
        consumers: the layers that read these units; empty for an output layer (a head).
        expansion: outputs of the nonlinearity per unit, one after another: 2 for CReLU and Fourier features.
        nonlinearity: the nonlinearity itself, None where there is none.
        members: where this is a stack, the same layer of each member.
    """

    name: str
    module: nn.Module
    weight: Param
    bias: Param | None
    output: nn.Module
    norm: list[Param] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    expansion: int = 1
    slopes: list[Param] = field(default_factory=list)
    nonlinearity: nn.Module | None = None
    members: list["Layer"] = field(default_factory=list)

    @property
    def is_head(self) -> bool:
        """Whether this is an output layer, whose rows are outputs of the network rather than hidden units."""
        return not self.consumers

    @property
    def units(self) -> int:
        """How many units (or output channels) the layer has."""
        return int(self.weight.matrix.shape[-2])

    def member(self, at: At) -> "Layer":
        """The layer of one member."""
        return self if isinstance(at, EllipsisType) else self.members[at]

    def params(self) -> list[Param]:
        """Weight, bias, normalisation parameters and those of the nonlinearity."""
        return [self.weight, *([self.bias] if self.bias else []), *self.norm, *self.slopes]

    def samples(self, output: Tensor) -> Tensor:
        """What `self.output` takes or gives, or its gradient, as `[..., samples, units]`.

        Every position of a convolution counts as a sample of its channel. So does every output of a unit that has
        several: the samples of all units' first outputs come first, then those of their second ones.
        """
        first = 1 if self.members else 0  # of the samples' dimensions
        flat = output.movedim(first + 1, -1).flatten(first, -2) if output.dim() > first + 2 else output
        if flat.shape[-1] == self.units:
            return flat
        return flat.reshape(*flat.shape[:-1], self.units, -1).movedim(-1, first).flatten(first, first + 1)


@dataclass(eq=False)
class Network:
    """Layers that are trained together for one purpose: an actor, one of the critics, a shared feature extractor.

    Attributes:
        name: short and unique in the model (`actor`, `critic`, `critic0`, `shared` …); used in tags and events.
        role: what it is for.
        layers: from input to output; several heads where there are several outputs.
        free: parameters that belong to no unit, such as a Gaussian policy's `log_std`.
        inputs: scale and offset of a normalisation of the inputs, before any layer.
        body: the modules that lead from an observation (for a critic that reads actions, from its features and the
            action) to the heads, run one after another; a shared feature extractor is in the body of all that use it.
        heads: the modules that read the body's output, side by side; where there are none, that is the output.
        categories: sizes of the groups of outputs that are logits of a categorical distribution each; empty where the
            outputs are real values: actions, means or values.
        twins: for the modules of body and heads those of a target network that follows, where there is one.
    """

    name: str
    role: Role
    layers: list[Layer]
    free: list[Param] = field(default_factory=list)
    inputs: list[Param] = field(default_factory=list)
    body: list[nn.Module] = field(default_factory=list)
    heads: list[nn.Module] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    twins: dict[nn.Module, nn.Module] = field(default_factory=dict)

    @property
    def hidden(self) -> list[Layer]:
        """The layers with hidden units, that is all but the heads."""
        return [layer for layer in self.layers if not layer.is_head]

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The optimiser that owns the network's parameters."""
        return next((param.optimizer for param in self.params() if param.optimizer), None)

    def params(self) -> list[Param]:
        """All parameters, from the inputs layer by layer to the outputs, the free ones last."""
        return [*self.inputs, *(param for layer in self.layers for param in layer.params()), *self.free]

    def run(self, *inputs: Any) -> list[Tensor]:
        """The network's outputs, one tensor a head, for what its body takes; gradients flow into its parameters."""
        flow = self.body[0](*inputs)
        for module in self.body[1:]:
            flow = module(flow)
        return [head(flow) for head in self.heads] or [flow]


@torch.no_grad()
def reinitialize_units(
    chosen: dict[Layer, Tensor],
    generator: torch.Generator,
    moments: MomentPolicy = "zero",
    outgoing: Literal["keep", "zero"] = "zero",
) -> None:
    """Give hidden units a new start: fresh incoming weights from the layer's own initialiser, outgoing weights zero.

    Works on all layers at once, rows before columns, so that the outgoing weight of a chosen unit is zero also where
    the unit that reads it was chosen too.

    Args:
        chosen: for each layer the mask `[..., units]` of its units to start anew.
        generator: where the fresh weights are drawn from.
        moments: what becomes of the optimiser's statistics of all these weights, also of outgoing ones that stay.
        outgoing: what becomes of outgoing weights.
    """
    for layer, units in chosen.items():
        for param in layer.params():
            where = units.unsqueeze(-1) if param is layer.weight else units
            param.overwrite(param.fresh(generator), where, moments)
    for layer, units in chosen.items():
        for consumer in layer.consumers:
            columns = consumer.columns(units).unsqueeze(-2)
            if outgoing == "zero":
                consumer.layer.weight.overwrite(0.0, columns, moments)
            else:
                consumer.layer.weight.reset_moments(columns, moments)


def kaiming_uniform(old: Tensor, generator: torch.Generator) -> Tensor:
    """Torch's own `Initializer` of the weights of linear and convolutional layers."""
    return nn.init.kaiming_uniform_(torch.empty_like(old), 5**0.5, generator=generator)


def zeros(old: Tensor, generator: torch.Generator) -> Tensor:
    """The `Initializer` that draws nothing."""
    return torch.zeros_like(old)
