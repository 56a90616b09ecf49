"""SB3 agents: which ones there are, their networks, and how interventions attach to them."""

from agents.algorithms import A2C, DQN, PPO, SAC, TD3, TQC, AgentSettings
from agents.networks import CNN, MLP, NetworkSettings

AGENTS: dict[str, type[AgentSettings]] = {"ppo": PPO, "sac": SAC, "a2c": A2C, "td3": TD3, "dqn": DQN, "tqc": TQC}
NETWORKS: dict[str, type[NetworkSettings]] = {"mlp": MLP, "cnn": CNN}

__all__ = ["AGENTS", "NETWORKS", "AgentSettings", "NetworkSettings"]
