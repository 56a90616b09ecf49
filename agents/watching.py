"""Watching what passes through a network while it learns.

Forward hooks keep, of the last forward pass with gradients, what interventions have asked for. In every SB3 algorithm
that is the pass which the optimiser's next step is taken for: rollouts and targets are computed without gradients, and
a critic is stepped before the actor's loss runs through it again.

Members of a population are run by modules that hold all of them at once; what is shown is then a member's row.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from agents.injection import leaves
from agents.layers import Layer, Network

Watched = Literal["activations", "preactivations", "gradients", "inputs", "outputs", "graph"]
"""activations, preactivations: of hidden units. gradients: of the loss with respect to the activations. inputs,
outputs: of whole networks. graph: all of these as functions of the parameters, to differentiate."""

Kept = tuple[nn.Module | None, str]
"""A module, and what is kept of it."""


class Hand(Protocol):
    """Who runs modules without calling them, and shows what passes through them all the same."""

    def can_show(self) -> set[Kept]:
        """What it is able to show."""

    def show(self, passage: "Passage", kept: set[Kept]) -> None:
        """Show this from now on."""


class Passage:
    """What the last forward pass with gradients took and gave at the modules that somebody looks at.

    Args:
        always: whether passes without gradients are looked at as well.
        waits: whether modules are hooked only once `start` is called.

    Attributes:
        paused: whether passes go by unseen.
        taken: the arguments of each module.
        given: its output.
        added: what is to be added to the gradients of tensors that have no graph.
    """

    def __init__(self, always: bool = False, waits: bool = False) -> None:
        self.always = always
        self.paused = False
        self.taken: dict[nn.Module, tuple[Any, ...]] = {}
        self.given: dict[nn.Module, Tensor] = {}
        self.added: dict[Tensor, Tensor] = {}
        self._waiting: dict[Kept, Callable[[], Any]] | None = {} if waits else None
        self._handles: dict[Kept, Any] = {}

    def start(self, hands: Sequence[Hand]) -> None:
        """Have what has been asked for shown by those who run modules by hand, if they can; otherwise hook modules."""
        waiting, self._waiting = self._waiting or {}, None
        if waiting.keys() <= set().union(*(hand.can_show() for hand in hands)):
            for hand in hands:
                hand.show(self, waiting.keys() & hand.can_show())
            return
        for kept, hook in waiting.items():
            self._hook(kept, hook)

    def _hook(self, kept: Kept, hook: Callable[[], Any]) -> None:
        if self._waiting is not None:
            self._waiting.setdefault(kept, hook)
        elif kept not in self._handles:
            self._handles[kept] = hook()

    # Hooks are functions, not methods: whoever copies a module copies its hooks too, but not what these have kept.

    def keep_taken(self, module: nn.Module) -> None:
        """Keep what a module is given from now on; asking twice costs nothing, here and below."""

        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._looking():
                self.taken[module] = inputs

        self._hook((module, "taken"), lambda: module.register_forward_pre_hook(keep))

    def keep_given(self, module: nn.Module) -> None:
        """Keep what a module gives."""

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if self._looking():
                self.given[module] = output

        self._hook((module, "given"), lambda: module.register_forward_hook(keep))

    def keep_gradient(self, module: nn.Module) -> None:
        """Have what a module gives keep its gradient."""

        def retain(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if self._looking() and output.requires_grad:
                output.retain_grad()

        self.keep_given(module)
        self._hook((module, "gradient"), lambda: module.register_forward_hook(retain))

    def keep_graph(self) -> None:
        """Have what is kept be a function of the parameters."""
        self._hook((None, "graph"), lambda: None)

    def add_gradient(self, tensor: Tensor, row: "Row", gradient: Tensor) -> None:
        """Add to the gradient of a tensor, or of its rows, once a loss runs backward."""
        if tensor.grad_fn is None:
            known = self.added.get(tensor)
            if row is None:
                self.added[tensor] = gradient if known is None else known + gradient
            else:
                self.added[tensor] = _add_row(row, gradient, torch.zeros_like(tensor) if known is None else known)
        else:
            add = functools.partial(torch.add, gradient) if row is None else functools.partial(_add_row, row, gradient)
            tensor.register_hook(add)  # type: ignore[no-untyped-call]  # which PyTorch has no types for

    def unhook(self) -> None:
        """Take all hooks off the modules; what was kept can still be read."""
        for handle in self._handles.values():
            if handle is not None:
                handle.remove()
        self._handles.clear()

    def close(self) -> None:
        """Take all hooks off the modules and forget what was kept."""
        self.unhook()
        self.taken.clear()
        self.given.clear()
        self.added.clear()

    def _looking(self) -> bool:
        return (self.always or torch.is_grad_enabled()) and not self.paused


Row = int | slice | None
"""Which members, the first dimension of a tensor, are meant: one, neighbouring ones, or no dimension at all."""


@dataclass(frozen=True)
class Seat:
    """Where networks are run: by their own modules, or by those of a population, which hold many members at once.

    Attributes:
        modules: for each module without children what runs in its place, with parameters of the same names, and which
            of its rows are meant; empty where modules run themselves.
    """

    modules: Mapping[nn.Module, tuple[nn.Module, Row]] = field(default_factory=dict)

    @functools.cached_property
    def parameters(self) -> dict[Tensor, tuple[Tensor, Row]]:
        """For each parameter the one in its place, and which of its rows are meant."""
        return {
            parameter: (getattr(place, name), row)
            for module, (place, row) in self.modules.items()
            for name, parameter in module.named_parameters(recurse=False)
        }

    def first(self, module: nn.Module) -> tuple[nn.Module, Row]:
        """What takes a module's input."""
        return self.modules[next(leaves(module))] if self.modules else (module, None)

    def last(self, module: nn.Module) -> tuple[nn.Module, Row]:
        """What gives its output."""
        return self.modules[[*leaves(module)][-1]] if self.modules else (module, None)


