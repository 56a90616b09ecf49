"""Steps of small environments without what they cost beside their arithmetic, to the last bit the same.

A step of Gymnasium's CartPole is some thirty operations on NumPy's single numbers, each of which takes many times as
long as the same operation on Python's, and five wrappers lie around it. A shortcut computes the same numbers in the
same order, reads every constant and the state where the environment keeps them, and leaves the new state there, so that
switches, resets and whoever else writes to the environment are noticed on both sides.

What is rare is left to the environment: strange actions, states and constants, steps after an end, pictures for people,
and steps that somebody has put in the place of its own.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.spaces import Discrete

from envs.layers import Layers, unfit

Stepped = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]
Bare = tuple[Any, float, bool]
"""Of an environment's own step: observation, reward, whether it has ended the episode."""

WHOLE: frozenset[type] = frozenset({int, *(np.dtype(code).type for code in "bhilqBHILQ")})
"""Types of actions that Gymnasium's `Discrete` knows."""
CONSTANTS = ("gravity", "total_mass", "polemass_length", "length", "masspole", "tau", "force_mag")
"""What is tried with other values before a shortcut is used."""
PLAIN = {float}
"""What they mostly are."""
NUMBERS: frozenset[type] = frozenset({int, float, np.float64, np.float32})
"""Types of constants that make numbers of double precision with those."""


def shortcut(env: gym.Env[Any, Any]) -> "Shortcut | None":
    """What takes a step of `env` as its own `step` does; None where no shortcut is known.

    Args:
        env: an environment as `envs.make_env` makes it. Wrappers that are put into it later are not seen.
    """
    inner: Any = env.unwrapped
    kind: Any = type(inner)
    if kind not in KNOWN or inner.action_space != KNOWN[kind].space or unfit(env):
        return None
    return Shortcut(env) if kind.step is KNOWN[kind].own and _is_right(kind) else None


class Shortcut:
    """Takes steps of an environment.

    Args:
        env: one of those that have a shortcut.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env
        self._inner: Any = env.unwrapped
        self._kind: Any = type(self._inner)
        self._known = KNOWN[self._kind]
        self._layers = Layers(env)

    def __call__(self, action: Any) -> Stepped:
        """What the environment's own `step` would do, and return; the info is nobody else's."""
        inner, layers = self._inner, self._layers
        others = self._kind.step is not self._known.own or "step" in inner.__dict__ or "step" in self._env.__dict__
        if others or layers.waits or inner.render_mode == "human":
            *rest, info = self._env.step(action)
            return *rest, copy.deepcopy(info)
        course = layers.course
        acted = course.action(action)
        found = self._known.bare(inner, acted)
        if found is None:
            observation, reward, terminated, _, info = inner.step(acted)
        else:
            observation, reward, terminated = found
            info = {}
        given, truncated = layers.finish(reward, terminated, info)
        return course.observation(observation), given, terminated, truncated, info


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
    constants = (
        env.gravity, env.total_mass, env.polemass_length, env.length, env.masspole, env.tau, env.force_mag,
        env.x_threshold, env.theta_threshold_radians,
    )  # fmt: skip
    kinds = set(map(type, constants))
    if not kinds <= NUMBERS:
        return None
    plain: Any = constants if kinds == PLAIN else map(float, constants)
    gravity, total_mass, mass_length, length, masspole, tau, force_mag, far, steep = plain
    x, x_dot, theta, theta_dot = state.tolist()
    force = force_mag if action == 1 else -force_mag
    cos, sin = float(np.cos(theta)), float(np.sin(theta))
    try:
        temp = (force + mass_length * (theta_dot * theta_dot) * sin) / total_mass
        theta_acc = (gravity * sin - cos * temp) / (length * (4.0 / 3.0 - masspole * (cos * cos) / total_mass))
        x_acc = temp - mass_length * theta_acc * cos / total_mass
    except ZeroDivisionError:
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


class Known(NamedTuple):
    """A class of environments, none of which cuts an episode off by itself."""

    bare: Callable[[Any, Any], Bare | None]
    """The shortcut: given an environment and an action, its step; None where it is left to the environment."""
    own: Callable[..., Any]
    """Its own step."""
    space: gym.Space[Any]
    """Of its actions."""


KNOWN: dict[type[Any], Known] = {CartPoleEnv: Known(cart_pole, CartPoleEnv.step, Discrete(2))}
"""By exactly their classes."""


@functools.cache
def _is_right(kind: Any) -> bool:
    """Whether the installed Gymnasium's own step gives the same, as it did when the shortcut was written."""
    rng = np.random.default_rng(0)
    try:
        return all(_agree(kind, rng, euler, sutton) for euler in (True, False) for sutton in (True, False))
    except (AttributeError, TypeError, ValueError):
        return False


def _agree(kind: Any, rng: np.random.Generator, euler: bool, sutton: bool) -> bool:
    """Whether both ways give the same from random states, with the constants as they are and with random ones."""
    own, other = kind(sutton_barto_reward=sutton), kind(sutton_barto_reward=sutton)
    for number in range(8):
        constants = dict(zip(CONSTANTS, rng.uniform(0.1, 20, len(CONSTANTS)).tolist(), strict=True)) if number else {}
        for env in (own, other):
            env.reset(seed=0)
            vars(env).update(constants, kinematics_integrator="euler" if euler else "semi-implicit euler")
        for action in rng.integers(2, size=8):
            # Some of them end the episode.
            state = rng.uniform(-1, 1, 4) * (3, 5, 0.3, 5)
            for env in (own, other):
                env.state, env.steps_beyond_terminated = state, None
            expected, found = own.step(action), KNOWN[kind].bare(other, action)
            if found is None or expected[3] or expected[4]:
                return False
            same = np.array_equal(expected[0], found[0]) and np.array_equal(own.state, other.state)
            if not same or expected[1:3] != found[1:] or expected[0].dtype != found[0].dtype:
                return False
    return True
