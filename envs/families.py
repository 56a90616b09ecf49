"""Families of environments from packages of their own: who registers them, and how their observations are learned from.

Stable-Baselines3's plain policies take an observation that is one array. MiniGrid's and dm_control's are dictionaries;
`adapt` makes vectors of them, and so leaves out MiniGrid's mission: a text that would tell the agent its task. (Where
the goal is in the mission alone, as in GoToObject, Fetch and most of BabyAI, agents are left to find it out.)
"""

import importlib
import warnings
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.spaces import Dict
from gymnasium.wrappers import DtypeObservation, FilterObservation, FlattenObservation

MODULES = {"ALE/": "ale_py", "BabyAI-": "minigrid", "MiniGrid-": "minigrid", "dm_control/": "shimmy"}
"""The module that registers the environments whose ids begin so."""


def module_of(env_id: str) -> str | None:
    """The module that registers an environment of a known family; None for all others."""
    return next((module for prefix, module in MODULES.items() if env_id.startswith(prefix)), None)


def load(module: str) -> None:
    """Import a module that registers environments, without anything that a known one prints.

    Raises:
        ImportError: it is not installed, or a package that it needs.
    """
    if module == "shimmy":
        _load_dm_control()
    imported = importlib.import_module(module)
    if module == "ale_py":
        imported.ALEInterface.setLoggerMode(imported.LoggerMode.Error)


def _load_dm_control() -> None:
    """Import dm_control and make it fit the simulator."""
    handler = mujoco.get_mju_user_warning()
    with warnings.catch_warnings():
        # It looks for a display, which most machines that train have not.
        warnings.filterwarnings("ignore", module="glfw")
        importlib.import_module("dm_control.suite")
    # It takes the simulator's messages to a log of its own, from all environments of the process.
    mujoco.set_mju_user_warning(handler)
    sizes = importlib.import_module("dm_control.mujoco.wrapper.mjbindings.sizes").array_sizes
    # Its releases know one version of the simulator each, and read all arrays of that one, of use or not: 1.0.50 fails
    # with MuJoCo 4, in which nine arrays (of flexible bodies) are no more.
    for struct, kind in {"mjmodel": mujoco.MjModel, "mjdata": mujoco.MjData}.items():
        for name in [name for name in sizes[struct] if not hasattr(kind, name)]:
            del sizes[struct][name]


def adapt(env_id: str, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """The environment with a vector as observation where its family has dictionaries; others as they are.

    Args:
        env_id: the id under which it was made.
        env: the environment.

    Returns:
        MiniGrid: direction (four numbers, a 1 at the agent's own) and image, all float32. dm_control: its entries one
        after the other, in the order of their names.
    """
    module = module_of(env_id.rpartition(":")[2])
    if module not in ("minigrid", "shimmy") or not isinstance(env.observation_space, Dict):
        return env
    if module == "minigrid":
        flat: gym.Env[Any, Any] = FlattenObservation(FilterObservation(env, ("direction", "image")))
        return DtypeObservation(flat, np.float32)
    return FlattenObservation(env)
