"""The first stage of a command line: which agent, schedule, resets … are named, and the settings of what they name.

Layers, each over the one before: defaults in the code, `configs/agents/<agent>.yaml`, the file given by `--config` (the
default benchmark where neither a file nor an environment is named), the command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Any

from agents import AGENTS, NETWORKS
from configs import arms, files
from configs.flags import Flags, canonical, from_mapping
from configs.plans import Plan, read_mapping, read_plan
from configs.settings import LARGEST, UsageError, did_you_mean
from envs.compositions import OWN
from envs.normalize import Normalization
from envs.reading import scaled, times
from metrics import DEFAULT, METRICS
from optimizers import OPTIMIZERS, OptimizerSettings
from regularizers import REGULARIZERS
from resets import RESETS

DEFAULT_BENCHMARK = "cartpole_permuted"
ONE = ("agent", "network", "schedule", "optimizer")
SEVERAL = ("reset", "regularizer", "metrics")
ARMS = ("reset", "regularizer")
"""Where the command line separates arms by commas; what one arm combines is joined by plus signs."""
SETS = {"default": DEFAULT, "all": tuple(METRICS)}
"""What stands for several metrics at once."""
ALONE = (arms.NONE, arms.FRESH)
"""What is combined with nothing else."""
EXTRA: dict[str, Sequence[str]] = {"metrics": tuple(SETS), "reset": (arms.FRESH,)}
"""What can be named beside the methods themselves."""
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


@dataclass
class Choice:
    """What the names stage found: the dataclasses to parse into, and the flags for them."""

    names: dict[str, list[str]]
    groups: dict[str, type[Any]]
    flags: Flags
    plan: Plan
    benchmark: str


def read_normalize(block: Any) -> Any:
    """What a file says of normalisation: a policy, alone or with settings; YAML reads `off` as false."""
    if block is None:
        return {}
    if block is False or isinstance(block, str):
        return {"policy": block or "off"}
    if isinstance(block, Mapping) and block.get("policy") is False:
        return {**block, "policy": "off"}
    return block


def choose(flags: Flags) -> Choice:
    """The first stage: take the names out of the flags, read the files they mean, and make the groups they name."""
    asked = {group: flags.pop(group)[0] for group in (*ONE, *SEVERAL) if group in flags}
    benchmark = take_one(flags, "config")
    if benchmark is None and "env" not in flags:
        benchmark = DEFAULT_BENCHMARK
    path = None if benchmark is None else files.find("benchmarks", benchmark, "--config")
    tree, origin = (files.read(path), path.name) if path else ({}, "")
    scale = _scale(flags, tree)
    if "steps" in tree:
        tree["steps"] = times(tree["steps"], scale)
    title = _title(tree.pop("benchmark", path.stem if path else ""), origin)
    if "normalize" in tree:
        tree["normalize"] = read_normalize(tree["normalize"])
        if isinstance(tree["normalize"], dict):
            tree["normalize"] = scaled(tree["normalize"], scale)
    if "normalize" in flags:
        flags["normalize.policy"] = flags.pop("normalize")
    blocks = {group: read_block(tree.pop(group, None), group, origin) for group in (*ONE, *SEVERAL)}
    if asked.get("reset") == [arms.FRESH]:  # a full reset as it is by default, whatever a file says of `full`
        if orphan := next((flag for flag in flags if flag.startswith("reset.")), None):
            raise UsageError(f"--{orphan}: the fresh arm has no settings; choose --reset full, which has.")
        asked["reset"], blocks["reset"] = ["full"], {}
    names = {group: read_names(group, asked.get(group), list(blocks[group]), origin) for group in (*ONE, *SEVERAL)}

    agent, network, schedule, optimizer = (names[group][0] for group in ONE)
    low = _agent_file(agent) | from_mapping(tree, origin)
    low |= from_mapping(blocks["agent"].get(agent, {}), origin, "agent.")
    low |= from_mapping(blocks["network"].get(network, {}), origin, "network.")
    low |= from_mapping(blocks["optimizer"].get(optimizer, {}), origin, "optimizer.")
    plan, schedule_origin = read_plan(schedule, blocks["schedule"], path, scale)
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
        names = (
            listed(asked) if group not in ARMS else [name for arm in listed(asked) for name in arm.split("+") if name]
        )
        if group in ARMS and len(listed(asked)) > 1:
            raise UsageError(f"{where} takes one arm here, not {len(listed(asked))}: {', '.join(listed(asked))}.")
    if group in CHOICES:
        names = [underscored(name) for name in names]
    if group == "metrics":
        names = list(dict.fromkeys(each for name in names for each in SETS.get(name, (name,))))
    if not names:
        raise UsageError(f"{where} takes a name, got none.")
    if group in ONE and len(names) > 1:
        raise UsageError(f"{where} takes one name, not {len(names)}: {', '.join(names)}.")
    if group in SEVERAL and names == ["none"]:
        return []
    if group in SEVERAL and (alone := next((name for name in names if name in ALONE), None)):
        raise UsageError(f"{where}: {alone} stands alone, not together with others.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{where} names {twice} twice.")
    options = CHOICES.get(group)
    if options and (unknown := next((name for name in names if name not in options), None)) is not None:
        known = [*(["none"] if group in SEVERAL else []), *EXTRA.get(group, ()), *options]
        kind = "metric" if group == "metrics" else group
        near = did_you_mean(unknown, known) or "."
        raise UsageError(f"{where}: there is no {kind} {unknown!r}; choose from {', '.join(known)}{near}")
    return names


def listed(values: Sequence[str]) -> list[str]:
    """What some words name, apart from each other by commas: `redo,swr`, `redo, swr` or `redo swr`."""
    return [name for value in values for name in value.split(",") if name]


def underscored(name: str) -> str:
    """Names in code and files are written with underscores; hyphens are understood."""
    return name.replace("-", "_")


def take_one(flags: Flags, name: str) -> str | None:
    """Take a flag with one value out of the others."""
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
    blocks = read_mapping(content, f"{origin}: {group}", "a name, or ")
    if group in SEVERAL:
        return {
            underscored(name): read_mapping(settings, f"{origin}: {group}.{name}") for name, settings in blocks.items()
        }
    if not blocks:
        return {}
    settings = dict(blocks)
    name = settings.pop("name", Path(origin).stem if "kind" in settings else None)
    if not isinstance(name, str):
        raise UsageError(f"{origin}: {group} needs a 'name'{'' if name is None else f', not {name!r}'}.")
    return {name: settings}


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
