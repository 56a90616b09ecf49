"""What interventions see of bodies that run by hand, whose modules are never called, and what they add to gradients."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from agents.population.modules import Chain, StackedLinear
from agents.watching import Kept, Passage


class Shown:
    """Shows what bodies that run by hand are given and give, as hooks on their modules would.

    Args:
        body: the modules that are not called.

    Attributes:
        before: whether what nonlinearities are given is asked for.
    """

    def __init__(self, body: Chain) -> None:
        self._first = next(iter(body.parts))
        self._modules = [after for before, after in pairwise(body.parts) if isinstance(before, StackedLinear)]
        self._passage = Passage()
        self._kept: set[Kept] = set()
        self.before = False

    def can_show(self) -> set[Kept]:
        """Inputs, what nonlinearities are given and give, and the gradients by that."""
        found: set[Kept] = {(self._first, "taken")}
        return found | {(module, what) for module in self._modules for what in ("taken", "given", "gradient")}

    def show(self, passage: Passage, kept: set[Kept]) -> None:
        """Show this from now on."""
        self._passage, self._kept = passage, kept
        self.before = any((module, "taken") in kept for module in self._modules)

    def run(self, inputs: Tensor, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        """Called after a forward pass.

        Args:
            inputs: of all bodies, `[bodies, samples, inputs]`.
            before: what each layer's nonlinearity was given, where that is asked for.
            after: what it gave.
        """
        passage = self._passage
        if (self._first, "taken") in self._kept:
            passage.taken[self._first] = (inputs,)
        for layer, module in enumerate(self._modules):
            if (module, "taken") in self._kept:
                passage.taken[module] = (before[layer].requires_grad_(),)
            if (module, "given") in self._kept:
                passage.given[module] = after[layer].requires_grad_()

    def by_outputs(self, layer: int, flow: Tensor) -> None:
        """Called in the backward pass with the gradient by what a layer's nonlinearity gave, to which penalties add."""
        module = self._modules[layer]
        if (module, "given") in self._kept:
            tensor = self._passage.given[module]
            self._add(tensor, flow)
            if (module, "gradient") in self._kept:
                tensor.grad = flow

    def by_inputs(self, layer: int, flow: Tensor) -> None:
        """Called with the gradient by what it was given."""
        if (self._modules[layer], "taken") in self._kept:
            self._add(self._passage.taken[self._modules[layer]][0], flow)

    def _add(self, tensor: Tensor, flow: Tensor) -> None:
        if (added := self._passage.added.pop(tensor, None)) is not None:
            flow += added
