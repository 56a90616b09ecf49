"""What a schedule file says, and the settings that follow from it: the kind, its changes by label, or its parts."""

import keyword
import re
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from configs import files
from configs.settings import UsageError, did_you_mean
from envs.changes import CHANGES
from envs.compositions import OWN, Composition
from envs.reading import scaled
from envs.schedules import COMPOSITIONS, SCHEDULES
from envs.tasks import Tasks

KINDS: dict[str, type[Any]] = {**SCHEDULES, **COMPOSITIONS}
LABEL = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


@dataclass
class Plan:
    """What a schedule file says: the kind, its settings, and the names of the changes by label, or of the parts."""

    kind: str
    settings: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    parts: dict[str, "Plan"] = field(default_factory=dict)

    def group(self, part: bool = False) -> type[Any]:
        """A dataclass of the schedule's own settings, with those of each change (or part) nested under its label."""
        kind = KINDS[self.kind]
        nested = [(label, CHANGES[name]) for label, name in self.labels.items()]
        nested += [(name, plan.group(part=True)) for name, plan in self.parts.items()]
        # What belongs to the whole composition is no setting of its parts.
        own = [(name, Annotated[Any, tyro.conf.Suppress], field(default=None)) for name in OWN] if part else []
        told = {"__doc__": kind.__doc__}
        return make_dataclass(kind.__name__, [*nested, *own], bases=(kind,), namespace=told, kw_only=True)

    def tasks(self, parsed: Any, seed: int) -> Tasks:
        """The tasks that settings of this group, once parsed, stand for."""
        kind = KINDS[self.kind]
        given = {entry.name: getattr(parsed, entry.name) for entry in fields(kind) if entry.name not in OWN}
        own = {name: value for name in OWN if (value := getattr(parsed, name)) is not None}
        timing = kind(**given, **own)
        if self.parts:
            parts = {name: plan.tasks(getattr(parsed, name), seed) for name, plan in self.parts.items()}
            return Composition(timing, parts, seed)
        return Tasks(timing, {label: getattr(parsed, label) for label in self.labels}, seed)


def read_plan(name: str, block: dict[str, dict[str, Any]], path: Path | None, scale: float) -> tuple[Plan, str]:
    """The plan of the schedule, and the name of the file that it is from.

    A block that says its `kind` stands for itself, as in a resolved configuration; any other changes the settings of
    the schedule file it names.
    """
    own = block.get(name)
    if own is not None and "kind" in own and path is not None:
        content, origin = dict(own), path.name
    else:
        file = files.find("schedules", name, "--schedule")
        content, origin = files.merged(files.read(file), own or {}), file.name
    return _plan(scaled(content, scale), origin, list(KINDS)), origin


def _plan(content: dict[str, Any], origin: str, kinds: list[str]) -> Plan:
    """What a schedule file, or a part of it, says."""
    kind = content.pop("kind", None)
    if kind not in kinds:
        raise UsageError(
            f"{origin}: kind must be one of {', '.join(kinds)}, not {kind!r}{did_you_mean(kind, kinds) or '.'}"
        )
    if kind in COMPOSITIONS:
        parts = {}
        for name, block in read_mapping(content.pop("parts", None), f"{origin}: parts").items():
            _check_label(name, KINDS[kind], origin, "a part")
            block = files.merged(
                read_mapping(block, f"{origin}: parts.{name}"), read_mapping(content.get(name), f"{origin}: {name}")
            )
            if misplaced := next((key for key in OWN if key in block), None):
                raise UsageError(f"{origin}: {misplaced} is set for all parts together, not for {name} alone.")
            parts[name] = _plan(block, origin, list(SCHEDULES))
            content[name] = parts[name].settings
        if not parts:
            raise UsageError(f"{origin}: {kind} needs parts, each with a kind and changes of its own.")
        return Plan(kind, content, parts=parts)
    labels: dict[str, str] = {}
    for label, block in read_mapping(content.pop("changes", None), f"{origin}: changes").items():
        settings = dict(read_mapping(block, f"{origin}: changes.{label}"))
        labels[label] = settings.pop("change", label)
        if not isinstance(labels[label], str) or labels[label] not in CHANGES:
            raise UsageError(
                f"{origin}: there is no change {labels[label]!r}; choose one of {', '.join(CHANGES)}"
                f"{did_you_mean(labels[label], CHANGES) or '.'}"
            )
        _check_label(label, KINDS[kind], origin, "a change")
        content[label] = files.merged(settings, read_mapping(content.get(label), f"{origin}: {label}"))
    return Plan(kind, content, labels)


def _check_label(label: str, kind: type[Any], origin: str, what: str) -> None:
    """Refuse a label that could not be the name of a flag or a file's column."""
    taken = {"name", "kind", "changes", "parts", *dir(kind), *(entry.name for entry in fields(kind))}
    if not LABEL.fullmatch(label) or keyword.iskeyword(label) or label in taken:
        raise UsageError(
            f"{origin}: {label!r} cannot label {what}; use another word, of letters, digits and underscores."
        )


def read_mapping(content: Any, where: str, other: str = "") -> dict[str, Any]:
    """A block of a file; a block without content is an empty one."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{where} must be {other}settings as 'name: value' lines, not {content!r}.")
    return content
