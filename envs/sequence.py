"""Several environments in one, of which one is current: for tasks that are whole environments.

An environment is named by a text as `envs.make_plain_env` takes it: its id, with arguments behind a question mark where
it is made with any, such as `HalfCheetah-v5` or `ALE/Breakout-v5?mode=4&difficulty=0&obs_type=ram`.

Agents have networks of one shape, so all environments of a sequence must have equal spaces, or be padded:

- Observations that are vectors are filled up with zeros at their end, to the longest.
- Actions that are vectors are those of the longest; an environment with fewer ignores the last ones. Their bounds are
  the first environment's that has the component, and where another's are different, its actions are stretched to them:
  full action is full action everywhere.
- Discrete actions are as many as the most; those that an environment has not are its action 0.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

import envs
from configs.settings import did_you_mean
from envs.changes.base import ChangeError

Spaces = tuple[Space[Any], Space[Any]]
"""Of observations and actions."""

_known: dict[str, tuple[EnvSpec | None, str, Spaces]] = {}


def write(env_id: str, kwargs: dict[str, Any]) -> str:
    """The text that `envs.split_id` takes apart into these, with the arguments sorted by their names."""
    parts = [f"{name}={_write_value(kwargs[name])}" for name in sorted(kwargs)]
    return "?".join([env_id, "&".join(parts)] if parts else [env_id])


def _write_value(value: Any) -> str:
    text = json.dumps(value, default=str)
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            text = value
    for character in "%&+":
        text = text.replace(character, f"%{ord(character):X}")
    return text


def same(text: str) -> str:
    """The text without a module, and with sorted arguments: the same for texts that mean the same.

    Raises:
        ValueError: the arguments cannot be read.
    """
    env_id, kwargs = envs.split_id(text)
    return write(env_id.rpartition(":")[2], kwargs)


def name_of(env: gym.Env[Any, Any]) -> str:
    """The text that names an environment which has been made already.

    Arguments are those in which it differs from what is registered under its id; how it is rendered does not count.
    """
    spec = env.spec
    if spec is None:
        return type(env.unwrapped).__name__
    registered = gym.registry.get(spec.id)
    defaults = {} if registered is None else {name: _write_value(value) for name, value in registered.kwargs.items()}
    kwargs = {
        name: value
        for name, value in spec.kwargs.items()
        if name != "render_mode" and (name not in defaults or defaults[name] != _write_value(value))
    }
    if registered is not None and registered.max_episode_steps != spec.max_episode_steps:
        kwargs["max_episode_steps"] = -1 if spec.max_episode_steps is None else spec.max_episode_steps
    return write(spec.id, kwargs)


class EnvSequence(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Holds several environments and is the current one of them, which `select` chooses between two episodes.

    At first it is the environment that it is given, and as long as it is that one and nothing is padded, all passes
    through untouched. The others' spaces are checked at once; they themselves are made when they are first selected,
    and kept: an environment that returns goes on with its own random numbers. All are seeded with the seed of the
    reset, each when its turn comes, so that each task begins as its environment alone does under this seed.

    Environments go by the name that `name_of` gives them; `aliases` has it for every text that names one of them.

    `started` holds the names of those that were reset at least once.

    `unwrapped`, `render` and `metadata` are the current environment's, time limits each one's own; `spec` is the first
    one's. Wrappers that the first one came in are around it alone.

        >>> env = EnvSequence(gym.make("CartPole-v1"), ["Acrobot-v1"], pad=True)
        >>> env.select("Acrobot-v1")

    Args:
        env: the first environment; it belongs to the sequence from now on.
        ids: the others, by the texts that name them; the first one may be among them.
        pad: whether unequal spaces are padded, or refused.

    Raises:
        ChangeError: spaces do not fit each other, or an environment's arguments do not.
        ValueError: there is no such environment, or a package that it needs is not installed.
    """

    def __init__(self, env: gym.Env[Any, Any], ids: Sequence[str], pad: bool = False) -> None:
        RecordConstructorArgs.__init__(self, ids=ids, pad=pad)
        super().__init__(env)
        self.own = name_of(env)
        self.aliases = {self.own: self.own}
        self._made = {self.own: env}
        self._texts: dict[str, str] = {}
        self._spaces: dict[str, Spaces] = {self.own: (env.observation_space, env.action_space)}
        for text in ids:
            if same(text) not in self.aliases:
                name, spaces = _look_at(text)
                self.aliases[same(text)] = name
                self._texts.setdefault(name, text)
                self._spaces.setdefault(name, spaces)
        self.observation_space = _join(0, self._spaces, pad)
        self.action_space = _join(1, self._spaces, pad)
        self._seed: int | None = None
        self._unseeded: set[str] = set()
        self.started: set[str] = set()
        # Gymnasium keeps the first answer: it must not depend on which environment is current by then.
        _ = self.spec
        self.select(self.own)

    @property
    def names(self) -> tuple[str, ...]:
        """All environments, the first one first."""
        return tuple(self._spaces)

    def select(self, text: str) -> None:
        """Make another environment current: a reset must follow.

        Raises:
            ChangeError: it is none of the sequence's.
        """
        name = self.aliases.get(same(text))
        if name is None:
            known = ", ".join(self.aliases)
            raise ChangeError(f"{text} is none of the environments {known}{did_you_mean(text, self.aliases)}")
        if name not in self._made:
            self._made[name] = _make(self._texts[name], self._made[self.own].render_mode)
        self.current = name
        self.env = self._made[name]
        observations, actions = self._spaces[name]
        self._fit_observation = _observation_fit(observations, self.observation_space)
        self._fit_action = _action_fit(actions, self.action_space)
        self._must_reset = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode of the current environment."""
        if seed is not None:
            self._seed, self._unseeded = seed, set(self._spaces)
        if self.current in self._unseeded:
            seed = self._seed
            self._unseeded.remove(self.current)
        observation, info = self.env.reset(seed=seed, options=options)
        self.started.add(self.current)
        self._must_reset = False
        return observation if self._fit_observation is None else self._fit_observation(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one step in the current environment.

        Raises:
            ResetNeeded: another environment was selected, and there was no reset since.
        """
        if self._must_reset:
            raise gym.error.ResetNeeded("the environment waits for reset(): another one was selected")
        if self._fit_action is not None:
            action = self._fit_action(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._fit_observation is not None:
            observation = self._fit_observation(observation)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Close all environments."""
        for env in self._made.values():
            env.close()


def sequence_in(env: gym.Env[Any, Any]) -> EnvSequence | None:
    """The sequence that is somewhere within an environment's wrappers, if there is one."""
    while not isinstance(env, EnvSequence):
        if not isinstance(env, gym.Wrapper):
            return None
        env = env.env
    return env


def _make(text: str, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """The environment that a text names."""
    try:
        return envs.make_plain_env(text, None if render_mode is None else {"render_mode": render_mode})
    except ValueError:
        raise
    except Exception as error:
        # Whatever an environment says of arguments that it does not take.
        raise ChangeError(f"{text} cannot be made: {error}") from error


def _look_at(text: str) -> tuple[str, Spaces]:
    """Name and spaces of the environment that a text names, which is made to see them, once in each process."""
    env_id = same(text).partition("?")[0]
    if text not in _known or _known[text][0] is not gym.registry.get(env_id):
        env = _make(text)
        found = name_of(env), (env.observation_space, env.action_space)
        env.close()
        _known[text] = gym.registry.get(env_id), *found
    return _known[text][1:]


def _join(which: int, all_spaces: dict[str, Spaces], pad: bool) -> Space[Any]:
    """The space of observations (0) or of actions (1) of all environments together.

    Raises:
        ChangeError: there is none; the sentence names two environments that do not fit and their spaces.
    """
    spaces = {name: pair[which] for name, pair in all_spaces.items()}
    (first, own), *others = spaces.items()
    for name, space in others:
        if space == own:
            continue
        fits = _padded_actions([own, space]) if which else _padded_observations([own, space])
        if fits is None or not pad:
            what = "actions" if which else "observations"
            kinds = "both vectors with finite bounds, or both discrete" if which else "both vectors"
            raise ChangeError(
                f"{first} and {name} have different {what}, {_shown(own)} and {_shown(space)}: "
                + ("set pad to join them" if fits is not None else f"they must be equal or, to be padded, {kinds}")
            )
    joined = _padded_actions(list(spaces.values())) if which else _padded_observations(list(spaces.values()))
    return own if joined is None or joined == own else joined


def _shown(space: Space[Any]) -> str:
    return " ".join(str(space).split())


def _padded_observations(spaces: list[Space[Any]]) -> Box | None:
    """The vectors that hold those of all spaces and zeros behind them (or arrays of one shape); None for others."""
    boxes = [space for space in spaces if isinstance(space, Box)]
    if len(boxes) < len(spaces) or not _alike(boxes):
        return None
    shape, dtype = max(box.shape for box in boxes), np.result_type(*(box.dtype for box in boxes))
    low = np.min([_filled_up(box.low, shape, dtype) for box in boxes], axis=0)
    high = np.max([_filled_up(box.high, shape, dtype) for box in boxes], axis=0)
    return Box(low, high, dtype=dtype.type)


def _padded_actions(spaces: list[Space[Any]]) -> Space[Any] | None:
    """The longest vectors (or arrays of one shape) or the most discrete actions; None for others."""
    own = spaces[0]
    if isinstance(own, Discrete):
        discrete = [space for space in spaces if isinstance(space, Discrete) and space.start == own.start]
        return max(discrete, key=lambda space: space.n) if len(discrete) == len(spaces) else None
    boxes = [space for space in spaces if isinstance(space, Box)]
    if len(boxes) < len(spaces) or not _alike(boxes):
        return None
    low, high = boxes[0].low, boxes[0].high
    for box in boxes[1:]:
        if len(box.shape) == 1:
            low, high = np.append(low, box.low[len(low) :]), np.append(high, box.high[len(high) :])
    joined = Box(low, high, dtype=boxes[0].dtype.type)
    for box in boxes:
        unequal = _unequal(box, joined)
        edges = [box.low, box.high, *(bound[: len(box.low)] for bound in (low, high))] if unequal.any() else []
        if not all(np.isfinite(edge[unequal]).all() for edge in edges):
            return None
    return joined


def _alike(boxes: list[Box]) -> bool:
    """Whether all are vectors, or of one shape with at least one dimension."""
    shapes = {box.shape for box in boxes}
    return all(shapes) and (len(shapes) == 1 or all(len(shape) == 1 for shape in shapes))


def _unequal(box: Box, joined: Box) -> NDArray[np.bool_]:
    """Which components have other bounds than the joined space."""
    found: NDArray[np.bool_] = (box.low != joined.low[: len(box.low)]) | (box.high != joined.high[: len(box.low)])
    return found


def _filled_up(array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A new array with zeros behind the given one."""
    filled = np.zeros(shape, dtype)
    filled[: len(array)] = array
    return filled


def _observation_fit(space: Space[Any], joined: Space[Any]) -> Callable[[Any], Any] | None:
    """What makes observations of an environment those of the sequence; None where they are."""
    if not isinstance(joined, Box) or (space.shape == joined.shape and space.dtype == joined.dtype):
        return None
    shape, dtype = joined.shape, joined.dtype
    return lambda observation: _filled_up(observation, shape, dtype)


def _action_fit(space: Space[Any], joined: Space[Any]) -> Callable[[Any], Any] | None:
    """What makes actions of the sequence those of an environment; None where they are."""
    if space == joined:
        return None
    if isinstance(space, Discrete):
        first, end = space.start, space.start + space.n
        return lambda action: action if action < end else first
    assert isinstance(space, Box)
    assert isinstance(joined, Box)
    size, dtype, unequal = len(space.low), space.dtype, _unequal(space, joined)
    if not unequal.any():
        return lambda action: np.asarray(action)[:size].astype(dtype, copy=False)
    # In double precision, and the product before the quotient: bounds that are whole numbers give what one expects.
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    joined_low, joined_high = joined.low[:size].astype(np.float64), joined.high[:size].astype(np.float64)
    width, joined_width = np.ones((2, *space.shape))
    width[unequal], joined_width[unequal] = (high - low)[unequal], (joined_high - joined_low)[unequal]

    def stretch(action: Any) -> NDArray[Any]:
        own = np.asarray(action)[:size]
        stretched: NDArray[Any] = np.where(unequal, low + (own - joined_low) * width / joined_width, own).astype(dtype)
        return stretched

    return stretch
