"""Several members of a population seen as one, a stack: whose random numbers and whose memory are whose.

A stack's tensors have a leading dimension, the members. Each of them draws from its own generator what it would alone,
and what it remembers stays its own: the rows of what the stack does.
"""

from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

At = int | EllipsisType
"""One member of a stack, as an index of its tensors; `...` where there is no stack."""


class Generators:
    """The random generators of the members of a stack.

    Args:
        members: one each.
    """

    def __init__(self, members: Sequence[torch.Generator]) -> None:
        self.members = list(members)


Random = torch.Generator | Generators
"""Where the random numbers of a network come from, or those of a stack."""


def hash_seed(*numbers: int) -> int:
    """One 63-bit seed out of several numbers, well mixed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def each_member(random: Random) -> Iterator[tuple[At, torch.Generator]]:
    """The members of a stack, each with its generator; where there is no stack, the only one there is."""
    yield from enumerate(random.members) if isinstance(random, Generators) else [(..., random)]


def draw(sample: Callable[[torch.Generator], Tensor], random: Random) -> Tensor:
    """What `sample` draws; for a stack `[members, ...]`, each member's from its own generator."""
    if isinstance(random, Generators):
        return torch.stack([sample(generator) for generator in random.members])
    return sample(random)


class Remembers(Protocol):
    """Whatever has a state: a flat dictionary of tensors and plain values."""

    state: dict[str, Any]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from another one, which is copied."""


class SharedMemory:
    """Keeps the state of a stack and those of its members the same, tensors by sharing their memory.

    Args:
        stack: what acts for the members.
        members: what acts for one each.
        apart: first words of what members go on remembering themselves, and the stack does not.
    """

    def __init__(self, stack: Remembers, members: Sequence[Remembers], apart: Sequence[str] = ()) -> None:
        self.stack = stack
        self.members = list(members)
        self.apart = set(apart)
        self._shared: dict[str, tuple[Any, Sequence[Any]]] = {}

    def gather(self) -> bool:
        """Have the stack remember what the members do, each of whom may have changed something.

        Numbers in which members differ, and what not all of them have, stay with them.

        Returns:
            Whether there is nothing of that kind, so that the stack can act for them.
        """
        found: dict[str, Any] = {}
        for key, first in self.members[0].state.items():
            values = [member.state.get(key) for member in self.members]
            tensors = [value for value in values if isinstance(value, Tensor)]
            if key.split(".", 1)[0] in self.apart:
                continue
            if len(tensors) == len(values):
                found[key] = self._known(key, tensors)
            elif not tensors and all(value == first for value in values):
                found[key] = first
        # What members do not share any more stays with them: only the stack forgets it.
        self._shared = {key: known for key, known in self._shared.items() if key in found}
        if any(isinstance(value, Tensor) and self.stack.state.get(key) is not value for key, value in found.items()):
            self.stack.load_state_dict(found)
        else:
            self.stack.state = found
        self.scatter()
        own = {key for member in self.members for key in member.state if key.split(".", 1)[0] not in self.apart}
        return own == found.keys()

    def _known(self, key: str, values: Sequence[Tensor]) -> Tensor:
        """What has these values as its rows; made where they are nobody's rows yet."""
        stack, rows = self._shared.get(key, (None, ()))
        if isinstance(stack, Tensor) and all(value is row for value, row in zip(values, rows, strict=False)):
            return stack
        return torch.stack(list(values))

    def scatter(self) -> None:
        """Have the members remember what the stack does."""
        state = self.stack.state
        for key in self._shared.keys() - state.keys():
            del self._shared[key]
            for member in self.members:
                member.state.pop(key, None)
        for key, value in state.items():
            known, rows = self._shared.get(key, (None, ()))
            if known is value and rows:
                continue
            rows = value.unbind() if isinstance(value, Tensor) else [value] * len(self.members)
            self._shared[key] = value, rows
            for member, row in zip(self.members, rows, strict=True):
                member.state[key] = row
