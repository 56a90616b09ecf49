"""Populations from the command line: what they leave behind, how they end before their time, and how they go on."""

import csv
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from configs import files
from configs.command_line import parse
from configs.population import Population, read
from recording import checkpointer
from recording.checkpointer import Checkpointer
from recording.comparing import differences, points
from recording.console import make_console
from recording.directory import RunDirectory
from recording.gap import gap
from recording.members import PopulationDirectory
from recording.populating import train_members
from recording.shares import join, split
from reporting.runs import find_runs, group
from tests.resuming import StoppedError, stop_after

BASE = """--env CartPole-v1 --schedule permuted --schedule.period 128 --steps 384 --agent.n-envs 2 --agent.n-steps 32
    --agent.batch-size 32 --agent.n-epochs 2 --network.hidden 8,8 --measure-every 64 --measure-samples 32
    --no-preflight --run-dir p"""
ARMS = "--reset none,redo,fresh --reset.redo.every 4 --reset.tau 0.9 --seeds 2"
SEEDS = f"{BASE} --seeds 3 --quiet"
NAMES = ["none-s0", "none-s1", "redo-s0", "redo-s1", "fresh-s0", "fresh-s1"]
DQN = """--agent dqn --env CartPole-v1 --schedule permuted --schedule.period 60 --steps 120 --agent.learning-starts 20
    --agent.batch-size 8 --agent.buffer-size 90 --network.hidden 8 --no-preflight --seeds 2 --run-dir p"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three arms of two seeds, trained in one go."""
    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("whole"))
    assert train.main([*BASE.split(), *ARMS.split(), "--quiet"]) == 0
    found = Path("p").resolve()
    os.chdir(here)
    yield found
    shutil.rmtree(found)


def state(path: str) -> str:
    return str(json.loads(Path(path, "status.json").read_text())["state"])


def scalars(path: Path) -> dict[str, dict[int, float]]:
    """Every curve of a run as values by step; of points at one step the last."""
    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_each_member_leaves_what_a_run_leaves(whole: Path) -> None:
    directories = {path.name for path in whole.iterdir() if path.is_dir()}
    assert directories == {*NAMES, "mean-none", "mean-redo", "mean-fresh"}
    assert {path.name for path in whole.iterdir() if path.is_file()} == {
        "population.yaml",
        "status.json",
        "versions.json",
    }
    assert files.read(whole / "population.yaml")["members"] == NAMES
    words = [word for word in BASE.split() if word not in ("--run-dir", "p")]
    for arm, more in {
        "none": "",
        "redo": "--reset redo --reset.every 4 --reset.tau 0.9",
        "fresh": "--reset full",
    }.items():
        for seed in range(2):
            path = whole / f"{arm}-s{seed}"
            assert state(str(path)) == "finished"
            single = parse([*words, *more.split(), "--seed", str(seed)])
            assert files.read(path / "config.yaml") == single.as_dict()
            with (path / "tasks.csv").open() as file:
                rows = list(csv.DictReader(file))
            assert [(int(row["start"]), int(row["end"])) for row in rows] == [(0, 128), (128, 256), (256, 384)]
            assert ("units" in rows[1]["resets"]) == (arm == "redo")
            assert ("networks" in rows[1]["resets"]) == (arm == "fresh")
    assert {path.name for path in (whole / "redo-s1").iterdir() if "tfevents" not in path.name} == {
        *("config.yaml", "versions.json", "status.json", "events.jsonl", "tasks.csv", "episodes.csv", "metrics.jsonl"),
        *("probe.npz", "model.zip"),
    }


def test_members_of_one_seed_meet_the_same_tasks_and_begin_alike(whole: Path) -> None:
    episodes = {name: (whole / name / "episodes.csv").read_text().splitlines() for name in NAMES}
    assert episodes["none-s0"][1:4] == episodes["fresh-s0"][1:4]
    assert episodes["none-s0"][1:4] != episodes["none-s1"][1:4]
    changes = {name: [row["change"] for row in RunDirectory(whole / name).read_tasks()] for name in NAMES}
    assert changes["none-s1"] == changes["redo-s1"] != changes["redo-s0"]


