"""A run's directory: found again by its configuration, never overwritten, refused where it would do harm."""

import csv
import json
import os
import platform
from pathlib import Path

import pytest

from configs import files
from configs.command_line import Config, parse
from configs.settings import UsageError
from recording.directory import PACKAGES, RunDirectory, State, default_path, write_atomically


@pytest.fixture
def config() -> Config:
    return parse(["--env", "CartPole-v1", "--reset", "redo"])


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "runs" / "a b")


def test_what_is_in_it(directory: RunDirectory, config: Config) -> None:
    assert directory.state() is None
    assert directory.create(config) is None
    assert directory.state() == "running"
    assert files.read(directory.config) == config.as_dict()
    versions = json.loads((directory.path / "versions.json").read_text())
    assert {*PACKAGES, "python", "system"} <= set(versions)
    directory.set_status("finished", 100)
    status = json.loads((directory.path / "status.json").read_text())
    assert (status["state"], status["steps"]) == ("finished", 100)
    assert not list(directory.path.glob(".*"))


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_an_unfinished_run_is_moved_aside(directory: RunDirectory, config: Config, state: State) -> None:
    for number in (1, 2):
        directory.create(config)
        directory.tasks.write_text(f"run {number}")
        directory.set_status(state, 0)
    moved = directory.create(config)
    assert moved == directory.path.with_name("a b.old2")
    assert (moved / "tasks.csv").read_text() == "run 2"
    assert (directory.path.with_name("a b.old1") / "tasks.csv").read_text() == "run 1"
    assert not directory.tasks.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_broken_status_is_an_unfinished_run(directory: RunDirectory, config: Config, text: str) -> None:
    directory.create(config)
    (directory.path / "status.json").write_text(text)
    assert directory.state() == "failed"
    assert directory.create(config) is not None


def test_a_finished_run_of_another_configuration_is_left_alone(directory: RunDirectory, config: Config) -> None:
    directory.create(config)
    directory.set_status("finished", 100)
    directory.check(config)
    other = parse(["--env", "CartPole-v1", "--reset", "redo", "--seed", "1"])
    with pytest.raises(UsageError, match="another configuration"):
        directory.create(other)
    assert files.read(directory.config) == config.as_dict()


def test_a_run_that_another_process_is_writing_is_left_alone(directory: RunDirectory, config: Config) -> None:
    directory.create(config)
    status = {"state": "running", "steps": 0, "process": os.getppid(), "host": platform.node()}
    for changed, refused in (({}, True), ({"host": "elsewhere"}, False), ({"process": 2**22 + 1}, False)):
        (directory.path / "status.json").write_text(json.dumps({**status, **changed}))
        if refused:
            with pytest.raises(UsageError, match=f"process {os.getppid()}"):
                directory.check(config)
        else:
            directory.check(config)


def test_strangers_are_not_moved(tmp_path: Path, config: Config) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="something else than a run"):
        RunDirectory(tmp_path).create(config)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_directory_will_do(tmp_path: Path, config: Config) -> None:
    assert RunDirectory(tmp_path).create(config) is None


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/nothing/here"])
def test_a_place_that_cannot_be_written_to(tmp_path: Path, config: Config, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--run-dir"):
        RunDirectory(tmp_path / name).create(config)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_path_depends_on_everything_the_run_depends_on() -> None:
    def path(*words: str) -> Path:
        return default_path(parse(list(words)))

    assert path() == path("--quiet") == path("--run-dir", "elsewhere") == path("--agent", "ppo")
    paths = {path(), path("--seed", "1"), path("--reset", "redo"), path("--reset", "redo", "--reset.tau", "0.2")}
    paths |= {
        path("--steps", "10"),
        path("--schedule.period", "7"),
        path("--agent.gamma", "0.9"),
        path("--env", "X-v1"),
    }
    assert len(paths) == 8
    assert str(path("--reset", "redo", "--seed", "3")).startswith("runs/cartpole_permuted/ppo-redo-s3-")
    assert str(path("--env", "ALE/Pong-v5")).startswith("runs/ALE-Pong-v5-stationary/")


def test_rows_come_back_as_numbers(directory: RunDirectory, config: Config) -> None:
    assert directory.read_tasks() == []
    directory.create(config)
    with directory.tasks.open("w", newline="") as file:
        csv.writer(file).writerows([["task", "change", "return"], [0, "obs [-1, 2]", "1.5"], [1, "original", "nan"]])
    first, second = directory.read_tasks()
    assert first == {"task": 0, "change": "obs [-1, 2]", "return": 1.5}
    assert second["return"] != second["return"]


def test_files_are_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("one", "two"):
        write_atomically(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]
