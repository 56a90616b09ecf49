"""The command line in two stages: first the names (agent, schedule, resets …), then the settings of what they name.

Layers, each over the one before: defaults in the code, `configs/agents/<agent>.yaml`, the file given by `--config` (the
default benchmark where neither a file nor an environment is named), the command line. What a run resolves to is written
back in the format of `--config`.
"""

import keyword
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Ge, Gt, Le

from agents import AGENTS, NETWORKS, AgentSettings, NetworkSettings
from configs import arms, files
from configs.flags import Flags, build, canonical, from_command_line, from_mapping
from configs.interval import Interval
from configs.settings import LARGEST, SettingError, Settings, UsageError, did_you_mean
from envs import Stepping
from envs.changes import CHANGES
from envs.compositions import OWN, Composition
from envs.normalize import Normalization
from envs.reading import scaled, times
from envs.schedules import COMPOSITIONS, SCHEDULES
from envs.tasks import Tasks
from metrics import DEFAULT, METRICS, Metric
from optimizers import OPTIMIZERS, OptimizerSettings
from regularizers import REGULARIZERS, Projection, Regularizer
from resets import RESETS, Reset

DEFAULT_BENCHMARK = "cartpole_permuted"
ONE = ("agent", "network", "schedule", "optimizer")
SEVERAL = ("reset", "regularizer", "metrics")
SETS = {"default": DEFAULT, "all": tuple(METRICS)}
"""What stands for several metrics at once."""
CHOICES: dict[str, Mapping[str, type[Any]]] = {
    "agent": AGENTS,
    "network": NETWORKS,
    "optimizer": {"agent": OptimizerSettings, **OPTIMIZERS},
    "reset": RESETS,
    "regularizer": REGULARIZERS,
    "metrics": METRICS,
}
DEFAULTS = {
    "agent": ["ppo"],
    "network": ["mlp"],
    "schedule": ["stationary"],
    "optimizer": ["agent"],
    "metrics": ["default"],
}
KINDS: dict[str, type[Any]] = {**SCHEDULES, **COMPOSITIONS}
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
UNRECORDED = ("scale", "run_dir", "checkpoint_every", "restart", "preflight", "verify", "quiet")
"""Settings of where, how loudly and how carefully to run; `scale` is in the numbers that it scaled."""
OnNonfinite = Literal["stop", "skip", "warn"]
LONGEST_NAME = 200
"""Bytes of a folder's name; 255 are the most that file systems take, and what is moved aside gets a longer name."""
MOST_TASKS = 1_000_000
"""Of a run. More would fill the memory before it begins."""
SOME_TASKS = 1000
"""How many are looked at to know how long tasks are."""
LABEL = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