def _part(tensor: Tensor, row: Row) -> Tensor:
    return tensor if row is None else tensor[row]


class StandIn(NamedTuple):
    """What is shown in the place of a tensor, or of some of its rows."""

    tensor: Tensor
    row: Row
    leaf: Tensor


class Watcher:
    """Shows what the last forward pass with gradients did in the networks that are watched.

    Args:
        always: whether passes without gradients are watched as well.
    """

    def __init__(self, always: bool = False) -> None:
        self.always = always
        self._passage = Passage(always)
        self._seat = Seat()
        self._asked: dict[Network, set[Watched]] = {}
        self._detached = False
        self._leaves: dict[Any, StandIn] | None = None

    def watch(self, network: Network, kinds: set[Watched]) -> None:
        """Keep these kinds of things of a network from now on; asking twice costs nothing."""
        asked = self._asked.setdefault(network, set())
        if kinds <= asked:
            return
        asked |= kinds
        passage, seat = self._passage, self._seat
        for layer in network.hidden if kinds & {"activations", "preactivations", "gradients"} else ():
            output, _ = seat.last(layer.output)
            if "activations" in kinds or ("preactivations" in kinds and layer.output is layer.module):
                passage.keep_given(output)
            if "preactivations" in kinds and layer.output is not layer.module:
                passage.keep_taken(output)
            if "gradients" in kinds:
                passage.keep_gradient(output)
        if "graph" in kinds:
            passage.keep_graph()
        if "inputs" in kinds and network.body:
            passage.keep_taken(seat.first(network.body[0])[0])
        if "outputs" in kinds:
            for module in network.heads or network.body[-1:]:
                passage.keep_given(seat.last(module)[0])

    def follow(self, passage: Passage, seat: Seat) -> None:
        """Watch the networks where they are run from now on, by way of a passage that others share, until `close`."""
        self._passage.close()
        self._passage, self._seat = passage, seat
        asked, self._asked = self._asked, {}
        for network, kinds in asked.items():
            self.watch(network, kinds)

    def output(self, layer: Layer) -> Tensor | None:
        """What was kept as the activations of a layer, in the shape in which the next module was given it."""
        module, row = self._seat.last(layer.output)
        tensor = self._passage.given.get(module)
        return None if tensor is None else self._shown(tensor, row)

    def read(self, network: Network, kind: Watched) -> dict[Layer, Tensor]:
        """What was kept of the hidden units of a network, `[samples, units]` a layer; without those not run."""
        found: dict[Layer, Tensor] = {}
        for layer in network.hidden:
            module, row = self._seat.last(layer.output)
            if kind == "preactivations" and layer.output is not layer.module:
                tensor = self._passage.taken.get(module, (None,))[0]
            else:
                tensor = self._passage.given.get(module)
            if tensor is not None and kind == "gradients":
                tensor = tensor.grad
            if tensor is not None:
                found[layer] = layer.samples(self._shown(tensor, row))
        return found

    def inputs(self, network: Network) -> tuple[Any, ...] | None:
        """What a network's body was given, detached; None where it was not run."""
        if not network.body:
            return None
        module, row = self._seat.first(network.body[0])
        taken = self._passage.taken.get(module)
        return None if taken is None else tuple(_detach(part, row) for part in taken)

    def outputs(self, network: Network) -> list[Tensor]:
        """What was kept of a network's outputs, one tensor a head; empty where it was not run."""
        places = [self._seat.last(module) for module in network.heads or network.body[-1:]]
        kept = [(self._passage.given.get(module), row) for module, row in places]
        return [self._shown(tensor, row) for tensor, row in kept if tensor is not None]

    def gradients(self, value: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of a number that was computed from what is shown; None for what it does not depend on."""
        places = [self._seat.parameters.get(parameter, (parameter, None)) for parameter in parameters]
        found = torch.autograd.grad(value, [tensor for tensor, _ in places], retain_graph=True, allow_unused=True)
        pairs = zip(found, places, strict=True)
        return [None if gradient is None else _part(gradient, row) for gradient, (_, row) in pairs]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let forward passes go by unwatched."""
        passage = self._passage
        before, passage.paused = passage.paused, True
        try:
            yield
        finally:
            passage.paused = before

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Give tensors without their graph."""
        before, self._detached = self._detached, True
        try:
            yield
        finally:
            self._detached = before

    @contextmanager
    def leaves(self) -> Iterator[dict[Any, StandIn]]:
        """Give stand-ins that are cut off from what tensors were computed from; yields them.

        What is found as the gradient of a stand-in can be handed on to its tensor (`hand_on`), which saves a backward
        pass of one's own.
        """
        self._leaves = {}
        try:
            yield self._leaves
        finally:
            self._leaves = None

    def hand_on(self, stand_in: StandIn, gradient: Tensor) -> None:
        """Add the gradient of a stand-in to its tensor's own once a loss runs backward."""
        self._passage.add_gradient(stand_in.tensor, stand_in.row, gradient)

    def unhook(self) -> None:
        """Take all hooks off the modules; what was kept can still be read."""
        self._passage.unhook()
        self._asked = {}

    def close(self) -> None:
        """Watch nothing any more, and forget what was kept."""
        if not self._seat.modules:  # otherwise the passage is others' as well
            self._passage.close()
        self._passage, self._seat, self._asked = Passage(self.always), Seat(), {}

    def _shown(self, tensor: Tensor, row: Row) -> Tensor:
        if self._detached or not tensor.requires_grad:
            return _part(tensor.detach(), row)
        if self._leaves is None:
            return _part(tensor, row)
        key = tensor, repr(row)
        if key not in self._leaves:
            self._leaves[key] = StandIn(tensor, row, _part(tensor.detach(), row).requires_grad_())
        return self._leaves[key].leaf


def _detach(part: Any, row: Row) -> Any:
    if isinstance(part, dict):
        return {key: _detach(value, row) for key, value in part.items()}
    return _part(part.detach(), row) if isinstance(part, Tensor) else part


def _add_row(row: int | slice, addend: Tensor, gradient: Tensor) -> Tensor:
    total = gradient.clone()
    total[row] += addend
    return total
