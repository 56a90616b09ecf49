"""What interventions do around each step of one optimiser.

| moment | what fires |
|---|---|
| after `zero_grad` | penalties: their gradient is added to that of the loss |
| before `optimizer.step()` | decoupled decay |
| after `optimizer.step()` | resets and projections that are defined per gradient step |
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from agents.hooks import Idleness, OptimizerHooks
from agents.interventions import Intervention, MomentName, ResetEvent, Step
from agents.layers import Network
from agents.stacking import Random
from agents.watching import Watcher

Grouped = list[tuple[int, Intervention, list[Network]]]
"""Interventions, each with its number and those of some networks that it acts on."""


class Firing(Idleness):
    """The interventions that act on the networks of one optimiser, at each of its steps.

    Args:
        interventions: in the order in which they fire.
        networks: those that the optimiser trains.
        optimizer: the optimiser.
        watcher: shows the forward pass that a step comes from.
        generators: of each intervention, by its number.
        note: told the value of each penalty on a network, with its strength.
        report: told what an intervention has done.

    Attributes:
        steps: how many steps the optimiser has taken.
        led: whether stacks act in the place of these interventions, which then count steps, and act before a step that
            each member takes by itself.
    """

    def __init__(
        self,
        interventions: Sequence[Intervention],
        networks: Sequence[Network],
        optimizer: torch.optim.Optimizer,
        watcher: Watcher,
        generators: Mapping[int, Random],
        note: Callable[[Intervention, str, Tensor], None],
        report: Callable[[Intervention, Iterable[ResetEvent]], None],
    ) -> None:
        self.optimizer = optimizer
        self.watcher = watcher
        self.generators = generators
        self.note = note
        self.report = report
        self.steps = 0
        self.led = False
        self._terms = _grouped(interventions, "loss_term", networks)
        self._closed = _grouped(interventions, "before_backward", networks)
        self._before = _grouped(interventions, "before_step", networks)
        self._after = _grouped(interventions, "after_step", networks)
        # An intervention may hand a parameter's place to another tensor (plasticity injection).
        self._params = list({param.tensor: param for network in networks for param in network.params()}.values())
        parts = (self._terms, self._closed, self._before, self._after)
        self._active = {number: item for part in parts for number, item, _ in part}

    def listen(self) -> OptimizerHooks:
        """Hook this to the optimiser; moments at which nothing fires cost nothing."""
        return OptimizerHooks(
            self.optimizer,
            self.before_backward if self._terms or self._closed else None,
            self.before_step if self._before else None,
            self.after_step,
            idleness=self,
        )

    def idle(self) -> float:
        """The steps up to the next one at which something fires, or that a stack cannot take."""
        items = self._active.values()
        return min((item.stacks(self.steps) if self.led else item.idle(self.steps) for item in items), default=math.inf)

    def stacks(self) -> bool:
        """Whether stacks can take the coming step."""
        return all(item.stacks(self.steps) > 0 for item in self._active.values())

    def skipped(self, steps: int) -> None:
        """They count."""
        self.steps += steps

    @torch.enable_grad()
    def before_backward(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the gradients of all penalties."""
        if self.led:
            return
        step = self._step()
        for _, item, networks in self._closed:
            for name, value in item.before_backward(networks, step).items():
                self.note(item, name, value)
        if self._terms:
            self._add_terms(step)

    def _add_terms(self, step: Step) -> None:
        """Have autograd find the gradients of penalties that are not known in closed form."""
        with self.watcher.leaves() as stand_ins:
            found = [(item, net, item.loss_term(net, step)) for _, item, networks in self._terms for net in networks]
        values = [term for _, _, term in found if term is not None]
        if not values:
            return
        for item, network, term in found:
            if term is not None:
                self.note(item, network.name, term.detach())
        tensors = [param.tensor for param in self._params]
        sought = [*tensors, *(stand_in.leaf for stand_in in stand_ins.values())]
        gradients = torch.autograd.grad(torch.stack(values).sum(), sought, retain_graph=True, allow_unused=True)
        for tensor, gradient in zip(tensors, gradients, strict=False):
            if gradient is not None:
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        # What concerns activations goes backward with the loss that is about to be differentiated.
        for stand_in, gradient in zip(stand_ins.values(), gradients[len(tensors) :], strict=True):
            if gradient is not None:
                self.watcher.hand_on(stand_in, gradient)

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """What belongs between the gradient and the step."""
        with self.watcher.detached():
            for number, item, networks in self._before:
                item.before_step(networks, self._step(), self.generators[number])

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Resets and projections."""
        step = self._step()
        self.steps += 1
        if self._after and not self.led:
            with self.watcher.detached():
                for number, item, networks in self._after:
                    self.report(item, item.after_step(networks, step, self.generators[number]))

    def _step(self) -> Step:
        return Step(self.optimizer, self.steps, self.watcher)


def _grouped(interventions: Sequence[Intervention], moment: MomentName, networks: Sequence[Network]) -> Grouped:
    """Those that implement a moment, for all of these networks that they act on."""
    using = [(number, item) for number, item in enumerate(interventions) if item.uses(moment)]
    found = [(number, item, [network for network in networks if item.acts_on(network)]) for number, item in using]
    return [entry for entry in found if entry[2]]
