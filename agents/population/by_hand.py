"""What interventions see of bodies that run by hand, whose modules are never called, and what they add to gradients."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from agents.population.modules import Chain, StackedLinear
from agents.watching import Kept, Passage


class Shown:
    """Shows what bodies that run together are given and give, as hooks on their modules would.

    Args:
        bodies: the modules of each, and which rows of what runs together are its own.

    Attributes:
        before: whether what nonlinearities are given is asked for.
    """

    def __init__(self, bodies: Sequence[tuple[Chain, slice]]) -> None:
        self._bodies = [(next(iter(chain.parts)), _nonlinearities(chain), rows) for chain, rows in bodies]
        self._passage = Passage()
        self._kept: set[Kept] = set()
        self.before = False

    def can_show(self) -> set[Kept]:
        """Inputs, what nonlinearities are given and give, and the gradients by that."""
        found: set[Kept] = {(first, "taken") for first, _, _ in self._bodies}
        units = [module for _, modules, _ in self._bodies for module in modules]
        return found | {(module, what) for module in units for what in ("taken", "given", "gradient")}

    def show(self, passage: Passage, kept: set[Kept]) -> None:
        """Show this from now on."""
        self._passage, self._kept = passage, kept
        self.before = any((module, "taken") in kept for _, modules, _ in self._bodies for module in modules)

    def run(self, inputs: Tensor, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        """Called after a forward pass.

        Args:
            inputs: of all bodies, `[members * bodies, samples, inputs]`.
            before: what each layer's nonlinearity was given, where that is asked for.
            after: what it gave.
        """
        passage = self._passage
        for first, modules, rows in self._bodies:
            if (first, "taken") in self._kept:
                passage.taken[first] = (inputs[rows],)
            for layer, module in enumerate(modules):
                if (module, "taken") in self._kept:
                    passage.taken[module] = (before[layer][rows].requires_grad_(),)
                if (module, "given") in self._kept:
                    passage.given[module] = after[layer][rows].requires_grad_()

    def by_outputs(self, layer: int, flow: Tensor) -> None:
        """Called in the backward pass with the gradient by what a layer's nonlinearity gave, to which penalties add."""
        for _, modules, rows in self._bodies:
            module = modules[layer]
            if (module, "given") in self._kept:
                tensor = self._passage.given[module]
                self._add(tensor, flow, rows)
                if (module, "gradient") in self._kept:
                    tensor.grad = flow[rows]

    def by_inputs(self, layer: int, flow: Tensor) -> None:
        """Called with the gradient by what it was given."""
        for _, modules, rows in self._bodies:
            if (modules[layer], "taken") in self._kept:
                self._add(self._passage.taken[modules[layer]][0], flow, rows)

    def _add(self, tensor: Tensor, flow: Tensor, rows: slice) -> None:
        if (added := self._passage.added.pop(tensor, None)) is not None:
            flow[rows] += added


def _nonlinearities(chain: Chain) -> list[nn.Module]:
    return [after for before, after in pairwise(chain.parts) if isinstance(before, StackedLinear)]
