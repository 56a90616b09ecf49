"""Many runs from one command line: `--reset none,redo --seeds 4` is a population of eight, two arms of four seeds.

A comma separates arms, a plus sign joins what one arm combines: `--reset redo+swr,cbp --regularizer none,l2` are four
arms. Each member's configuration is, to the last setting, that of the run which trains it alone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import groupby, product
from typing import Annotated, Any

from annotated_types import Ge, Le

from configs.command_line import Arm, Config, Run
from configs.flags import Flags, build, canonical, from_command_line
from configs.names import ALONE, ARMS, CHOICES, listed, underscored
from configs.settings import Settings, UsageError

MOST_MEMBERS = 4096
"""Of a population, each with an environment, a directory and tables of its own."""
LAST_SEED = 2**32 - 1
LONGEST_LIST = 80
"""Characters of a list in the name of a directory."""


@dataclass
class Members(Settings):
    """Settings of a population, many runs that are trained together."""

    seeds: tuple[Annotated[int, Ge(0), Le(LAST_SEED)], ...] | None = None
    """How many seeds each arm is trained with, from --seed on, such as 8; or the seeds themselves, such as 3,5,9. With
    this, or with several arms (--reset none,redo), all of these runs are trained together, in lockstep."""

    stack: bool = True
    """Train members together wherever that is possible, their networks as one; otherwise one after another."""

    processes: Annotated[int, Ge(1), Le(256)] = 1
    """Processes that share the members among them, best one for each core of the processor."""


@dataclass
class Population:
    """Members that are trained together, arm by arm, each arm's by their seeds.

    Attributes:
        members: their configurations, which differ in arms and seeds only.
        stack: whether they may be trained as one.
        processes: how many processes share them.
    """

    members: list[Config]
    stack: bool = True
    processes: int = 1

    @property
    def run(self) -> Run:
        """Settings of the run that all members share; the seed is the first member's."""
        return self.members[0].run

    @property
    def seeds(self) -> list[int]:
        """The seeds that each arm is trained with."""
        return list(dict.fromkeys(config.run.seed for config in self.members))

    @property
    def arms(self) -> dict[str, list[Config]]:
        """The members of each arm, in order."""
        return {arm: list(members) for arm, members in groupby(self.members, lambda config: config.arm)}

    @property
    def names(self) -> list[str]:
        """What each member is called: arm and seed, such as `redo-s3`."""
        return [f"{config.arm}-s{config.run.seed}" for config in self.members]

    @cached_property
    def digest(self) -> str:
        """A hash of everything that the members depend on."""
        content = json.dumps([config.as_dict() for config in self.members], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def title(self) -> str:
        """The population in a word: `none,redo-s0-7`."""
        arms, seeds = ",".join(self.arms), self.seeds
        arms = arms if len(arms) <= LONGEST_LIST else f"{len(self.arms)}-arms"
        shown = ",".join(map(str, seeds))
        if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1)):
            shown = f"{seeds[0]}-{seeds[-1]}"
        return f"{arms}-s{shown if len(shown) <= LONGEST_LIST else f'{seeds[0]}-and-{len(seeds) - 1}-more'}"

    def as_dict(self) -> dict[str, Any]:
        """What is written into a population's directory; the settings themselves stand in those of its members."""
        return {"members": self.names, "stack": self.stack, "processes": self.processes, "configuration": self.digest}


def read(arguments: Sequence[str]) -> Config | Population:
    """Read a command line, which is that of one run or, with several arms or --seeds, that of a population.

    Raises:
        UsageError: anything wrong in it or in the files it names; one sentence.
    """
    return CommandLine(arguments).asked()


