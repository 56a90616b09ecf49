"""The random streams of a member: where Python's, NumPy's and PyTorch's global generators would be were it alone.

Stable-Baselines3 draws a run's noise, minibatches and first weights from the global generators. Members of a population
share a process, so each keeps generators of its own, which begin where the global ones stood when its model had been
made; what trains the population draws from them what SB3 would have drawn.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class Streams:
    """One member's generators.

    Attributes:
        torch: PyTorch's on the CPU.
        device: PyTorch's where the networks are; the same object on the CPU.
        numpy: NumPy's, of the old kind, which SB3 draws minibatches from.
        python: the state of Python's.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.torch = torch.Generator()
        self.device = self.torch if torch.device(device).type == "cpu" else torch.Generator(device)
        self.numpy = np.random.RandomState()
        self.python = random.getstate()

    @classmethod
    def capture(cls, device: torch.device | str = "cpu") -> "Streams":
        """Generators that go on where the process's global ones are now."""
        streams = cls(device)
        streams._take()
        return streams

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make these the process's global generators for a while; for what is rare, since states are copied."""
        before = Streams.capture(self.device.device)
        self._put()
        try:
            yield
        finally:
            self._take()
            before._put()

    def _take(self) -> None:
        self.torch.set_state(torch.get_rng_state())
        if self.device is not self.torch:
            self.device.set_state(torch.cuda.get_rng_state(self.device.device))
        self.numpy.set_state(np.random.get_state())  # noqa: NPY002  # the generator that SB3 draws from
        self.python = random.getstate()

    def _put(self) -> None:
        torch.set_rng_state(self.torch.get_state())
        if self.device is not self.torch:
            torch.cuda.set_rng_state(self.device.get_state(), self.device.device)
        np.random.set_state(self.numpy.get_state())  # noqa: NPY002  # as above
        random.setstate(self.python)
