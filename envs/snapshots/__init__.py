"""Exact snapshots of vectorised environments, from which a run goes on as if it had never stopped.

A snapshot is taken between two steps, as a tree of plain values, and brought into environments that were built anew
with the same arguments. From then on, equal actions lead to equal observations, rewards, ends of episodes and infos, to
the last bit; only times on the clock differ (`info["episode"]["t"]`).

What `DummyVecEnv` keeps of its last step is not part of it: every step writes all of that before it reads it.
"""

from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecTransposeImage
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvWrapper

from envs.normalize import Normalize
from envs.snapshots import rows
from envs.snapshots.objects import Reader, Tree, Writer

__all__ = ["Tree", "restore", "snapshot", "unsupported"]

MUTE = "does not tell what its environments hold"


def snapshot(vec_env: VecEnv) -> Tree:
    """What environments hold between two steps.

    Of environments that are `unsupported`, it is where they are in their tasks, and the statistics of a normalisation.
    """
    inner, normalizer = _parts(vec_env)
    read = _read_rows(inner)
    exact = _obstacle(vec_env, read) is None
    return {
        "rows": read,
        "resets": Reader().read([list(inner.reset_infos), inner._seeds, inner._options]) if exact else None,
        "action_space": Reader().read(inner.action_space),
        "batch": inner.state_dict() if hasattr(inner, "state_dict") else None,
        "normalizer": None if normalizer is None else _read_normalizer(normalizer),
    }


def restore(vec_env: VecEnv, tree: Tree) -> VecEnvObs | None:
    """Bring a snapshot into environments that were made anew with the same arguments; what they hold is forgotten.

    Args:
        vec_env: the environments, all wrappers included.
        tree: from `snapshot`.

    Returns:
        None where they go on in the middle of their episodes. Environments that are `unsupported` begin new ones, in
        the tasks that they were in and seeded anew; then it is the first observations, as `vec_env.reset()` returns
        them.

    Raises:
        ValueError: the snapshot is of other environments, or damaged.
    """
    inner, normalizer = _parts(vec_env)
    try:
        return _restore(vec_env, inner, normalizer, tree)
    except rows.MALFORMED as error:
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"the snapshot of the environments is damaged ({error!r})") from error


def unsupported(vec_env: VecEnv) -> str | None:
    """Why no exact snapshot of these environments is possible; None where it is.

    What an environment holds may change with its first reset, so that this is best asked after it.
    """
    inner, _ = _parts(vec_env)
    return _obstacle(vec_env, _read_rows(inner))


def _obstacle(vec_env: VecEnv, read: list[dict[str, Tree]]) -> str | None:
    """Why environments of which this was read are unsupported."""
    for layer in _wrappers(vec_env):
        if type(layer) not in (Normalize, VecTransposeImage):
            return f"the wrapper {type(layer).__name__} is unknown"
    return next((row["reason"] for row in read if "reason" in row), None)


def _restore(vec_env: VecEnv, inner: Any, normalizer: Normalize | None, tree: Any) -> VecEnvObs | None:
    if len(tree["rows"]) != inner.num_envs:
        raise ValueError(f"the snapshot is of {len(tree['rows'])} environments, not {inner.num_envs}")
    # Some attributes exist after a reset only.
    inner.reset()
    problem = next((problem for problem in _write_rows(inner, tree["rows"]) if problem is not None), None)
    if problem is not None:
        raise ValueError(problem)
    Writer().write(tree["action_space"], inner.action_space)
    if tree["batch"] is not None:
        inner.load_state_dict(tree["batch"])
    if normalizer is not None:
        _write_normalizer(normalizer, tree["normalizer"])
    if tree["resets"] is not None:
        inner.reset_infos, inner._seeds, inner._options = Writer().write(tree["resets"], None)
        return None
    inner._seeds = [row.get("seed") for row in tree["rows"]]
    return vec_env.reset()


def _wrappers(vec_env: VecEnv) -> list[VecEnvWrapper]:
    """The wrappers from the outermost on."""
    found = []
    while isinstance(vec_env, VecEnvWrapper):
        found.append(vec_env)
        vec_env = vec_env.venv
    return found


def _parts(vec_env: VecEnv) -> tuple[Any, Normalize | None]:
    """The environments without wrappers, and their normalisation."""
    normalizers = [layer for layer in _wrappers(vec_env) if isinstance(layer, Normalize)]
    return vec_env.unwrapped, normalizers[0] if normalizers else None


def _read_rows(inner: VecEnv) -> list[dict[str, Tree]]:
    if isinstance(inner, DummyVecEnv):
        return [rows.read(env) for env in inner.envs]
    if isinstance(inner, SubprocVecEnv) and inner.has_attr("snapshot"):
        return list(inner.env_method("snapshot"))
    return [{"reason": f"{type(inner).__name__} {MUTE}"}] * inner.num_envs


def _write_rows(inner: VecEnv, trees: list[dict[str, Tree]]) -> list[str | None]:
    if isinstance(inner, DummyVecEnv):
        return [rows.write(env, tree) for env, tree in zip(inner.envs, trees, strict=True)]
    if isinstance(inner, SubprocVecEnv) and inner.has_attr("restore"):
        return [inner.env_method("restore", tree, indices=[row])[0] for row, tree in enumerate(trees)]
    return [f"the snapshot is of others: {type(inner).__name__} {MUTE}" if "state" in tree else None for tree in trees]


def _read_normalizer(normalizer: Normalize) -> Tree:
    latest = [normalizer.old_obs, normalizer.old_reward]
    return {"statistics": normalizer.state_dict(), "latest": Reader().read(latest), "training": normalizer.training}


def _write_normalizer(normalizer: Normalize, tree: Tree) -> None:
    normalizer.load_state_dict(tree["statistics"])
    normalizer.old_obs, normalizer.old_reward = Writer().write(tree["latest"], None)
    normalizer.training = tree["training"]
