"""A run's final figures, and the gap to the fresh arm beside it, whichever of them finishes last."""

import math
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from configs import files, studies
from configs.command_line import parse
from recording.comparing import differences, points
from recording.directory import RunDirectory
from recording.gap import beside, finals, gap, write_gap, write_gaps

LINE = """--env CartPole-v1 --schedule permuted --schedule.period 64 --steps 192 --agent.n-envs 2 --agent.n-steps 32
    --agent.batch-size 64 --agent.n-epochs 1 --network.hidden 8,8 --metrics weight_norm --quiet --no-preflight"""


def rows(*returns: float | str) -> list[dict[str, Any]]:
    return [{"task": task, "return_end": earned, "return": earned} for task, earned in enumerate(returns)]


def test_the_gap_is_the_mean_difference_over_the_later_tasks() -> None:
    assert gap(rows(9, 10, 20, 30), rows(0, 5, 30, 7)) == pytest.approx((5 - 10 + 23) / 3)
    assert gap(rows(9, 10, "", 30), rows(0, 5, 30, 7)) == pytest.approx((5 + 23) / 2)
    assert gap(rows(9, 10, 20), rows(0, 5)) == 5
    assert gap(rows(4), rows(1)) == 3
    assert math.isnan(gap(rows(4, ""), rows(1, 1)))


def shown(path: Path) -> dict[str, float]:
    events = EventAccumulator(str(path))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: events.Scalars(tag)[-1].value for tag in tags if tag.startswith("final/")}


@pytest.mark.parametrize("order", [["none", "full", "redo"], ["full", "redo", "none"]])
def test_runs_side_by_side_find_each_other(order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arm in order:
        assert train.main([*LINE.split(), "--reset", arm, "--run-dir", f"runs/{arm}"]) == 0
    assert train.main([*LINE.split(), "--seed", "1", "--run-dir", "runs/other-seed"]) == 0
    directories = {arm: RunDirectory(tmp_path / "runs" / arm) for arm in order}
    fresh = directories["full"].read_tasks()
    for arm in ("none", "redo"):
        expected = gap(fresh, directories[arm].read_tasks())
        assert shown(directories[arm].path)["final/plasticity_gap"] == pytest.approx(expected, rel=1e-5)
        assert shown(directories[arm].path)["final/return_end"] == pytest.approx(
            finals(directories[arm])["return_end"], rel=1e-5
        )
    assert shown(directories["full"].path)["final/plasticity_gap"] == 0
    assert "final/plasticity_gap" not in shown(tmp_path / "runs" / "other-seed")


def test_networks_of_other_stock_nonlinearities_are_other_comparisons() -> None:
    relu, tanh, crelu = (parse(["--network.activation", name]).as_dict() for name in ("relu", "tanh", "crelu"))
    assert studies.comparable(relu, relu)
    assert not studies.comparable(relu, tanh)
    assert studies.comparable(relu, crelu)
    assert studies.comparable(crelu, tanh)
    assert not studies.comparable(relu, parse(["--network.activation", "relu", "--steps", "5"]).as_dict())


def test_unfinished_runs_and_strangers_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arm in ("none", "full"):
        assert train.main([*LINE.split(), "--reset", arm, "--run-dir", f"runs/{arm}"]) == 0
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "file").write_text("")
    (tmp_path / "runs" / "link").symlink_to(tmp_path)
    unfinished = RunDirectory(tmp_path / "runs" / "none")
    unfinished.set_status("running", 10)
    before = sorted(unfinished.path.iterdir())
    write_gaps(RunDirectory(tmp_path / "runs" / "full"))
    assert sorted(unfinished.path.iterdir()) == before
    files.write(unfinished.config, {"agent": "another"}, "")
    unfinished.set_status("finished", 10)
    write_gaps(RunDirectory(tmp_path / "runs" / "full"))
    assert sorted(unfinished.path.iterdir()) == before


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain run and its fresh arm, trained one after the other."""
    folder = tmp_path_factory.mktemp("apart")
    for arm in ("none", "full"):
        train_arm(folder, arm)
    return folder


def train_arm(folder: Path, arm: str) -> None:
    words = [*LINE.split(), "--reset", arm, "--run-dir", str(folder / arm), "--checkpoint-every", "64"]
    assert train.main(words) == 0


def forked(folder: Path, arm: str) -> int | None:
    """Train in a process of its own; returns its exit status."""
    process = multiprocessing.get_context("fork").Process(target=train_arm, args=(folder, arm))
    process.start()
    process.join()
    return process.exitcode


def at_end(
    monkeypatch: pytest.MonkeyPatch, run: Path, moment: tuple[str, str], happens: Callable[[], None]
) -> list[str]:
    """Have something happen before or after a run writes one of its last states down; returns whether it has."""
    write, happened = RunDirectory.set_status, list[str]()

    def writes(directory: RunDirectory, state: Any, *arguments: Any) -> None:
        is_last = directory.path == run and (state == "finished" or (state == "running" and any(arguments[2:])))
        now = is_last and state == moment[1] and not happened
        if now:
            happened.append(state)
        if now and moment[0] == "before":
            happens()
        write(directory, state, *arguments)
        if now and moment[0] == "after":
            happens()

    monkeypatch.setattr(RunDirectory, "set_status", writes)
    return happened


MOMENTS = [(when, state) for state in ("running", "finished") for when in ("before", "after")]
"""Before or after a run says that it is trained, or finished."""


@pytest.mark.parametrize("moment", MOMENTS, ids=" ".join)
@pytest.mark.parametrize("arms", [("none", "full"), ("full", "none")], ids=" around ".join)
def test_runs_that_end_at_the_same_moment_find_each_other(
    moment: tuple[str, str], arms: tuple[str, str], apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is trained from its first step to its end at each moment of the other's last."""
    outer, inner = arms
    happened = at_end(monkeypatch, tmp_path / outer, moment, lambda: train_arm(tmp_path, inner))
    train_arm(tmp_path, outer)
    assert happened
    for arm in arms:
        assert differences(apart / arm, tmp_path / arm) == []
    assert [tag for tag, *_ in points(tmp_path / "none")].count("final/plasticity_gap") == 1


