"""Which runs may be compared: those whose configurations differ in their arms and seeds only."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from configs.arms import STOCK_ACTIVATIONS

ARM_SETTINGS = ("reset", "regularizer", "optimizer", "normalize", "metrics")
"""What makes an arm, or only says what is measured."""
ARCHITECTURE = ("activation", "layer_norm", "spectral_norm", "halve")
"""Settings of a network that make an arm; its widths make another study."""
MACHINE = ("seed", "device", "threads", "stepping", "histograms")
"""Where a run was computed, and which of several it is. Other ways of stepping give other numbers, not others on
average."""
MEASURED = "measure_"
ANY = ""


def identity(config: Mapping[str, Any]) -> str:
    """What all runs of a study have in common, as text; the stock nonlinearity apart."""
    kept = {
        key: value
        for key, value in config.items()
        if key not in (*ARM_SETTINGS, *MACHINE) and not key.startswith(MEASURED)
    }
    if isinstance(network := kept.get("network"), dict):
        kept["network"] = {key: value for key, value in network.items() if key not in ARCHITECTURE}
    return json.dumps(kept, sort_keys=True, default=str)


def comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs belong to one study; an arm with a nonlinearity of its own goes with any stock one."""
    either = {activation(one), activation(other)}
    return identity(one) == identity(other) and (ANY in either or len(either) == 1)


def pair(config: Mapping[str, Any]) -> str:
    """A digest of what an arm's run and the fresh arm's have in common: all but the arm, the seed included.

    Runs of another digest are no pair; those of the same one still may not be `comparable`.
    """
    return hashlib.sha256(f"{config.get('seed')} {identity(config)}".encode()).hexdigest()[:16]


def activation(config: Mapping[str, Any]) -> str:
    """The stock nonlinearity, which belongs to the study; ANY where the arm has one of its own."""
    network = config.get("network")
    name = network.get("activation", "agent") if isinstance(network, dict) else "agent"
    return str(name) if name in STOCK_ACTIVATIONS else ANY


def title(config: Mapping[str, Any]) -> str:
    """Such as `cartpole_permuted: CartPole-v1, ppo`."""
    agent = config.get("agent")
    name = agent.get("name", "agent") if isinstance(agent, dict) else agent
    where = f"{config.get('env', 'unknown environment')}, {name}"
    return f"{config['benchmark']}: {where}" if config.get("benchmark") else where


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `agent.learning_rate`."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def differences(configs: Sequence[Mapping[str, Any]], ignored: Iterable[str] = ()) -> list[str]:
    """In which settings each configuration differs from the others, in words: `steps 20000, agent.n_envs 4`."""
    trees = [flat(config) for config in configs]
    ignored = tuple(ignored)
    keys = [key for key in dict.fromkeys(key for tree in trees for key in tree) if not key.startswith(ignored)]
    differing = [key for key in keys if any(tree.get(key, ANY) != trees[0].get(key, ANY) for tree in trees)]
    return [", ".join(f"{key} {tree.get(key, 'not set')}" for key in differing) for tree in trees]
