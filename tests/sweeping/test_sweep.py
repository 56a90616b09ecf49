"""Sweeps as a user runs them: small ones, disturbed in the middle, and compared with undisturbed ones bit for bit."""

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweeping.job import Job
from tests.sweeping.small import TREE, at_work, jobs, same, worker, written

ROOT = Path(__file__).resolve().parents[2]


def begin(path: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start a driver of its own."""
    command = [sys.executable, str(ROOT / "sweep.py"), str(path), "--out", str(out), "--jobs", "2", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for(happened: object, seconds: float = 120.0) -> None:
    assert callable(happened)
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_what_is_finished_is_not_run_again(undisturbed: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    folder = undisturbed[0].path.parents[1]
    before = [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))]
    path = folder.parent / "tiny.yaml"
    assert sweep.main([str(path), "--out", str(folder)]) == 0
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))] == before
    assert "4 of 4 cells done" in capsys.readouterr().out
    assert sweep.main([str(path), "--out", str(folder), "--status"]) == 0
    found = capsys.readouterr().out
    assert "none" in found
    assert "2/2" in found
    assert "4 of 4 cells done · 100 %" in found


def test_what_is_finished_is_compared(
    undisturbed: list[Job], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = undisturbed[0].path.parents[1]
    words = [str(folder.parent / "tiny.yaml"), "--out", str(folder), "--report", "--pdf"]
    assert sweep.main(words) == 0
    assert (folder / "report" / "report.html").exists()
    assert list((folder / "report").glob("*.pdf"))
    assert "redo" in capsys.readouterr().out
    assert sweep.main([str(written(tmp_path)), "--out", str(tmp_path / "none"), "--report"]) == 2
    assert "no cell of tiny is finished yet" in capsys.readouterr().err


def test_a_worker_that_is_killed_goes_on(undisturbed: list[Job], tmp_path: Path) -> None:
    path = written(tmp_path)
    driver = begin(path, tmp_path / "runs")
    found = jobs(path, tmp_path / "runs")
    wait_for(lambda: at_work(found[0]))
    os.kill(worker(found[0]), signal.SIGKILL)
    assert driver.wait(120) == 0
    same(found, undisturbed)
    assert not list(tmp_path.rglob("*.old*")), "nothing was begun anew"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_and_is_started_again_goes_on(
    number: signal.Signals, undisturbed: list[Job], tmp_path: Path
) -> None:
    """Whether it is killed or asked to leave, no worker outlives it."""
    path = written(tmp_path, arms=["none"])
    driver = begin(path, tmp_path / "runs")
    found = jobs(path, tmp_path / "runs")
    wait_for(lambda: at_work(found[0]))
    driver.send_signal(number)
    assert driver.wait(60) == (130 if number == signal.SIGINT else -number)
    wait_for(lambda: found[0].state() == "unfinished")
    assert sweep.main([str(path), "--out", str(tmp_path / "runs"), "--quiet"]) == 0
    same(found, undisturbed[:1])


def test_two_drivers_share_the_work(undisturbed: list[Job], tmp_path: Path) -> None:
    """No cell is trained twice: what one is at work on, the other leaves to it."""
    path = written(tmp_path)
    first = begin(path, tmp_path / "runs", "--quiet")
    found = jobs(path, tmp_path / "runs")
    wait_for(lambda: found[0].state() == "running")
    second = begin(path, tmp_path / "runs", "--quiet")
    assert (first.wait(120), second.wait(120)) == (0, 0)
    same(found, undisturbed)
    assert not list(tmp_path.rglob("*.old*"))


def test_what_always_fails_is_told_at_the_end_and_the_others_finish(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A learning rate at which weights overflow in the first update.
    arms = {"none": None, "broken": {"agent": {"learning_rate": 1e30}}}
    path = written(tmp_path, arms=arms)
    assert sweep.main([str(path), "--out", str(tmp_path / "runs"), "--retries", "1"]) == 1
    good, bad = jobs(path, tmp_path / "runs")
    assert (good.state(), bad.state()) == ("finished", "failed")
    said = capsys.readouterr().out
    assert "failed with status 1; it goes on later" in said
    assert "failed with status 1, for good" in said
    assert f"failed: {bad.name}" in said
    assert said.count("gradients are nan") == 1, "of its last try alone"
    assert bad.log.name in said
    assert "2 of 4 cells done · 2 failed" in said


def test_what_fails_before_it_has_a_directory_is_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, arms=["none"], settings={"env": "NoSuchEnv-v0", "steps": 2048}, benchmarks={"b": {}})
    assert sweep.main([str(path), "--out", str(tmp_path / "runs")]) == 1
    said = capsys.readouterr().out
    assert "it failed with status 2, for good" in said
    assert "0 of 2 cells done · 2 failed" in said
    assert "NoSuchEnv" in said


def test_mistakes_are_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (["nothing"], "there is no sweep 'nothing'"),
        ([str(written(tmp_path)), "--jobs", "0"], "must be a whole number from 1 to 4096"),
        ([str(written(tmp_path)), "--job", "2"], "'--job' is none of its options; did you mean '--jobs'?"),
        ([str(written(tmp_path)), "--address", "auto"], "add --engine ray"),
        ([str(written(tmp_path)), "--status", "--report"], "not allowed with"),
        ([str(written(tmp_path)), "--status", "--pdf"], "add --report"),
        ([str(written(tmp_path, arms=["nonne"]))], "did you mean 'none'"),
    ):
        assert sweep.main(words) == 2
        found = capsys.readouterr().err
        assert found.startswith("sweep.py: error: ")
        assert sentence in found
        assert found.count("\n") == 1


def test_files_of_the_users_own_folder_are_found_but_hide_none_of_ours(tmp_path: Path) -> None:
    """An environment of a module there, as an installed command finds it, and a train.py that is not this one."""
    (tmp_path / "mine.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('Mine-v0', CartPoleEnv, max_episode_steps=500)\n"
    )
    (tmp_path / "train.py").write_text("raise SystemExit('another train.py')\n")
    settings = {"env": "mine:Mine-v0", "steps": 512, "agent": {"n_steps": 64, "n_envs": 4}}
    path = written(
        tmp_path, seeds=1, settings=settings, arms=["none"], benchmarks={"still": {"schedule": "stationary"}}
    )
    program = "import sys; from sweep import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", program, path.name, "--jobs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 cells done" in done.stdout


@pytest.mark.parametrize(
    ("words", "address", "most"),
    [
        ("--engine ray --address auto --jobs 3", "auto", 3),
        ("--jobs 3 --address 10.0.0.1:6379 --engine ray", "10.0.0.1:6379", 3),
        ("--engine ray --address auto", "auto", None),
        ("--engine ray --jobs 3", None, 3),
        ("--engine ray", None, len(os.sched_getaffinity(0))),
    ],
)
def test_a_cluster_has_as_many_jobs_as_asked_for(
    words: str, address: str | None, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it has processors for where nothing is said; on a cluster of one's own the cores are the number."""
    made: list[tuple[Any, ...]] = []
    engine = types.ModuleType("sweeping.ray_engine")
    vars(engine)["Ray"] = lambda *arguments: made.append(arguments)
    monkeypatch.setitem(sys.modules, "sweeping.ray_engine", engine)
    sweep.make_engine(sweep.read(["first_look", *words.split()]))
    assert made == [(address, most)]


def test_a_script_works_in_a_folder_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As far as it is ours to say: PyTorch does not always."""

    def gone() -> Path:
        raise FileNotFoundError

    path = written(tmp_path)
    monkeypatch.setattr(Path, "cwd", gone)
    assert sweep.main([str(path), "--out", str(tmp_path / "none"), "--report"]) == 2
    assert "no cell of tiny is finished yet" in capsys.readouterr().err


def test_a_folder_that_cannot_be_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path)
    assert sweep.main([str(path), "--out", str(path)]) == 2
    assert capsys.readouterr().err == f"sweep.py: error: --out {path} cannot be written to (File exists).\n"


def test_a_dry_run_trains_nothing_that_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first arm has no time in a trial, and a rollout is longer than a trial need be."""
    settings = {**TREE["settings"], "agent": {"n_steps": 512, "n_envs": 6}, "checkpoint_every": "never"}
    path = written(tmp_path, arms=["fresh", "none"], settings=settings)
    assert sweep.main([str(path), "--out", str(tmp_path / "runs"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "4 cells in 2 jobs" in said
    assert "24,576" in said, "steps of all cells"
    assert "of disk" in said
    assert not (tmp_path / "runs").exists()
