"""Settings: dataclasses that check themselves.

Everything a user can choose (an agent, a reset, a change of the environment) is a dataclass derived from
`Settings`. Its fields carry their allowed range in their type, so that the command line, a YAML file and a Python
call are all checked by the same few lines:

    @dataclass
    class ReDo(Settings):
        tau: Annotated[float, Ge(0)] = 0.1
        \"\"\"A unit is dormant when its score is at most tau (Sokar et al. 2023, section 3).\"\"\"
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from annotated_types import Ge, Gt, Le, Lt

LARGEST_WHOLE = 2**63
"""Whole numbers beyond this, either way, fit no array and no counter."""
LARGEST, SMALLEST = 1e30, 1e-35
"""Numbers beyond the one, either way, would soon be infinite in single precision, and numbers below the other are 0."""
LONGEST = 2000
"""Characters of a sentence; of a longer one, as with a value of many megabytes, the middle is left out."""

BOUNDS: dict[type, tuple[str, str]] = {
    Ge: ("ge", "at least"),
    Gt: ("gt", "above"),
    Le: ("le", "at most"),
    Lt: ("lt", "below"),
}


class SettingError(ValueError):
    """A setting has a value that is not allowed.

    The message is one sentence that names the setting, its value and what is allowed. `owner` and `name` tell
    which setting it is, so that the command line can name it by its flag.
    """

    def __init__(self, owner: object, name: str, problem: str) -> None:
        self.owner = owner
        self.name = name
        self.problem = problem
        super().__init__(f"{type(owner).__name__}: {name} {problem}")


@dataclass
class Settings:
    """Base of everything that can be configured: checks ranges and choices as soon as it is made."""

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        for field in fields(self):
            problem = find_problem(hints[field.name], getattr(self, field.name))
            if problem:
                raise SettingError(self, field.name, problem)


_HINTS: WeakKeyDictionary[type[Any], dict[str, Any]] = WeakKeyDictionary()
"""By classes, of which each command line that is read makes some more."""


def hints_of(kind: type[Any]) -> Mapping[str, Any]:
    """The types of a dataclass's fields, with what they are annotated with."""
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind, include_extras=True)
    return _HINTS[kind]


def find_problem(hint: Any, value: Any) -> str | None:
    """Why `value` does not fit the type `hint`, as the end of a sentence; None where it fits.

    Knows what settings are made of: numbers with bounds (`Annotated[float, Ge(0)]`), choices (`Literal`), tuples,
    and unions of these. Other types are left to whoever constructs the settings.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return find_problem(arguments[0], value) or _out_of_bounds(arguments[1:], value)
    if origin is Literal:
        if value in arguments:
            return None
        return f"must be one of {', '.join(map(str, arguments))}, not {value!r}{did_you_mean(value, arguments)}"
    if origin in (Union, UnionType):
        problems = [find_problem(option, value) for option in arguments]
        return None if None in problems else next(problem for problem in problems if problem)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return f"must be a list, not {value!r}"
        return next((problem for item in value if (problem := find_problem(arguments[0], item))), None)
    if hint is type(None):
        return None if value is None else f"must be none, not {value!r}"
    if hint is bool and not isinstance(value, bool):
        return f"must be true or false, not {value!r}"
    if hint is int and (not isinstance(value, int) or isinstance(value, bool)):
        return f"must be a whole number, not {value!r}"
    if hint is int and abs(value) > LARGEST_WHOLE:
        return f"must be a whole number of at most {LARGEST_WHOLE}, not {_shown(value)}"
    if hint is float and (not isinstance(value, (int, float)) or isinstance(value, bool)):
        return f"must be a number, not {value!r}"
    if hint is float and not abs(value) < math.inf:
        return f"must be a finite number, not {_shown(value)}"
    if hint is float and abs(value) > LARGEST:
        return f"must be a number of at most {LARGEST:g}, not {_shown(value)}"
    if hint is float and 0 < abs(value) < SMALLEST:
        return f"must be 0 or at least {SMALLEST:g} in size, not {value!r}"
    if hint is str and not isinstance(value, str):
        return f"must be a text, not {value!r}"
    return None


def _shown(value: float) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes out no more than some thousand digits
        return "one of thousands of digits"


def _out_of_bounds(bounds: Iterable[Any], value: Any) -> str | None:
    known = [bound for bound in bounds if type(bound) in BOUNDS]
    if value is None or all(_holds(bound, value) for bound in known):
        return None
    words = " and ".join(f"{BOUNDS[type(bound)][1]} {getattr(bound, BOUNDS[type(bound)][0]):.12g}" for bound in known)
    return f"must be {words}, not {value if isinstance(value, int) else f'{value:.12g}'}"


def _holds(bound: Any, value: float) -> bool:
    limit = getattr(bound, BOUNDS[type(bound)][0])
    return bool(
        {Ge: value >= limit, Gt: value > limit, Le: value <= limit, Lt: value < limit}[type(bound)],
    )


def closest(name: object, known: Iterable[object]) -> str | None:
    """The one of the `known` names that is spelt most like `name`, if any is."""
    near = difflib.get_close_matches(str(name), [str(option) for option in known], n=1, cutoff=0.5)
    return near[0] if near else None


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """The end of a sentence that names the nearest of the `known` names, or nothing where none is near."""
    near = closest(name, known)
    return f"; did you mean {near!r}?" if near else ""


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one sentence that says why and what can.

    It is one line of printable text, whatever the value that it quotes.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


def one_line(text: str) -> str:
    """Text on one line, with characters that cannot be seen or that steer a terminal written as escapes."""
    text = " ".join(text.split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
