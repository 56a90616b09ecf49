"""Changes of the actuators of a MuJoCo model. The agent's actions keep their range: they do more, less or nothing."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import gymnasium as gym
import mujoco
import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import ArrayLike, NDArray

from configs.settings import SettingError, did_you_mean
from envs.changes.base import ChangeError
from envs.changes.mujoco.base import ALL, MujocoChange, MujocoParts

ORIGINAL = "original"


def geared(change: MujocoChange, names: tuple[str, ...]) -> list[int]:
    """The actuators named whose force follows their gear; that of muscles does not, as its scale is derived from it.

    Raises:
        ChangeError: there are none, or a name is wrong.
    """
    model = change._model
    muscle = (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE) | (
        model.actuator_biastype == mujoco.mjtBias.mjBIAS_MUSCLE
    )
    return change.choose("actuator", names, (model.actuator_gear != 0).any(1) & ~muscle, "gear")


@dataclass(kw_only=True)
class MujocoGear(MujocoParts):
    """Gear of actuators: what their motors' forces are multiplied by. Negative values turn motors round.

    Of a position servo, which measures the joint through its gear, the position that it goes to changes as well.
    """

    actuators: tuple[str, ...] = ALL
    """Names of actuators (those without names are called like the joint that they drive), or all."""

    fields = ("actuator_gear",)
    derived = True
    kind = "actuator"
    selections = ("actuators",)

    def chosen(self) -> list[int]:
        """The actuators named."""
        return geared(self, self.actuators)

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the gears."""
        super().bind(env, space)
        if self.mode == "absolute" and self._pristine["actuator_gear"][:, 1:].any():
            raise self.misfit(env, "actuators that pull along one axis; choose mode factor")

    def numbers(self) -> NDArray[Any]:
        """The first of six: the others are for joints and sites that are moved along several axes."""
        return self._pristine["actuator_gear"][:, 0]

    def changed(self, field: str, own: NDArray[Any], value: float) -> ArrayLike:
        """All six by the factor, or the first one."""
        if self.mode == "factor":
            return own * value
        return np.column_stack([np.full(len(own), value), own[:, 1:]])


@dataclass(kw_only=True)
class MujocoActuatorFailure(MujocoChange):
    """Some actuators fail: whatever the agent does, they give no force, or a part of it.

    A value lists the names of those that have failed, in the model's order. Draws are of so many of them at once, all
    combinations with equal chances.
    """

    actuators: tuple[str, ...] = ALL
    """Names of the actuators that may fail (those without names are called like the joint that they drive), or all."""
    failures: Annotated[int, Ge(1)] = 1
    """How many have failed in a task whose value is drawn."""
    left: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of their force that is left to failed actuators."""
    values: tuple[str, ...] | None = None
    """Failures to go through, task by task, instead of drawing them: names joined by plus signs, such as
    hip_1+ankle_1; `original` where all work."""
    then: Literal["repeat", "hold"] = "repeat"
    """After the last of `values`: begin again with the first (repeat), or stay at the last (hold)."""

    fields = ("actuator_gear",)
    derived = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.actuators = tuple(self.actuators)
        if not self.actuators:
            raise SettingError(self, "actuators", "must name at least one, or be all")
        if self.values is not None:
            self.values = tuple(self.values)
        if self.values == ():
            raise SettingError(self, "values", "must list at least one failure")

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the gears."""
        super().bind(env, space)
        labels = self.labels("actuator")
        self._numbers = {labels[number]: number for number in geared(self, self.actuators)}
        if self.failures > len(self._numbers):
            raise self.misfit(env, f"at least {self.failures} actuators, as many as failures")
        self._pristine = np.array(self._model.actuator_gear[list(self._numbers.values())])
        for task in range(len(self.values or ())):
            self.check(self.listed(task))

    def writes(self) -> frozenset[str]:
        """The gears of all that may fail."""
        return frozenset(f"actuator_gear[{label}]" for label in self._numbers)

    @property
    def original(self) -> list[str]:
        """All actuators work."""
        return []

    def listed(self, task: int) -> list[str] | None:
        """The failures in turn, where they are given."""
        if self.values is None:
            return None
        text = self.values[min(task, len(self.values) - 1) if self.then == "hold" else task % len(self.values)]
        failed = [] if text == ORIGINAL else text.split("+")
        return sorted(failed, key=lambda label: self._numbers.get(label, 0))

    def sample(self, rng: np.random.Generator) -> list[str]:
        """So many actuators as fail, in the model's order."""
        labels = list(self._numbers)
        return [labels[place] for place in sorted(rng.choice(len(labels), self.failures, replace=False))]

    def check(self, value: Any) -> None:
        """Refuse what is no list of names of actuators that may fail, each but once."""
        if not isinstance(value, list):
            raise ChangeError(f"{self.name} takes lists of names of actuators, not {value!r}")
        for label in value:
            if label not in self._numbers:
                listed = ", ".join(self._numbers)
                raise ChangeError(
                    f"{self.name}: there is no actuator {label!r} that may fail; choose from "
                    f"{listed}{did_you_mean(label, self._numbers)}"
                )
            if value.count(label) > 1:
                raise ChangeError(f"{self.name}: {label!r} fails twice in {value}")

    def set(self, value: list[str]) -> None:
        """Write the gears of all that may fail."""
        gears = self._pristine.copy()
        gears[[label in value for label in self._numbers]] *= self.left
        self._model.actuator_gear[list(self._numbers.values())] = gears
        self.refresh()

    def context(self, value: list[str]) -> tuple[float, ...]:
        """The share of its force that each actuator has that may fail."""
        return tuple(self.left if label in value else 1.0 for label in self._numbers)

    def context_bounds(self) -> tuple[float, float]:
        """From what is left to failed ones to all of it."""
        return self.left, 1.0

    @property
    def noun(self) -> str:
        """What is changed."""
        return "actuators"

    def number(self, value: list[str]) -> str:
        """Which have failed, and what is left of them."""
        return f"without {', '.join(value)}" if self.left == 0 else f"{', '.join(value)} at {self.left:.3g}"