class CommandLine:
    """What a command line says, for its own seeds or for others, without reading it and its files again.

    Args:
        arguments: its words.

    Raises:
        UsageError: anything wrong in it or in the files it names; one sentence.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        flags = from_command_line(arguments)
        own = {canonical(entry.name) for entry in fields(Members)}
        own |= {f"no-{name}" for name in own}
        self._settings = build(Members, {name: flags.pop(name) for name in own & flags.keys()})
        self._has_seed = "seed" in flags
        self.arms = [Arm(arm, also=sorted(own)) for arm in split_arms(flags)]

    def asked(self) -> Config | Population:
        """The run, or the population, of its own seeds."""
        asked = self._settings.seeds
        if asked is None and len(self.arms) == 1:
            if self._settings != Members():
                raise UsageError("--stack and --processes are for a population; add --seeds, or name several arms.")
            return self.arms[0].config()
        return self._population(_seeds(asked, self.arms[0].parsed.seed, self._has_seed))

    def of(self, seeds: Sequence[int]) -> Config | Population:
        """What `--seed 3`, or `--seeds 3,4`, would make of it; neither may be said in it."""
        return self._population(seeds) if len(self.arms) > 1 or len(seeds) > 1 else self.arms[0].config(seeds[0])

    def _population(self, seeds: Sequence[int]) -> Population:
        if (count := len(self.arms) * len(seeds)) > MOST_MEMBERS:
            raise UsageError(f"{count:,} members are too many; a population has at most {MOST_MEMBERS:,}.")
        members = [arm.config(seed) for arm in self.arms for seed in seeds]
        _check_differ(members[:: len(seeds)])
        return Population(members, self._settings.stack, self._settings.processes)


def split_arms(flags: Flags) -> list[Flags]:
    """The flags of each arm: every combination of what `--reset` and `--regularizer` list.

    A setting of a method goes to the arms that have it; one that no arm has stays where it will be refused.
    """
    named = {group: listed(flags[group][0]) for group in ARMS if group in flags}
    if all(len(arms) <= 1 for arms in named.values()):
        return [flags]
    for group, arms in named.items():
        if not arms:
            raise UsageError(f"--{group} takes a name, got none.")
        if twice := next((arm for arm in arms if arms.count(arm) > 1), None):
            raise UsageError(f"--{group} names the arm {twice} twice.")
    combined = [dict(zip(named, choice, strict=True)) for choice in product(*named.values())]
    several = [group for group, arms in named.items() if len(arms) > 1]
    owners = {flag: [_has(arm, flag, several) for arm in combined] for flag in flags}
    acting = [any(arm[group] not in ALONE for group in several) for arm in combined]
    refusing = acting.index(True) if True in acting else 0
    found: list[Flags] = []
    for index, arm in enumerate(combined):
        own = {
            flag: entry
            for flag, entry in flags.items()
            if owners[flag][index] or (index == refusing and not any(owners[flag]))
        }
        found.append(own | {group: ([name], "") for group, name in arm.items()})
    return found


def _has(arm: dict[str, str], flag: str, groups: Sequence[str]) -> bool:
    """Whether a flag concerns an arm: it is a setting of one of its methods, or none of a group that lists several."""
    group, _, setting = flag.partition(".")
    if group not in groups or not setting:
        return True
    methods = {canonical(name): CHOICES[group].get(underscored(name)) for name in arm[group].split("+")}
    if setting.partition(".")[0] in methods:
        return True
    names = {canonical(entry.name) for kind in methods.values() if kind for entry in fields(kind)}
    return setting.removeprefix("no-") in names


def _seeds(asked: tuple[int, ...] | None, first: int, has_seed: bool) -> list[int]:
    """The seeds of each arm: one number is how many, several are the seeds themselves."""
    if asked is None:
        return [first]
    if len(asked) <= 1:
        count = sum(asked)
        if not 1 <= count <= MOST_MEMBERS:
            raise UsageError(f"--seeds must be a number from 1 to {MOST_MEMBERS:,}, or a list of seeds, not {count:,}.")
        if first + count - 1 > LAST_SEED:
            raise UsageError(f"--seeds {count} from --seed {first} on goes beyond {LAST_SEED}, the last seed there is.")
        return list(range(first, first + count))
    if has_seed:
        raise UsageError("--seed and a list of --seeds exclude each other.")
    if twice := [seed for seed in asked if asked.count(seed) > 1]:
        raise UsageError(f"--seeds names {twice[0]} twice.")
    return list(asked)


def _check_differ(arms: list[Config]) -> None:
    """Refuse two names of one arm, such as `full,fresh`; each arm is given by a member."""
    names = [config.arm for config in arms]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two of the arms are {twice[0]}; name it once.")