@pytest.mark.parametrize("moment", MOMENTS, ids=" ".join)
@pytest.mark.parametrize("arms", [("none", "full"), ("full", "none")], ids=" after ".join)
def test_a_run_that_is_killed_when_it_ends_leaves_the_gap_once(
    moment: tuple[str, str], arms: tuple[str, str], apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, other = arms
    train_arm(tmp_path, other)
    with monkeypatch.context() as patched:
        at_end(patched, tmp_path / killed, moment, lambda: os._exit(9))
        assert forked(tmp_path, killed) == 9
    if RunDirectory(tmp_path / killed).state() != "finished":  # otherwise a sweep would not start it again
        assert forked(tmp_path, killed) == 0
    for arm in arms:
        assert differences(apart / arm, tmp_path / arm) == []


def test_a_gap_is_written_once(apart: Path, tmp_path: Path) -> None:
    """However often; the last one counts, and comes after all other points."""
    shutil.copytree(apart / "none", tmp_path / "none")
    own = RunDirectory(tmp_path / "none")
    own.path.joinpath("events.out.tfevents.9999999998.host99.99.99").write_bytes(b"")
    for found in (1.0, math.nan, 2.5):
        write_gap(own, found)
    assert shown(own.path)["final/plasticity_gap"] == 2.5
    assert [tag for tag, *_ in points(own.path)].count("final/plasticity_gap") == 1
    assert [tag for tag, *_ in points(own.path)][-1] == "final/plasticity_gap"
    assert not list(own.path.glob(".gap*"))


def test_of_thousands_of_runs_those_of_the_same_seed_are_read(
    apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(apart, tmp_path / "runs")
    assert train.main([*LINE.split(), "--seed", "1", "--run-dir", "runs/another"]) == 0
    for number in range(20):
        shutil.copytree("runs/another", f"runs/another-{number}")
    read, found = files.read, list[Path]()

    def reads(path: Path) -> dict[str, Any]:
        found.append(path)
        return read(path)

    monkeypatch.setattr(files, "read", reads)
    train_arm(Path("runs"), "redo")
    assert {path.parent.name for path in found if path.name == "config.yaml"} <= {"none", "full", "redo"}
    assert "final/plasticity_gap" in shown(Path("runs/redo"))


def test_runs_of_an_older_release_are_found(apart: Path, tmp_path: Path) -> None:
    """Their status says nothing of study and seed."""
    runs = {arm: RunDirectory(Path(shutil.copytree(apart / arm, tmp_path / arm))) for arm in ("none", "full")}
    for own in runs.values():
        own.set_status("finished", 192, 1.0)
    assert [other.path.name for other, _ in beside(runs["none"])] == ["full"]
    assert [other.path.name for other, _ in beside(runs["full"])] == ["none"]


@pytest.mark.parametrize("table", [b"\xff\xfe", b"task,other\n0,1\n1,2\n", b"", None], ids=str)
def test_what_another_run_has_left_broken_is_no_failure_of_this_one(
    table: bytes | None, apart: Path, tmp_path: Path
) -> None:
    runs = {arm: RunDirectory(Path(shutil.copytree(apart / arm, tmp_path / arm))) for arm in ("none", "full")}
    before = {arm: list(points(own.path)) for arm, own in runs.items()}
    for broken, whole in (("none", "full"), ("full", "none")):
        path = runs[broken].tasks
        kept = path.read_bytes()
        path.unlink() if table is None else path.write_bytes(table)
        write_gaps(runs[whole])
        path.write_bytes(kept)
    assert {arm: list(points(own.path)) for arm, own in runs.items()} == before


@pytest.mark.parametrize("benchmark", files.shipped("benchmarks"))
def test_the_digest_of_a_pair_is_that_of_the_file(benchmark: str, tmp_path: Path) -> None:
    config = parse(["--config", benchmark, "--reset", "cbp+swr"]).as_dict()
    files.write(tmp_path / "config.yaml", config, "")
    assert studies.pair(config) == studies.pair(files.read(tmp_path / "config.yaml"))
    assert studies.pair(config) == studies.pair(parse(["--config", benchmark, "--reset", "full"]).as_dict())
    for flags in (["--seed", "1"], ["--steps", "5"]):
        assert studies.pair(config) != studies.pair(parse(["--config", benchmark, *flags]).as_dict())
