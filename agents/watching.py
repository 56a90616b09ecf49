"""Watching what passes through a network while it learns.

Forward hooks keep, of the last forward pass with gradients, what interventions have asked for. In every SB3 algorithm
that is the pass which the optimiser's next step is taken for: rollouts and targets are computed without gradients, and
a critic is stepped before the actor's loss runs through it again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agents.layers import Layer, Network

Watched = Literal["activations", "preactivations", "gradients", "inputs", "outputs"]
"""activations, preactivations: of hidden units. gradients: of the loss with respect to the activations. inputs,
outputs: of whole networks."""


class Watcher:
    """Keeps what the last forward pass with gradients did in the networks that are watched.

    Args:
        always: whether passes without gradients are watched as well.

    Attributes:
        inputs: for each network whose inputs are watched what its body was given, detached.
    """

    def __init__(self, always: bool = False) -> None:
        self.always = always
        self.inputs: dict[Network, tuple[Any, ...]] = {}
        self._kept: dict[str, dict[Layer, Tensor]] = {"activations": {}, "preactivations": {}}
        self._outputs: dict[nn.Module, Tensor] = {}
        self._handles: dict[tuple[Any, ...], Any] = {}
        self._paused = False
        self._detached = False
        self._leaves: dict[Tensor, Tensor] | None = None

    def watch(self, network: Network, kinds: set[Watched]) -> None:
        """Keep these kinds of things of a network from now on; asking twice costs nothing."""
        if kinds & {"activations", "preactivations", "gradients"}:
            for layer in network.hidden:
                for kind in ("activations", "preactivations", "gradients"):
                    if kind in kinds:
                        self._attach((layer, kind), layer.output, self._keeper(layer, kind))
        if "inputs" in kinds and network.body and (network, "inputs") not in self._handles:
            handle = network.body[0].register_forward_pre_hook(self._input_keeper(network))
            self._handles[network, "inputs"] = handle
        if "outputs" in kinds:
            for module in network.heads or network.body[-1:]:
                self._attach((module, "outputs"), module, self._output_keeper(module))

    def output(self, layer: Layer) -> Tensor | None:
        """What was kept as the activations of a layer, in the shape in which the next module was given it."""
        tensor = self._kept["activations"].get(layer)
        return None if tensor is None else self._shown(tensor)

    def read(self, network: Network, kind: Watched) -> dict[Layer, Tensor]:
        """What was kept of the hidden units of a network, `[samples, units]` a layer; without those not run."""
        found: dict[Layer, Tensor] = {}
        for layer in network.hidden:
            tensor = self._kept["activations" if kind == "gradients" else kind].get(layer)
            if tensor is not None and kind == "gradients":
                tensor = tensor.grad
            if tensor is not None:
                found[layer] = layer.samples(self._shown(tensor))
        return found

    def outputs(self, network: Network) -> list[Tensor]:
        """What was kept of a network's outputs, one tensor a head; empty where it was not run."""
        kept = [self._outputs.get(module) for module in network.heads or network.body[-1:]]
        return [self._shown(tensor) for tensor in kept if tensor is not None]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let forward passes go by unwatched."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Give tensors without their graph."""
        before, self._detached = self._detached, True
        try:
            yield
        finally:
            self._detached = before

    @contextmanager
    def leaves(self) -> Iterator[dict[Tensor, Tensor]]:
        """Give stand-ins that are cut off from what tensors were computed from; yields the stand-in of each.

        What is found as the gradient of a stand-in can be added to that of its tensor when the loss runs backward,
        which saves a backward pass of one's own.
        """
        self._leaves = {}
        try:
            yield self._leaves
        finally:
            self._leaves = None

    def unhook(self) -> None:
        """Take all hooks off the modules; what was kept can still be read."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def close(self) -> None:
        """Take all hooks off the modules and forget what was kept."""
        self.unhook()
        self.inputs.clear()
        self._outputs.clear()
        for kept in self._kept.values():
            kept.clear()

    def _shown(self, tensor: Tensor) -> Tensor:
        if self._detached or not tensor.requires_grad:
            return tensor.detach()
        if self._leaves is None:
            return tensor
        if tensor not in self._leaves:
            self._leaves[tensor] = tensor.detach().requires_grad_()
        return self._leaves[tensor]

    def _attach(self, key: tuple[Any, ...], module: nn.Module, hook: Callable[[nn.Module, Any, Tensor], None]) -> None:
        if key not in self._handles:
            self._handles[key] = module.register_forward_hook(hook)

    def _watching(self) -> bool:
        return (self.always or torch.is_grad_enabled()) and not self._paused

    def _keeper(self, layer: Layer, kind: str) -> Callable[[nn.Module, Any, Tensor], None]:
        activations, preactivations = self._kept["activations"], self._kept["preactivations"]

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not self._watching():
                return
            if kind == "preactivations":
                preactivations[layer] = output if module is layer.module else inputs[0]
                return
            activations[layer] = output
            if kind == "gradients" and output.requires_grad:
                output.retain_grad()

        return keep

    def _input_keeper(self, network: Network) -> Callable[[nn.Module, Any], None]:
        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._watching():
                self.inputs[network] = tuple(_detach(part) for part in inputs)

        return keep

    def _output_keeper(self, module: nn.Module) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if self._watching():
                self._outputs[module] = output

        return keep


def _detach(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _detach(value) for key, value in part.items()}
    return part.detach() if isinstance(part, Tensor) else part