@dataclass
class Run(Settings):
    """Settings of a run beside those of the agent, schedule and interventions it names."""

    env: str = "CartPole-v1"
    """Gymnasium id of the environment, with arguments where it takes some: Ant-v5?contact_cost_weight=0."""

    steps: Annotated[int, Gt(0)] = 100_000
    """Environment steps in all, over all environments, rounded up to whole rollouts; a benchmark sets its own."""

    scale: Annotated[float, Gt(0)] = 1.0
    """Factor on the steps and on all periods that a benchmark and a schedule file set: 0.1 for a trial ten times
    shorter. Steps and periods given by flags are taken as they are."""

    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Seed of the agent, the environments and the schedule; interventions draw from generators of their own."""

    device: str = "cpu"
    """Where the networks live: cpu (fastest for small networks), cuda, cuda:1, mps, or auto."""

    threads: Annotated[int, Ge(1), Le(256)] = 1
    """CPU threads of PyTorch; more than one slows small networks down."""

    measure_every: Annotated[int, Gt(0)] = 2048
    """Environment steps between two measurements of the networks; rounded up to whole rollouts."""

    measure_costly_every: Annotated[int, Gt(0)] = 40_960
    """The same for costly metrics (curvature, single gradients, trainability), which are measured at the beginnings and
    ends of tasks as well, once three quarters of this have gone by."""

    measure_samples: Annotated[int, Ge(2), Le(100_000)] = 512
    """Observations that networks are measured on; ranks cannot exceed it."""

    histograms: bool = False
    """Histograms of all layers' weights and activations in TensorBoard, as often as costly metrics."""

    on_nonfinite: OnNonfinite = "stop"
    """What to do about gradients, observations or rewards that are infinite or no numbers: stop the run, skip the
    update, or only warn."""

    run_dir: Path | None = None
    """Directory of the run; none: runs/ and a name made from the configuration."""

    checkpoint_every: str = "1min"
    """How often the whole run is saved, to go on from there after whatever ends it: every 10000 steps, 30s, 5min, 2h,
    or never. It costs well under a hundredth of the time."""

    restart: bool = False
    """Begin anew where an unfinished run could be taken up; that one is kept beside."""

    stepping: Stepping = "auto"
    """How parallel environments are stepped: in turn (dummy), each in a process of its own (subproc), or all at once by
    MuJoCo (batch); auto takes the batch where it knows the environment, and else dummy."""

    preflight: bool = True
    """Before training, try every scheduled value and stop where one has no effect on the environment."""

    verify: bool = False
    """Do that preflight alone, and print what was measured."""

    quiet: bool = False
    """Print nothing but errors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not DEVICE.fullmatch(self.device):
            hint = did_you_mean(self.device, ("auto", "cpu", "cuda", "mps"))
            raise SettingError(
                self, "device", f"must be auto, cpu, cuda, cuda:<number> or mps, not {self.device!r}{hint}"
            )
        try:
            Interval.parse(self.checkpoint_every)
        except ValueError as error:
            raise SettingError(self, "checkpoint_every", str(error)) from error
        if self.run_dir is not None:
            self.run_dir = self._folder(self.run_dir)

    def _folder(self, path: Path) -> Path:
        """A path that a directory can have and that can be shown, `~` written out."""
        if not str(path).isprintable():
            raise SettingError(self, "run_dir", f"must be text that can be printed, not {str(path)!r}")
        try:
            path = path.expanduser()
        except RuntimeError as error:
            raise SettingError(self, "run_dir", f"cannot be {str(path)!r} ({error})") from error
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
        if longest > LONGEST_NAME:
            raise SettingError(self, "run_dir", f"must have names of at most {LONGEST_NAME} bytes, not of {longest}")
        return path


@dataclass
class Config:
    """Everything a run depends on.

    Attributes:
        run: environment, steps, seed and the like.
        agent: settings of the agent, named `agent_name`.
        network: settings of its networks, named `network_name`.
        optimizer: settings of its optimiser; `agent` is the agent's own.
        tasks: what changes and when.
        normalize: how observations and rewards are normalised.
        resets: by name, in the order in which they fire.
        regularizers: by name.
        metrics: by name, what is measured.
        benchmark: name of the benchmark or file that the configuration started from.
        schedule_seed: the schedule's own seed; None where it has the run's.
    """

    run: Run
    agent: AgentSettings
    network: NetworkSettings
    optimizer: OptimizerSettings
    tasks: Tasks
    normalize: Normalization
    resets: dict[str, Reset]
    regularizers: dict[str, Regularizer | Projection]
    metrics: dict[str, Metric]
    names: dict[str, str]
    benchmark: str
    schedule_seed: int | None

    @property
    def arm(self) -> str:
        """The interventions in a word, such as `none`, `redo+spectral` or `redo+crelu+unit_adam`."""
        return arms.arm(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The configuration as `--config` reads it; where and how loudly to run is left out."""
        run = {key: value for key, value in asdict(self.run).items() if key not in UNRECORDED}
        tree = {
            "benchmark": self.benchmark,
            **run,
            "agent": {"name": self.names["agent"], **asdict(self.agent)},
            "network": {"name": self.names["network"], **asdict(self.network)},
            "optimizer": {"name": self.names["optimizer"], **asdict(self.optimizer)},
            "schedule": {"name": self.names["schedule"], **self.tasks.as_dict(), "seed": self.schedule_seed},
            "normalize": asdict(self.normalize),
            "reset": {name: asdict(reset) for name, reset in self.resets.items()} or "none",
            "regularizer": {name: asdict(item) for name, item in self.regularizers.items()} or "none",
            "metrics": {name: asdict(item) for name, item in self.metrics.items()} or "none",
        }
        plain: dict[str, Any] = _plain(tree)
        return plain


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


