"""Listening to an optimiser: before the backward pass, before a step, after a step.

`zero_grad` is the last thing that every SB3 algorithm calls before `backward`, so what is written into `.grad` right
after it is added to the gradient of the loss, before any clipping: the same, bit for bit, as adding a penalty to the
loss. Torch has step hooks but none there, so the method is wrapped on the instance while anyone listens.
"""

from collections.abc import Callable
from typing import Any

import torch

Listener = Callable[[torch.optim.Optimizer], None]


class OptimizerHooks:
    """Calls listeners around the steps of one optimiser until `remove` is called.

    Args:
        optimizer: the optimiser.
        before_backward: called after each `zero_grad`.
        before_step: called before each `step`, after any clipping of gradients.
        after_step: called after each `step`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        before_backward: Listener | None = None,
        before_step: Listener | None = None,
        after_step: Listener | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.before_backward = before_backward
        self.handles: list[Any] = []
        if before_step:
            self.handles.append(optimizer.register_step_pre_hook(lambda *_: before_step(optimizer)))
        if after_step:
            self.handles.append(optimizer.register_step_post_hook(lambda *_: after_step(optimizer)))
        if before_backward:
            _zero_grad_listeners(optimizer).append(before_backward)

    def remove(self) -> None:
        """Stop listening; the optimiser is as it was before."""
        for handle in self.handles:
            handle.remove()
        if self.before_backward:
            listeners = _zero_grad_listeners(self.optimizer)
            listeners.remove(self.before_backward)
            if not listeners:
                del vars(self.optimizer)["zero_grad"]


class _ZeroGrad:
    """An optimiser's `zero_grad` that tells its listeners once it is done."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.plain = optimizer.zero_grad
        self.listeners: list[Listener] = []

    def __call__(self, set_to_none: bool = True) -> None:
        self.plain(set_to_none)
        for listener in self.listeners:
            listener(self.optimizer)


def _zero_grad_listeners(optimizer: torch.optim.Optimizer) -> list[Listener]:
    """The listeners of an optimiser's wrapped `zero_grad`; wraps it first where it is not."""
    wrapped = vars(optimizer).setdefault("zero_grad", _ZeroGrad(optimizer))
    assert isinstance(wrapped, _ZeroGrad)
    return wrapped.listeners
