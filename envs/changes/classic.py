"""Changes of the classic-control environments' constants.

Gymnasium's classic-control environments read most of their constants at every step, so that writing them is enough.
What is derived from them once, when the environment is made, is derived anew here; what is no attribute of the
environment (the gravity of Acrobot and of MountainCarContinuous) cannot be changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import (
    AcrobotEnv,
    CartPoleEnv,
    Continuous_MountainCarEnv,
    MountainCarEnv,
    PendulumEnv,
)
from gymnasium.spaces import Box

from configs.settings import SettingError
from envs.changes.base import ChangeError, ScalarChange


def is_own(part: object, name: str) -> bool:
    """Whether writing an attribute replaces what `part` itself keeps, rather than cover up what its class does."""
    return name in getattr(part, "__dict__", {}) or hasattr(getattr(type(part), name, None), "__set__")


@dataclass(kw_only=True)
class Constant(ScalarChange):
    """Base of the changes of one physical constant, an attribute of the environment without its wrappers."""

    parameter: str
    """Which constant; subclasses list theirs."""

    live = ScalarChange.live | {"_unwrapped"}
    above_zero: ClassVar[frozenset[str]] = frozenset()
    """Parameters that must be above 0."""
    from_zero: ClassVar[frozenset[str]] = frozenset()
    """Parameters that must be at least 0."""
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Default bounds of the parameters that are 0 in the environment itself, so that it has no half and no double."""
    observed: ClassVar[Mapping[str, tuple[int, float]]] = {}
    """Parameters that bound an observation: which of its components, and how many times the parameter is its bound."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._most = np.inf
        if self.parameter in self.from_zero:
            for name, numbers in {"values": self.values or (), "low": (self.low,), "high": (self.high,)}.items():
                wrong = next((number for number in numbers if number is not None and number < 0), None)
                if wrong is not None:
                    raise SettingError(self, name, f"must be at least 0 for {self.noun}, not {wrong:g}")

    @property
    def positive(self) -> bool:
        """Whether the parameter must be above 0."""
        return self.parameter in self.above_zero

    @property
    def noun(self) -> str:
        """What is changed."""
        return self.parameter

    @property
    def attribute(self) -> str:
        """What the environment calls the parameter."""
        return self.parameter

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """The environment without its wrappers; sets `_most` where there is a highest number that makes sense in it.

        Raises:
            ChangeError: it does not have this parameter.
        """
        raise NotImplementedError

    def read(self) -> float:
        """The environment's own number; called once, before anything is changed."""
        return float(getattr(self._unwrapped, self.attribute))

    def write(self, number: float) -> None:
        """Make the parameter another number than the environment's own."""
        setattr(self._unwrapped, self.attribute, number)

    def restore(self) -> None:
        """Make the environment what it was when `read` was called."""
        if self._instance_had:
            setattr(self._unwrapped, self.attribute, self._pristine)
        else:
            # A class attribute, which is covered up by an instance's own as long as it is another.
            vars(self._unwrapped).pop(self.attribute, None)

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the constant."""
        super().bind(env, space)
        self._unwrapped = self.fit(env)
        self._instance_had = is_own(self._unwrapped, self.attribute)
        self._pristine: Any = getattr(self._unwrapped, self.attribute, None)
        self.own = self.read()
        if self.own == 0 and self.mode == "factor":
            raise ChangeError(
                f"{self.name} cannot multiply {self.noun}, because it is 0 in this environment; choose mode absolute"
            )
        self.lowest()
        self._highest = self.absolute(max(self.values) if self.values is not None else self.bounds()[1])
        if self._highest > self._most:
            raise ChangeError(f"{self.name}: {self.noun} must be at most {self._most:g}, not {self._highest:g}")
        if self._wider() and not self._may_widen(self.space):
            raise ChangeError(
                f"{self.name} makes the bounds of observations wider; list it before the changes of observations"
            )

    def _wider(self) -> bool:
        """Whether observations may leave the environment's own bounds."""
        return self.parameter in self.observed and self._highest > self.absolute(None)

    def _may_widen(self, space: gym.Space[Any]) -> bool:
        """Whether components are still the environment's own: at most this class's changes have widened others."""
        own = self._unwrapped.observation_space
        if not isinstance(space, Box) or space.shape != own.shape:
            return False
        same = (space.low == own.low) & (space.high == own.high)
        same[[component for name, (component, _) in self.observed.items() if name != self.parameter]] = True
        return bool(same.all())

    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that is drawn."""
        if self.own != 0 or self.parameter not in self.ranges:
            return super().bounds()
        default_low, default_high = self.ranges[self.parameter]
        low = default_low if self.low is None else self.low
        high = default_high if self.high is None else self.high
        if low >= high or (self.draw == "log_uniform" and low <= 0):
            raise ChangeError(f"{self.name} needs other bounds than {low:g} to {high:g} for draw {self.draw}")
        return low, high

    def check(self, value: Any) -> None:
        """Refuse what the parameter cannot be in this environment."""
        super().check(value)
        if self.parameter in self.from_zero and value < 0:
            raise ChangeError(f"{self.name}: {self.noun} must be at least 0, not {value:g}")
        if self.own is None:
            return
        number, seen = self.absolute(value), max(self._highest, self.own)
        if number > self._most:
            raise ChangeError(f"{self.name}: {self.noun} must be at most {self._most:g}, not {number:g}")
        if self.parameter in self.observed and number > seen:
            raise ChangeError(
                f"{self.name}: {self.noun} must be at most {seen:g}, not {number:g}, because it bounds observations; "
                "set high to the highest value"
            )

    def writes(self) -> frozenset[str]:
        """The constant."""
        return frozenset({self.attribute})

    def set(self, value: float | None) -> None:
        """Write the constant."""
        if self.is_original(value):
            self.restore()
        else:
            self.write(self.absolute(value))

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """The space as it is, but for a parameter that bounds an observation and can be higher than it was."""
        if not self._wider():
            return space
        assert isinstance(space, Box)
        component, times = self.observed[self.parameter]
        low, high = space.low.copy(), space.high.copy()
        high[component] = max(high[component], times * self._highest)
        low[component] = min(low[component], -times * self._highest)
        return Box(low, high, dtype=space.dtype.type)


@dataclass(kw_only=True)
class Cartpole(Constant):
    """One constant of CartPole.

    Of the two limits at which an episode ends, a random agent meets that of the angle only.
    """

    parameter: Literal[
        "gravity",
        "masscart",
        "masspole",
        "length",
        "force_mag",
        "tau",
        "x_threshold",
        "theta_threshold_radians",
    ] = "length"
    """Gravity (9.8), mass of the cart (1) or of the pole (0.1), half the pole's length (0.5), force of a push (10),
    seconds between two steps (0.02), or how far from the middle the cart (2.4) and how far from upright the pole (12
    degrees: 0.209) may get before the episode ends."""

    # Gravity and force may point the other way.
    above_zero = frozenset({"masscart", "masspole", "length", "tau", "x_threshold", "theta_threshold_radians"})
    # Twice the limit: the observation with which an episode ends is beyond it.
    observed: ClassVar[Mapping[str, tuple[int, float]]] = {"x_threshold": (0, 2.0), "theta_threshold_radians": (2, 2.0)}

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """CartPole."""
        if not isinstance(env.unwrapped, CartPoleEnv):
            raise self.misfit(env, "CartPole, such as CartPole-v1")
        return env.unwrapped

    def set(self, value: float | None) -> None:
        """Write the constant, and those that CartPole derives from the constants once, when it is made."""
        super().set(value)
        cartpole = self._unwrapped
        cartpole.total_mass = cartpole.masspole + cartpole.masscart
        cartpole.polemass_length = cartpole.masspole * cartpole.length


@dataclass(kw_only=True)
class Pendulum(Constant):
    """One constant of Pendulum.

    With `max_torque`, the strength of the motor changes: the agent's actions keep their range, which is fixed once for
    the agent's networks, and full action means full torque in every task. (The environment's own constant only clips
    the torque: raising it would do nothing, because no action reaches above the old bound.)
    """

    parameter: Literal["g", "m", "l", "dt", "max_torque"] = "m"
    """Gravity (10), mass (1), length (1), seconds between two steps (0.05), or torque of the full action (2)."""

    above_zero = frozenset({"m", "l", "dt", "max_torque"})

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """Pendulum."""
        if not isinstance(env.unwrapped, PendulumEnv):
            raise self.misfit(env, "Pendulum, such as Pendulum-v1")
        self._gain = 1.0
        return env.unwrapped

    def set(self, value: float | None) -> None:
        """Write the constant."""
        super().set(value)
        if self.parameter == "max_torque":
            self._gain = self.absolute(value) / self.absolute(None)

    def action(self, action: Any) -> Any:
        """The torque: the action as it is but for a changed `max_torque`."""
        return action if self._gain == 1.0 else action * self._gain


@dataclass(kw_only=True)
class Acrobot(Constant):
    """One constant of Acrobot.

    The constants are independent of each other: a longer link keeps its centre of mass and its moment of inertia. The
    height to be reached is counted in links of length 1 whatever their length is, and the length of the second link
    is only drawn, so it is no parameter. Neither is gravity, which is written into the equations of motion, nor are
    the highest speeds, which the links hardly reach.
    """

    parameter: Literal[
        "link_length_1",
        "link_mass_1",
        "link_mass_2",
        "link_com_pos_1",
        "link_com_pos_2",
        "link_moi",
        "torque",
        "torque_noise_max",
        "dt",
    ] = "link_mass_2"
    """Length of the first link (1), mass of either (1), distance of either's centre of mass from its upper joint (0.5),
    moment of inertia of both (1), torque of the motor (1), largest torque of evenly distributed noise that is added to
    it at every step (0; drawn from 0 to 1 by default), or seconds between two steps (0.2)."""

    # The motor may turn the other way.
    above_zero = frozenset(
        {"link_length_1", "link_mass_1", "link_mass_2", "link_com_pos_1", "link_com_pos_2", "link_moi", "dt"}
    )
    from_zero = frozenset({"torque_noise_max"})
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"torque_noise_max": (0.0, 1.0)}

    @property
    def attribute(self) -> str:
        """What Acrobot calls the parameter: a class attribute, mostly."""
        if self.parameter == "torque":
            return "AVAIL_TORQUE"
        return self.parameter.upper() if self.parameter.startswith("link") else self.parameter

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """Acrobot."""
        if not isinstance(env.unwrapped, AcrobotEnv):
            raise self.misfit(env, "Acrobot, such as Acrobot-v1")
        self._noise = 0.0
        self._noisy: list[float] | None = None
        return env.unwrapped

    def read(self) -> float:
        """The constant; of the torques that the actions stand for, the largest."""
        return max(map(abs, self._pristine)) if self.parameter == "torque" else super().read()

    def write(self, number: float) -> None:
        """Write the constant, on the instance alone."""
        if self.parameter == "torque":
            ratio = number / self.absolute(None)
            self._unwrapped.AVAIL_TORQUE = [torque * ratio for torque in self._pristine]
        elif self.parameter == "torque_noise_max":
            # The environment would draw its noise from the generator of its initial states.
            self._quiet()
            self._unwrapped.torque_noise_max = 0.0
            self._noise = number
        else:
            super().write(number)

    def restore(self) -> None:
        """Uncover the class attribute, or write what was there."""
        self._quiet()
        self._noise = 0.0
        super().restore()

    def action(self, action: Any) -> Any:
        """The action as it is, with this step's noise in the torques that the actions stand for."""
        if self._noise:
            acrobot = self._unwrapped
            if acrobot.AVAIL_TORQUE is not self._noisy:
                self._calm = acrobot.AVAIL_TORQUE
            noise = self.rng.uniform(-self._noise, self._noise)
            self._noisy = acrobot.AVAIL_TORQUE = [torque + noise for torque in self._calm]
        return action

    def _quiet(self) -> None:
        """Take the noise of the last step out of the torques, unless they have been written anew since."""
        acrobot = self._unwrapped
        if self._noisy is not None and acrobot.AVAIL_TORQUE is self._noisy:
            del acrobot.AVAIL_TORQUE
            if acrobot.AVAIL_TORQUE is not self._calm:
                acrobot.AVAIL_TORQUE = self._calm
        self._noisy = None


