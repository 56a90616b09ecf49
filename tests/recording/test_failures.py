"""Failures: each kind becomes a sentence that says what happened and where, with the traceback kept beside the run."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from torch.utils.tensorboard import SummaryWriter

from agents.finite import NonFiniteError
from configs.settings import UsageError
from envs import NonStationary, Tasks
from envs.schedules import Periodic
from recording.failures import FilesWatch, RunError, abandon, run_errors

WHERE = "step 12,345 (task 2)"
GO_ON = "The last checkpoint is of step 10,240."
AGAIN = "A run repeats itself exactly, so the same command would end here again."
FULL = Path("/dev/full")


def fail(directory: Path, action: Callable[[], Any], broken: str | None = None) -> str:
    """The sentence that becomes of what an action raises."""
    with (
        pytest.raises(RunError) as raised,
        run_errors(directory, "CartPole-v1", lambda: WHERE, lambda: GO_ON, lambda: broken),
    ):
        action()
    sentence = str(raised.value)
    assert sentence.endswith((GO_ON, AGAIN)) == directory.exists()
    return sentence.removesuffix(f" {GO_ON}")


class Breaks(gym.Wrapper[Any, Any, Any, Any]):
    """Raises in a step."""

    def step(self, action: Any) -> Any:
        raise ValueError("the simulator\nhas exploded.")


def test_an_environment_that_raises(tmp_path: Path) -> None:
    env = DummyVecEnv([lambda: Monitor(Breaks(gym.make("CartPole-v1")))])
    env.reset()
    sentence = fail(tmp_path, lambda: env.step([0]))
    assert sentence == f"CartPole-v1 raised ValueError at {WHERE}: the simulator has exploded."
    kept = (tmp_path / "error.txt").read_text()
    assert kept.startswith("Traceback")
    assert kept.endswith("ValueError: the simulator\nhas exploded.\n")


def test_the_wrappers_around_an_environment_are_not_it(tmp_path: Path) -> None:
    """To step an episode that has ended is a mistake of the program, so its exception goes on, with a note."""
    stationary = Tasks(Periodic(period=100), {}, seed=0)
    for env in (Monitor(gym.make("CartPole-v1")), NonStationary(gym.make("CartPole-v1"), stationary)):
        with (
            pytest.raises(Exception, match=r".") as raised,
            run_errors(tmp_path, "CartPole-v1", lambda: WHERE, lambda: GO_ON),
        ):
            env.step(0)
        assert not isinstance(raised.value, RunError)
        (note,) = raised.value.__notes__
        assert WHERE in note
        assert str(tmp_path / "error.txt") in note
        assert note.endswith(GO_ON)
        assert (tmp_path / "error.txt").exists()


def test_a_process_of_the_environment_that_is_killed(tmp_path: Path) -> None:
    env = SubprocVecEnv([lambda: gym.make("CartPole-v1")] * 2, start_method="fork")
    try:
        env.reset()
        env.processes[0].kill()
        sentence = fail(tmp_path, lambda: [env.step([0, 1]) for _ in range(3)])
        expected = "it was ended by SIGKILL, as the system does when memory is used up"
        assert sentence == f"A process of CartPole-v1 has died at {WHERE}: {expected}."
    finally:
        abandon(env)
    for process in env.processes:
        process.join(5)
        assert process.exitcode == -signal.SIGKILL


def test_an_environment_is_abandoned_whatever_it_does() -> None:
    """One process answers no more; waiting for it, as `close` does, would never end."""
    env = SubprocVecEnv([lambda: gym.make("CartPole-v1")], start_method="fork")
    env.reset()
    os.kill(env.processes[0].pid or 0, signal.SIGSTOP)
    env.step_async([0])
    abandon(env)
    env.processes[0].join(5)
    assert not env.processes[0].is_alive()


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk(tmp_path: Path) -> None:
    def write() -> None:
        with FULL.open("w") as file:
            file.write("x")

    sentence = f"The disk is full: {tmp_path} could not be written at {WHERE}."
    assert fail(tmp_path, write) == sentence
    assert fail(tmp_path, lambda: _wrapped(write)) == sentence


def _wrapped(action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise RuntimeError("saving has failed") from error


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "The disk quota is used up"),
        (errno.EROFS, "The disk is read-only"),
        (errno.EIO, "The disk does not work"),
        (errno.ESTALE, "The network disk has lost the file"),
        (errno.EACCES, "Permission is denied"),
    ],
)
def test_other_failures_of_disks(number: int, words: str, tmp_path: Path) -> None:
    def write() -> None:
        raise OSError(number, os.strerror(number), "runs/tasks.csv")

    sentence = fail(tmp_path, write)
    assert sentence.startswith(words)
    assert "runs/tasks.csv could not be written" in sentence


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from recording.failures import RunError, run_errors

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
run = Path(sys.argv[1])
for write in (
    lambda: (run / "tasks.csv").write_text("x" * 10_000),
    lambda: save_file({"weights": torch.zeros(10_000)}, run / "model.safetensors"),
):
    try:
        with run_errors(run, "CartPole-v1", lambda: "step 5"):
            write()
    except RunError as error:
        print(error)
"""


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """What safetensors raises is no OSError."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env={**os.environ, **root})
    sentence = f"A file has become larger than is allowed (see ulimit -f): {tmp_path} could not be written at step 5."
    assert run.stdout.splitlines() == [sentence, sentence]
    assert run.stderr == ""


def test_curves_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TensorBoard writes in a thread, whose exception must not be lost, nor printed as a traceback."""
    hook = threading.excepthook

    def lose() -> None:
        writer = SummaryWriter(str(tmp_path / "run"), max_queue=1)
        writer.add_scalar("a", 1.0, 0)
        writer.flush()
        shutil.rmtree(tmp_path / "run")
        writer.add_scalar("a", 1.0, 1)
        assert writer.file_writer is not None
        writer.file_writer.event_writer._async_writer._worker.join(5)

    sentence = fail(tmp_path / "run", lose)
    assert sentence == f"The run's directory {tmp_path / 'run'} was deleted before {WHERE}."
    assert capsys.readouterr().err == ""
    assert threading.excepthook is hook
    assert not (tmp_path / "run").exists()


