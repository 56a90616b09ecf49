"""The promise: a run that is stopped anywhere and started again by the same command ends as if it had never stopped.

Each run is trained to its end; then again, stopped right after one of its checkpoints, and taken up. The two are compared
without tolerance: weights, optimisers, tables, events, measurements and TensorBoard curves.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

import train
from recording.checkpointer import Checkpointer
from recording.comparing import differences

PPO = "--agent.n-steps 32 --agent.n-envs 2 --agent.batch-size 32 --agent.n-epochs 2 --network.hidden 12,12 --steps 384"
SAC = """--agent sac --env Pendulum-v1 --agent.learning-starts 40 --agent.batch-size 16 --agent.buffer-size 120
    --network.hidden 12,12 --steps 200"""
CARTPOLE = f"{PPO} --env CartPole-v1 --schedule permuted --schedule.period 128"
PENDULUM = f"{SAC} --schedule pendulum_mass_drift --schedule.period 80"
MEASURED = "--measure-every 64 --measure-samples 32"


class StoppedError(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stop_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """Have the run stop once it has been saved so often."""
    left = [saves]
    plain = Checkpointer.save

    def save(self: Checkpointer) -> None:
        plain(self)
        left[0] -= 1
        if left[0] == 0:
            raise StoppedError

    monkeypatch.setattr(Checkpointer, "save", save)


def check_resume(flags: str, every: int, saves: int) -> None:
    """Train to the end, and in two parts; compare."""
    words = [*flags.split(), "--quiet", "--no-preflight"]
    assert train.main([*words, "--run-dir", "whole", "--checkpoint-every", "never"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, saves)
        with pytest.raises(StoppedError):
            train.main([*words, "--run-dir", "parts", "--checkpoint-every", str(every)])
    assert train.main([*words, "--run-dir", "parts"]) == 0
    assert differences(Path("whole"), Path("parts")) == []


@pytest.mark.parametrize("saves", [1, 2, 5])
@pytest.mark.parametrize("flags", [CARTPOLE, PENDULUM], ids=["ppo", "sac"])
def test_from_the_start_the_middle_and_near_the_end(flags: str, saves: int) -> None:
    check_resume(f"{flags} {MEASURED} --reset redo --reset.every 64 --regularizer spectral", every=48, saves=saves)
