"""Kinds of values that changes of several families have: disturbances, whole numbers, and lists of numbers."""

import math
import reprlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Le
from gymnasium.spaces import Box
from numpy.typing import NDArray

from configs.settings import find_problem, hints_of
from envs.changes.base import Blend, Change, ChangeError, ScalarChange

MOST_IN_WORDS = 8
"""Numbers up to which a list is written out in a description; events hold it whole in any case."""


@dataclass(kw_only=True)
class Disturbance(ScalarChange):
    """Base of what an environment has none of by itself: its own value is 0, and no factor makes more of that."""

    values: tuple[Annotated[float, Ge(0)], ...] | None = None
    """Values to go through, task by task, instead of drawing them."""
    low: Annotated[float, Ge(0)] = 0.1
    """Lowest value drawn."""
    high: Annotated[float, Ge(0)] = 0.5
    """Highest value drawn."""
    mode: Literal["absolute"] = "absolute"
    """Values are the numbers themselves; there is nothing that they could be factors on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own = 0

    def highest(self) -> float:
        """The highest value that the settings allow for any task."""
        return max(self.values) if self.values is not None else self.bounds()[1]

    def check(self, value: Any) -> None:
        """Refuse what the settings would refuse as their lowest value, too."""
        super().check(value)
        problem = find_problem(hints_of(type(self))["low"], value)
        if problem:
            raise ChangeError(f"{self.name} {problem}")


@dataclass(kw_only=True)
class WholeChange(Disturbance):
    """Base of the disturbances that are counted, such as the steps of a delay.

    Values are drawn among the whole numbers from low to high, both included. Where a schedule moves them, they are the
    nearest whole number to what is moved (the greater one of two): a delay that drifts grows one step at a time.
    """

    values: tuple[Annotated[int, Ge(0), Le(10_000)], ...] | None = None
    """Values to go through, task by task, instead of drawing them."""
    draw: Literal["uniform", "log_uniform", "normal", "choice"] = "uniform"
    """How a value is drawn: all from low to high with equal chances (uniform), k with chances as log(1 + 1/k)
    (log_uniform), the nearest to a normal number about the middle of low and high, with a quarter of their distance
    as standard deviation (normal), or any one of `values` (choice)."""
    low: Annotated[int, Ge(0), Le(10_000)] = 1
    """Lowest value drawn."""
    high: Annotated[int, Ge(0), Le(10_000)] = 5
    """Highest value drawn."""

    def between(self, before: float, after: float, blend: Blend) -> int:
        """The nearest whole number."""
        return nearest(blend(before, after))

    def at(self, place: float) -> int:
        """The whole number nearest to `place` of the way from low to high."""
        return nearest(super().at(place))

    def sample(self, rng: np.random.Generator) -> int:
        """A whole number drawn as `draw` says, always within low and high."""
        if self.draw == "uniform":
            return int(rng.integers(self.low, self.high + 1))
        if self.draw == "log_uniform":
            return min(int(np.exp(rng.uniform(np.log(self.low), np.log(self.high + 1)))), self.high)
        return nearest(super().sample(rng))

    def check(self, value: Any) -> None:
        """Refuse what is no whole number; 3.0 is one."""
        super().check(int(value) if isinstance(value, float) and value.is_integer() else value)


def nearest(value: float) -> int:
    """The nearest whole number, the greater one of two that are equally near."""
    return math.floor(value + 0.5)


def vector_of(change: Change, env: gym.Env[Any, Any], needs: str, least: int = 1, floating: bool = True) -> Box:
    """The space of the observations that `change` is given, where it holds vectors.

    Args:
        change: a change that has been bound.
        env: its environment.
        needs: what the error says it needs.
        least: components that there must be.
        floating: whether they must be floating numbers.

    Raises:
        ChangeError: the observations are something else.
    """
    space = change.space
    if not isinstance(space, Box) or len(space.shape) != 1 or space.shape[0] < least:
        raise change.misfit(env, needs)
    if floating and not np.issubdtype(space.dtype, np.floating):
        raise change.misfit(env, needs)
    return space


def scaled_box(space: Box, lowest: float, highest: float) -> Box:
    """The box of all products of a number in `space` and a factor from `lowest` (above 0) to `highest`."""
    # In the observations' own precision: there, too, rounding keeps the order of products.
    with np.errstate(over="ignore"):
        products = np.array([[space.low * f, space.high * f] for f in np.array([lowest, highest], space.dtype)])
    return Box(products.min((0, 1)), products.max((0, 1)), dtype=space.dtype.type)


def check_list(change: Change, value: Any, size: int | None, low: float, high: float, whole: bool = False) -> None:
    """Refuse what is no list of numbers from `low` to `high`.

    Args:
        change: the change that the value is for.
        value: what was given.
        size: how many numbers there must be; None for any number.
        low: the least that a number may be.
        high: the greatest.
        whole: whether they must be whole numbers.

    Raises:
        ChangeError: it is something else; one sentence says what it must be.
    """
    kinds = (int,) if whole else (int, float)
    if (
        isinstance(value, list)
        and len(value) == (len(value) if size is None else size)
        and all(isinstance(item, kinds) and not isinstance(item, bool) for item in value)
        and all(low <= item <= high and math.isfinite(item) for item in value)
    ):
        return
    amount = "" if size is None else f"{size} "
    limits = f" from {low:g} to {high:g}" if math.isfinite(high) else ""
    kind = "whole" if whole else "finite"
    raise ChangeError(f"{change.name} takes a list of {amount}{kind} numbers{limits}, not {reprlib.repr(value)}")


def in_words(numbers: list[float] | NDArray[Any]) -> str:
    """Numbers to three digits with their signs: +1.2 -0.31."""
    return " ".join(f"{number:+.3g}" for number in numbers)