@dataclass
class Choice:
    """What the names stage found: the dataclasses to parse into, and the flags for them."""

    names: dict[str, list[str]]
    groups: dict[str, type[Any]]
    flags: Flags
    plan: Plan
    benchmark: str


def parse(arguments: Sequence[str]) -> Config:
    """Read a command line.

    Raises:
        UsageError: anything wrong in it or in the files it names; one sentence.
    """
    choice = choose(from_command_line(arguments))
    kind = make_dataclass("Configuration", list(choice.groups.items()), bases=(Run,), kw_only=True)
    parsed: Any = build(kind, choice.flags, also=(*ONE, *SEVERAL, "normalize", "config", "help"))
    run = Run(**{entry.name: getattr(parsed, entry.name) for entry in fields(Run)})
    try:
        tasks = choice.plan.tasks(parsed.schedule, run.seed)
    except ValueError as error:
        raise UsageError(f"--schedule {choice.names['schedule'][0]}: {str(error).rstrip('.')}.") from error
    _check_amount(tasks, run.steps)
    return Config(
        run=run,
        agent=parsed.agent,
        network=parsed.network,
        optimizer=parsed.optimizer,
        tasks=tasks,
        normalize=parsed.normalize,
        resets=_several(parsed, "reset", choice.names["reset"]),
        regularizers=_several(parsed, "regularizer", choice.names["regularizer"]),
        metrics=_several(parsed, "metrics", choice.names["metrics"]),
        names={group: choice.names[group][0] for group in ONE},
        benchmark=choice.benchmark,
        schedule_seed=parsed.schedule.seed,
    )


def _check_amount(tasks: Tasks, steps: int) -> None:
    """Refuse a run of so many tasks that their beginnings could not be listed."""
    if isinstance(tasks, Composition):
        longest = max([steps, *getattr(tasks.schedule, "lengths", ())])
        for part in tasks.parts.values():
            _check_amount(part, longest)
    try:
        amount = SOME_TASKS * steps / tasks.start(SOME_TASKS)
    except ValueError:  # the schedule has fewer
        return
    if amount > MOST_TASKS:
        raise UsageError(
            f"{steps:,} steps are about {amount:,.0f} tasks of this schedule, and {MOST_TASKS:,} are the most; "
            "choose fewer steps or longer tasks."
        )


