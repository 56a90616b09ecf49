"""Interventions of neighbouring members acting at once around gradient steps.

A `Group` has, for each intervention of its members, one on stacks of their networks. At the steps of each optimiser a
`Lead` fires these in the place of the members' own, which count steps meanwhile; at a step that stacks cannot take (a
rare reset, say) the members' own fire one after another, on what they remember in common with the stacks.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from agents.firing import Firing
from agents.hooks import has_foreign_hooks
from agents.interventions import Intervention, ResetEvent
from agents.plasticity import Plasticity
from agents.population.stacks import StackedNetworks
from agents.population.stepping import Stepper
from agents.stacking import Generators
from agents.watching import Passage, Seat, Watcher


class Group:
    """The interventions of neighbouring members as stacks.

    Attributes:
        events: how many there were.
        counts_move: whether a stack may set an optimiser's step counts back.

    Args:
        members: their callbacks, whose interventions have the same settings.
        networks: the members' networks as stacks.
        steppers: what steps them.
        passage: what passes through the stacked modules that run all members.
        seat: where in these the stacks are run.
    """

    def __init__(
        self,
        members: Sequence[Plasticity],
        networks: StackedNetworks,
        steppers: Sequence[Stepper],
        passage: Passage,
        seat: Seat,
    ) -> None:
        self.members = list(members)
        each = zip(*(plasticity.interventions for plasticity in members), strict=True)
        self.stacks = [type(items[0]).stack(items) for items in each]
        self.events = 0
        self.alike = True
        self.counts_move = any(getattr(stack, "moments", None) == "zero_and_step" for stack in self.stacks)
        self._penalties: dict[tuple[int, str], Tensor] = {}
        self._spared: set[int] = set()
        self._numbers = {id(stack): number for number, stack in enumerate(self.stacks)}
        self.watcher = Watcher()
        self.watcher.follow(passage, seat)
        for stack in self.stacks:
            for network in networks.networks:
                if stack.acts_on(network):
                    self.watcher.watch(network, stack.watches())
        generators = {
            number: Generators([plasticity.generators[number] for plasticity in members])
            for number in range(len(self.stacks))
        }
        parts = zip(steppers, networks.optimizers, networks.leaves, networks.places, strict=True)
        for stepper, optimizer, leaves, places in parts:
            own = [network for network in networks.networks if network.optimizer is optimizer]
            firing = Firing(self.stacks, own, optimizer, self.watcher, generators, self._note, self._report)
            followers = [
                next(own for own in plasticity.firings if own.optimizer is member)
                for plasticity, member in zip(members, stepper.optimizers, strict=True)
            ]
            stepper.lead = Lead(self, stepper, firing, followers, leaves, places)

    def gather(self) -> bool:
        """Have the stacks remember what the members do; gives whether these remember alike."""
        found = [stack.memory.gather() for stack in self.stacks if stack.memory is not None]  # each of them, whatever
        self.alike = all(found)
        return self.alike

    def scatter(self) -> None:
        """Have the members remember what the stacks do."""
        for stack in self.stacks:
            if stack.memory is not None:
                stack.memory.scatter()
        for (number, network), values in self._penalties.items():
            for plasticity, value in zip(self.members, values.unbind(), strict=True):
                plasticity.note_penalty(plasticity.interventions[number], network, value)
        self._penalties.clear()

    @contextmanager
    def spared(self, numbers: Sequence[int], stepper: Stepper) -> Iterator[None]:
        """Let the stacks act, and put back what they have done to some of the members: rare, and so simple."""
        if not numbers:
            yield
            return
        adam = stepper.adam
        assert adam is not None
        self.scatter()
        rows = [(tensor, tensor[numbers]) for tensor in (adam.flat, adam.mean, adam.square, adam.steps)]
        items = [item for number in numbers for item in self.members[number].interventions]
        generators = [own for number in numbers for own in self.members[number].generators.values()]
        states, positions = [item.state_dict() for item in items], [own.get_state() for own in generators]
        self._spared = set(numbers)
        yield
        self._spared = set()
        self.scatter()
        for tensor, values in rows:
            tensor[numbers] = values
        for item, state in zip(items, states, strict=True):
            item.load_state_dict(state)
        for own, position in zip(generators, positions, strict=True):
            own.set_state(position)

    def _note(self, stack: Intervention, network: str, values: Tensor) -> None:
        self._penalties[self._numbers[id(stack)], network] = values

    def _report(self, stack: Intervention, events: Iterable[ResetEvent]) -> None:
        for event in events:
            assert isinstance(event.member, int)
            self.events += 1
            if event.member not in self._spared:
                self.members[event.member].report(stack.members[event.member], [event])


class Lead:
    """Fires stacks around the steps of neighbouring members' optimisers.

    Args:
        group: whose stacks.
        stepper: takes the steps.
        firing: of the stacks.
        followers: of the members themselves.
        leaves: the stacks' parameters.
        places: where their gradients go.
    """

    def __init__(
        self,
        group: Group,
        stepper: Stepper,
        firing: Firing,
        followers: Sequence[Firing],
        leaves: Sequence[nn.Parameter],
        places: Sequence[Tensor],
    ) -> None:
        self.group = group
        self.stepper = stepper
        self.firing = firing
        self.followers = list(followers)
        self.leaves = list(leaves)
        self.places = list(places)
        self.leads = False

    def prepare(self) -> None:
        """Decide who fires at the coming step."""
        optimizers = self.stepper.optimizers
        self.firing.steps = self.followers[0].steps
        alike = {follower.steps for follower in self.followers}, {each.param_groups[0]["lr"] for each in optimizers}
        able = self.stepper.adam is not None and not any(map(has_foreign_hooks, optimizers))
        leads = able and self.group.alike and all(len(values) == 1 for values in alike) and self.firing.stacks()
        self.firing.optimizer.param_groups[0]["lr"] = optimizers[0].param_groups[0]["lr"]
        if leads and not self.leads:
            leads = self.group.gather()
        elif self.leads and not leads:
            self.group.scatter()
        self.leads = leads
        for follower in self.followers:
            follower.led = leads

    def before_backward(self) -> None:
        """Called when losses are known: penalties."""
        if self.leads:
            self.firing.before_backward(self.firing.optimizer)

    @torch.no_grad()
    def add_penalties(self) -> None:
        """Called when the gradients are known: those of penalties join them."""
        pairs = [
            (place, leaf.grad) for place, leaf in zip(self.places, self.leaves, strict=True) if leaf.grad is not None
        ]
        if pairs:
            torch._foreach_add_([place for place, _ in pairs], [gradient for _, gradient in pairs])

    def before_step(self) -> None:
        """Called when gradients are clipped."""
        self._show_gradients()
        self.firing.before_step(self.firing.optimizer)

    def after_step(self) -> bool:
        """Called after the step; returns whether something was reset."""
        before = self.group.events
        self._show_gradients()
        self.firing.after_step(self.firing.optimizer)
        for leaf in self.leaves:
            leaf.grad = None
        return self.group.events > before or self.group.counts_move

    def after_own_steps(self) -> None:
        """Called where each member's own optimiser was asked to step, which some may not have done."""
        left_out = [number for number, own in enumerate(self.followers) if own.steps == self.firing.steps]
        with self.group.spared(left_out, self.stepper):
            self.after_step()

    def _show_gradients(self) -> None:
        for leaf, place in zip(self.leaves, self.places, strict=True):
            leaf.grad = place
