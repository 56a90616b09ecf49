"""Interventions on a population.

What happens between two rollouts happens to a member alone: its parameters are rows that are changed in place. Around
gradient steps a member's own modules do not run; its interventions are shown its rows of what the stacked ones do.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from agents.injection import leaves
from agents.interventions import Intervention
from agents.passes import Ascends
from agents.plasticity import Plasticity
from agents.population.leading import Group
from agents.population.stack import Stack
from agents.population.stacks import StackedNetworks
from agents.sb3 import read_networks
from agents.watching import Passage, Row, Seat


def plasticities(callback: Any) -> Iterator[Plasticity]:
    """The plasticity callbacks among a callback and those within it."""
    if isinstance(callback, Plasticity):
        yield callback
    children = getattr(callback, "callbacks", None) or [getattr(callback, "callback", None)]
    for child in children:
        if isinstance(child, BaseCallback):
            yield from plasticities(child)


def blocked(models: Iterable[BaseAlgorithm], callbacks: Iterable[Any]) -> str | None:
    """Why members with these callbacks cannot be trained at once, in one sentence; None where they can."""
    for callback in callbacks:
        for plasticity in plasticities(callback):
            for item in plasticity.interventions:
                if type(item).reshape is not Intervention.reshape:
                    return f"{type(item).__name__} gives each member's networks another form at a time of its own."
    for model in models:
        for network in read_networks(model):
            if isinstance(network.optimizer, Ascends):
                return f"{type(network.optimizer).__name__} needs the loss of each minibatch twice."
    return None


def parts_of(callbacks: Sequence[Any]) -> list[slice]:
    """Neighbouring members that have the same interventions, and so can be stepped together."""
    settings = [[plasticity.interventions for plasticity in plasticities(callback)] for callback in callbacks]
    starts = [number for number in range(len(settings)) if number == 0 or settings[number] != settings[number - 1]]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(settings)], strict=True)]


class Attached:
    """The interventions of all members, shown what the stacked modules do until `close`.

    Args:
        stack: runs the members.
        models: the members.
        callbacks: theirs, once their training has started.
        parts: neighbouring members with the same interventions.
    """

    def __init__(
        self, stack: Stack, models: Sequence[BaseAlgorithm], callbacks: Sequence[Any], parts: Sequence[slice]
    ) -> None:
        self.passage = Passage(waits=True)
        self.groups: list[Group] = []
        self.members = [list(plasticities(callback)) for callback in callbacks]
        for number, (model, own) in enumerate(zip(models, self.members, strict=True)):
            seat = seat_of(stack, models[0], model, number)
            for plasticity in own:
                plasticity.watcher.follow(self.passage, seat)
        for number, part in enumerate(parts):
            members = [plasticity for own in self.members[part] for plasticity in own]
            steppers = stack.steppers_of(number)
            # Of members without interventions, or of one alone, there is nothing to stack.
            several = len(members) == part.stop - part.start > 1 and members[0].interventions
            if several and all(stepper.adam for stepper in steppers):
                networks = StackedNetworks([plasticity.networks for plasticity in members], steppers)
                seat = group_seat(stack, models, part, networks)
                self.groups.append(Group(members, networks, steppers, self.passage, seat))
        self.passage.start(stack.by_hand())

    def begin(self) -> None:
        """Called before an update."""
        for group in self.groups:
            group.gather()

    def end(self) -> None:
        """Called after an update."""
        for group in self.groups:
            group.scatter()

    def close(self) -> None:
        """Look at the stacked modules no more."""
        self.passage.close()
        for firing in (firing for own in self.members for plasticity in own for firing in plasticity.firings):
            firing.led = False


def seat_of(stack: Stack, first: Any, model: Any, number: int) -> Seat:
    """Where the networks of a member are run.

    Args:
        stack: runs the members.
        first: the first of them.
        model: the member.
        number: the member's.
    """
    found: dict[nn.Module, tuple[nn.Module, Row]] = {}
    for leaf, (module, rows) in _places(stack, first, model):
        found[leaf] = module, (rows.start or 0) + number * (rows.step or 1)
    return Seat(found)


def group_seat(stack: Stack, models: Sequence[Any], part: slice, networks: StackedNetworks) -> Seat:
    """Where stacks of the networks of some members are run.

    Args:
        stack: runs all members.
        models: these.
        part: which of them.
        networks: the stacks.
    """
    found: dict[nn.Module, tuple[nn.Module, Row]] = {}
    for leaf, (module, rows) in _places(stack, models[0], models[part.start]):
        step, start = rows.step or 1, rows.start or 0
        everything = step == 1 and part == slice(0, len(models))
        row = None if everything else slice(start + part.start * step, part.stop * step, step)
        for made in networks.made[leaf].modules() if leaf in networks.made else ():
            found[made] = module, row
    return Seat(found)


def _places(stack: Stack, first: Any, model: Any) -> Iterator[tuple[nn.Module, tuple[nn.Module, slice]]]:
    """The leaves of a member that the stack runs, each with the stacked module and which rows are the members'."""
    for twin, leaf in zip(leaves(first.policy), leaves(model.policy), strict=True):
        with suppress(KeyError):  # of a target network, say
            yield leaf, stack.rows_of(twin)