def choose(flags: Flags) -> Choice:
    """The first stage: take the names out of the flags, read the files they mean, and make the groups they name."""
    asked = {group: flags.pop(group)[0] for group in (*ONE, *SEVERAL) if group in flags}
    benchmark = _take_one(flags, "config")
    if benchmark is None and "env" not in flags:
        benchmark = DEFAULT_BENCHMARK
    path = None if benchmark is None else files.find("benchmarks", benchmark, "--config")
    tree, origin = (files.read(path), path.name) if path else ({}, "")
    scale = _scale(flags, tree)
    if "steps" in tree:
        tree["steps"] = times(tree["steps"], scale)
    title = _title(tree.pop("benchmark", path.stem if path else ""), origin)
    if isinstance(tree.get("normalize"), str):
        tree["normalize"] = {"policy": tree["normalize"]}
    if not tree.get("normalize"):  # nothing, or `off`, which YAML reads as false
        tree.pop("normalize", None)
    elif isinstance(tree["normalize"], dict):
        tree["normalize"] = scaled(tree["normalize"], scale)
    if "normalize" in flags:
        flags["normalize.policy"] = flags.pop("normalize")
    blocks = {group: read_block(tree.pop(group, None), group, origin) for group in (*ONE, *SEVERAL)}
    names = {group: read_names(group, asked.get(group), list(blocks[group]), origin) for group in (*ONE, *SEVERAL)}

    agent, network, schedule, optimizer = (names[group][0] for group in ONE)
    low = _agent_file(agent) | from_mapping(tree, origin)
    low |= from_mapping(blocks["agent"].get(agent, {}), origin, "agent.")
    low |= from_mapping(blocks["network"].get(network, {}), origin, "network.")
    low |= from_mapping(blocks["optimizer"].get(optimizer, {}), origin, "optimizer.")
    plan, schedule_origin = _schedule(schedule, blocks["schedule"], path, scale)
    low |= from_mapping(plan.settings, schedule_origin, "schedule.")
    groups: dict[str, type[Any]] = {
        "agent": AGENTS[agent],
        "network": NETWORKS[network],
        "optimizer": CHOICES["optimizer"][optimizer],
        "schedule": plan.group(),
        "normalize": Normalization,
    }
    for name in plan.parts:
        if own := next((own for own in OWN if f"schedule.{canonical(name)}.{own}" in flags), None):
            raise UsageError(f"--schedule.{name}.{own}: this is set for all parts together: --schedule.{own}.")
    if optimizer == "agent" and (orphan := next((flag for flag in flags if flag.startswith("optimizer.")), None)):
        options = ", ".join(OPTIMIZERS)
        raise UsageError(f"--{orphan}: the agent's own optimizer has no settings; add --optimizer, one of {options}.")
    for group in SEVERAL:
        chosen = {name: CHOICES[group][name] for name in names[group]}
        if chosen:
            groups[group] = make_dataclass(group, list(chosen.items()))
            for name in chosen:
                low |= from_mapping(blocks[group].get(name, {}), origin, f"{group}.{name}.")
            flags = _full_names(flags, group, chosen)
        elif orphan := next((flag for flag in flags if flag.startswith(f"{group}.")), None):
            raise UsageError(f"--{orphan}: no {group} is chosen; add --{group} and one of {', '.join(CHOICES[group])}.")
    return Choice(names, groups, low | flags, plan, title)


def read_names(group: str, asked: list[str] | None, in_file: list[str], origin: str) -> list[str]:
    """The names chosen in a group: those asked for on the command line, else those in the file, else the default."""
    where = f"--{group}" if asked is not None else f"{origin}: {group}"
    names = in_file or DEFAULTS.get(group, ["none"])
    if asked is not None:
        names = [name for value in asked for name in value.split(",") if name]
    if group in CHOICES:
        names = [_underscored(name) for name in names]
    if group == "metrics":
        names = list(dict.fromkeys(each for name in names for each in SETS.get(name, (name,))))
    if not names:
        raise UsageError(f"{where} takes a name, got none.")
    if group in ONE and len(names) > 1:
        raise UsageError(f"{where} takes one name, not {len(names)}: {', '.join(names)}.")
    if group in SEVERAL and names == ["none"]:
        return []
    if "none" in names and group in SEVERAL:
        raise UsageError(f"{where}: none stands alone, not together with others.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{where} names {twice} twice.")
    options = CHOICES.get(group)
    if options and (unknown := next((name for name in names if name not in options), None)) is not None:
        listed = ", ".join([*(["none"] if group in SEVERAL else []), *(SETS if group == "metrics" else []), *options])
        kind = "metric" if group == "metrics" else group
        raise UsageError(
            f"{where}: there is no {kind} {unknown!r}; choose from {listed}{did_you_mean(unknown, options) or '.'}"
        )
    return names


def _underscored(name: str) -> str:
    """Names in code and files are written with underscores; hyphens are understood."""
    return name.replace("-", "_")


def _take_one(flags: Flags, name: str) -> str | None:
    if name not in flags:
        return None
    values, _ = flags.pop(name)
    if len(values) != 1:
        raise UsageError(f"--{name} takes one value, got {len(values) or 'none'}.")
    return values[0]


