"""Changes of the physics of Gymnasium's Box2D environments: LunarLander, BipedalWalker and CarRacing.

Some of their constants belong to the environment or to its world, which Box2D reads at every step. Others are global
names of Gymnasium's modules, shared by all environments of the process: to give one environment alone another number,
its method that reads the name is made anew from the same code, with module names of its own. The modules stay as they
are, and a method that has all its names back is the class's own again.

Box2D itself is not imported here: it is an extra that need not be installed.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, ClassVar, Literal

import gymnasium as gym

from envs.changes.classic import Constant


def set_name(owner: Any, method: str, name: str, value: Any) -> None:
    """Let one object's method read another value for a global name than the method's module has."""
    own = vars(owner).get(method)
    if own is None:
        shared = getattr(type(owner), method)
        function = FunctionType(
            shared.__code__, dict(shared.__globals__), shared.__name__, shared.__defaults__, shared.__closure__
        )
        function.__kwdefaults__ = shared.__kwdefaults__
        vars(function)["changed"] = set()
        own = MethodType(function, owner)
        setattr(owner, method, own)
    own.__func__.__globals__[name] = value
    own.changed.add(name)


def restore_name(owner: Any, method: str, name: str) -> None:
    """Undo `set_name`; the last name that is restored leaves nothing of it behind."""
    own = vars(owner).get(method)
    if own is None:
        return
    own.__func__.__globals__[name] = getattr(type(owner), method).__globals__[name]
    own.changed.discard(name)
    if not own.changed:
        delattr(owner, method)


def own_name(owner: Any, method: str, name: str) -> Any:
    """What one object's method reads for a global name, where `set_name` has said so; None otherwise."""
    own = vars(owner).get(method)
    return own.__func__.__globals__[name] if own is not None and name in own.changed else None


def reads(kind: type, method: str, *names: str) -> bool:
    """Whether a class's method is a plain function that reads these global names."""
    function = getattr(kind, method, None)
    return isinstance(function, FunctionType) and set(names) <= set(function.__code__.co_names)


@dataclass(kw_only=True)
class Box2dConstant(Constant):
    """Base of the changes of one constant of a Box2D environment."""

    made_by: ClassVar[tuple[str, str]]
    """Module and class of the environment, looked up where it was imported already: making the environment did that."""
    shown: ClassVar[str]
    """The environment for people."""
    module_names: ClassVar[Mapping[str, str]] = {}
    """Parameters that are global names, read by the environment's `step`."""

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """The environment of this class."""
        module, kind = self.made_by
        known = sys.modules.get(f"gymnasium.envs.box2d.{module}")
        if known is None or not isinstance(env.unwrapped, getattr(known, kind)):
            raise self.misfit(env, self.shown)
        if self.parameter in self.module_names:
            self._check_reads(env, type(env.unwrapped), "step", self.module_names[self.parameter])
        return env.unwrapped

    def _check_reads(self, env: gym.Env[Any, Any], kind: type, method: str, *names: str) -> None:
        """Refuse an environment whose methods would not notice another value."""
        if not reads(kind, method, *names):
            raise self.misfit(
                env, f"a {kind.__name__} whose {method} reads {' and '.join(names)} to change {self.noun}"
            )

    def read(self) -> float:
        """The constant of the module, where it is one."""
        if self.parameter in self.module_names:
            return float(type(self._unwrapped).step.__globals__[self.module_names[self.parameter]])
        return super().read()

    def write(self, number: float) -> None:
        """Write the constant of this environment alone."""
        if self.parameter in self.module_names:
            set_name(self._unwrapped, "step", self.module_names[self.parameter], number)
        else:
            super().write(number)

    def restore(self) -> None:
        """Write what was there."""
        if self.parameter in self.module_names:
            restore_name(self._unwrapped, "step", self.module_names[self.parameter])
        else:
            super().restore()


WIND = ("enable_wind", "wind_power", "turbulence_power", "wind_idx", "torque_idx")
"""What LunarLander's wind consists of; the last two, its place in its course, exist once it has blown."""


class Worlds:
    """Stands for the package Box2D where LunarLander makes its world anew, and turns the world's gravity sideways."""

    def __init__(self, package: Any, sideways: float) -> None:
        self._package = package
        self._sideways = sideways

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package, name)

    def b2World(self, gravity: tuple[float, float]) -> Any:  # noqa: N802 (Box2D's own name)
        """A world with gravity to the side, too."""
        return self._package.b2World(gravity=(self._sideways, gravity[1]))


