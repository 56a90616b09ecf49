"""Listening to an optimiser: before the backward pass, before a step, after a step; and having a say in the step.

`zero_grad` is the last thing that every SB3 algorithm calls before `backward`, so what is written into `.grad` right
after it is added to the gradient of the loss, before any clipping: the same, bit for bit, as adding a penalty to the
loss. Torch has step hooks but none there, and none that keeps a step from being taken, so these two methods are wrapped
on the instance while anyone listens.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

Listener = Callable[[torch.optim.Optimizer], None]
Gate = Callable[[torch.optim.Optimizer], bool]


class Idleness:
    """What a listener says about the steps that it need not hear of, so that many optimisers can be stepped at once.

    As it is, a listener that hears of every step.
    """

    def idle(self) -> float:
        """How many of the coming steps need not be told; infinity where none ever must."""
        return 0

    def skipped(self, steps: int) -> None:
        """So many steps have been taken untold."""


class Watching(Idleness, ABC):
    """A listener that looks at some of the steps and changes nothing, so that these, too, can be taken at once.

    They are where it listens before all who act around steps; behind these it is told as others are. In neither case
    does it see, in a population, what is reset after the step.
    """

    def idle(self) -> float:
        """None must be told in the usual way."""
        return math.inf

    @abstractmethod
    def due(self) -> int:
        """The steps up to the next one that is looked at."""

    @abstractmethod
    def look(self, gradients: Mapping[Tensor, Tensor]) -> None:
        """Before such a step: the gradient of each parameter, whole and not clipped yet, in memory that is reused."""

    @abstractmethod
    def looked(self) -> None:
        """After such a step, of which `skipped` is still to tell."""


class Unneeded(Idleness):
    """A listener that counts steps, if anything.

    Args:
        count: told how many steps were taken.
    """

    def __init__(self, count: Callable[[int], None] = lambda steps: None) -> None:
        self.count = count

    def idle(self) -> float:
        """None must be told."""
        return math.inf

    def skipped(self, steps: int) -> None:
        """They are counted."""
        self.count(steps)


class OptimizerHooks:
    """Calls listeners around the steps of one optimiser until `remove` is called.

    Args:
        optimizer: the optimiser.
        before_backward: called after each `zero_grad`.
        before_step: called before each `step`, after any clipping of gradients.
        after_step: called after each `step`.
        allow_step: asked before each `step`, after any clipping of gradients; where it says no, the step is not taken
            and nobody hears of it. Of several the one that came last is asked first, the others only where it agrees.
        idleness: which steps need not be told.
        asks_if_finite: whether all that is asked before a step is whether its gradients are finite.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        before_backward: Listener | None = None,
        before_step: Listener | None = None,
        after_step: Listener | None = None,
        allow_step: Gate | None = None,
        idleness: Idleness | None = None,
        asks_if_finite: bool = False,
    ) -> None:
        self.optimizer = optimizer
        self.idleness = idleness or Idleness()
        self.asks_if_finite = asks_if_finite
        self.before_backward = before_backward
        self.allow_step = allow_step
        self.handles: list[Any] = []
        if before_step:
            self.handles.append(optimizer.register_step_pre_hook(lambda *_: before_step(optimizer)))
        if after_step:
            self.handles.append(optimizer.register_step_post_hook(lambda *_: after_step(optimizer)))
        if before_backward:
            _zero_grad_listeners(optimizer).append(before_backward)
        if allow_step:
            _step_gates(optimizer).insert(0, allow_step)
        _HOOKS.setdefault(optimizer, []).append(self)

    def remove(self) -> None:
        """Stop listening; the optimiser is as it was before."""
        _HOOKS[self.optimizer].remove(self)
        for handle in self.handles:
            handle.remove()
        if self.before_backward:
            listeners = _zero_grad_listeners(self.optimizer)
            listeners.remove(self.before_backward)
            if not listeners:
                del vars(self.optimizer)["zero_grad"]
        if self.allow_step:
            gates = _step_gates(self.optimizer)
            gates.remove(self.allow_step)
            if not gates:
                del vars(self.optimizer)["step"]


def hooks_of(optimizer: torch.optim.Optimizer) -> list[OptimizerHooks]:
    """All who listen to an optimiser by way of this module."""
    return _HOOKS.get(optimizer, [])


def has_foreign_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether somebody listens to an optimiser by other ways."""
    known = sum(len(hooks.handles) for hooks in hooks_of(optimizer))
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks) > known


_HOOKS: WeakKeyDictionary[torch.optim.Optimizer, list[OptimizerHooks]] = WeakKeyDictionary()


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


class _Step:
    """An optimiser's `step` that is taken only where all gates agree."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.plain = optimizer.step
        self.gates: list[Gate] = []

    def __call__(self, *arguments: Any) -> Any:
        return self.plain(*arguments) if all(gate(self.optimizer) for gate in self.gates) else None


def _step_gates(optimizer: torch.optim.Optimizer) -> list[Gate]:
    """The gates of an optimiser's wrapped `step`; wraps it first where it is not."""
    wrapped = vars(optimizer).setdefault("step", _Step(optimizer))
    assert isinstance(wrapped, _Step)
    return wrapped.gates
