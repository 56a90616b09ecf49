"""What resets of units at every gradient step share: layers of one width side by side, and a memory for their units.

Such a reset runs some hundred thousand times in a run, on networks that are updated in a millisecond or two. So layers
whose activations have one shape, of all networks that an optimiser trains, are handled together as the rows of one
tensor. What is remembered has an entry a layer in `state` all the same, each a view of its row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Layer
from resets.base import Reset


@dataclass(kw_only=True)
class UnitReset(Reset):
    """Base of resets that follow every unit from step to step."""

    needs = "hidden"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stacks: dict[str, tuple[Tensor, list[Tensor]]] = {}

    def remembered(self, name: str, layers: list[Layer], start: Callable[[Layer], Tensor]) -> Tensor:
        """What is remembered under a name of each of the layers, `[layers, ...]`, to be changed in place.

        Args:
            name: what it is.
            layers: whose; of equal width.
            start: what a layer starts with.
        """
        keys = [f"{name}.{layer.name}" for layer in layers]
        stack, rows = self._stacks.get(keys[0], (None, []))
        state = self.state
        if (
            stack is None
            or len(rows) != len(keys)
            or any(state.get(k) is not r for k, r in zip(keys, rows, strict=True))
        ):
            parts = [state[key] if key in state else start(layer) for key, layer in zip(keys, layers, strict=True)]
            stack = torch.stack(parts)
            rows = list(stack.unbind())
            state.update(zip(keys, rows, strict=True))
            self._stacks[keys[0]] = stack, rows
        return stack


def stacked(samples: dict[Layer, Tensor]) -> Iterator[tuple[list[Layer], Tensor]]:
    """Layers whose samples `[..., outputs of a unit * samples, units]` have one shape, together.

    Yields:
        The layers and their samples, `[layers, ..., outputs of a unit, samples, units]`.
    """
    groups: dict[tuple[torch.Size, int], list[Layer]] = {}
    for layer, part in samples.items():
        groups.setdefault((part.shape, layer.expansion), []).append(layer)
    for (_, expansion), layers in groups.items():
        parts = [samples[layer] for layer in layers]
        stack = torch.stack(parts) if len(parts) > 1 else parts[0].unsqueeze(0)
        yield layers, stack.view(*stack.shape[:-2], expansion, -1, stack.shape[-1])
