"""DASH, direction-aware shrinking: shrink weights that do not point where the loss wants them to go.

With g the average gradient of the loss, the weights of one unit (a row of a weight matrix, one kernel of a convolution
from one channel to one other, or a bias vector) are multiplied by

    clip(cos(-g, w), floor, 1):

weights along the descent direction, which the data still ask for, stay; those across or against it, which only fit
what was seen before, shrink to `floor` of themselves. g is an exponential average over batches, g <- (1 - alpha) g +
alpha * gradient, from zero. Normalisations stay.

Shin, Oh, Cho and Yun, "DASH: Warm-Starting Neural Network Training in Stationary Settings without Loss of Plasticity",
NeurIPS 2024, arXiv 2410.23495; constants from the authors' code (baekrok/DASH-Direction-Aware-SHrinking). It is a
method of supervised learning: there g is taken at fixed weights over all data, the newest last, when new data have come
and before they are trained on. That the gradients are here those of the training itself is a reconstruction for RL. At
a switch of the task the gradient of the new one is not known yet, so that it is gathered over the first `wait` steps of
the optimiser after it, while the network learns; in agents with a replay buffer most of it is still the old task's.
After a periodic reset the average starts anew.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import normalize

from agents.interventions import Moment, MomentName, ResetEvent, Step
from agents.layers import Network, Param
from agents.stacking import Random
from resets.base import TimedReset


@dataclass
class DASH(TimedReset):
    """Shrink weights by their angle to the direction of descent (Shin et al. 2024)."""

    touches = ("hidden", "heads", "targets")

    when: Literal["periodic", "switch"] = "switch"
    """switch: `wait` gradient steps after the task has changed, which takes an oracle that real life does not offer.
    periodic: every `every` `unit`s."""

    floor: Annotated[float, Ge(0), Le(1)] = 0.3
    """Smallest factor on weights, lambda in the paper: 0.3 in the authors' code, 0.05 to 0.3 in that of FIRE (Han et
    al. 2026). 1 does nothing."""

    alpha: Annotated[float, Gt(0), Le(1)] = 0.3
    """Weight of the newest gradient in the average: 0.3 in the authors' code, where a gradient is that of a whole chunk
    of data, 0.1 to 0.3 for minibatches in that of FIRE."""

    wait: Annotated[int, Gt(0)] = 100
    """At a switch: for how many steps of the network's optimiser gradients are gathered before weights shrink, rounded
    up to the next rollout. A choice: the average reaches back 1 / alpha steps."""

    heads: bool = True
    """Whether output layers shrink too, as in the authors' code."""

    biases: bool = True
    """Whether biases shrink too, each layer's by one angle of the whole vector, as in the authors' code."""

    moments: Literal["keep", "zero"] = "keep"
    """What happens to the optimiser's statistics: kept, as in the authors' code, or dropped together with the step
    count."""

    def acts_on(self, network: Network) -> bool:
        """Networks with layers to shrink."""
        return super().acts_on(network) and bool(self.chosen(network))

    def uses(self, moment: MomentName) -> bool:
        """Nothing at all where no weight can shrink."""
        return self.floor < 1 and super().uses(moment)

    def idle(self, number: int) -> float:
        """All steps while nothing is waited for after a switch."""
        gathering = self.when == "periodic" or any(key.startswith("since.") for key in self.state)
        return 0 if gathering else math.inf

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterator[ResetEvent]:
        """Gather the gradient, after a switch only until it is used."""
        gathering = [net for net in networks if self.when == "periodic" or f"since.{net.name}" in self.state]
        params = [param for net in gathering for param in self.chosen(net)]
        found = [(self.average(param), param.tensor.grad) for param in params if param.tensor.grad is not None]
        if found:
            torch._foreach_lerp_([average for average, _ in found], [gradient for _, gradient in found], self.alpha)
        return iter(())

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """Shrink every network whose time has come; a target network becomes a copy of the network it follows."""
        for network in self.due_networks(networks, moment):
            averages = {param: self.state.pop(f"gradient.{param.name}", None) for param in self.chosen(network)}
            for param, average in averages.items():
                if average is not None:
                    param.overwrite(shrunk(param, average, self.floor))
                    if self.moments == "zero":
                        param.forget()
                    param.sync_target()
            if all(average is None for average in averages.values()):  # nothing was learnt from since the last time
                continue
            yield ResetEvent(network.name, "all" if self.heads else "body", "networks", 1, self.why())

    def due(self, network: Network, moment: Moment) -> bool:
        """Whether it is time for this network; a switch starts the time in which gradients are gathered."""
        if self.when == "periodic":
            return super().due(network, moment)
        key, now = f"since.{network.name}", moment.gradient_steps.get(network.optimizer, 0) if network.optimizer else 0
        if moment.switched:
            self.state[key] = now
            for param in self.chosen(network):
                self.state.pop(f"gradient.{param.name}", None)
        if now - self.state.get(key, now) < self.wait:
            return False
        del self.state[key]
        return True

    def chosen(self, network: Network) -> list[Param]:
        """The parameters that shrink."""
        layers = [layer for layer in network.layers if self.heads or not layer.is_head]
        found = [(layer.weight, layer.bias if self.biases else None) for layer in layers]
        return [param for pair in found for param in pair if param]

    def average(self, param: Param) -> Tensor:
        """The average gradient of a parameter so far."""
        key = f"gradient.{param.name}"
        if key not in self.state:
            self.state[key] = torch.zeros_like(param.tensor)
        return self.state[key]  # type: ignore[no-any-return]


def shrunk(param: Param, gradient: Tensor, floor: float) -> Tensor:
    """The parameter after the update, given its gradient: one factor for each vector along the last dimension."""
    kernel = (-param.kernel, -1) if param.kernel else (-1, -1)
    weights, descent = param.tensor.detach().flatten(*kernel), -gradient.flatten(*kernel)
    # Where either is zero the cosine counts as zero; small gradients are no reason.
    cosine = (normalize(weights, dim=-1, eps=1e-30) * normalize(descent, dim=-1, eps=1e-30)).sum(-1, keepdim=True)
    return (weights * cosine.clamp(floor, 1)).view_as(param.tensor)
