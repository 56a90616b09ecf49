"""What is raced: work by name, the sides that do it, and which of them are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .work import Trainer, Work


@dataclass(frozen=True)
class Side:
    """A way to train several seeds.

    Attributes:
        trainer: who trains.
        together: whether all members are one population (in each process); otherwise a process trains a single one.
        on_all_cores: a process for each core, with one thread each; otherwise one process.
        threads: of that one process; None for as many as PyTorch takes by itself.
        our_envs: whether environments are stepped as `train.py` steps them.
    """

    trainer: Trainer
    together: bool = False
    on_all_cores: bool = False
    threads: int | None = None
    our_envs: bool = False


SB3, SB3_THREAD, SB3_CORES = "SB3, one run at a time", "SB3, one run, 1 thread", "SB3, a run for each core"
SBX, SBX_CORES = "SBX, one run at a time", "SBX, a run for each core"
POPULATION, POPULATION_CORES = "population", "population, a share for each core"
ONE, ONE_CORES = "population of one", "population of one, all cores"
OURS_CORES = "population, our stepping, a share for each core"
SIDES: dict[str, Side] = {
    SB3: Side("sb3"),
    SB3_THREAD: Side("sb3", threads=1),
    SB3_CORES: Side("sb3", on_all_cores=True),
    SBX: Side("sbx"),
    SBX_CORES: Side("sbx", on_all_cores=True),
    POPULATION: Side("population", together=True, threads=1),
    POPULATION_CORES: Side("population", together=True, on_all_cores=True),
    OURS_CORES: Side("population", together=True, on_all_cores=True, our_envs=True),
    ONE: Side("population", threads=1),
    ONE_CORES: Side("population"),
}
"""Runs one after another go at the speed of one: a single one is timed, and stands for as many as there are members."""


@dataclass(frozen=True)
class Question:
    """How many times faster the best of our sides is than the best of theirs, and what was hoped for."""

    what: str
    ours: tuple[str, ...]
    against: str
    theirs: tuple[str, ...]
    aim: float

    @property
    def sides(self) -> tuple[str, ...]:
        """All sides that it needs."""
        return self.ours + self.theirs

    def of(self, members: int) -> str:
        """What is asked about, with its number of members."""
        return self.what.format(members=members)


def all_seeds(aim: float) -> Question:
    """All members against as many stock runs."""
    return Question("{members} seeds", (POPULATION, POPULATION_CORES), "SB3", (SB3, SB3_CORES), aim)


def as_in_a_run(aim: float) -> Question:
    """The same with the environments stepped as `train.py` steps them, which is another gain."""
    return Question("{members} seeds, our stepping", (OURS_CORES,), "SB3", (SB3, SB3_CORES), aim)


def one_seed(aim: float) -> Question:
    """A population of one against one stock run."""
    return Question("one seed", (ONE,), "SB3", (SB3, SB3_THREAD), aim)


FASTER = 1.0
"""The aim where nothing but faster was asked for."""
AGAINST_SBX = (
    Question("{members} seeds", (POPULATION, POPULATION_CORES), "SBX", (SBX, SBX_CORES), FASTER),
    Question("one seed", (ONE, ONE_CORES), "SBX", (SBX,), FASTER),
)


@dataclass(frozen=True)
class Case:
    """Work that all sides do, and what is asked about it."""

    title: str
    algorithm: str
    env: str
    hidden: tuple[int, ...]
    members: int
    questions: tuple[Question, ...]
    warm_up: int
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sides(self) -> list[str]:
        """The sides that its questions need, each once, in the order of `SIDES`."""
        needed = {side for question in self.questions for side in question.sides}
        return [name for name in SIDES if name in needed]

    def works(self, side: Side, cores: int, members: int, seconds: float, device: str) -> list[Work]:
        """What each process of a side does."""
        processes = min(cores, members) if side.on_all_cores else 1
        return [
            Work(
                trainer=side.trainer,
                algorithm=self.algorithm,
                env=self.env,
                hidden=self.hidden,
                seeds=seeds,
                warm_up=self.warm_up,
                seconds=seconds,
                env_kwargs=dict(self.env_kwargs),
                settings=dict(self.settings),
                threads=1 if side.on_all_cores else side.threads,
                device=device,
                our_envs=side.our_envs,
            )
            for seeds in shares(members if side.together else processes, processes)
        ]


def shares(members: int, processes: int) -> Sequence[tuple[int, ...]]:
    """The seeds 0, 1, 2 … dealt out to processes, as evenly as can be."""
    return [tuple(range(first, members, processes)) for first in range(processes)]


PPO: dict[str, Any] = {"algorithm": "PPO", "warm_up": 2048}
SAC: dict[str, Any] = {"algorithm": "SAC", "warm_up": 150}
"""The clock starts after PPO's first update, and after 50 of SAC's; buffers hold what is trained on here."""
ANT: dict[str, Any] = {"include_cfrc_ext_in_observation": False}

CASES: dict[str, Case] = {
    "ppo_cartpole": Case(
        "PPO, CartPole-v1, 64x64", env="CartPole-v1", hidden=(64, 64), members=8,
        questions=(all_seeds(4.0), as_in_a_run(4.0), one_seed(2.0)), **PPO,
    ),
    "ppo_cheetah": Case(
        "PPO, HalfCheetah-v5, 64x64", env="HalfCheetah-v5", hidden=(64, 64), members=8,
        questions=(all_seeds(2.5), as_in_a_run(2.5), one_seed(1.5), *AGAINST_SBX), **PPO,
    ),
    "ppo_ant": Case(
        "PPO, Ant-v5 without contact forces, 256x256", env="Ant-v5", env_kwargs=ANT, hidden=(256, 256), members=8,
        questions=(all_seeds(1.8), as_in_a_run(1.8)), **PPO,
    ),
    "sac_pendulum": Case(
        "SAC, Pendulum-v1, 64x64, batch 128", env="Pendulum-v1", hidden=(64, 64), members=8,
        questions=(all_seeds(3.0),), settings={"batch_size": 128, "buffer_size": 100_000}, **SAC,
    ),
    "sac_cheetah": Case(
        "SAC, HalfCheetah-v5, 256x256, batch 256", env="HalfCheetah-v5", hidden=(256, 256), members=4,
        questions=(all_seeds(1.3),), settings={"buffer_size": 100_000}, **SAC,
    ),
    "sac_cheetah_8": Case(
        "SAC, HalfCheetah-v5, 256x256, batch 256", env="HalfCheetah-v5", hidden=(256, 256), members=8,
        questions=AGAINST_SBX, settings={"buffer_size": 100_000}, **SAC,
    ),
}  # fmt: skip
