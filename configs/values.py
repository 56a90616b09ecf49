"""Values as people write them, on a command line or in YAML, turned into what a setting's type asks for."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

NOTHING = {"none": None, "null": None}
TRUTH = {"true": True, "false": False}


def read(hint: Any, texts: Sequence[str]) -> Any:
    """The value that some texts stand for.

    Args:
        hint: the type of a setting: bool, int, float, str, Path, None, `Literal`, or tuples and unions of these.
        texts: one text, or one for each item of a list.

    Raises:
        ValueError: they are no such value. Ranges are not looked at: settings check those themselves.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return read(arguments[0], texts)
    if origin in (Union, UnionType):
        return _first(arguments, texts)
    if origin is tuple:
        return tuple(read(arguments[0], [text]) for text in texts)
    (text,) = texts
    if origin is Literal:
        return _look_up(text, {str(choice): choice for choice in arguments})
    if hint is NoneType:
        return _look_up(text.lower(), NOTHING)
    if hint is bool:
        return _look_up(text.lower(), TRUTH)
    if hint is int:
        return whole(text)
    if hint is float:
        return float(text)
    return Path(text) if hint is Path else text


def as_written(value: Any) -> str:
    """A value in one text, as labels and pages write it: numbers to six digits."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(as_written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def split(text: str) -> list[str]:
    """The items of a list in one text: `64,32`, `64 32` or `[64, 32]`."""
    return [item for item in re.split(r"[,\s]+", text.strip("()[] ")) if item]


def whole(text: str) -> int:
    """A whole number, also where it is written `1e6` or `2048.0`, as people write counts."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text!r} is no whole number")
    return int(number)


def is_list(hint: Any) -> bool:
    """Whether a setting may hold several values."""
    if get_origin(hint) in (Union, UnionType, Annotated):
        return any(is_list(part) for part in get_args(hint))
    return get_origin(hint) is tuple


def words(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) is Annotated:
        return words(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) is tuple:
        return f"a list, each item {words(get_args(hint)[0])}"
    if get_origin(hint) in (Union, UnionType):
        # "none" first: "a list, each item a number or none" would be read otherwise.
        return " or ".join(
            dict.fromkeys(words(part) for part in sorted(get_args(hint), key=lambda part: part is not NoneType))
        )
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "none"}
    return names.get(hint, "a path" if hint is Path else str(hint))


def _first(options: Sequence[Any], texts: Sequence[str]) -> Any:
    """The value as the first of a union's types that it can be; none goes before texts, which can be anything."""
    for option in sorted(options, key=lambda option: option is not NoneType):
        try:
            return read(option, texts)
        except ValueError:
            continue
    raise ValueError(f"{' '.join(texts)!r} is of none of these types")


def _look_up(text: str, known: Mapping[str, Any]) -> Any:
    if text not in known:
        raise ValueError(f"{text!r} is none of {', '.join(known)}")
    return known[text]
