"""What a user sees of a run that fails, from the command line to the exit status."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import train
from recording.directory import RunDirectory

ROOT = Path(__file__).parent.parent


def split(line: str) -> list[str]:
    """A command line as its words."""
    return line.split()


WORDS = split(
    """--env CartPole-v1 --agent.n-envs 2 --agent.n-steps 32 --agent.batch-size 32 --agent.n-epochs 1 --network.hidden 8
    --metrics none --no-preflight --run-dir run"""
)
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def state() -> str:
    return str(json.loads(Path("run/status.json").read_text())["state"])


def test_numbers_that_are_not_finite_stop_the_run(capsys: Captured) -> None:
    assert train.main([*WORDS, "--steps", "256", "--agent.learning-rate", "1e20"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("train.py: Step 64 (task 0): gradient step 2 of actor and critic: ")
    assert "a smaller learning rate may help" in error
    assert "Traceback" not in error
    assert "NonFiniteError" in Path("run/error.txt").read_text()
    assert state() == "failed"


def test_with_skipped_steps_it_goes_on(capsys: Captured) -> None:
    words = [*WORDS, "--steps", "256", "--agent.learning-rate", "1e20", "--on-nonfinite", "skip"]
    assert train.main(words) == 0
    assert "and the step is left out" in " ".join(capsys.readouterr().out.split())
    assert state() == "finished"


class Breaks(gym.Wrapper[Any, Any, Any, Any]):
    """Raises in its hundredth step."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 100:
            raise ZeroDivisionError("no mass")
        return self.env.step(action)


def test_an_environment_that_raises(capsys: Captured) -> None:
    gym.register("Breaks-v0", entry_point=lambda: Breaks(gym.make("CartPole-v1").unwrapped))
    try:
        assert train.main([*WORDS, "--env", "Breaks-v0", "--steps", "1000"]) == 1
    finally:
        del gym.registry["Breaks-v0"]
    # Ninety-nine steps of both environments are done.
    assert "Breaks-v0 raised ZeroDivisionError at step 198 (task 0): no mass." in capsys.readouterr().err
    assert state() == "failed"


def interfere(act: Callable[["subprocess.Popen[str]"], Any], *words: str) -> tuple[int, str, str]:
    """Do something to a run that would never end; returns its exit status and what it said."""
    command = [sys.executable, str(ROOT / "train.py"), *WORDS, "--steps", "1000000000", *words]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        episodes = Path("run/episodes.csv")
        while not (episodes.exists() and list(Path("run/checkpoints").glob("step-*"))):
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        act(run)
        out, err = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    return run.returncode, out, err


def test_ctrl_c_in_a_terminal_saves_the_run() -> None:
    """A terminal sends it to all processes of the run, those of the environments too."""
    status, out, err = interfere(lambda run: os.killpg(run.pid, signal.SIGINT), "--stepping", "subproc")
    assert status == 130
    assert "Leaving as soon as the run can be saved" in out
    assert err == ""
    steps = json.loads(Path("run/status.json").read_text())["steps"]
    assert f"The last checkpoint is of step {steps:,};" in " ".join(out.split())
    assert state() == "interrupted"


def test_a_run_whose_directory_is_deleted_ends() -> None:
    status, _, err = interfere(lambda run: shutil.rmtree("run", ignore_errors=True))
    assert status == 1
    assert "was deleted" in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_a_run_whose_end_cannot_be_written_down_can_be_finished(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = RunDirectory.set_status

    def fails(directory: RunDirectory, state: Any, *arguments: Any) -> None:
        if state == "finished":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(directory, state, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "set_status", fails)
        train.main([*WORDS, "--steps", "256"])
    assert "How it ended could not be written down; the same command does so." in capsys.readouterr().out
    assert state() == "running"
    assert train.main([*WORDS, "--steps", "256"]) == 0
    assert state() == "finished"
    assert not list(Path().glob("run.old*")), "nothing was begun anew"
