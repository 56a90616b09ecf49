"""Episodes that are taken again, step by step, where the state of an environment cannot be read.

Box2D's worlds are such: in what order they solve contacts depends on all that was ever in them, and cannot be read. But
from a new world on, the same steps lead to the same bits. So `Replay` has each episode begin in a new world, keeps what
the environment held then and what was done since, and does it again.
"""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from envs.sequence import sequence_in
from envs.snapshots import layers
from envs.snapshots.objects import Reader, Tree, Writer


class Replay(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the steps of the episode, to take them again in an environment built anew.

    It gives what the environment gives; only, its episodes do not depend on those before, which in Gymnasium's
    BipedalWalker and CarRacing they do in the last bits.

    Args:
        env: the environment, all its wrappers included that do anything in a step.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._begin: Tree = None
        self._arguments: dict[str, Any] = {}
        self._actions: list[Any] = []
        self._seen: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in a new world."""
        self._begin = layers.read(self.env, replayed=True)
        self._arguments = {"seed": seed, "options": options}
        self._actions = []
        for env in _environments(self.env):
            _renew_world(env)
        observation, info = self.env.reset(**self._arguments)
        self._seen = observation
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step, and remember it."""
        # A copy, because agents reuse their arrays.
        self._actions.append(action.copy() if isinstance(action, np.ndarray) else action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._seen = observation
        return observation, reward, terminated, truncated, info

    def state_dict(self) -> Tree:
        """How the episode began, what was done in it, and what the environment holds now."""
        return {
            "begin": self._begin,
            "arguments": Reader().read(self._arguments),
            "actions": _joined(self._actions),
            "seen": Reader().read(self._seen),
            "now": layers.read(self.env, replayed=True),
        }

    def load_state_dict(self, tree: Tree) -> None:
        """Take the steps of an episode again, in an environment that was reset.

        Raises:
            ValueError: it was made in another way, or the steps lead elsewhere.
        """
        if tree["begin"] is None:
            return
        layers.write(self.env, tree["begin"])
        self.reset(**Writer().write(tree["arguments"], None))
        self._begin = tree["begin"]
        for action in tree["actions"]:
            self.step(action if isinstance(action, (np.ndarray, np.generic)) else Writer().write(action, None))
        if not same(Reader().read(self._seen), tree["seen"]):
            raise ValueError(
                "the steps of the episode, taken again, do not lead to where they led before: "
                "was it another processor, or another version of Box2D?"
            )
        # What the steps do not decide, such as random numbers that others have drawn from its spaces.
        layers.write(self.env, tree["now"])


def needs_replay(env: gym.Env[Any, Any]) -> bool:
    """Whether an environment, or one that it may become, is of Box2D."""
    sequence = sequence_in(env)
    if sequence is None:
        return layers.is_box2d(env.unwrapped)
    specs = [gym.registry.get(name.partition("?")[0]) for name in sequence.names]
    return any(spec is not None and str(spec.entry_point).startswith(layers.BOX2D) for spec in specs)


def same(one: Tree, other: Tree) -> bool:
    """Whether two trees are equal bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(item, other[key]) for key, item in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(*items) for items in zip(one, other, strict=True))
    return bool(one == other) or bool(one != one and other != other)


def _joined(actions: list[Any]) -> Tree:
    """Actions as one array where they are of one kind, else one by one."""
    kinds = {(type(action), getattr(action, "dtype", None), np.shape(action)) for action in actions}
    plain = len(kinds) == 1 and isinstance(actions[0], (np.ndarray, np.generic))
    return np.array(actions) if plain else [Reader().read(action) for action in actions]


def _environments(env: gym.Env[Any, Any]) -> list[Any]:
    """All environments proper that have been made."""
    sequence = sequence_in(env)
    made = [env] if sequence is None else sequence._made.values()
    return [layer.unwrapped for layer in made]


def _renew_world(env: Any) -> None:
    """Give an environment that keeps one world for all episodes a new one, with the gravity of the old.

    LunarLander does so by itself; BipedalWalker has its ground in the world, and CarRacing its road.
    """
    if layers.is_box2d(env) and (getattr(env, "terrain", None) or getattr(env, "road", None)):
        env._destroy()
        env.world = type(env.world)(gravity=tuple(env.world.gravity))