def test_memory_that_is_used_up(tmp_path: Path) -> None:
    def use(error: BaseException) -> Callable[[], None]:
        def action() -> None:
            raise error

        return action

    assert fail(tmp_path, lambda: torch.empty(10**16)).startswith(f"Memory is used up at {WHERE}: ")
    assert fail(tmp_path, use(MemoryError())) == f"Memory is used up at {WHERE}."
    device = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    assert fail(tmp_path, use(device)).startswith(f"The device's memory is used up at {WHERE}: CUDA out of memory.")


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    def find() -> None:
        raise NonFiniteError("step 7: the gradient of actor.0.weight is not finite (nan).")

    assert fail(tmp_path, find) == f"Step 7: the gradient of actor.0.weight is not finite (nan). {AGAIN}"
    # With warnings alone training goes on, until SB3 cannot draw an action.
    sentence = fail(tmp_path, lambda: torch.multinomial(torch.tensor([torch.nan]), 1), "the parameter x is not finite")
    assert sentence == f"Step 12,345 (task 2): the parameter x is not finite. {AGAIN}"


def test_what_is_none_of_its_business(tmp_path: Path) -> None:
    for error in (UsageError("no"), KeyboardInterrupt(), BrokenPipeError(errno.EPIPE, "head has seen enough")):
        with pytest.raises(type(error)) as raised, run_errors(tmp_path, "CartPole-v1", lambda: WHERE):
            raise error
        assert raised.value is error
    assert list(tmp_path.iterdir()) == []


def test_files_that_grow_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "tasks.csv"
    path.write_text("task\n")
    watch = FilesWatch(tmp_path)
    watch.add(path)
    watch.check()
    with path.open("a") as file:
        file.write("0\n")
    (tmp_path / "another").touch()
    watch.check()


def replace(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy(path, other)
    other.replace(path)


@pytest.mark.parametrize(
    ("change", "happened"),
    [(Path.unlink, "deleted or moved"), (replace, "replaced"), (lambda path: path.write_text("t"), "cut off")],
)
def test_files_that_are_lost(change: Callable[[Path], Any], happened: str, tmp_path: Path) -> None:
    path, told = tmp_path / "tasks.csv", []
    path.write_text("task\n")
    strict, lenient = FilesWatch(tmp_path), FilesWatch(tmp_path)
    strict.add(path)
    lenient.add(path, told.append)
    change(path)
    with pytest.raises(RunError, match=rf"tasks\.csv was {happened} while the run went on\.$"):
        strict.check()
    lenient.check()
    lenient.check()
    assert told == [f"{path} was {happened} while the run went on."]


def test_a_directory_that_is_deleted_or_moved(tmp_path: Path) -> None:
    for number, change in enumerate([shutil.rmtree, lambda path: path.rename(path.with_name("elsewhere"))]):
        path = tmp_path / str(number)
        path.mkdir()
        watch = FilesWatch(path)
        change(path)
        with pytest.raises(RunError, match=rf"{number} was deleted or moved while the run went on\.$"):
            watch.check()