@dataclass(kw_only=True)
class LunarLander(Box2dConstant):
    """One constant of LunarLander, in the middle of an episode as well as through its resets.

    LunarLander's arguments allow gravity up to 12 only; here it may be any. Where wind is switched off, wind and
    turbulence are 0 by themselves, and either can be changed alone; an environment with wind draws two numbers more
    at each reset. (Parseval's LunarLander: gravity times 0.2 to 1.5, engines times 1 to 1.5, initial_random times 0.5
    to 1.5, and gravity_x in turn -2, 0 and 2; Chung et al. 2024, NeurIPS.)
    """

    parameter: Literal[
        "gravity",
        "gravity_x",
        "wind_power",
        "turbulence_power",
        "main_engine_power",
        "side_engine_power",
        "initial_random",
    ] = "gravity"
    """Strength of gravity (10), gravity to the right (0; drawn from -2 to 2 by default), largest force of the wind (0;
    by default from 0 to 20), largest torque of the wind (0; by default from 0 to 2), power of the main engine (13) or
    of the side engines (0.6), or largest force in either direction that an episode begins with (1000)."""

    made_by = ("lunar_lander", "LunarLander")
    shown = "LunarLander, such as LunarLander-v3"
    above_zero = frozenset({"gravity"})
    from_zero = frozenset(
        {"wind_power", "turbulence_power", "main_engine_power", "side_engine_power", "initial_random"}
    )
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "gravity_x": (-2.0, 2.0),
        "wind_power": (0.0, 20.0),
        "turbulence_power": (0.0, 2.0),
    }
    module_names: ClassVar[Mapping[str, str]] = {
        "main_engine_power": "MAIN_ENGINE_POWER",
        "side_engine_power": "SIDE_ENGINE_POWER",
    }

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """LunarLander."""
        lander: Any = super().fit(env)
        if self.parameter == "gravity_x":
            self._check_reads(env, type(lander), "reset", "Box2D", "b2World")
        if self.parameter == "initial_random":
            self._check_reads(env, type(lander), "reset", "INITIAL_RANDOM")
        self._windy = bool(lander.enable_wind)
        self._winds = {name: vars(lander)[name] for name in WIND if name in vars(lander)}
        return lander

    def read(self) -> float:
        """The constant; no wind where it is switched off."""
        if self.parameter == "gravity":
            return -float(self._pristine)
        if self.parameter == "gravity_x":
            return float(self._unwrapped.world.gravity[0])
        if self.parameter in self._winds and not self._windy:
            return 0.0
        if self.parameter == "initial_random":
            return float(type(self._unwrapped).reset.__globals__["INITIAL_RANDOM"])
        return super().read()

    def write(self, number: float) -> None:
        """Write the constant, in the present world and for those to come."""
        lander = self._unwrapped
        if self.parameter == "gravity":
            lander.gravity = -number
            lander.world.gravity = (lander.world.gravity[0], -number)
        elif self.parameter == "gravity_x":
            set_name(lander, "reset", "Box2D", Worlds(type(lander).reset.__globals__["Box2D"], number))
            lander.world.gravity = (number, lander.world.gravity[1])
        elif self.parameter == "initial_random":
            set_name(lander, "reset", "INITIAL_RANDOM", number)
        elif self.parameter in self._winds and not self._windy:
            if not lander.enable_wind:
                lander.enable_wind = True
                lander.wind_power = lander.turbulence_power = 0.0
                # What a reset draws: where in their course wind and turbulence are.
                lander.wind_idx, lander.torque_idx = self.rng.integers(-9999, 9999, 2).tolist()
            setattr(lander, self.parameter, number)
        else:
            super().write(number)

    def restore(self) -> None:
        """Write what was there; the last that goes of wind and turbulence switches the wind off."""
        lander = self._unwrapped
        if self.parameter == "gravity":
            lander.gravity = self._pristine
            lander.world.gravity = (lander.world.gravity[0], self._pristine)
        elif self.parameter == "gravity_x":
            restore_name(lander, "reset", "Box2D")
            lander.world.gravity = (self.absolute(None), lander.world.gravity[1])
        elif self.parameter == "initial_random":
            restore_name(lander, "reset", "INITIAL_RANDOM")
        elif self.parameter in self._winds and not self._windy:
            if lander.enable_wind:
                setattr(lander, self.parameter, 0.0)
                if lander.wind_power == lander.turbulence_power == 0.0:
                    for name in WIND:
                        vars(lander).pop(name)
                    vars(lander).update(self._winds)
        else:
            super().restore()