def read_block(content: Any, group: str, origin: str) -> dict[str, dict[str, Any]]:
    """A file's block of one group as name -> settings: from a name, a list of names, or a mapping."""
    if isinstance(content, str):
        return {content: {}}
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        if len(set(content)) < len(content):
            raise UsageError(f"{origin}: {group} names one twice: {', '.join(content)}.")
        return {name: {} for name in content}
    blocks = _mapping(content, f"{origin}: {group}", "a name, or ")
    if group in SEVERAL:
        return {
            _underscored(name): _mapping(settings, f"{origin}: {group}.{name}") for name, settings in blocks.items()
        }
    if not blocks:
        return {}
    settings = dict(blocks)
    name = settings.pop("name", Path(origin).stem if "kind" in settings else None)
    if not isinstance(name, str):
        raise UsageError(f"{origin}: {group} needs a 'name'{'' if name is None else f', not {name!r}'}.")
    return {name: settings}


def _mapping(content: Any, where: str, other: str = "") -> dict[str, Any]:
    """A block of a file; a block without content is an empty one."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{where} must be {other}settings as 'name: value' lines, not {content!r}.")
    return content


def _agent_file(agent: str) -> Flags:
    """The published hyperparameters of an agent, where a file of them is shipped."""
    path = files.HERE / "agents" / f"{agent}.yaml"
    return from_mapping(files.read(path), path.name, "agent.") if path.is_file() else {}


def _scale(flags: Flags, tree: dict[str, Any]) -> float:
    """The factor on steps and periods; whatever is no number is refused later, with all other flags."""
    try:
        scale = float(flags["scale"][0][0] if "scale" in flags else tree.get("scale", 1.0))
    except (ValueError, TypeError, IndexError):
        return 1.0
    return scale if 0 < scale <= LARGEST else 1.0


def _title(name: Any, origin: str) -> str:
    """The benchmark's name, which is a folder's as well."""
    if not isinstance(name, str) or "/" in name or not name.isprintable() or name in (".", "..") or len(name) > 100:
        raise UsageError(f"{origin}: benchmark must be a short name without slashes, not {name!r}.")
    return name


def _schedule(name: str, block: dict[str, dict[str, Any]], path: Path | None, scale: float) -> tuple[Plan, str]:
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
        for name, block in _mapping(content.pop("parts", None), f"{origin}: parts").items():
            _check_label(name, KINDS[kind], origin, "a part")
            block = files.merged(
                _mapping(block, f"{origin}: parts.{name}"), _mapping(content.get(name), f"{origin}: {name}")
            )
            if misplaced := next((key for key in OWN if key in block), None):
                raise UsageError(f"{origin}: {misplaced} is set for all parts together, not for {name} alone.")
            parts[name] = _plan(block, origin, list(SCHEDULES))
            content[name] = parts[name].settings
        if not parts:
            raise UsageError(f"{origin}: {kind} needs parts, each with a kind and changes of its own.")
        return Plan(kind, content, parts=parts)
    labels: dict[str, str] = {}
    for label, block in _mapping(content.pop("changes", None), f"{origin}: changes").items():
        settings = dict(_mapping(block, f"{origin}: changes.{label}"))
        labels[label] = settings.pop("change", label)
        if labels[label] not in CHANGES:
            raise UsageError(
                f"{origin}: there is no change {labels[label]!r}; choose one of {', '.join(CHANGES)}"
                f"{did_you_mean(labels[label], CHANGES) or '.'}"
            )
        _check_label(label, KINDS[kind], origin, "a change")
        content[label] = files.merged(settings, _mapping(content.get(label), f"{origin}: {label}"))
    return Plan(kind, content, labels)


def _check_label(label: str, kind: type[Any], origin: str, what: str) -> None:
    """Refuse a label that could not be the name of a flag or a file's column."""
    taken = {"name", "kind", "changes", "parts", *dir(kind), *(entry.name for entry in fields(kind))}
    if not LABEL.fullmatch(label) or keyword.iskeyword(label) or label in taken:
        raise UsageError(
            f"{origin}: {label!r} cannot label {what}; use another word, of letters, digits and underscores."
        )


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


def _plain(value: Any) -> Any:
    """Tuples as lists, so that safe YAML can write them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
