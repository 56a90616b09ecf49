"""The size of gradients as the loss makes them, before SB3 clips them."""

import math
from typing import Any

from torch import Tensor


class GradientNorm:
    """Norm of a network's gradient, measured in a sample of its backward passes.

    Between `start` (right after the optimiser's `zero_grad`) and `stop` (right before its step) every gradient is seen
    as it is complete and not yet clipped. That a network's gradient is also written by another network's loss, as a
    SAC critic's is by the actor's, falls outside of that window.

    Args:
        tensors: the network's parameters.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors = tensors
        self._handles: list[Any] = []
        self._squares: dict[Tensor, Tensor] = {}
        self._norms: list[float] = []

    def start(self) -> None:
        """Watch the next backward pass."""
        self.cancel()
        self._handles = [
            tensor.register_post_accumulate_grad_hook(self._keep)  # type: ignore[no-untyped-call]
            for tensor in self.tensors
        ]

    def stop(self) -> None:
        """Take the norm of what was seen."""
        if self._handles:
            self._norms.append(math.sqrt(float(sum(square.item() for square in self._squares.values()))))
        self.cancel()

    def cancel(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._squares = [], {}

    def take(self) -> float:
        """Mean of the norms measured since the last time this was asked; NaN where there were none."""
        norms, self._norms = self._norms, []
        return sum(norms) / len(norms) if norms else math.nan

    def _keep(self, tensor: Tensor) -> None:
        assert tensor.grad is not None
        self._squares[tensor] = tensor.grad.detach().square().sum()
