"""One of several environments in lockstep: what it holds, or else where to go on with a new episode."""

from typing import Any

import gymnasium as gym
import numpy as np

from envs.snapshots import layers
from envs.snapshots.objects import Tree, Unsupported

MALFORMED = (ValueError, LookupError, TypeError, AttributeError)
"""What a tree of another shape leads to."""


def read(env: gym.Env[Any, Any]) -> dict[str, Tree]:
    """What an environment holds.

    Returns:
        `state`, all of it; or else `reason`, why that cannot be read, with `course`, where it is in its tasks, and
        `seed`, a number that follows from its seed and from how far it has come, for its next reset.
    """
    try:
        return {"state": layers.read(env)}
    except Unsupported as unsupported:
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        return {"reason": f"{name} cannot be read: {unsupported}"} | _remains(env)


def write(env: gym.Env[Any, Any], tree: dict[str, Tree]) -> str | None:
    """Bring what `read` gave into an environment that was made in the same way, and was reset.

    Returns:
        None, or why that cannot be.
    """
    try:
        if "state" in tree:
            layers.write(env, tree["state"])
        elif tree["course"] is not None:
            layers.write_course(env, tree["course"])
    except MALFORMED as error:
        return str(error) if isinstance(error, ValueError) else f"the snapshot is damaged ({error!r})"
    return None


def _remains(env: gym.Env[Any, Any]) -> dict[str, Tree]:
    course = layers.read_course(env)
    seed, clock = getattr(env.unwrapped, "_np_random_seed", None), env.get_wrapper_attr("clock") if course else 0
    if seed is None or seed < 0:
        return {"course": course, "seed": None}
    return {"course": course, "seed": int(np.random.SeedSequence([seed, clock]).generate_state(1)[0])}
