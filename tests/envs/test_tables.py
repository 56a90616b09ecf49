"""Tasks read from files."""

import json
import os
from pathlib import Path

import pytest

from configs.settings import SettingError
from envs import Tasks, make_plain_env
from envs.changes.observations import ObservationPermutation
from envs.changes.rewards import RewardScale
from envs.reading import read_tasks, scaled
from envs.schedules.table import Table

CARTPOLE = make_plain_env("CartPole-v1")
ROWS = """seed, task, steps, reward, obs
0, 0, 10, 2, "[1, 2, 3, 4]"
0, 1, 5, -1.5, "[4, -3, 2, 1]"
7, 0, 3, 1, "[2, 1, 3, 4]"
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "table.csv") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def both(schedule: Table, seed: int) -> Tasks:
    return Tasks(schedule, {"reward": RewardScale(), "obs": ObservationPermutation()}, seed).bind(CARTPOLE)


def test_a_table_by_hand(write) -> None:
    tasks = both(Table(file=write(ROWS)), 0)
    assert [tasks.task(step) for step in (0, 9, 10, 14, 15, 25, 30)] == [0, 0, 1, 1, 2, 3, 4]
    assert tasks.values(12) == {"reward": -1.5, "obs": [4, -3, 2, 1]}
    assert tasks.values(15) == tasks.values(0) == {"reward": 2, "obs": [1, 2, 3, 4]}
    assert both(Table(file=write(ROWS)), 7).values(0)["obs"] == [2, 1, 3, 4]
    held = both(Table(file=write(ROWS), then="hold"), 0)
    assert (held.values(10**6)["reward"], held.next_switch(10), held.n_tasks(999)) == (-1.5, None, 2)


def test_json_in_both_shapes_is_the_same_table(write) -> None:
    rows = [{"reward": 2, "steps": 10}, {"reward": -1.5, "steps": 5}]
    for number, content in enumerate((rows, {"3": rows, "4": rows[:1]})):
        schedule = Table(file=write(json.dumps(content), f"{number}.json"))
        tasks = Tasks(schedule, {"reward": RewardScale()}, 3).bind(CARTPOLE)
        assert [tasks.values(step)["reward"] for step in (0, 10, 15)] == [2, -1.5, 2]


def test_without_steps_the_period_counts(write) -> None:
    name = write("reward\n1\n2\n3\n")
    tasks = Tasks(Table(file=name, period=100), {"reward": RewardScale()}).bind(CARTPOLE)
    assert [tasks.values(step)["reward"] for step in (0, 99, 100, 250, 300)] == [1, 1, 2, 3, 1]
    with pytest.raises(SettingError, match="period must be given, because the file has no column 'steps'"):
        Table(file=name)


def test_a_file_that_has_changed_is_refused(write) -> None:
    name = write(ROWS)
    noted = Table(file=name).sha256
    assert noted is not None
    assert Table(file=name, sha256=noted) == Table(file=name)
    write(ROWS.replace("-1.5", "-1.4"))
    with pytest.raises(SettingError, match="is not what it was when sha256 was noted"):
        Table(file=name, sha256=noted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no tasks"),
        ("steps,reward\n5\n", "line 2 has not as many cells as the first line"),
        ("steps,reward\n0,1\n", "task 0: steps must be a whole number of at least 1, not 0"),
        ("steps,reward\n2.5,1\n", "not 2.5"),
        ("task,steps,reward\n0,5,1\n2,5,1\n", "task 1: tasks must be numbered from 0, but this is 2"),
    ],
)
def test_tables_that_are_wrong(write, text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Table(file=write(text))
    with pytest.raises(SettingError, match=r"file cannot be read: 'nowhere\.csv'"):
        Table(file="nowhere.csv")
    with pytest.raises(SettingError, match=r"is no table of tasks: .*Expecting value"):
        Table(file=write("nonsense", "x.json"))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"steps\n\xff\xfe\n", "x.csv", "is no table of tasks: 'utf-8' codec"),
        (b'steps\n"5\n', "x.csv", "is no table of tasks: unexpected end of data"),
        (b"steps\n" + b"5" * 200_000 + b"\n", "x.csv", "is no table of tasks: field larger than field limit"),
        (b"steps\n\0\n", "x.csv", r"steps must be a whole number of at least 1, not '\\x00'"),
        (b"steps\n" + b"[" * 100_000 + b"\n", "x.csv", "is no table of tasks: maximum recursion"),
        (b"steps\n" + b"9" * 5000 + b"\n", "x.csv", "steps must be a whole number of at least 1, not '999"),
        (b"seed,steps\n[1],5\n", "x.csv", r"seeds must be whole numbers from 0, not \[1\]"),
        (b"seed,steps\n-1,5\n", "x.csv", "seeds must be whole numbers from 0, not -1"),
        (b"[" * 100_000, "x.json", "is no table of tasks: maximum recursion"),
        (b"[5, 6]", "x.json", "a list of rows, or such a list under each seed"),
        (b'{"0": 5}', "x.json", "is no table of tasks"),
        (b'{"a": [{"steps": 5}]}', "x.json", "is no table of tasks"),
        (b'[{"steps": 1e400}]', "x.json", "steps must be a whole number of at least 1, not inf"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingError, match=message):
        Table(file=str(tmp_path / name))


def test_tables_of_windows_are_read(write) -> None:
    rows = Table(file=write("\ufeff" + ROWS.replace("\n", "\r\n"))).rows
    assert [row["reward"] for row in rows] == [2, -1.5]


@pytest.mark.timeout(10)
def test_nothing_but_a_file_of_a_tables_size_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(2**27)
    for name, reason in (
        ("fifo.csv", "no regular file"),
        ("loop.csv", "symbolic links"),
        ("huge.csv", "more than 16,777,216 bytes"),
        (".", "no regular file"),
        ("x" * 300, "File name too long"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(SettingError, match=f"cannot be read: .*{reason}"):
            Table(file=str(tmp_path / name))


def test_tables_that_do_not_fit_the_changes(write) -> None:
    with pytest.raises(ValueError, match=r"has no tasks for seed 3; it has seeds 0, 7"):
        both(Table(file=write(ROWS)), 3)
    with pytest.raises(ValueError, match=r"has no rewards; it has reward, obs; did you mean 'reward'\?"):
        Tasks(Table(file=write(ROWS)), {"rewards": RewardScale()})
    with pytest.raises(ValueError, match="has values for obs, but no change has this label"):
        Tasks(Table(file=write(ROWS)), {"reward": RewardScale()})
    words = Tasks(Table(file=write("reward\nmuch\n"), period=5), {"reward": RewardScale()})
    with pytest.raises(ValueError, match=r"task 0: reward_scale takes finite numbers, not 'much'"):
        words.bind(CARTPOLE)


def test_a_factor_on_all_lengths_reaches_those_of_the_file(write) -> None:
    rows = write("steps,reward\n10,2\n5,-1.5\n", "short.csv")
    whole = {"kind": "table", "file": rows, "changes": {"reward": {"change": "reward_scale"}}}
    for factor, starts in ((0.4, [0, 4, 6]), (2, [0, 20, 30]), (0.01, [0, 1, 2])):
        tasks = read_tasks(scaled(whole, factor))
        assert [tasks.start(task) for task in range(3)] == starts
    again = read_tasks(scaled(scaled(whole, 0.4), 5))
    assert [again.start(task) for task in range(3)] == [0, 20, 30]
    by_period = {**whole, "file": write("reward\n1\n2\n", "even.csv"), "period": 100}
    assert read_tasks(scaled(by_period, 0.1)).start(1) == 10
    with pytest.raises(SettingError, match="steps must be a whole number of at least 8"):
        Table(file=rows, scale=0.5, align=8)
