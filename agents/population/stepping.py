"""How the gradients of all members become steps: many rows at once, or a member's own optimiser where it has to be.

Between a backward pass and the next, SB3 clears gradients, lets penalties in, clips, asks whether to step, steps, and
tells who listens. A `Stepper` does all of it for neighbouring rows at once, as long as nobody needs to do more at the
single step than to look at it; otherwise it gives each member its gradient and has its own optimiser go through the
motions, so that whatever is attached to it works as in a run of its own.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from agents.hooks import OptimizerHooks, Watching, has_foreign_hooks, hooks_of
from agents.population.rows import Rows, RowsAdam, plain_adam, release_statistics


class Leads(Protocol):
    """Who fires the interventions of all rows at once."""

    leads: bool

    def prepare(self) -> None:
        """Decide who fires at the coming step: this, or each member's own."""

    def before_backward(self) -> None:
        """Called when the losses are known."""

    def add_penalties(self) -> None:
        """Called when the gradients are."""

    def before_step(self) -> None:
        """Called when they are clipped."""

    def after_step(self) -> bool:
        """Called after the step; returns whether something was reset."""

    def after_own_steps(self) -> None:
        """Called where each member's own optimiser was asked to step, which some may not have done."""


class Stepper:
    """Steps neighbouring rows, each optimiser's parameters being a row.

    Args:
        rows: the parameters of all members.
        gradient: the gradients of all members `[members, numbers]`, laid out as the rows are.
        optimizers: each member's own, of these rows.
        first: number of the first of these rows.
        max_norm: gradients are clipped to this norm, each member's by itself; None: not clipped.

    Attributes:
        lead: who fires the interventions of all rows at once, if anybody does.
    """

    def __init__(
        self,
        rows: Rows,
        gradient: Tensor,
        optimizers: Sequence[torch.optim.Optimizer],
        first: int = 0,
        max_norm: float | None = None,
    ) -> None:
        self.optimizers = list(optimizers)
        self.max_norm = max_norm
        self.rows = rows
        self.part = slice(first, first + len(self.optimizers))
        self.members = rows.members[self.part]
        self.gradient = gradient[self.part]
        self.lead: Leads | None = None
        self._own_gradients = list(zip(*(view.unbind() for view in rows.views(self.gradient)), strict=True))
        plain = all(map(plain_adam, self.optimizers)) and len(set(map(_settings, self.optimizers))) == 1
        self.adam = RowsAdam(rows, self.optimizers, first) if plain else None
        self._left = 0.0
        self._untold = 0
        self._unseen = 0.0
        self._watching: list[tuple[int, Watching]] = []
        self._asks_if_finite = False

    def begin(self) -> None:
        """Called before the first of some steps, between which nobody but this changes parameters or statistics."""
        self._asks_if_finite = any(hooks.asks_if_finite for hooks in self._hooks())
        if self.lead:
            self.lead.prepare()
        self._look_ahead()

    def end(self) -> None:
        """Called after the last of them: who listens is told how many steps it missed."""
        self._tell()

    @property
    def together(self) -> bool:
        """Whether the coming step is taken for all rows at once."""
        return self._untold < self._left

    def before_backward(self) -> None:
        """Called when the losses are known: gradients are cleared and penalties let in."""
        if not self.together:
            self._tell()
            if self.lead:
                self.lead.prepare()
            for optimizer in self.optimizers:
                optimizer.zero_grad()
        if self.lead:
            self.lead.before_backward()

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the gradients as they are now."""
        lead = self.lead if self.lead and self.lead.leads else None
        if lead:
            lead.add_penalties()
        if not self.together:
            for number in range(len(self.optimizers)):
                self._own_step(number)
            self._after_own_steps()
            return
        assert self.adam is not None
        if self._asks_if_finite and not math.isfinite(self.gradient.sum().item()):
            self._tell()
            for number, optimizer in enumerate(self.optimizers):
                optimizer.zero_grad()  # at which listeners count
                self._own_step(number)
            self._after_own_steps()
            self.gradient.zero_()  # between parameters, too, where nothing else is written
            return
        looking = self._look() if self._untold >= self._unseen else []
        if self.max_norm is not None:
            norms = torch.linalg.vector_norm(self.gradient, dim=1, keepdim=True)
            self.gradient.mul_((self.max_norm / (norms + 1e-6)).clamp_(max=1.0))
        if lead:
            lead.before_step()
        self.adam.step(self.gradient)
        for watching in looking:
            watching.looked()
        if lead and lead.after_step():
            self.adam.link()  # whose step counts a reset may have set back
        self._untold += 1
        if looking:
            self._tell()
            self._unseen = self._until_look()

    def _look(self) -> list[Watching]:
        """Show the gradients to those who look at the coming step."""
        self._tell()
        looking = []
        for number, watching in self._watching:
            if watching.due() == 0:
                watching.look(dict(zip(self.members[number], self._own_gradients[number], strict=True)))
                looking.append(watching)
        return looking

    def _until_look(self) -> float:
        return min((watching.due() for _, watching in self._watching), default=math.inf)

    def _own_step(self, number: int) -> None:
        """What SB3 does with one member's gradient, to which penalties have perhaps added theirs."""
        tensors = self.members[number]
        # On tensors that nothing was computed from, a backward pass is the addition to `.grad`, its hooks included.
        torch.autograd.backward(tensors, self._own_gradients[number])
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(tensors, self.max_norm)
        self.optimizers[number].step()
        if self.lead and self.lead.leads:  # which reads what the step was taken with
            taken = [tensor.grad for tensor in tensors if tensor.grad is not None]
            torch._foreach_copy_(list(self._own_gradients[number]), taken)
        _clear(tensors)

    def _after_own_steps(self) -> None:
        if self.lead:
            if self.lead.leads:
                self.lead.after_own_steps()
            self.lead.prepare()
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Find out how many of the coming steps nobody has to be told of."""
        self._untold, self._left = 0, 0.0
        if self.adam is not None and not any(map(has_foreign_hooks, self.optimizers)):
            self._left = min(self._idle(), default=math.inf)
            self._unseen = self._until_look()
            if self._left:
                self.adam.link()

    def _idle(self) -> Iterator[float]:
        """How many steps each listener need not be told of, but for those who look, which are found on the way."""
        self._watching = []
        for number, optimizer in enumerate(self.optimizers):
            acted = False
            for hooks in hooks_of(optimizer):
                listener = hooks.idleness
                if not isinstance(listener, Watching):
                    acted = acted or bool(hooks.handles)
                    yield listener.idle()
                elif acted:  # who comes behind others sees what they have done, and is told when it is its turn
                    yield listener.due()
                else:
                    self._watching.append((number, listener))

    def _tell(self) -> None:
        if self._untold:
            for hooks in self._hooks():
                hooks.idleness.skipped(self._untold)
            self._left, self._untold = self._left - self._untold, 0

    def _hooks(self) -> list[OptimizerHooks]:
        return [hooks for optimizer in self.optimizers for hooks in hooks_of(optimizer)]


class Trained:
    """Parameters that an optimiser of each member steps.

    Args:
        rows: the parameters.
        optimizers: each member's own.
        parts: neighbouring members that are stepped together.
        max_norm: as for `Stepper`.

    Attributes:
        gradient: what they are stepped with, laid out as the rows are.
    """

    def __init__(
        self,
        rows: Rows,
        optimizers: Sequence[torch.optim.Optimizer],
        parts: Sequence[slice],
        max_norm: float | None = None,
    ) -> None:
        self.rows = rows
        self.gradient = torch.zeros_like(rows.flat)
        self.optimizers = list(optimizers)
        self.steppers = [Stepper(rows, self.gradient, self.optimizers[part], part.start, max_norm) for part in parts]

    def begin(self) -> None:
        """Called before the first of some steps."""
        self.rows.adopt()
        for stepper in self.steppers:
            stepper.begin()

    def end(self) -> None:
        """Called after the last of them."""
        for stepper in self.steppers:
            stepper.end()

    def before_backward(self) -> None:
        """Called when the losses are known."""
        for stepper in self.steppers:
            stepper.before_backward()

    def step(self) -> None:
        """Take one step with the gradients as they are now."""
        for stepper in self.steppers:
            stepper.step()

    def release(self) -> None:
        """Give every member memory of its own again."""
        self.rows.release()
        for optimizer in self.optimizers:
            release_statistics(optimizer)


def _clear(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        tensor.grad = None


def _settings(optimizer: torch.optim.Optimizer) -> tuple[float, ...]:
    group = optimizer.param_groups[0]
    return (*group["betas"], group["eps"])
