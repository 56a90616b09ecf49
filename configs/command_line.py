"""The command line in two stages: first the names (agent, schedule, resets …), then the settings of what they name.

Layers, each over the one before: defaults in the code, `configs/agents/<agent>.yaml`, the file given by `--config` (the
default benchmark where neither a file nor an environment is named), the command line. What a run resolves to is written
back in the format of `--config`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt

from agents import AGENTS, NETWORKS, AgentSettings, NetworkSettings
from configs import files
from configs.flags import Flags, build, canonical, from_command_line, from_mapping
from configs.settings import Settings, UsageError, did_you_mean
from envs.changes import CHANGES, Change
from envs.schedules import SCHEDULES, Schedule
from regularizers import REGULARIZERS, Regularizer
from resets import RESETS, Reset

DEFAULT_BENCHMARK = "cartpole_permuted"
ONE = ("agent", "network", "schedule")
SEVERAL = ("reset", "regularizer")
CHOICES: dict[str, Mapping[str, type[Any]]] = {
    "agent": AGENTS,
    "network": NETWORKS,
    "reset": RESETS,
    "regularizer": REGULARIZERS,
}


@dataclass
class Run(Settings):
    """Settings of a run beside those of the agent, schedule and interventions it names."""

    env: str = "CartPole-v1"
    """Gymnasium id of the environment."""

    steps: Annotated[int, Gt(0)] = 100_000
    """Environment steps in all, over all parallel environments; rounded up to whole rollouts."""

    seed: Annotated[int, Ge(0)] = 0
    """Seed of the agent, the environments and the schedule; interventions draw from generators of their own."""

    device: str = "cpu"
    """Where the networks live: cpu (fastest for small networks), cuda, or auto."""

    threads: Annotated[int, Gt(0)] = 1
    """CPU threads of PyTorch; more than one slows small networks down."""

    measure_every: Annotated[int, Gt(0)] = 2048
    """Environment steps between two measurements of the networks; rounded up to whole rollouts."""

    run_dir: Path | None = None
    """Directory of the run; none: runs/ and a name made from the configuration."""

    verify: bool = False
    """Check that every scheduled change has an effect, print what was measured, and stop before training."""

    quiet: bool = False
    """Print nothing but errors."""


@dataclass
class Config:
    """Everything a run depends on.

    Attributes:
        run: environment, steps, seed and the like.
        agent: settings of the agent, named `agent_name`.
        network: settings of its networks, named `network_name`.
        schedule: when tasks change, named `schedule_name`; `changes` says what changes, by label.
        resets: by name, in the order in which they fire.
        regularizers: by name.
        benchmark: name of the benchmark or file that the configuration started from.
    """

    run: Run
    agent: AgentSettings
    network: NetworkSettings
    schedule: Schedule
    changes: dict[str, Change]
    resets: dict[str, Reset]
    regularizers: dict[str, Regularizer]
    names: dict[str, str]
    benchmark: str

    @property
    def arm(self) -> str:
        """The interventions in a word, such as `none` or `redo+spectral`."""
        return "+".join([*self.resets, *self.regularizers]) or "none"

    def as_dict(self) -> dict[str, Any]:
        """The configuration as `--config` reads it; where and how loudly to run is left out."""
        run = {key: value for key, value in asdict(self.run).items() if key not in ("run_dir", "verify", "quiet")}
        kinds = {kind: name for name, kind in SCHEDULES.items()}
        labels = {
            label: {"change": _name_of(change, CHANGES), **asdict(change)} for label, change in self.changes.items()
        }
        tree = {
            **run,
            "agent": {"name": self.names["agent"], **asdict(self.agent)},
            "network": {"name": self.names["network"], **asdict(self.network)},
            "schedule": {
                "name": self.names["schedule"],
                "kind": kinds[type(self.schedule)],
                **asdict(self.schedule),
                "changes": labels,
            },
            "reset": {name: asdict(reset) for name, reset in self.resets.items()} or "none",
            "regularizer": {name: asdict(item) for name, item in self.regularizers.items()} or "none",
        }
        return _plain(tree)  # type: ignore[no-any-return]


@dataclass
class Choice:
    """What the names stage found: the dataclasses to parse into, and the flags for them."""

    names: dict[str, list[str]]
    groups: dict[str, type[Any]]
    flags: Flags
    labels: dict[str, str] = field(default_factory=dict)
    kind: str = "constant"
    benchmark: str = ""


def parse(arguments: Sequence[str], program: str = "train.py") -> Config:
    """Read a command line.

    Raises:
        UsageError: anything wrong in it or in the files it names; one sentence.
    """
    choice = choose(from_command_line(arguments))
    kind = make_dataclass("Configuration", list(choice.groups.items()), bases=(Run,), kw_only=True)
    parsed: Any = build(kind, choice.flags, program)
    schedule_kind = SCHEDULES[choice.kind]
    return Config(
        run=Run(**{entry.name: getattr(parsed, entry.name) for entry in fields(Run)}),
        agent=parsed.agent,
        network=parsed.network,
        schedule=schedule_kind(**{entry.name: getattr(parsed.schedule, entry.name) for entry in fields(schedule_kind)}),
        changes={label: getattr(parsed.schedule, label) for label in choice.labels},
        resets=_several(parsed, "reset", choice.names["reset"]),
        regularizers=_several(parsed, "regularizer", choice.names["regularizer"]),
        names={group: choice.names[group][0] for group in ONE},
        benchmark=choice.benchmark,
    )


def choose(flags: Flags) -> Choice:
    """The first stage: take the names out of the flags, read the files they mean, and make the groups they name."""
    asked = {group: _names(flags.pop(group)) for group in (*ONE, *SEVERAL) if group in flags}
    benchmark = _take_one(flags, "config") or ("" if "env" in flags else DEFAULT_BENCHMARK)
    path = files.find("benchmarks", benchmark, "--config") if benchmark else None
    tree = files.read(path) if path else {}
    blocks = {group: _block(tree.pop(group, None), group, path) for group in (*ONE, *SEVERAL)}
    names = {group: asked.get(group) or list(blocks[group]) for group in (*ONE, *SEVERAL)}
    names["agent"] = names["agent"] or ["ppo"]
    names["network"] = names["network"] or ["mlp"]
    names["schedule"] = names["schedule"] or ["stationary"]
    for group, options in CHOICES.items():
        names[group] = [name for name in names[group] if name != "none" or group in ONE]
        for name in names[group]:
            if name not in options:
                none = [] if group in ONE else ["none"]
                listed = ", ".join([*none, *options])
                raise UsageError(
                    f"--{group}: there is no {group} {name!r}; choose {'from' if none else 'one of'} {listed}"
                    f"{did_you_mean(name, options) or '.'}"
                )
    for group in ONE:
        if len(names[group]) != 1:
            raise UsageError(f"--{group} takes one name, not {len(names[group])}: {', '.join(names[group])}.")
    origin = str(path.name if path else "")
    groups: dict[str, type[Any]] = {
        "agent": AGENTS[names["agent"][0]],
        "network": NETWORKS[names["network"][0]],
    }
    low = _agent_file(names["agent"][0]) | from_mapping(tree, origin)
    for group in ("agent", "network"):
        if names[group][0] in blocks[group]:
            low |= from_mapping(blocks[group][names[group][0]], origin, f"{group}.")
    spec, labels, schedule_origin = _schedule(names["schedule"][0], blocks["schedule"], path)
    groups["schedule"] = _schedule_group(spec, labels, schedule_origin)
    low |= from_mapping(spec["settings"], schedule_origin, "schedule.")
    for group in SEVERAL:
        if names[group]:
            options = CHOICES[group]
            groups[group] = make_dataclass(group, [(name, options[name]) for name in names[group]])
            for name in names[group]:
                low |= from_mapping(blocks[group].get(name) or {}, origin, f"{group}.{name}.")
            flags = _full_names(flags, group, {name: options[name] for name in names[group]})
        elif orphan := next((flag for flag in flags if flag.startswith(f"{group}.")), None):
            raise UsageError(f"--{orphan}: no {group} is chosen; add --{group} and one of {', '.join(CHOICES[group])}.")
    return Choice(names, groups, low | flags, labels, spec["kind"], path.stem if path else "")


def _names(entry: tuple[list[str], str]) -> list[str]:
    """`redo,spectral` or `redo spectral` as a list."""
    return [name for value in entry[0] for name in value.split(",") if name]


def _take_one(flags: Flags, name: str) -> str | None:
    if name not in flags:
        return None
    values, _ = flags.pop(name)
    if len(values) != 1:
        raise UsageError(f"--{name} takes one value, got {len(values)}.")
    return values[0]


def _block(content: Any, group: str, path: Path | None) -> dict[str, dict[str, Any]]:
    """A file's block of one group as name -> settings: from a name, a list of names, or a mapping."""
    if content is None or content == "none":
        return {}
    if isinstance(content, str):
        return {content: {}}
    if isinstance(content, list):
        return {str(name): {} for name in content}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: {group} must be a name or settings, not {content!r}.")
    if group in ONE:
        settings = dict(content)
        return {str(settings.pop("name", path.stem if path else "")): settings}
    return {name: settings or {} for name, settings in content.items()}


