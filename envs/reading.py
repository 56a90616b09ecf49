"""Tasks from the plain settings that schedule files hold."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from configs.settings import did_you_mean
from envs.changes import CHANGES
from envs.compositions import Composition
from envs.schedules import COMPOSITIONS, SCHEDULES, STEP_SETTINGS
from envs.tasks import Tasks

MOST_STEPS, TOO_MANY = 2**63, 2**64
"""Numbers of steps from the first on are too large for any run; the second is refused, as whatever is above it."""


def read_tasks(tree: Mapping[str, Any], seed: int = 0) -> Tasks:
    """Tasks from the plain settings that a schedule file holds.

    Args:
        tree: `kind`, the settings of this schedule, and `changes` (or `parts`, for a composition) as nested mappings.
        seed: the run's seed.

    Raises:
        ValueError: a name or a value is wrong; one sentence.
    """
    settings = dict(tree)
    kind = settings.pop("kind", None)
    known = {**SCHEDULES, **COMPOSITIONS}
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"kind must be one of {', '.join(known)}, not {kind!r}{did_you_mean(kind, known)}")
    if kind in COMPOSITIONS:
        parts = {name: read_tasks(part, seed) for name, part in (settings.pop("parts", None) or {}).items()}
        return Composition(_made(COMPOSITIONS[kind], settings, kind), parts, seed)
    changes = {}
    for label, block in (settings.pop("changes", None) or {}).items():
        content = dict(block or {})
        name = content.pop("change", label)
        if not isinstance(name, str) or name not in CHANGES:
            raise ValueError(f"there is no change {name!r}{did_you_mean(name, CHANGES)}")
        changes[label] = _made(CHANGES[name], content, label)
    return Tasks(_made(SCHEDULES[kind], settings, kind), changes, seed)


def _made(kind: type[Any], settings: Mapping[str, Any], where: str) -> Any:
    """The settings of a kind, from plain values."""
    names = [entry.name for entry in fields(kind) if entry.init]
    if (unknown := next((name for name in settings if name not in names), None)) is not None:
        raise ValueError(f"{where}: {unknown!r} is not a setting here{did_you_mean(unknown, names) or '.'}")
    needed = [entry.name for entry in fields(kind) if entry.init and entry.default is entry.default_factory is MISSING]
    if (missing := next((name for name in needed if name not in settings), None)) is not None:
        raise ValueError(f"{where}: {missing!r} must be given.")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})


def scaled(tree: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The plain settings of tasks with every number of environment steps times `factor`, rounded, at least 1."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found[name] = scaled(value, factor)
        elif name in STEP_SETTINGS:
            many = isinstance(value, (list, tuple))
            found[name] = [times(steps, factor) for steps in value] if many else times(value, factor)
        else:
            found[name] = value
    if factor != 1 and tree.get("kind") == "table":  # whose lengths are in a file of its own
        found["scale"] = factor * tree["scale"] if isinstance(tree.get("scale"), (int, float)) else factor
    return found


def times(steps: Any, factor: float) -> Any:
    """A number of steps times `factor`; whatever is no such number stays as it is, and is refused where it is used."""
    if factor == 1 or isinstance(steps, bool) or not isinstance(steps, (int, float)) or not 1 <= steps < MOST_STEPS:
        return steps
    return max(1, round(min(steps * factor, TOO_MANY)))