def test_the_gap_is_that_to_the_fresh_member_of_the_same_seed(whole: Path) -> None:
    for seed in range(2):
        fresh = RunDirectory(whole / f"fresh-s{seed}").read_tasks()
        own = RunDirectory(whole / f"redo-s{seed}").read_tasks()
        (found,) = scalars(whole / f"redo-s{seed}")["final/plasticity_gap"].values()
        assert found == pytest.approx(gap(fresh, own), rel=1e-5)
        assert list(scalars(whole / f"fresh-s{seed}")["final/plasticity_gap"].values()) == [0]


def test_means_are_those_of_the_members_curves(whole: Path) -> None:
    members, mean = [scalars(whole / f"redo-s{seed}") for seed in range(2)], scalars(whole / "mean-redo")
    for tag in ("task/return_now", "task/return_end", "units/actor/dormant", "probe/critic/effective_rank"):
        steps = set(members[0][tag]) | set(members[1][tag])
        assert set(mean[tag]) == steps
        for step in steps:
            values = [own[tag][step] for own in members if step in own[tag]]
            assert mean[tag][step] == pytest.approx(sum(values) / len(values), rel=1e-5)
            assert mean[f"range/{tag}/low"][step] == pytest.approx(min(values), rel=1e-5)
            assert mean[f"range/{tag}/high"][step] == pytest.approx(max(values), rel=1e-5)
    assert not [tag for tag in mean if tag.startswith(("shade/", "rollout/"))]


def test_reports_find_the_members(whole: Path) -> None:
    (study,) = group(find_runs([whole]))
    assert {arm.split()[0]: [run.seed for run in runs] for arm, runs in study.arms.items()} == {
        "none": [0, 1],
        "fresh": [0, 1],
        "redo": [0, 1],
    }
    assert study.left_out == []


@pytest.mark.parametrize("how", ["at once", "long after"])
def test_a_population_that_was_stopped_goes_on_bit_for_bit(whole: Path, how: str, capsys: Captured) -> None:
    """Stopped right when it is saved for the first time, or when much has been recorded since it was saved."""
    words = [*BASE.split(), *ARMS.split(), "--checkpoint-every", "160"]
    with pytest.MonkeyPatch.context() as patch:
        if how == "at once":
            stop_after(patch, 1)
            with pytest.raises(StoppedError):
                train.main(words)
        else:
            patch.setattr(CartPoleEnv, "step", failing(0, 150))
            assert train.main(words) == 1
    assert state("p") == state("p/redo-s1") == "failed"
    capsys.readouterr()
    assert train.main(words) == 0
    shown = capsys.readouterr().out
    assert f"Going on from step {0 if how == 'at once' else 192}" in shown
    assert shown.count("± ") >= 3 * 3, "tasks that were finished before are shown again"
    for name in NAMES:
        assert differences(whole / name, Path("p", name)) == []
    for arm in ("none", "redo", "fresh"):
        assert list(points(whole / f"mean-{arm}")) == list(points(Path(f"p/mean-{arm}")))
    assert not Path("p/checkpoints").exists()