@dataclass(kw_only=True)
class MountainCar(Constant):
    """One constant of MountainCar, with discrete or with continuous actions.

    A random agent does not get to the goal and is never fast: `goal_position`, `goal_velocity` and `max_speed` only
    show once an agent has learned something.
    """

    parameter: Literal["gravity", "force", "goal_position", "goal_velocity", "max_speed"] = "force"
    """Gravity (0.0025; fixed in MountainCarContinuous), force of a push (0.001; of a full action 0.0015 in
    MountainCarContinuous), position of the goal (0.5; 0.45 in MountainCarContinuous; at most 0.6, where the track
    ends), lowest speed with which it must be reached (0; drawn from 0 to 0.03 by default), or the car's highest speed
    (0.07)."""

    above_zero = frozenset({"max_speed"})
    from_zero = frozenset({"goal_velocity"})
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"goal_velocity": (0.0, 0.03)}
    observed: ClassVar[Mapping[str, tuple[int, float]]] = {"max_speed": (1, 1.0)}

    @property
    def attribute(self) -> str:
        """What the environment calls the parameter."""
        return "power" if self.parameter == "force" and self._continuous else self.parameter

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """MountainCar, the one with discrete actions where gravity changes."""
        car: Any = env.unwrapped
        self._continuous = isinstance(car, Continuous_MountainCarEnv)
        if not self._continuous and not isinstance(car, MountainCarEnv):
            raise self.misfit(env, "MountainCar, such as MountainCar-v0")
        if self._continuous and self.parameter == "gravity":
            raise self.misfit(env, "MountainCar with discrete actions to change gravity, such as MountainCar-v0")
        if self.parameter == "goal_position":
            self._most = float(car.max_position)
        elif self.parameter == "goal_velocity":
            self._most = float(car.max_speed)
        return car

    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that is drawn: a goal not beyond the end of the track, by default."""
        low, high = super().bounds()
        if self.parameter == "goal_position" and self.high is None and self.own is not None:
            # The factor next below, lest it rounds to a goal that is just beyond the end.
            end = float(np.nextafter(self._most / self.own, 0)) if self.mode == "factor" else self._most
            high = min(high, end)
        return low, high
