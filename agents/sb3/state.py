"""All that an SB3 agent remembers between two rollouts, as plain state: what `save` and `load` of SB3's leave out, too.

SB3's own files lack counters of the run, the observations that the next actions answer, values that wait to be logged,
and the generators; and reading them executes what stands in them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from torch import Tensor

from agents.sb3.networks import optimizers_of

NUMBERS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate", "_current_progress_remaining")
"""Attributes that count, where an algorithm has them."""

OBSERVED = ("_last_obs", "_last_original_obs", "_last_episode_starts")
"""What the environments returned last."""

PENDING = ("name_to_value", "name_to_count", "name_to_excluded")
"""What the logger was told since it wrote: an update's losses are written after the next rollout."""

RINGS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
"""The arrays of a replay buffer."""


def agent_state(model: BaseAlgorithm) -> dict[str, Any]:
    """What the agent needs to go on exactly from the start of a rollout, its replay buffer and generators apart.

    The global generators belong to the process, the replay buffer is too large to be written whole (`replay_rings`).
    """
    logger = model.logger
    return {
        "policy": dict(model.policy.state_dict()),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers_of(model)],
        "log_ent_coef": _temperature(model),
        "numbers": {name: getattr(model, name) for name in NUMBERS if hasattr(model, name)},
        "observed": {name: _with_layout(getattr(model, name)) for name in OBSERVED},
        "episodes": list(model.ep_info_buffer or ()),
        "successes": list(model.ep_success_buffer or ()),
        "pending": {name: dict(getattr(logger, name)) for name in PENDING},
        "action_space": _space_generators(model.action_space),
    }


@torch.no_grad()
def load_agent_state(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Go on from what `agent_state` gave, in a model made with the same settings, while it learns.

    Raises:
        ValueError: the state is that of another kind of agent; one sentence.
    """
    optimizers = optimizers_of(model)
    if len(optimizers) != len(state["optimizers"]) or (_temperature(model) is None) != (state["log_ent_coef"] is None):
        raise ValueError(f"the state is that of another agent than this {type(model).__name__}")
    try:
        model.policy.load_state_dict(state["policy"])
        for optimizer, own in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"the state is that of another agent than this {type(model).__name__}: {error}") from error
    if (temperature := _temperature(model)) is not None:
        temperature.copy_(state["log_ent_coef"])
    for name in NUMBERS:
        if name in state["numbers"]:
            setattr(model, name, state["numbers"][name])
    for name in OBSERVED:
        setattr(model, name, _laid_out(state["observed"][name]))
    model._num_timesteps_at_start = model.num_timesteps  # speed counts from here
    for buffer, entries in ((model.ep_info_buffer, "episodes"), (model.ep_success_buffer, "successes")):
        assert buffer is not None  # since learning has begun
        buffer.clear()
        buffer.extend(state[entries])
    for name in PENDING:
        waiting = getattr(model.logger, name)
        waiting.clear()
        waiting.update(state["pending"][name])
    _load_space_generators(model.action_space, state["action_space"])


def begin_episodes(model: Any, observations: Any) -> None:
    """Have the agent answer these first observations of new episodes next, instead of what it was given last."""
    model._last_obs = observations
    model._last_episode_starts = np.ones(model.n_envs, dtype=bool)
    if model.get_vec_normalize_env() is not None:
        model._last_original_obs = model.get_vec_normalize_env().get_original_obs()


def replay_rings(model: BaseAlgorithm) -> tuple[dict[str, NDArray[Any]], int] | None:
    """The arrays of the replay buffer, steps first, and how many steps have ever been put there.

    Returns:
        None where the algorithm has no replay buffer.

    Raises:
        ValueError: the buffer is of a kind that keeps more than these arrays.
    """
    buffer: Any = getattr(model, "replay_buffer", None)
    if buffer is None:
        return None
    if type(buffer) not in (ReplayBuffer, DictReplayBuffer) or buffer.optimize_memory_usage:
        raise ValueError(f"a replay buffer of the kind {type(buffer).__name__} cannot be kept")
    rings: dict[str, NDArray[Any]] = {}
    for name in RINGS:
        array = getattr(buffer, name)
        parts = {f"{name}.{key}": part for key, part in array.items()} if isinstance(array, dict) else {name: array}
        rings |= parts
    return rings, model.num_timesteps // buffer.n_envs


def load_replay_position(model: Any, added: int) -> None:
    """Point the replay buffer, whose arrays have been filled, to where the next step goes."""
    buffer = model.replay_buffer
    buffer.pos, buffer.full = added % buffer.buffer_size, added >= buffer.buffer_size


def _with_layout(observed: Any) -> Any:
    """An array in the order of its memory, and which of its axes are which, or a dictionary of such.

    SB3 turns images by a view, and convolutions round otherwise where the same numbers lie in another order.
    """
    if isinstance(observed, dict):
        return {key: _with_layout(part) for key, part in observed.items()}
    if observed is None:
        return None
    axes = np.argsort(observed.strides, kind="stable")[::-1]
    return observed.transpose(axes), axes.tolist()


def _laid_out(kept: Any) -> Any:
    """The array that `_with_layout` was given."""
    if isinstance(kept, dict):
        return {key: _laid_out(part) for key, part in kept.items()}
    if kept is None:
        return None
    array, axes = kept
    return array.transpose(np.argsort(axes))


def _temperature(model: BaseAlgorithm) -> Tensor | None:
    """The learnt entropy coefficient's logarithm, of agents that have one."""
    found = getattr(model, "log_ent_coef", None)
    return found if isinstance(found, Tensor) else None


def _space_generators(space: spaces.Space[Any]) -> dict[str, Any] | None:
    """The generator that random first actions are drawn from; None where none has been made."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        raise ValueError(f"actions in {space} are none that an agent here can take")
    return None if space._np_random is None else dict(space._np_random.bit_generator.state)


def _load_space_generators(space: spaces.Space[Any], state: dict[str, Any] | None) -> None:
    if state is not None:
        generator = np.random.default_rng(0)
        generator.bit_generator.state = state
        space._np_random = generator
