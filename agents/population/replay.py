"""The replay buffers of all members as rows of the same arrays, and minibatches of all of them at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.population.streams import Streams
from agents.sb3.state import RINGS


class Replay:
    """Minibatches such as each member's own buffer would have drawn.

    The buffers stay the members'; only where their numbers lie changes: side by side, where they remain.

    Args:
        models: the members.
        streams: their random streams.
    """

    def __init__(self, models: Sequence[Any], streams: Sequence[Streams]) -> None:
        self.models = list(models)
        self.streams = list(streams)
        self._rows: dict[str, list[NDArray[Any]]] = {}
        self._samples: dict[str, Tensor] = {}

    def adopt(self) -> None:
        """Make every buffer's arrays the rows that they should be; what they hold is copied where they are none yet."""
        for name in RINGS:
            if name not in self._rows:
                like = getattr(self.models[0].replay_buffer, name)
                memory = np.zeros((len(self.models), *like.shape), dtype=like.dtype)
                self._rows[name] = list(memory)
                self._samples[name] = torch.from_numpy(memory).flatten(0, 2)
            for model, row in zip(self.models, self._rows[name], strict=True):
                buffer = model.replay_buffer
                own = getattr(buffer, name)
                if own is not row:
                    row[: buffer.size()] = own[: buffer.size()]
                    setattr(buffer, name, row)

    def sample(self, size: int) -> dict[str, Tensor]:
        """Transitions `[members, size, ...]`, under the buffers' names, as SB3's `ReplayBuffer.sample` draws them."""
        places = np.empty((len(self.models), size), dtype=np.int64)
        for number, (model, own) in enumerate(zip(self.models, self.streams, strict=True)):
            buffer = model.replay_buffer
            steps = own.numpy.randint(0, buffer.size(), size=size)
            envs = own.numpy.randint(0, buffer.n_envs, size=size)
            places[number] = (number * buffer.buffer_size + steps) * buffer.n_envs + envs
        index = torch.from_numpy(places).flatten()
        found = {
            name: samples.index_select(0, index).view(*places.shape, *samples.shape[1:])
            for name, samples in self._samples.items()
        }
        if self.models[0].get_vec_normalize_env() is not None:
            self._normalize(found)
        return {name: samples.to(self.models[0].device) for name, samples in found.items()}

    def _normalize(self, found: dict[str, Tensor]) -> None:
        """Replace what was observed and rewarded by what the members' normalisations make of it now."""
        normalizers = [model.get_vec_normalize_env() for model in self.models]
        for name in ("observations", "next_observations"):
            own = zip(normalizers, found[name].numpy(), strict=True)
            found[name] = torch.from_numpy(np.stack([normalizer.normalize_obs(part) for normalizer, part in own]))
        own = zip(normalizers, found["rewards"].numpy(), strict=True)
        rewards = [normalizer.normalize_reward(part).astype(np.float32) for normalizer, part in own]
        found["rewards"] = torch.from_numpy(np.stack(rewards))
