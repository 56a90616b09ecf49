"""Environments that keep changing: what changes (`envs.changes`), when (`envs.schedules`), and building them."""

import functools
import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

import gymnasium as gym

from configs.settings import closest
from envs import families, mujoco_log
from envs.nonstationary import NonStationary
from envs.registration import register
from envs.tasks import Tasks

if TYPE_CHECKING:
    # SB3 brings PyTorch along, which whoever makes a single environment may have no use for.
    from stable_baselines3.common.vec_env import VecEnv

__all__ = ["NonStationary", "Tasks", "make_env", "make_plain_env", "make_vec_env", "split_id"]

Stepping = Literal["auto", "dummy", "subproc", "batch"]

INSTALLS = {
    "gymnasium.envs.box2d": 'pip install "perennial[box2d]"',
    "gymnasium.envs.mujoco": 'pip install "gymnasium[mujoco]"',
    "ale_py": 'pip install "perennial[atari]"',
    "minigrid": 'pip install "perennial[minigrid]"',
    "shimmy": 'pip install "perennial[dm_control]"',
}
"""What installs the packages of the environments defined in a module."""


def make_plain_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> gym.Env[Any, Any]:
    """The environment as Gymnasium makes it, without anything that it prints on the way.

    Args:
        env_id: a registered id with its version, or "module:id" for one that a module of the user's registers; with
            arguments of the environment behind it where it needs some: "Ant-v5?contact_cost_weight=0".
        env_kwargs: further arguments of the environment.

    Raises:
        ValueError: there is no such environment, it does not take an argument, or a package that it needs is not
            installed.
    """
    env_id, arguments = split_id(env_id)
    arguments |= dict(env_kwargs or {})
    _check_known(env_id)
    mujoco_log.redirect()
    with warnings.catch_warnings():
        # Old versions are what published results were measured on.
        warnings.filterwarnings("ignore", message=".*is out of date", category=DeprecationWarning)
        try:
            return families.adapt(env_id, gym.make(env_id, **arguments))
        except (ImportError, gym.error.DependencyNotInstalled) as error:
            module = str(gym.spec(env_id).entry_point)
            raise ValueError(f"{env_id} cannot be made: {_what_is_missing(module, error)}") from error
        except TypeError as error:
            if not arguments:
                raise
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise ValueError(f"{env_id} cannot be made with {given}: {error}") from error


def split_id(env_id: str) -> tuple[str, dict[str, Any]]:
    """The id proper, and the arguments behind its question mark: "Ant-v5?a=1&b=true" has {"a": 1, "b": True}.

    Raises:
        ValueError: what stands behind the question mark is not name=value, joined by "&".
    """
    name, mark, query = env_id.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if mark else []
    except ValueError as error:
        raise ValueError(f"{env_id!r}: behind the question mark stand name=value pairs, joined by &") from error
    return name, {key: _plain(text) for key, text in pairs}


def _plain(text: str) -> Any:
    """A number, true, false, null or a list, as JSON has it (or Python); else the text itself."""
    words = {"true": True, "false": False, "none": None}
    try:
        return words[text.lower()] if text.lower() in words else json.loads(text)
    except ValueError:
        return text


def make_env(
    env_id: str,
    tasks: Tasks,
    *,
    stride: int = 1,
    start: int = 0,
    monitor: bool = True,
    env_kwargs: Mapping[str, Any] | None = None,
) -> gym.Env[Any, Any]:
    """One environment that changes: Gymnasium's, in `NonStationary`, in SB3's `Monitor` (without a file).

    Args:
        env_id: as for `make_plain_env`.
        tasks: what changes and when.
        stride: as for `NonStationary`: the number of parallel environments, 0 to stay in one task.
        start: as for `NonStationary`: the environment step of the run at which to start.
        monitor: whether to report the episodes' returns and lengths in `info["episode"]`.
        env_kwargs: further arguments of the environment.

    Raises:
        ValueError: there is no such environment, a package is missing, or a change does not fit (`ChangeError`).
    """
    env: gym.Env[Any, Any] = NonStationary(make_plain_env(env_id, env_kwargs), tasks, stride, start)
    if not monitor:
        return env
    from envs.monitor import Monitor
    from envs.snapshots.replay import Replay, needs_replay

    return Monitor(Replay(env) if needs_replay(env) else env)


def make_vec_env(
    env_id: str,
    tasks: Tasks,
    n_envs: int,
    seed: int,
    stepping: Stepping = "auto",
    monitor: bool = True,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
) -> "VecEnv":
    """`n_envs` environments in lockstep, which all change at the same step of the run.

    Args:
        env_id: as for `make_plain_env`.
        tasks: what changes and when.
        n_envs: how many environments.
        seed: seeds the environments (seed, seed + 1 ...); what changes is seeded by `tasks`.
        stepping: how they are stepped: in turn (dummy), each in a process of its own (subproc), or all at once by
            MuJoCo (batch), which is faster; auto takes the batch where it knows the environment, else dummy.
        monitor: as for `make_env`.
        env_kwargs: further arguments of the environment.

    Raises:
        ValueError: as `make_env`; also with subprocesses it is raised here, and not somewhere in theirs. Or the batch
            is asked for and does not know the environment.
    """
    from envs.in_turn import InTurn
    from envs.processes import Processes

    make = functools.partial(make_env, env_id, tasks, stride=n_envs, monitor=monitor, env_kwargs=env_kwargs)
    vec_env: VecEnv
    batched = stepping == "batch"
    if stepping in ("auto", "batch"):
        from envs.batch_mujoco import BatchMujoco, supports

        reason = supports(env_id, tasks, env_kwargs)
        if batched and reason:
            raise ValueError(f"{env_id} cannot be stepped by the batch: {reason}")
        batched = reason is None
    if batched:
        vec_env = BatchMujoco([make] * n_envs)
    elif stepping == "subproc":
        make().close()
        vec_env = Processes([make] * n_envs)
    else:
        vec_env = InTurn([make] * n_envs)
    vec_env.seed(seed)
    return vec_env


def _check_known(env_id: str) -> None:
    """Import what registers the environment, and refuse an id that is not registered then."""
    module, colon, name = env_id.rpartition(":")
    prefix = module + colon
    module = module or families.module_of(name) or ""
    if module:
        try:
            families.load(module)
        except (ImportError, TypeError) as error:
            raise ValueError(f"{env_id} cannot be made: {_what_is_missing(module, error)}") from error
    if name not in gym.registry:
        near = closest(name, gym.registry)
        raise ValueError(f"there is no environment {env_id!r}" + (f"; did you mean {prefix + near!r}?" if near else ""))


def _what_is_missing(module: str, error: Exception) -> str:
    """The end of a sentence that says what to install for an environment of `module`, or else what went wrong."""
    install = next((INSTALLS[known] for known in INSTALLS if module.startswith(known)), None)
    # A plain ImportError is Gymnasium's word for an environment that has moved elsewhere.
    if install is None or type(error) is ImportError:
        return str(error).rstrip(".")
    return f"a package that it needs is not installed ({install})"


register()
