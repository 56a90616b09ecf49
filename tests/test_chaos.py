"""A run that is killed (SIGKILL) at random moments, again and again, ends as one that was never disturbed.

The processes are forked from this one, so that they need not import everything anew and twenty deaths take seconds.
`bench/chaos.py` does the same to `train.py` itself.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

import train
from recording.comparing import differences

PPO = """--env CartPole-v1 --schedule permuted --schedule.period 512 --steps 2048 --agent.n-steps 32 --agent.n-envs 2
    --agent.batch-size 32 --agent.n-epochs 2 --network.hidden 12,12 --reset redo --reset.every 64 --measure-every 256"""
SAC = """--agent sac --env Pendulum-v1 --schedule pendulum_mass_drift --schedule.period 150 --steps 450
    --agent.learning-starts 40 --agent.batch-size 16 --agent.buffer-size 250 --network.hidden 12,12 --reset cbp
    --measure-every 256"""


def start(words: list[str]) -> multiprocessing.Process:
    """The command, in a process of its own."""

    def run() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os._exit(train.main(words))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process  # type: ignore[return-value]


def is_writing(run: Path) -> bool:
    """Whether a checkpoint is half written now."""
    return any((run / "checkpoints").glob(".tmp-step-*"))


@pytest.mark.parametrize(("flags", "kills"), [(PPO, 20), (SAC, 8)], ids=["ppo", "sac"])
def test_killed_at_random_moments(flags: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*flags.split(), "--quiet", "--no-preflight"]
    began = time.monotonic()
    assert train.main([*words, "--run-dir", "whole", "--checkpoint-every", "never"]) == 0
    length = time.monotonic() - began

    rng, run = random.Random(0), Path("killed")
    words += ["--run-dir", str(run), "--checkpoint-every", "64"]
    deaths = deaths_while_writing = 0
    while deaths < kills:
        process = start(words)
        process.join(rng.uniform(0, 3 * length / kills))
        if deaths % 2:  # the next one at the very moment at which a checkpoint is being written
            while process.is_alive() and not is_writing(run):
                time.sleep(1e-4)
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            if deaths >= kills // 2:
                break
            # The machine has become faster since the undisturbed run; all again, in shorter lives.
            shutil.rmtree(run)
            length, deaths, deaths_while_writing = length / 2, 0, 0
            continue
        deaths += 1
        deaths_while_writing += is_writing(run)
    process = start(words)
    process.join()
    assert process.exitcode == 0
    assert deaths >= kills // 2, "it must have died often enough to mean something"
    assert deaths_while_writing >= 1
    assert differences(Path("whole"), run) == []
