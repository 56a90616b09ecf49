"""Stable-Baselines3's models as networks of layers, as batches, and as plain state; models are read through here."""

from agents.sb3.batches import Batch, activations, forward, sample_batch
from agents.sb3.networks import UnreadableModelError, penalties_reach, read_networks
from agents.sb3.state import agent_state, begin_episodes, load_agent_state, load_replay_position, replay_rings

__all__ = [
    "Batch",
    "UnreadableModelError",
    "activations",
    "agent_state",
    "begin_episodes",
    "forward",
    "load_agent_state",
    "load_replay_position",
    "penalties_reach",
    "read_networks",
    "replay_rings",
    "sample_batch",
]
