"""A run's directory: found again by its configuration, never overwritten, refused where it would do harm."""

import csv
import json
from pathlib import Path

import pytest

from configs import files
from configs.command_line import Config, parse
from configs.settings import UsageError
from recording.directory import PACKAGES, RunDirectory, State, default_path, write_atomically


@pytest.fixture(scope="module")
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
        directory.episodes.touch()
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
    assert directory.is_unfinished(config)
    directory.episodes.touch()
    assert directory.create(config) is not None


def test_a_finished_run_of_another_configuration_is_left_alone(directory: RunDirectory, config: Config) -> None:
    directory.create(config)
    directory.set_status("finished", 100)
    directory.check(config)
    other = parse(["--env", "CartPole-v1", "--reset", "redo", "--seed", "1"])
    with pytest.raises(UsageError, match="another configuration"):
        directory.create(other)
    assert files.read(directory.config) == config.as_dict()


def test_a_run_that_has_recorded_nothing_yet_is_begun_in_place(directory: RunDirectory, config: Config) -> None:
    directory.create(config)
    assert directory.create(config) is None
    assert [path.name for path in directory.path.parent.iterdir()] == [directory.path.name]


def test_what_holds_the_lock_stays_where_it_is(directory: RunDirectory, config: Config) -> None:
    directory.create(config)
    directory.lock.touch()
    directory.episodes.touch()
    moved = directory.create(config)
    assert moved is not None
    assert directory.lock.exists()
    assert not (moved / directory.lock.name).exists()


def test_only_an_unfinished_run_of_the_same_configuration_is_taken_up(directory: RunDirectory, config: Config) -> None:
    assert not directory.is_unfinished(config)
    directory.create(config)
    assert directory.is_unfinished(config)
    assert not directory.is_unfinished(parse(["--env", "CartPole-v1", "--reset", "redo", "--seed", "1"]))
    older = {key: value for key, value in files.read(directory.config).items() if key != "on_nonfinite"}
    files.write(directory.config, older, "Of a release without a setting, which then has its default.")
    assert directory.is_unfinished(config)
    directory.set_status("finished", 100)
    assert not directory.is_unfinished(config)


def test_files_are_cut_to_what_they_were(directory: RunDirectory, config: Config) -> None:
    directory.create(config)
    directory.tasks.write_text("four")
    directory.events.write_text("whole")
    for name in ("events.out.tfevents.1", "events.out.tfevents.2"):
        (directory.path / name).write_text("curves")
    notes = directory.rewind(
        {"tasks.csv": 2, "events.jsonl": 5, "events.out.tfevents.1": 3, "events.out.tfevents.0": 9}
    )
    assert (directory.tasks.read_text(), directory.events.read_text()) == ("fo", "whole")
    assert [path.read_text() for path in directory.path.glob("events.out*")] == ["cur"], "later files go"
    assert len(notes) == 1
    assert "events.out.tfevents.0 is gone" in notes[0]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tasks.csv", "4 bytes, but 5"),
        ("../precious", "no run has"),
        ("events.out.tfevents./../../precious", "no run has"),
    ],
)
def test_a_run_that_lacks_what_it_had_recorded_cannot_go_on(
    directory: RunDirectory, config: Config, name: str, problem: str
) -> None:
    directory.create(config)
    directory.tasks.write_text("four")
    precious = directory.path.parent / "precious"
    precious.write_text("years of work")
    with pytest.raises(UsageError, match=problem):
        directory.rewind({name: 5})
    assert precious.read_text() == "years of work"


def test_a_link_is_not_followed(directory: RunDirectory, config: Config, tmp_path: Path) -> None:
    directory.create(config)
    (tmp_path / "precious").write_text("years of work")
    directory.tasks.symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="0 bytes, but 5"):
        directory.rewind({"tasks.csv": 5})
    assert (tmp_path / "precious").read_text() == "years of work"


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
