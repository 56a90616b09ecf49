"""What a process of a race is asked to do, and what it answers: plain data.

Needs nothing but Python: SBX may live in an environment of its own.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Trainer = Literal["sb3", "sbx", "population"]


@dataclass(frozen=True)
class Work:
    """Training to be timed.

    Attributes:
        trainer: who trains. "sb3" and "sbx" train the first of the seeds alone.
        algorithm: "PPO" or "SAC".
        env: a Gymnasium id.
        env_kwargs: arguments of the environment.
        hidden: units of each hidden layer.
        settings: arguments of the algorithm that differ from SB3's defaults.
        seeds: one for each member of a population.
        warm_up: environment steps of each member before the clock starts.
        seconds: the clock stops at the first start of a rollout after so many.
        threads: PyTorch's threads on a CPU; None for as many as it takes by itself.
        device: as in torch.
        our_envs: whether environments are stepped as `train.py` steps them, and not by SB3's `DummyVecEnv`.
    """

    trainer: Trainer
    algorithm: str
    env: str
    hidden: tuple[int, ...]
    seeds: tuple[int, ...]
    warm_up: int
    seconds: float
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None
    device: str = "cpu"
    our_envs: bool = False

    @property
    def members(self) -> int:
        """How many agents are trained at once."""
        return len(self.seeds) if self.trainer == "population" else 1

    def to_json(self) -> str:
        """As one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """From that line."""
        given = json.loads(text)
        return cls(**given | {"hidden": tuple(given["hidden"]), "seeds": tuple(given["seeds"])})


@dataclass(frozen=True)
class Lap:
    """What one process did between its clock's start and stop.

    Attributes:
        steps: environment steps, of all members together.
        seconds: by the clock on the wall.
        processor: seconds of the processor, all threads together.
        peak: bytes of memory (resident set) at most, since the process started.
    """

    steps: int
    seconds: float
    processor: float
    peak: int