def test_a_finished_population_is_shown_and_not_repeated(whole: Path, capsys: Captured) -> None:
    shutil.copytree(whole, "p")
    before = {path: path.stat().st_mtime_ns for path in Path("p").rglob("*")}
    assert train.main([*BASE.split(), *ARMS.split()]) == 0
    shown = capsys.readouterr().out
    assert "finished before" in shown
    assert "gap to fresh" in shown
    assert all(name in shown for name in NAMES)
    assert {path: path.stat().st_mtime_ns for path in Path("p").rglob("*")} == before
    assert train.main([*BASE.split(), *ARMS.split(), "--seed", "4"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_runs_and_populations_do_not_take_each_others_place(whole: Path, capsys: Captured) -> None:
    shutil.copytree(whole, "p")
    assert train.main(BASE.split()) == 2
    assert "--run-dir p holds a population" in capsys.readouterr().err
    assert train.main([*BASE.replace("-dir p", "-dir p/none-s0").split(), "--seeds", "2"]) == 2
    assert "--run-dir p/none-s0 holds one run" in capsys.readouterr().err


def failing(number: int, step: int) -> Callable[[CartPoleEnv, Any], Any]:
    """CartPole's step that raises in one of the environments, in the order in which they are first stepped."""
    plain, counts = CartPoleEnv.step, dict[CartPoleEnv, int]()

    def fail(self: CartPoleEnv, action: Any) -> Any:
        counts[self] = counts.get(self, 0) + 1
        if list(counts)[number:] and self is list(counts)[number] and counts[self] == step:
            raise ValueError("the cart is gone")
        return plain(self, action)

    return fail


def test_an_environment_that_raises_is_named_with_its_member(capsys: Captured) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CartPoleEnv, "step", failing(2, 50))
        assert train.main([*SEEDS.split(), "--checkpoint-every", "64"]) == 1
    shown = capsys.readouterr().err
    assert "CartPole-v1 raised ValueError at member none-s1, step" in shown
    assert "the same command goes on from there" in shown
    assert shown.count("\n") == 1
    assert state("p") == state("p/none-s0") == "failed"
    assert train.main([word for word in SEEDS.split() if word != "--no-preflight"]) == 0
    assert state("p") == state("p/none-s0") == "finished"


def test_numbers_that_are_none_are_named_with_their_member(capsys: Captured) -> None:
    words = ["--agent.learning-rate", "1e30", "--agent.max-grad-norm", "1e30"]
    assert train.main([*SEEDS.split(), *words]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("train.py: Member none-s0, step 64")
    assert shown.count("\n") == 1


def test_files_of_a_member_that_are_deleted_end_the_population(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    plain = Checkpointer.at_rollout

    def at_rollout(self: Checkpointer) -> None:
        if self.step == 128:
            Path("p/none-s2/tasks.csv").unlink()
        plain(self)

    monkeypatch.setattr(checkpointer, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(Checkpointer, "at_rollout", at_rollout)
    assert train.main(SEEDS.split()) == 1
    assert "p/none-s2/tasks.csv was deleted" in capsys.readouterr().err


def test_what_cannot_be_stacked_is_trained_one_after_another(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    words = DQN.split()
    assert train.main([*words, "--checkpoint-every", "40"]) == 0
    shown = capsys.readouterr().out
    assert "trained one after another" in shown
    assert state("p") == state("p/none-s1") == "finished"
    alone = [word for word in words if word not in ("--seeds", "2")]
    assert train.main([*alone[:-1], "alone", "--seed", "1"]) == 0
    assert differences(Path("p/none-s1"), Path("alone")) == []


def test_one_after_another_they_go_on_where_they_were(capsys: Captured) -> None:
    words = [*SEEDS.split(), "--no-stack"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CartPoleEnv, "step", failing(2, 50))
        assert train.main(words) == 1, "the second member fails, the third is trained all the same"
    shown = capsys.readouterr().err
    assert shown.startswith("train.py: member none-s1: CartPole-v1 raised ValueError")
    assert [state(f"p/none-s{seed}") for seed in range(3)] == ["finished", "failed", "finished"]
    assert state("p") == "failed"
    before = Path("p/none-s0/model.zip").stat().st_mtime_ns
    assert train.main([*SEEDS.split()]) == 2
    assert "begun with --processes 1 --stack false" in capsys.readouterr().err
    assert train.main(words) == 0
    assert Path("p/none-s0/model.zip").stat().st_mtime_ns == before
    assert state("p") == state("p/none-s1") == "finished"


def test_an_unfinished_population_of_other_settings_is_moved_aside(whole: Path, capsys: Captured) -> None:
    shutil.copytree(whole, "p")
    Path("p/status.json").write_text('{"state": "failed", "steps": 3}')
    assert train.main([*SEEDS.replace("--quiet", "").split(), "--steps", "64"]) == 0
    assert "kept in p.old1" in capsys.readouterr().out
    assert Path("p.old1/redo-s0/model.zip").is_file()
    assert sorted(path.name for path in Path("p").glob("*-s*")) == ["none-s0", "none-s1", "none-s2"]


def test_processes_share_the_members_leave_when_told_to_and_go_on_where_they_were(capfd: Captured) -> None:
    words = [
        *BASE.split(),
        *ARMS.split(),
        "--measure-every",
        "256",
        "--processes",
        "2",
        "--checkpoint-every",
        "128",
        "--steps",
        "1024",
    ]
    whole, directory = train_shares_here(words, "whole")
    join(whole, split(whole, directory), directory)

    Thread(target=terminate_once_saved, daemon=True).start()
    assert train.main(words) == 143
    shown = capfd.readouterr()
    assert shown.err == ""
    assert shown.out.count("Leaving as soon as") == 1
    assert state("p") == "interrupted"
    train_shares_here(words, "p")
    assert train.main(words) == 0, "both shares are finished by now"
    assert state("p") == state("p/redo-s0") == "finished"
    assert not list(Path("p").glob("part-*"))
    for name in NAMES:
        assert differences(Path("whole", name), Path("p", name)) == []
    for arm in ("none", "redo", "fresh"):
        means = [sorted(points(Path(run, f"mean-{arm}"))) for run in ("whole", "p")]
        assert len(means[0]) > 100
        assert means[0] == means[1]


@pytest.mark.parametrize("stack", [(), ("--no-stack",)], ids=["at once", "in turn"])
def test_members_that_processes_share_have_their_gaps_once(stack: tuple[str, ...]) -> None:
    population, directory = train_shares_here([*BASE.split(), *ARMS.split(), "--processes", "2", *stack], "p")
    for _ in range(2):  # as after a death at the very end
        join(population, split(population, directory), directory)
    for own in directory.of(population):
        fresh = RunDirectory(own.path.with_name(f"fresh-s{own.path.name[-1]}"))
        (found,) = scalars(own.path)["final/plasticity_gap"].values()
        assert found == pytest.approx(gap(fresh.read_tasks(), own.read_tasks()), rel=1e-5)
        assert [tag for tag, *_ in points(own.path)].count("final/plasticity_gap") == 1


@pytest.mark.parametrize("has_config", [False, True])
def test_a_share_that_ended_before_it_was_saved_begins_where_it_is(has_config: bool) -> None:
    words = [*BASE.split(), *ARMS.split(), "--processes", "2", "--steps", "256"]
    population = read(words)
    assert isinstance(population, Population)
    first, second = split(population, PopulationDirectory(Path("p")))
    train_members(first.population, first.directory, make_console(quiet=True), "")
    second.directory.make()
    if has_config:
        second.directory.create(second.population)
    else:
        second.directory.set_status("running", 0)
    train_members(second.population, second.directory, make_console(quiet=True), "")
    assert sorted(path.name for path in Path("p").glob("part-*")) == ["part-0", "part-1"]


def train_shares_here(words: list[str], path: str) -> tuple[Population, PopulationDirectory]:
    """Train, or go on to train, in this process what several would."""
    population, directory = read(words), PopulationDirectory(Path(path))
    assert isinstance(population, Population)
    shares = split(population, directory)
    assert [share.population.names for share in shares] == [NAMES[:3], NAMES[3:]]
    for share in shares:
        assert train_members(share.population, share.directory, make_console(quiet=True), "") == 0
    return population, directory


def terminate_once_saved(seconds: float = 60.0) -> None:
    """Ask this process to leave once one of the parts has been saved while it trained; the other may not have begun."""
    deadline = time.monotonic() + seconds
    while not list(Path("p").glob(f"part-*/checkpoints/step-{128:012d}")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_processes_train_in_turn_what_cannot_be_stacked_and_show_it(tmp_path: Path, capfd: Captured) -> None:
    agent = "--agent dqn --agent.learning-starts 50 --agent.buffer-size 200"
    words = f"{agent} --env CartPole-v1 --steps 400 --schedule permuted --schedule.period 200 --metrics none"
    folder = tmp_path / "runs"
    assert train.main([*words.split(), "--seeds", "3", "--processes", "2", "--run-dir", str(folder)]) == 0
    said = capfd.readouterr().out
    assert said.count("The members are trained one after another.") == 1
    assert all(name in said for name in ("none-s0", "none-s1", "none-s2"))
    assert "No task has been finished" not in said
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["steps"]) == ("finished", 400)
    assert status["seconds"] > 0
    assert list((folder / "mean-none").glob("events*")), "the mean of its members"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--reset plasticity_injection --reset.every 128", "gives each member's networks another form"),
        ("--optimizer sam", "needs the loss of each minibatch twice"),
    ],
)
def test_what_must_be_trained_alone_is_trained_in_turn(
    words: str, reason: str, tmp_path: Path, capfd: Captured
) -> None:
    given = f"--env CartPole-v1 --agent.n-steps 64 --agent.n-envs 1 --steps 256 --metrics none {words}"
    assert train.main([*given.split(), "--seeds", "2", "--run-dir", str(tmp_path / "runs")]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert f"{reason}" in said
    assert "The members are trained one after another." in said