def _agent_file(agent: str) -> Flags:
    """The published hyperparameters of an agent, where a file of them is shipped."""
    path = files.HERE / "agents" / f"{agent}.yaml"
    return from_mapping(files.read(path), path.name, "agent.") if path.is_file() else {}


def _schedule(
    name: str, block: dict[str, dict[str, Any]], path: Path | None
) -> tuple[dict[str, Any], dict[str, str], str]:
    """The schedule's kind, its settings (with those of its changes by label) and the name of each label's change.

    A block that says its `kind` stands for itself, as in a resolved configuration; any other changes the settings of
    the schedule file it names.
    """
    own = block.get(name)
    if own is not None and "kind" in own and path is not None:
        content, origin = dict(own), path.name
    else:
        file = files.find("schedules", name, "--schedule")
        content, origin = files.read(file), file.name
        for key, value in (own or {}).items():
            content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    kind = content.pop("kind", None)
    if kind not in SCHEDULES:
        raise UsageError(
            f"{origin}: kind must be one of {', '.join(SCHEDULES)}, not {kind!r}{did_you_mean(kind, SCHEDULES) or '.'}"
        )
    changes = content.pop("changes", None) or {}
    labels: dict[str, str] = {}
    for label, settings in changes.items():
        settings = dict(settings or {})
        labels[label] = settings.pop("change", label)
        if labels[label] not in CHANGES:
            raise UsageError(
                f"{origin}: there is no change {labels[label]!r}; choose one of {', '.join(CHANGES)}"
                f"{did_you_mean(labels[label], CHANGES) or '.'}"
            )
        content[label] = {**settings, **(content.get(label) or {})}
    return {"kind": kind, "settings": content}, labels, origin


