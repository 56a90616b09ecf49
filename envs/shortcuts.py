"""Steps of small environments without what they cost beside their arithmetic, to the last bit the same.

A step of Gymnasium's CartPole is some thirty operations on NumPy's single numbers, each of which takes many times as
long as the same operation on Python's, and five wrappers lie around it. A shortcut computes the same numbers in the
same order, reads every constant and the state where the environment keeps them, and leaves the new state there:
whatever else is done to the environment meanwhile (switches, resets, rendering, attributes) is noticed on both sides.

What is rare is left to the environment's own step: strange actions, states and constants, and steps after an end.
"""

import functools
from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

from envs.layers import Layers, unfit

Stepped = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]
Bare = tuple[Any, float, bool]
"""Of an environment's own step: observation, reward, whether it has ended the episode."""

WHOLE: frozenset[type] = frozenset({int, *(np.dtype(code).type for code in "bhilqBHILQ")})
"""Types of actions that Gymnasium's `Discrete` knows."""


def shortcut(env: gym.Env[Any, Any]) -> Callable[[Any], Stepped] | None:
    """What takes a step of `env` as its own `step` does; None where no shortcut is known.

    Args:
        env: an environment as `envs.make_env` makes it. Wrappers that are put into it later are not seen.
    """
    inner = env.unwrapped
    kind: Any = type(inner)
    if kind not in KNOWN or unfit(env) or inner.render_mode == "human":
        return None
    # Whoever has given the class another step means that one.
    if kind.step is not OWN[kind] or not _is_right(kind):
        return None
    bare, layers = KNOWN[kind], Layers(env)
    course, finish = layers.course, layers.finish

    def step(action: Any) -> Stepped:
        if layers.waits:
            return env.step(action)
        acted = course.action(action)
        found = bare(inner, acted)
        if found is None:
            observation, reward, terminated, _, info = inner.step(acted)
        else:
            observation, reward, terminated = found
            info = {}
        given, truncated = finish(reward, terminated, info)
        return course.observation(observation), given, terminated, truncated, info

    return step


def cart_pole(env: Any, action: Any) -> Bare | None:
    """A step of Gymnasium's `CartPoleEnv`; None where it is left to the environment, in which nothing has changed yet.

    Every operation has a number of double precision on at least one side there, so that it is one on Python's numbers.
    """
    state = env.state
    if type(action) not in WHOLE or env.steps_beyond_terminated is not None or type(state) is not np.ndarray:
        return None
    action = int(action)
    if action not in (0, 1) or state.dtype != np.float64 or state.shape != (4,):
        return None
    x, x_dot, theta, theta_dot = state.tolist()
    try:
        gravity, total_mass, mass_length = float(env.gravity), float(env.total_mass), float(env.polemass_length)
        length, masspole, tau = float(env.length), float(env.masspole), float(env.tau)
        far, steep = float(env.x_threshold), float(env.theta_threshold_radians)
        force = float(env.force_mag) if action == 1 else -float(env.force_mag)
        cos, sin = float(np.cos(theta)), float(np.sin(theta))
        temp = (force + mass_length * (theta_dot * theta_dot) * sin) / total_mass
        theta_acc = (gravity * sin - cos * temp) / (length * (4.0 / 3.0 - masspole * (cos * cos) / total_mass))
        x_acc = temp - mass_length * theta_acc * cos / total_mass
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if env.kinematics_integrator == "euler":
        x += tau * x_dot
        x_dot += tau * x_acc
        theta += tau * theta_dot
        theta_dot += tau * theta_acc
    else:
        x_dot += tau * x_acc
        x += tau * x_dot
        theta_dot += tau * theta_acc
        theta += tau * theta_dot
    env.state = state = np.array((x, x_dot, theta, theta_dot))
    terminated = x < -far or x > far or theta < -steep or theta > steep
    if terminated:
        env.steps_beyond_terminated = 0
    sutton_barto = env._sutton_barto_reward
    reward = (-1.0 if terminated else 0.0) if sutton_barto else 1.0
    return state.astype(np.float32), reward, terminated


KNOWN: dict[type[Any], Callable[[Any, Any], Bare | None]] = {CartPoleEnv: cart_pole}
"""Environments of exactly these classes, which never cut an episode off by themselves, and their steps."""

OWN: dict[type[Any], Callable[..., Any]] = {kind: kind.step for kind in KNOWN}


@functools.cache
def _is_right(kind: type[Any]) -> bool:
    """Whether the installed Gymnasium's own step gives the same, as it did when the shortcut was written."""
    try:
        own, other = kind(), kind()
        rng = np.random.default_rng(0)
        for _ in range(8):
            own.reset(seed=0)
            other.reset(seed=0)
            other.state = own.state = own.state * rng.uniform(-20, 20, own.state.shape)
            for action in rng.integers(2, size=20):
                expected, found = own.step(action), KNOWN[kind](other, action)
                if found is None or expected[3] or expected[4]:
                    return False
                same = np.array_equal(expected[0], found[0]) and np.array_equal(own.state, other.state)
                if not same or expected[1:3] != found[1:] or expected[0].dtype != found[0].dtype:
                    return False
                if expected[2]:
                    break
    except (AttributeError, TypeError, ValueError):
        return False
    return True
