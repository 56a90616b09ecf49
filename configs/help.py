"""`--help`: without names an overview of what can be chosen, with names the settings of what they name."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.table import Table

from configs import files
from configs.arms import FRESH
from configs.command_line import Run
from configs.flags import from_command_line, show_help
from configs.names import ALONE, ARMS, CHOICES, DEFAULT_BENCHMARK, ONE, SEVERAL, choose, listed
from configs.plans import KINDS
from configs.population import Members
from envs.changes import CHANGES

FAMILIES = {"classic_control": "classic control", "mujoco": "MuJoCo", "box2d": "Box2D", "toy_text": "toy text"}


SEVERAL_TOLD = dict.fromkeys(ARMS, " (arms: a,b; together in one: a+b)") | {"metrics": " (several: a,b)"}


def print_help(arguments: Sequence[str], program: str = "train.py") -> None:
    """Print the help for a command line from which `--help` has been taken away."""
    flags = from_command_line(arguments)
    named = [group for group in (*ONE, *SEVERAL) if group in flags]
    if not named:
        print_overview(program)
        return
    choice = choose(flags | {group: _together(flags[group][0]) for group in ARMS if group in flags})
    groups = {group: choice.groups[group] for group in named if group in choice.groups}
    # One reset alone is shown, and may be written, without its name: --reset.tau.
    for group in SEVERAL:
        if group in groups and len(choice.names[group]) == 1:
            groups[group] = CHOICES[group][choice.names[group][0]]
    kind = make_dataclass("Settings", list(groups.items()), kw_only=True)
    chosen = " ".join(f"--{group} {','.join(choice.names[group])}" for group in named)
    show_help(kind, program, f"Settings of {chosen}. Defaults are those of the code; see also {program} --help.")


def _together(asked: Sequence[str]) -> tuple[list[str], str]:
    """What several arms name, as one flag."""
    names = {"full" if name == FRESH else name: None for arm in listed(asked) for name in arm.split("+")}
    acting = [name for name in names if name not in ALONE]
    return ["+".join(acting or names)], ""


def print_overview(program: str) -> None:
    """List everything that can be named, a line each, then the settings of any run."""
    console = Console(highlight=False)
    console.print(
        f"[bold]{program}[/bold] trains a Stable-Baselines3 agent in an environment that keeps changing and measures "
        f"how it keeps learning. Without --config and --env it runs the benchmark {DEFAULT_BENCHMARK}.\n\n"
        f"  python {program} --agent ppo --reset redo\n"
        f"  python {program} --agent sac --env Pendulum-v1 --schedule pendulum_mass_drift --steps 40000\n"
        f"  python {program} --reset none,fresh,redo+swr --seeds 4   many runs at once: three arms, four seeds each\n"
        f"  python {program} --reset redo --help        settings of a method, with their sources\n"
    )
    for group in ("agent", "reset", "regularizer", "network", "optimizer", "metrics"):
        several = SEVERAL_TOLD.get(group, "")
        _section(console, f"--{group} NAME{several}", {name: first_line(kind) for name, kind in CHOICES[group].items()})
    _section(console, "--schedule NAME or FILE.yaml", files.shipped("schedules"))
    _section(console, "--config NAME or FILE.yaml (a benchmark, or a run's config.yaml)", files.shipped("benchmarks"))
    kinds = {name: first_line(kind) for name, kind in KINDS.items()}
    _section(console, "kinds of schedules: when things change (kind: in a schedule's file)", kinds)
    _section(console, "what a schedule can change", {name: first_line(kind) for name, kind in CHANGES.items()})
    _section(console, "--env ID (any Gymnasium id), of these families among others", environments())
    show_help(Run, program, "Settings of any run:")
    show_help(Members, program, "Settings of a population, many runs at once:")


def environments() -> dict[str, str]:
    """Newest versions of Gymnasium's own environments, by family."""
    found: dict[str, dict[str, int]] = {}
    for spec in gym.registry.values():
        module = str(spec.entry_point).partition(":")[0].split(".")
        family = next((FAMILIES[part] for part in module if part in FAMILIES), None)
        if family and spec.version is not None and spec.namespace is None:
            versions = found.setdefault(family, {})
            versions[spec.name] = max(spec.version, versions.get(spec.name, 0))
    return {
        family: ", ".join(f"{name}-v{version}" for name, version in names.items()) for family, names in found.items()
    }


def _section(console: Console, title: str, lines: Mapping[str, str]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    for name, line in lines.items():
        table.add_row(name, line)
    console.print(table)
    console.print()


def first_line(kind: type[Any]) -> str:
    """What a class's docstring begins with: its first sentence, on one line."""
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