def _schedule_group(spec: dict[str, Any], labels: dict[str, str], origin: str) -> type[Any]:
    """A dataclass of the schedule's own settings with those of each change nested under its label."""
    kind = SCHEDULES[spec["kind"]]
    taken = {entry.name for entry in fields(kind)}
    for label in labels:
        if not label.isidentifier() or label in taken:
            raise UsageError(
                f"{origin}: {label!r} cannot label a change; use a word that is no setting of the schedule."
            )
    nested = [(label, CHANGES[name]) for label, name in labels.items()]
    return make_dataclass(kind.__name__, nested, bases=(kind,), kw_only=True)


def _full_names(flags: Flags, group: str, chosen: dict[str, type[Any]]) -> Flags:
    """`--reset.tau` as `--reset.redo.tau`, where only one of the chosen resets has such a setting."""
    full: Flags = {}
    for flag, entry in flags.items():
        head, _, rest = flag.partition(".")
        if head != group or rest.partition(".")[0] in {canonical(name) for name in chosen}:
            full[flag] = entry
            continue
        setting = rest.removeprefix("no-")
        owners = [
            name
            for name, kind in chosen.items()
            if len(chosen) == 1 or setting in {canonical(item.name) for item in fields(kind)}
        ]
        if len(owners) > 1:
            options = " or ".join(f"--{group}.{canonical(name)}.{rest}" for name in owners)
            raise UsageError(f"--{flag} is a setting of {' and '.join(owners)}; write {options}.")
        full[f"{group}.{canonical(owners[0])}.{rest}" if owners else flag] = entry
    return full


def _several(parsed: Any, group: str, names: list[str]) -> dict[str, Any]:
    return {name: getattr(getattr(parsed, group), name) for name in names}


def _name_of(item: object, registry: Mapping[str, type[Any]]) -> str:
    return next(name for name, kind in registry.items() if type(item) is kind)


def _plain(value: Any) -> Any:
    """Tuples as lists, so that safe YAML can write them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
