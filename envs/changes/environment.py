"""Another environment in each task: games, morphologies or goals that share an agent's inputs and outputs."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from annotated_types import Ge

from configs.settings import SettingError, did_you_mean
from envs.changes.base import WHOLE, Change, ChangeError
from envs.sequence import EnvSequence, same, sequence_in


@dataclass(kw_only=True)
class Environment(Change):
    """The whole environment is another one.

    A value names an environment by its id, with arguments behind a question mark: `Acrobot-v1`,
    `ALE/Breakout-v5?mode=4&difficulty=0&obs_type=ram` (see `envs.sequence`); the original is the run's own. An agent
    that is shown the values sees a 1 at the place of the current one (the run's own first, then `ids`) among zeros.

    Arguments that the run's own environment is made with are not the others'. Nor are wrappers that were around it
    before, or changes of its inside, such as its gravity.
    """

    ids: tuple[str, ...]
    """Environments to go through, task by task. The run's own is one of them only where it is listed."""
    draw: Literal["cycle", "shuffle", "choice"] = "cycle"
    """Which comes next: the next in `ids`, and after the last the first again (cycle); rounds of all of them, each in
    an order of its own (shuffle; no round begins with the last of the one before, if there are three or more, and all
    different); or any one, the same again included (choice)."""
    order: Annotated[int, Ge(0)] = 0
    """Number of the random orders that shuffle goes through. They do not depend on the run's seed, so that the tasks of
    runs can be compared one by one."""
    pad: bool = False
    """Join unequal spaces: shorter observations are filled up with zeros, and surplus actions do nothing (components
    of a vector) or what action 0 does (discrete ones). Otherwise all spaces must be equal."""

    live: ClassVar[frozenset[str]] = Change.live | {"_sequence"}
    at_reset: ClassVar[bool] = True
    names_original: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._own: str | None = None
        self._names: tuple[str, ...] = ()
        self._aliases: dict[str, str] = {}
        self.ids = tuple(self.ids)
        if not self.ids:
            raise SettingError(self, "ids", "must list at least one environment")
        for text in self.ids:
            try:
                same(text)
            except ValueError as error:
                raise SettingError(self, "ids", f"must name environments, but {error}") from error

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """A sequence that begins with `env`; what is a sequence already is left so."""
        if sequence_in(env) is not None:
            return env
        layer = env
        while isinstance(layer, gym.Wrapper):
            if type(layer).__module__.startswith("envs."):
                raise ChangeError(
                    f"{self.name} must be listed before the change that wraps the environment in "
                    f"{type(layer).__name__}, which would be around the run's own one alone"
                )
            layer = layer.env
        return EnvSequence(env, self.ids, self.pad)

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Find the sequence."""
        super().bind(env, space)
        sequence = sequence_in(env)
        if sequence is None:
            raise self.misfit(env, "what its own wrap makes of an environment")
        missing = [text for text in self.ids if same(text) not in sequence.aliases]
        if missing:
            raise ChangeError(
                f"{missing[0]} is none of the environments here: list all in the {self.name} that is first"
            )
        self._sequence = sequence
        self._own, self._names, self._aliases = sequence.own, sequence.names, sequence.aliases

    def writes(self) -> frozenset[str]:
        """The environment as a whole."""
        return frozenset({WHOLE})

    @property
    def original(self) -> str | None:
        """The run's own environment."""
        return self._own

    def is_original(self, value: str) -> bool:
        """Whether `value` names the run's own environment."""
        return self._aliases.get(same(value)) == self._own

    def listed(self, task: int) -> str | None:
        """The next of the list, or of this round's order."""
        if self.draw == "choice":
            return None
        turn, place = divmod(task, len(self.ids))
        return self.ids[place] if self.draw == "cycle" else self._shuffled(turn)[place]

    def _shuffled(self, turn: int) -> list[str]:
        """The order of round number `turn`."""
        order = [self.ids[place] for place in self._permutation(turn)]
        # The last one is never exchanged, so that this asks no round but the one before.
        if turn and len(order) > 2 and same(order[0]) == same(self.ids[self._permutation(turn - 1)[-1]]):
            order[:2] = order[1::-1]
        return order

    def _permutation(self, turn: int) -> list[int]:
        order: list[int] = np.random.default_rng([self.order, turn]).permutation(len(self.ids)).tolist()
        return order

    def sample(self, rng: np.random.Generator) -> str:
        """Any one of the list."""
        return self.ids[rng.integers(len(self.ids))]

    def check(self, value: Any) -> None:
        """Refuse what is not listed: its spaces have not been checked."""
        try:
            fits = isinstance(value, str) and same(value) in self._aliases
        except ValueError:
            fits = False
        if not fits:
            known = ", ".join(self._aliases)
            raise ChangeError(f"{self.name} must be one of {known}, not {value!r}{did_you_mean(value, self._aliases)}")

    def set(self, value: str) -> None:
        """Make it the current environment, which then waits for its reset."""
        self._sequence.select(value)

    def context(self, value: str) -> tuple[float, ...]:
        """A 1 at its place among all environments, 0 at the others'."""
        place = self._names.index(self._aliases[same(value)])
        return tuple(float(number == place) for number in range(len(self._names)))

    def context_bounds(self) -> tuple[float, float]:
        """0 and 1."""
        return 0.0, 1.0

    def describe(self, value: str) -> str:
        """The environment's name, the run's own included."""
        return value
