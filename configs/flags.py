"""Flags: the settings of a dataclass as `--group.name value`, one validator for the command line and for YAML.

Both are first turned into flags; types, ranges and nearest names are then checked here, whichever they came from. tyro
shows the help.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import tyro

from configs import values as reading
from configs.settings import SettingError, UsageError, closest, did_you_mean, hints_of

T = TypeVar("T")
Flags = dict[str, tuple[list[str], str]]
"""For each flag, without its dashes, its values and where they come from: a file's name, or nothing."""


def from_command_line(arguments: Sequence[str]) -> Flags:
    """Split `--flag value …`, `--flag=value` and `--flag` into flags; a UsageError for anything else."""
    flags: Flags = {}
    values: list[str] | None = None
    for argument in arguments:
        if argument.startswith("--"):
            name, _, value = argument[2:].partition("=")
            values = [value] if "=" in argument else []
            flags[canonical(name)] = (values, "")
        elif values is None:
            raise UsageError(f"{argument!r} is no flag; flags begin with two dashes, such as --agent ppo.")
        else:
            values.append(argument)
    return flags


def from_mapping(tree: Mapping[str, Any], origin: str, prefix: str = "") -> Flags:
    """The leaves of a YAML mapping as flags."""
    flags: Flags = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flags |= from_mapping(value, origin, f"{prefix}{key}.")
        else:
            values = value if isinstance(value, (list, tuple)) else [value]
            if any(isinstance(item, (list, tuple, Mapping)) for item in values):
                raise UsageError(f"{origin}: {prefix}{key} must be one value or a list of values, not {value!r}.")
            flags[canonical(f"{prefix}{key}")] = ([_text(item) for item in values], origin)
    return flags


def canonical(name: str) -> str:
    """Flags are written with hyphens, names in code and YAML with underscores; both are understood."""
    return name.replace("_", "-")


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def leaves(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, Any, type[Any]]]:
    """Every setting of a dataclass and those nested in it: its flag, its type, the dataclass it belongs to."""
    hints = hints_of(kind)
    for entry in fields(kind):
        hint, name = hints[entry.name], f"{prefix}{canonical(entry.name)}"
        if isinstance(hint, type) and is_dataclass(hint):
            yield from leaves(hint, f"{name}.")
        else:
            yield name, hint, kind


def build(kind: type[T], flags: Flags, also: Sequence[str] = ()) -> T:
    """Make a dataclass from flags.

    Args:
        kind: the dataclass.
        flags: its settings.
        also: flags that have been taken out before; an unknown one may be a misspelling of them.

    Raises:
        UsageError: an unknown flag, a value of the wrong type or out of range; one sentence with the nearest name.
    """
    known = {name: hint for name, hint, _ in leaves(kind)}
    found: dict[str, Any] = {}
    for name, (values, origin) in _without_negations(flags, known).items():
        if name not in known:
            options = known if origin else [*also, *known]
            near = nearest(name, options)
            hint = f"; did you mean '{near.replace('-', '_') if origin else f'--{near}'}'?" if near else "."
            raise UsageError(f"{_spelled(name, origin)} is not a setting here{hint}")
        found[name] = _value(name, values, known[name], origin)
    return _made(kind, found, flags)


def _made(kind: type[T], found: Mapping[str, Any], flags: Flags, prefix: str = "") -> T:
    """A dataclass, and those nested in it, of the values that were found for it."""
    hints, settings = hints_of(kind), {}
    for entry in fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        hint, name = hints[entry.name], f"{prefix}{canonical(entry.name)}"
        if isinstance(hint, type) and is_dataclass(hint):
            settings[entry.name] = _made(hint, found, flags, f"{name}.")
        elif name in found:
            settings[entry.name] = found[name]
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise UsageError(f"--{name} is missing; it has no default.")
    try:
        return kind(**settings)
    except SettingError as error:
        name = f"{prefix}{canonical(error.name)}"
        origin = flags[name][1] if name in flags else ""
        raise UsageError(f"{_spelled(name, origin)} {error.problem}{_stop(error.problem)}") from error


