"""The command line: what it names (`configs.names`), then the settings of that, which together are a run's `Config`.

What a run resolves to is written back in the format of `--config`.
"""

import copy
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from agents import AgentSettings, NetworkSettings
from configs import arms
from configs.flags import Flags, build, from_command_line
from configs.interval import Interval
from configs.names import ONE, SEVERAL, choose
from configs.settings import SettingError, Settings, UsageError, did_you_mean
from envs import Stepping
from envs.compositions import Composition
from envs.normalize import Normalization
from envs.tasks import Tasks
from metrics import Metric
from optimizers import OptimizerSettings
from regularizers import Projection, Regularizer
from resets import Reset

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
    """Before training, try the first values of every change and stop where one has no effect on the environment."""

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
        agent: settings of the agent.
        network: settings of its networks.
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

    @property
    def digest(self) -> str:
        """A hash of everything that the run depends on."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

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


def parse(arguments: Sequence[str]) -> Config:
    """Read the command line of one run.

    Raises:
        UsageError: anything wrong in it or in the files it names; one sentence.
    """
    return Arm(from_command_line(arguments)).config()


class Arm:
    """What the flags of one arm say, for any seed.

    Args:
        flags: of the command line, which are used up.
        also: other flags that the command line knows; an unknown one may be a misspelling of them.
    """

    def __init__(self, flags: Flags, also: Sequence[str] = ()) -> None:
        self.choice = choose(flags)
        kind = make_dataclass("Configuration", list(self.choice.groups.items()), bases=(Run,), kw_only=True)
        known = (*ONE, *SEVERAL, "normalize", "config", "help", *also)
        self.parsed: Any = build(kind, self.choice.flags, known)

    def config(self, seed: int | None = None) -> Config:
        """The configuration with a seed, or with the one of the flags; nothing in it is shared with another.

        Raises:
            UsageError: the schedule cannot be made, or is of too many tasks.
        """
        choice, parsed = self.choice, copy.deepcopy(self.parsed)
        run = Run(**{entry.name: getattr(parsed, entry.name) for entry in fields(Run)})
        run.seed = run.seed if seed is None else seed
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


def _several(parsed: Any, group: str, names: list[str]) -> dict[str, Any]:
    return {name: getattr(getattr(parsed, group), name) for name in names}


def _plain(value: Any) -> Any:
    """Tuples as lists, so that safe YAML can write them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