@dataclass(kw_only=True)
class BipedalWalker(Box2dConstant):
    """One constant of BipedalWalker.

    Two of them are also units: an action costs in proportion to `motors_torque`, and the speeds of the joints are
    observed as multiples of `speed_hip` and `speed_knee`.
    """

    parameter: Literal["gravity", "gravity_x", "friction", "motors_torque", "speed_hip", "speed_knee"] = "gravity"
    """Strength of gravity (10), gravity to the right (0; drawn from -2 to 2 by default), friction of the ground (2.5),
    largest torque of the motors (80), or rated speed of the motors in the hips (4) or knees (6)."""

    made_by = ("bipedal_walker", "BipedalWalker")
    shown = "BipedalWalker, such as BipedalWalker-v3"
    above_zero = frozenset({"gravity", "motors_torque", "speed_hip", "speed_knee"})
    from_zero = frozenset({"friction"})
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"gravity_x": (-2.0, 2.0)}
    module_names: ClassVar[Mapping[str, str]] = {
        "motors_torque": "MOTORS_TORQUE",
        "speed_hip": "SPEED_HIP",
        "speed_knee": "SPEED_KNEE",
    }

    def read(self) -> float:
        """The constant; of the world, which is made once, or of what its ground is made of."""
        walker = self._unwrapped
        if self.parameter == "gravity":
            return -float(walker.world.gravity[1])
        if self.parameter == "gravity_x":
            return float(walker.world.gravity[0])
        return float(walker.fd_edge.friction) if self.parameter == "friction" else super().read()

    def write(self, number: float) -> None:
        """Write the constant."""
        world = self._unwrapped.world
        if self.parameter == "gravity":
            world.gravity = (world.gravity[0], -number)
        elif self.parameter == "gravity_x":
            world.gravity = (number, world.gravity[1])
        elif self.parameter == "friction":
            self._lay_ground(number)
        else:
            super().write(number)

    def restore(self) -> None:
        """Write what was there."""
        if self.parameter in self.module_names:
            super().restore()
        else:
            self.write(self.absolute(None))

    def _lay_ground(self, friction: float) -> None:
        """Change the ground that lies there, and what the ground of the next episodes is made of."""
        walker = self._unwrapped
        walker.fd_edge.friction = walker.fd_polygon.friction = friction
        for body in walker.terrain:
            for fixture in body.fixtures:
                fixture.friction = friction
        # A contact keeps the friction with which it began until it is told.
        for contact in walker.world.contacts:
            contact.ResetFriction()


class Cars:
    """Stands for the class of cars where CarRacing makes its car anew, and gives the car constants of its own."""

    def __init__(self, kind: Callable[..., Any]) -> None:
        self._kind = kind
        self.constants: dict[str, float] = {}

    def __call__(self, *arguments: Any) -> Any:
        """A car with these constants."""
        car = self._kind(*arguments)
        for name, number in self.constants.items():
            set_name(car, "step", name, number)
        return car


@dataclass(kw_only=True)
class CarRacing(Box2dConstant):
    """One constant of CarRacing's car."""

    parameter: Literal["friction", "engine_power"] = "friction"
    """Largest force between a wheel and the road (400; six tenths of it on grass), or power of the engine (40000)."""

    made_by = ("car_racing", "CarRacing")
    shown = "CarRacing, such as CarRacing-v3"
    from_zero = frozenset({"friction", "engine_power"})

    @property
    def attribute(self) -> str:
        """What the car's module calls the parameter."""
        return {"friction": "FRICTION_LIMIT", "engine_power": "ENGINE_POWER"}[self.parameter]

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """CarRacing."""
        racing: Any = super().fit(env)
        self._check_reads(env, type(racing), "reset", "Car")
        self._check_reads(env, type(racing).reset.__globals__["Car"], "step", self.attribute)
        return racing

    def read(self) -> float:
        """The constant of the car's module."""
        kind = type(self._unwrapped).reset.__globals__["Car"]
        return float(kind.step.__globals__[self.attribute])

    def write(self, number: float) -> None:
        """Write the constant, of the present car and of those to come."""
        racing = self._unwrapped
        cars = own_name(racing, "reset", "Car")
        if cars is None:
            cars = Cars(type(racing).reset.__globals__["Car"])
            set_name(racing, "reset", "Car", cars)
        cars.constants[self.attribute] = number
        if racing.car is not None:
            set_name(racing.car, "step", self.attribute, number)

    def restore(self) -> None:
        """Give the car the constant of its module."""
        racing = self._unwrapped
        cars = own_name(racing, "reset", "Car")
        if cars is None:
            return
        cars.constants.pop(self.attribute, None)
        if not cars.constants:
            restore_name(racing, "reset", "Car")
        if racing.car is not None:
            restore_name(racing.car, "step", self.attribute)