def show_help(kind: type[Any], program: str, description: str) -> None:
    """Print the settings of a dataclass with their defaults and descriptions."""
    try:
        tyro.cli(_told(kind), args=["--help"], prog=program, description=description)
    except SystemExit:
        return


def _told(kind: type[Any]) -> type[Any]:
    """The dataclass with its settings' docstrings as running text; tyro would break lines where they do."""
    hints, told = hints_of(kind), []
    for entry in fields(kind):
        hint: Any = hints[entry.name]
        if isinstance(hint, type) and is_dataclass(hint):
            hint = _told(hint)
        elif text := tyro._docstrings.get_field_docstring(kind, entry.name, ()):
            hint = Annotated[hint, tyro.conf.arg(help=" ".join(text.split()))]
        default = field(default=entry.default, default_factory=entry.default_factory, kw_only=True)
        told.append((entry.name, hint, default))
    return make_dataclass(kind.__name__, told, namespace={"__doc__": kind.__doc__})


def _without_negations(flags: Flags, known: Mapping[str, Any]) -> Flags:
    """Turn `--agent.no-x` into `--agent.x false`; of two settings of the same flag the later holds."""
    plain: Flags = {}
    for name, (values, origin) in flags.items():
        head, _, last = name.rpartition(".")
        positive = f"{head}.{last[3:]}".lstrip(".")
        if name not in known and last.startswith("no-") and known.get(positive) is bool and not values:
            name, values = positive, ["false"]
        plain.pop(name, None)
        plain[name] = (values, origin)
    return plain


def _value(name: str, values: list[str], hint: Any, origin: str) -> Any:
    """What a flag says."""
    where = _spelled(name, origin)
    if hint is bool and not values:
        return True
    if not reading.is_list(hint) and len(values) != 1:
        given = f"got {len(values)}: {' '.join(values)}" if values else "got none"
        raise UsageError(f"{where} takes one value, {given}.")
    try:
        return reading.read(hint, reading.split(values[0]) if len(values) == 1 and reading.is_list(hint) else values)
    except ValueError:
        value = " ".join(values)
        near = did_you_mean(value, get_args(hint)) if get_origin(hint) is Literal else ""
        raise UsageError(f"{where} must be {reading.words(hint)}, not {value!r}{near or '.'}") from None


def _spelled(name: str, origin: str) -> str:
    """A setting as the user wrote it: a flag, or a key in a file."""
    return f"{origin}: {name.replace('-', '_')}" if origin else f"--{name}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known flag that an unknown one was meant to be, if any is near.

    It is looked for among those that begin with the same groups, and only the rest is compared, because a long common
    beginning makes everything look similar: a misspelt group, a setting of this name in some other group, a misspelt
    setting of this group, then of any.
    """
    flags, groups, rest = list(known), "", name
    while "." in rest and any(flag.startswith(f"{groups}{rest.partition('.')[0]}.") for flag in flags):
        head, _, rest = rest.partition(".")
        groups += f"{head}."
    under = [flag.removeprefix(groups) for flag in flags if flag.startswith(groups)]
    first, dot, tail = rest.partition(".")
    if dot and (group := closest(first, {flag.partition(".")[0] for flag in under if "." in flag})):
        whole = f"{groups}{group}.{tail}"
        return whole if whole in flags else nearest(whole, flags) or f"{groups}{group}"
    last = rest.rpartition(".")[2]
    by_name = {flag.rpartition(".")[2]: flag for flag in reversed(under)}
    siblings = [flag for flag in under if "." not in flag]
    found = by_name.get(last) or closest(rest, siblings) or by_name.get(closest(last, by_name) or "")
    return f"{groups}{found}" if found else None


def _stop(sentence: str) -> str:
    return "" if sentence.endswith(("?", ".")) else "."
