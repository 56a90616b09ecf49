"""The rollout buffers of all members as rows of the same arrays, and minibatches of all of them at once."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.population.streams import Streams

ARRAYS = ("observations", "actions", "rewards", "returns", "episode_starts", "values", "log_probs", "advantages")
"""What a rollout buffer keeps."""
LEARNT_FROM = ("observations", "actions", "returns", "values", "log_probs", "advantages")
"""What a minibatch has of it."""


class Rollouts:
    """Minibatches such as each member's own buffer would have drawn.

    Args:
        models: the members.
        streams: their random streams.

    Attributes:
        arrays: `[members, steps, environments, ...]` each, under the buffers' names.
    """

    def __init__(self, models: Sequence[Any], streams: Sequence[Streams]) -> None:
        self.models = list(models)
        self.streams = list(streams)
        self.device = models[0].device
        self.arrays: dict[str, NDArray[Any]] = {}

    def begin(self) -> None:
        """Empty every buffer; its arrays are rows from now on."""
        if not self.arrays:
            buffer = self.models[0].rollout_buffer
            buffer.reset()
            for name in ARRAYS:
                like = getattr(buffer, name)
                self.arrays[name] = np.zeros((len(self.models), *like.shape), dtype=like.dtype)
        for number, model in enumerate(self.models):
            for name, array in self.arrays.items():
                setattr(model.rollout_buffer, name, array[number])
            model.rollout_buffer.generator_ready = False
            model.rollout_buffer.pos, model.rollout_buffer.full = 0, False

    def end(self) -> None:
        """Let every buffer be full."""
        for model in self.models:
            model.rollout_buffer.pos, model.rollout_buffer.full = model.n_steps, True

    def minibatches(self, size: int, epochs: int) -> Iterator[dict[str, Tensor]]:
        """Samples `[members, size, ...]`, each member's in an order of its own, and once in each epoch.

        The last minibatch of an epoch may have fewer.
        """
        data = {name: self._in_order(self.arrays[name]) for name in LEARNT_FROM}
        data["actions"] = data["actions"].float()
        members, count = data["actions"].shape[:2]
        offsets = torch.arange(members, device=self.device).mul_(count).unsqueeze(1)
        for _ in range(epochs):
            orders = np.stack([streams.numpy.permutation(count) for streams in self.streams])
            order = (torch.as_tensor(orders, device=self.device) + offsets).flatten()
            shuffled = {
                name: values.flatten(0, 1).index_select(0, order).view(members, count, *values.shape[2:])
                for name, values in data.items()
            }
            for start in range(0, count, size):
                yield {name: values[:, start : start + size] for name, values in shuffled.items()}

    def _in_order(self, array: NDArray[Any]) -> Tensor:
        """From `[members, steps, environments, ...]` to `[members, environments * steps, ...]`, as SB3 orders them."""
        return torch.as_tensor(array, device=self.device).swapaxes(1, 2).flatten(1, 2)

    def release(self) -> None:
        """Give every buffer memory of its own again, so that saving one member does not save them all."""
        for model in self.models:
            for name in self.arrays:
                setattr(model.rollout_buffer, name, getattr(model.rollout_buffer, name).copy())
