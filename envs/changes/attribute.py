"""A change of what any environment keeps as an attribute: for worlds that have no change of their own here."""

from dataclasses import dataclass
from enum import Enum
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np

from configs.settings import SettingError, did_you_mean
from envs.changes.classic import Constant, is_own


@dataclass(kw_only=True)
class Attribute(Constant):
    """One number that the environment keeps as an attribute, whoever has made it.

    What the environment has derived from the number once and for all stays as it was, and the preflight refuses a
    change that nobody can see. Where the environment keeps a whole number, a value that is whole is written as one.
    """

    parameter: str
    """The attribute's name in the environment without its wrappers; with dots for one of a part, `robot.arm.length`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(name.isidentifier() for name in self.parameter.split(".")):
            raise SettingError(self, "parameter", f"must be the name of an attribute, not {self.parameter!r}")

    @property
    def attribute(self) -> str:
        """The last name of the path."""
        return self.parameter.rpartition(".")[2]

    def fit(self, env: gym.Env[Any, Any]) -> Any:
        """The part that has the attribute."""
        part, found = None, env.unwrapped
        for name in self.parameter.split("."):
            part = found
            try:
                found = getattr(part, name)
            except AttributeError:
                known = _numbers(part)
                near = did_you_mean(name, known) or (f"; its numbers are {', '.join(known)}" if known else "")
                raise self.misfit(env, f"an attribute {name!r} of {type(part).__name__}{near}") from None
        if not _is_number(found):
            raise self.misfit(env, f"a number, and {self.parameter} is {type(found).__name__}")
        own = is_own(part, self.attribute)
        try:
            setattr(part, self.attribute, found)
        except AttributeError:  # a property without a setter, a frozen dataclass
            raise self.misfit(env, f"an attribute that can be written, and {self.parameter} cannot") from None
        if not own:  # what covers the class's now
            vars(part).pop(self.attribute, None)
        return part

    def write(self, number: float) -> None:
        """Write the number in the kind that the environment keeps."""
        whole = isinstance(self._pristine, (int, np.integer))
        super().write(number if whole and number != int(number) else type(self._pristine)(number))

    def writes(self) -> frozenset[str]:
        """The path; for an attribute of the environment itself the name by which its own changes know it."""
        return frozenset({self.parameter})


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_, Enum))


def _numbers(part: object) -> list[str]:
    """Names of the numbers that an object or its class keeps, but for private ones."""
    kept = {name: value for kind in type(part).__mro__ for name, value in vars(kind).items()}
    kept |= getattr(part, "__dict__", {})
    return sorted(name for name, value in kept.items() if _is_number(value) and not name.startswith("_"))
