"""The command itself, end to end: what it leaves behind, what it says, and how it ends."""

import csv
import json
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

import train
from agents import AGENTS
from checkpoints.lock import BUSY, RunLock
from configs import files

ROOT = Path(__file__).parent.parent


def split(line: str) -> list[str]:
    """A command line as its words."""
    return line.split()


TINY = split(
    """--env CartPole-v1 --schedule permuted --schedule.period 64 --steps 192 --agent.n-envs 2 --agent.n-steps 32
    --agent.batch-size 32 --agent.n-epochs 2 --network.hidden 16,16 --seed 3"""
)
OFF_POLICY = split("--agent.learning-starts 20 --agent.batch-size 16 --agent.buffer-size 500 --network.hidden 16,16")
FILES = {"config.yaml", "versions.json", "status.json", "events.jsonl", "tasks.csv", "model.zip"}
FILES |= {"episodes.csv", "metrics.jsonl", "probe.npz"}
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test in a folder of its own, which must be clean of strays afterwards."""
    monkeypatch.chdir(tmp_path)


def run(*words: str, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore


def state(path: str | Path) -> str:
    return str(json.loads((Path(path) / "status.json").read_text())["state"])


def events(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(path) / "events.jsonl").read_text().splitlines()]


def rows(path: str | Path) -> list[dict[str, str]]:
    with (Path(path) / "tasks.csv").open() as file:
        return list(csv.DictReader(file))


def test_ppo_with_redo_and_spectral_regularisation(capsys: Captured) -> None:
    words = ["--reset", "redo", "--reset.every", "8", "--reset.tau", "0.5", "--regularizer", "spectral"]
    assert train.main([*TINY, *words, "--run-dir", "a run"]) == 0
    names = {path.name for path in Path("a run").iterdir()}
    assert {name for name in names if not name.startswith("events.out")} == FILES
    assert len(names) == len(FILES) + 1
    assert state("a run") == "finished"
    assert [row["task"] for row in rows("a run")] == ["0", "1", "2"]
    assert any("unit" in row["resets"] for row in rows("a run"))
    assert PPO.load("a run/model.zip").num_timesteps == 192
    shown = capsys.readouterr()
    assert shown.err == ""
    for word in ["what changed", "return", "at end", "dormant", "rank", "resets", "original", "obs "]:
        assert word in shown.out
    line = shown.out.splitlines()[-1]
    assert line.startswith("Look at the curves: ")
    program, *words = shlex.split(line.removeprefix("Look at the curves: "))
    assert shutil.which(program), "the command can be copied"
    assert words == ["--logdir", "a run"]
    assert "\x1b" not in shown.out
    assert "\r" not in shown.out
    assert [path.name for path in Path().iterdir()] == ["a run"]


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_learns_something(agent: str, capsys: Captured) -> None:
    env = "CartPole-v1" if agent == "dqn" else "Pendulum-v1"
    own = ["--agent.n-steps", "64", "--network.hidden", "16,16"] if agent in ("ppo", "a2c") else OFF_POLICY
    words = ["--agent", agent, "--env", env, *own, "--steps", "64", "--run-dir", "r"]
    assert train.main(words) == 0, capsys.readouterr().err
    assert state("r") == "finished"
    (row,) = rows("r")
    assert float(row["dormant"]) >= 0
    assert any(float(row[column]) > 0 for column in row if column.endswith("/grad_norm"))


def test_the_written_configuration_repeats_the_run() -> None:
    words = [*TINY, "--reset", "redo+shrink_perturb", "--reset.redo.every", "8", "--reset.tau", "0.5", "--quiet"]
    assert train.main([*words, "--run-dir", "first"]) == 0
    assert train.main(["--config", "first/config.yaml", "--quiet", "--run-dir", "second"]) == 0
    for name in ("tasks.csv", "config.yaml", "events.jsonl"):
        assert Path("first", name).read_bytes() == Path("second", name).read_bytes()
    first, second = (PPO.load(f"{name}/model.zip").policy.state_dict() for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_seeds_are_other_runs() -> None:
    for seed in ("1", "2"):
        assert train.main([*TINY, "--seed", seed, "--quiet", "--run-dir", seed]) == 0
    assert Path("1/tasks.csv").read_bytes() != Path("2/tasks.csv").read_bytes()


def test_a_finished_run_is_shown_and_not_repeated(capsys: Captured) -> None:
    assert train.main([*TINY, "--steps", "64"]) == 0
    (path,) = Path("runs").glob("*/*")
    capsys.readouterr()
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    assert train.main([*TINY, "--steps", "64"]) == 0
    shown = capsys.readouterr().out
    assert "finished before" in shown
    assert "what changed" in shown
    assert "Nothing to do" in shown
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before


def test_an_unfinished_run_is_moved_aside(capsys: Captured) -> None:
    assert train.main([*TINY, "--steps", "64", "--run-dir", "r"]) == 0
    Path("r/status.json").write_text('{"state": "failed", "steps": 3}')
    Path("r/model.zip").write_text("precious")
    assert train.main([*TINY, "--steps", "64", "--run-dir", "r"]) == 0
    assert "r.old1" in capsys.readouterr().out
    assert Path("r.old1/model.zip").read_text() == "precious"
    assert state("r") == "finished"


def test_quiet_is_silent(capfd: Captured) -> None:
    assert train.main([*TINY, "--steps", "64", "--quiet", "--run-dir", "r"]) == 0
    assert capfd.readouterr() == ("", "")


def test_a_simulator_leaves_no_strays_and_no_warnings() -> None:
    words = split("--env HalfCheetah-v5 --agent sac --schedule friction --schedule.period 32 --steps 64")
    done = run(*words, *OFF_POLICY, "--run-dir", "r")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in Path().iterdir()] == ["r"]
    assert "friction" in done.stdout


def test_verify_measures_and_trains_nothing(capsys: Captured) -> None:
    assert train.main(["--verify"]) == 0
    shown = capsys.readouterr().out
    assert "observation_permutation" in shown
    assert "actions swapped" in shown
    assert train.main(["--verify", "--env", "CartPole-v1"]) == 0
    assert "nothing to verify" in capsys.readouterr().out
    words = "--verify --env CartPole-v1 --schedule reward_flip --schedule.reward-scale.values 1,-1 --steps 1e6"
    assert train.main(words.split()) == 0
    assert "reward" in capsys.readouterr().out
    assert list(Path().iterdir()) == []


def test_an_interrupt_keeps_what_there_is() -> None:
    words = [*TINY, "--steps", "1e7", "--schedule.period", "640", "--run-dir", "r"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 100
        while not (Path("r/tasks.csv").is_file() and Path("r/tasks.csv").read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert state("r") == "interrupted"
    assert rows("r")
    assert zipfile.is_zipfile("r/model.zip")
    assert "interrupted after" in out
    assert "what changed" in out
    assert re.search(r"Look at the curves: .*tensorboard'? --logdir r$", out, re.MULTILINE)


@pytest.mark.parametrize("period", [50, 100])
def test_tasks_that_end_within_a_rollout_have_their_rows_and_all_their_episodes(period: int) -> None:
    words = ["--agent.n-envs", "1", "--agent.n-steps", "128", "--agent.batch-size", "64", "--steps", "512"]
    assert train.main([*TINY, *words, "--schedule.period", str(period), "--quiet", "--run-dir", "r"]) == 0
    found = [(int(row["task"]), int(row["start"]), int(row["end"])) for row in rows("r")]
    tasks = -(-512 // period)
    assert found == [(task, task * period, min((task + 1) * period, 512)) for task in range(tasks)]
    # CartPole gives 1 a step: whole episodes fill each task, but for those that a switch or the end has cut.
    for row in rows("r"):
        earned = float(row["return"]) * int(row["episodes"]) if row["episodes"] != "0" else 0.0
        assert earned <= int(row["end"]) - int(row["start"])
    assert sum(int(row["episodes"]) for row in rows("r")) >= 10


def test_a_network_is_measured_before_a_switch_resets_it() -> None:
    for arm in ("none", "full"):
        assert train.main([*TINY, "--reset", arm, "--quiet", "--run-dir", f"runs/{arm}"]) == 0
    plain, fresh = rows("runs/none"), rows("runs/full")
    measured = [name for name in plain[0] if name.endswith(("weight_norm", "dormant", "effective_rank"))]
    assert len(measured) > 4
    assert [plain[0][name] for name in measured] == [fresh[0][name] for name in measured]
    assert [plain[1][name] for name in measured] != [fresh[1][name] for name in measured]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--schedule.period 5000 --reset full", "reset full waits for a switch"),
        ("--reset full --reset.when periodic --reset.every 5000", "fires every 5,000 steps, but the run has 192 only"),
    ],
)
def test_a_reset_whose_time_never_comes_is_refused(words: str, expected: str, capsys: Captured) -> None:
    assert train.main([*TINY, "--steps", "192", *words.split()]) == 2
    assert expected in capsys.readouterr().err
    assert not Path("runs").exists()


def test_divergence_is_said_in_one_sentence(capsys: Captured) -> None:
    words = ["--agent", "ppo", "--agent.learning-rate", "1e30", "--agent.max-grad-norm", "1e30"]
    assert train.main([*TINY, *words, "--run-dir", "r"]) == 1
    shown = capsys.readouterr()
    assert re.match(r"train.py: Step \d+ \(task \d\): .*(not finite|are nan).*a smaller learning rate", shown.err)
    assert shown.err.count("\n") == 1
    assert state("r") == "failed"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--env CartPole", ["'CartPole'", "'CartPole-v1'"]),
        ("--env ALE/Pong-v5", ["ALE/Pong-v5", "pip install"]),
        ("--env nosuchmodule:Foo-v0", ["nosuchmodule"]),
        ("--env Blackjack-v1 --agent ppo", ["Tuple", "not supported"]),
        ("--agent sac", ["sac needs Box", "CartPole-v1"]),
        ("--agent dqn --env Pendulum-v1", ["dqn needs Discrete", "Pendulum-v1"]),
        ("--agent sac --env Pendulum-v1 --agent.ent-coef banana", ["--agent.ent-coef", "'banana'", "auto"]),
        ("--agent sac --env Pendulum-v1 --agent.ent-coef auto_0", ["--agent.ent-coef", "auto_0"]),
        ("--agent sac --env Pendulum-v1 --agent.buffer-size 1e15", ["--agent.buffer-size", "at most 1000000000"]),
        ("--network cnn", ["cnn needs images"]),
        ("--schedule friction --env CartPole-v1", ["mujoco_friction", "CartPole-v1", "HalfCheetah-v5"]),
        ("--schedule permuted --env Pendulum-v1", ["action_permutation", "Pendulum-v1"]),
        ("--schedule drift.yaml", ["observation_permutation cannot drift"]),
        ("--schedule drift.yaml --verify", ["observation_permutation cannot drift"]),
        ("--agent dqn --reset redo --reset.networks actor", ["ReDo would act on nothing", "critic"]),
        (
            "--env Swimmer-v5 --schedule friction --schedule.period 32",
            ["mujoco_friction does nothing in Swimmer-v5: in task 1", "--no-preflight"],
        ),
        ("--env Ant-v5?foo=1", ["Ant-v5 cannot be made with foo=1"]),
        ("--env Ant-v5?foo", ["name=value"]),
        ("--env Perennial/CartPolePermuted-v0 --schedule stationary", ["changes by itself"]),
        ("--schedule both.yaml --schedule.a.boundary truncate", ["--schedule.boundary"]),
        ("--schedule both.yaml --schedule.a.perid 3", ["did you mean '--schedule.a.period'"]),
        ("--schedule.signal context", ["observation_permutation cannot be shown as context"]),
        ("--normalize movin", ["--normalize.policy", "'moving'"]),
        ("--normalize freeze --normalize.horizon 0", ["--normalize.horizon must be at least 2, not 0"]),
        ("--scale 0", ["--scale must be above 0, not 0"]),
        ("--stepping bach", ["--stepping", "'batch'"]),
        ("--device banana", ["--device", "'banana'"]),
        ("--device cuda:99", ["--device", "cuda:99", "cpu or auto"]),
        ("--run-dir file", ["--run-dir file is a file"]),
        ("--run-dir file/r", ["--run-dir file/r"]),
        ("--run-dir .", ["--run-dir .", "something else than a run"]),
        ("--reset rdo --help", ["'rdo'", "'redo'"]),
        ("--config list.yaml", ["list.yaml", "name: value"]),
        ("--config twice.yaml", ["twice.yaml", "line 2", "'env'"]),
        ("--no-such 3", ["--no-such"]),
        ("ppo", ["'ppo' is no flag"]),
    ],
)
def test_mistakes_end_in_one_sentence_and_leave_nothing_behind(
    words: str, expected: list[str], capsys: Captured
) -> None:
    Path("file").write_text("")
    Path("drift.yaml").write_text("kind: drift\nperiod: 32\nchanges: {observation_permutation: {}}\n")
    Path("both.yaml").write_text("kind: together\nparts:\n  a: {kind: periodic, period: 32, changes: {cartpole: {}}}\n")
    Path("list.yaml").write_text("- a\n")
    Path("twice.yaml").write_text("env: CartPole-v1\nenv: Pendulum-v1\n")
    before = sorted(Path().rglob("*"))
    # A short run, should the mistake not be noticed.
    assert train.main([*words.split(), "--steps", "64"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("train.py: error: ")
    assert shown.err.endswith((".\n", "?\n"))
    assert shown.err.count("\n") == 1
    assert all(word in shown.err for word in expected), shown.err
    assert sorted(Path().rglob("*")) == before


def test_a_finished_run_of_another_configuration_is_not_taken_for_this_one(capsys: Captured) -> None:
    assert train.main([*TINY, "--steps", "64", "--run-dir", "r"]) == 0
    assert train.main([*TINY, "--steps", "64", "--seed", "4", "--run-dir", "r"]) == 2
    assert "another configuration" in capsys.readouterr().err
    assert files.read(Path("r/config.yaml"))["seed"] == 3


@pytest.mark.parametrize("words", [["--help"], ["--reset", "redo", "--help"], ["--agnet", "x", "-h"]])
def test_help_ends_well(words: list[str], capsys: Captured) -> None:
    assert train.main(words) == 0
    assert "--" in capsys.readouterr().out


def test_the_program_reports_its_mistakes(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "argv", ["train.py", "--agent", "pp"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    shown = capsys.readouterr()
    assert (end.value.code, shown.out) == (2, "")
    assert shown.err.startswith("train.py: error: --agent: there is no agent 'pp'; choose from ppo, sac")
    assert shown.err.count("\n") == 1


def test_notes_before_the_run(capsys: Captured) -> None:
    words = ["--steps", "100", "--schedule.period", "50", "--run-dir", "r"]
    assert train.main([*TINY, *words]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "100 steps are rounded up to 128" in shown
    assert "--schedule.period 64 would not" in shown


def test_what_never_switches_is_noted(capsys: Captured) -> None:
    assert train.main([*TINY, "--steps", "128", "--schedule.period", "1024", "--run-dir", "r"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "no switch falls into this run of 128 steps: the first is at step 1,024;" in shown
    part = "{kind: periodic, period: %d, changes: {%s: {change: cartpole, parameter: %s}}}"
    parts = f"  often: {part % (64, 'pole', 'length')}\n  seldom: {part % (2048, 'weight', 'gravity')}\n"
    Path("two.yaml").write_text(f"kind: together\nparts:\n{parts}")
    words = [*TINY[:2], "--schedule", "two.yaml", *TINY[6:], "--steps", "128"]
    assert train.main([*words, "--run-dir", "s"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "no switch of seldom falls into this run" in shown
    assert shown.count("no switch") == 1


def test_l2_beside_clipped_gradients_is_noted_once_for_all_members(capsys: Captured) -> None:
    words = ["--steps", "128", "--seeds", "2", "--no-preflight"]
    for more, told in (
        (["--regularizer", "none,l2"], True),
        (["--regularizer", "l2", "--agent.max-grad-norm", "1e9"], False),
        (["--regularizer", "l2", "--regularizer.decay", "decoupled"], False),
    ):
        assert train.main([*TINY, *words, *more]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert shown.count("clips gradients to a norm of 0.5 before l2 is added") == told


def test_irregular_switches_can_be_aligned_with_rollouts(capsys: Captured) -> None:
    Path("irregular.yaml").write_text("kind: geometric\nperiod: 80\nshortest: 64\nchanges: {cartpole: {}}\n")
    words = [*TINY[:2], "--schedule", "irregular.yaml", *TINY[6:]]
    assert train.main([*words, "--steps", "256", "--run-dir", "r"]) == 0
    assert "--schedule.align 64 would not" in " ".join(capsys.readouterr().out.split())
    assert train.main([*words, "--steps", "256", "--run-dir", "s", "--schedule.align", "64"]) == 0
    assert "in the middle of rollouts" not in " ".join(capsys.readouterr().out.split())
    switches = [event["step"] for event in events("s") if event["event"] == "switch"]
    assert switches
    assert all(step % 64 == 0 for step in switches)


def test_normalised_observations_and_what_they_were_normalised_by() -> None:
    words = ["--normalize", "freeze", "--normalize.rewards", "true", "--schedule.signal", "info", "--run-dir", "r"]
    assert train.main([*TINY, *words]) == 0
    assert {path.name for path in Path("r").iterdir()} >= FILES | {"normalizer.npz"}
    assert files.read(Path("r/config.yaml"))["normalize"]["policy"] == "freeze"
    with np.load("r/normalizer.npz") as found:
        assert any(value.shape == (4,) for value in found.values())


def test_an_agent_that_is_shown_the_context_learns() -> None:
    words = ["--schedule", "cartpole_length", "--schedule.signal", "context", "--normalize", "moving", "--run-dir", "r"]
    assert train.main([*TINY, *words]) == 0
    model = PPO.load("r/model.zip")
    assert model.observation_space.shape == (5,)


def test_a_table_of_tasks_is_kept_with_the_run() -> None:
    Path("mine.csv").write_text("steps,length\n64,0.5\n128,1.5\n")
    Path("mine.yaml").write_text("kind: table\nfile: mine.csv\nchanges: {length: {change: cartpole}}\n")
    words = ["--schedule", "mine.yaml", "--run-dir", "r"]
    assert train.main([*TINY[:2], *words, *TINY[6:]]) == 0
    assert Path("r/mine.csv").read_text() == Path("mine.csv").read_text()
    assert [event["values"] for event in events("r") if event["event"] == "switch"] == [{"length": 1.5}] * 2


def test_a_run_that_another_process_trains_has_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that whoever runs many can come back to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r").mkdir()
    with RunLock(tmp_path / "r" / "run.lock"):
        assert train.main(["--env", "CartPole-v1", "--steps", "2048", "--run-dir", "r", "--quiet"]) == BUSY == 75
    assert "is being written by" in capsys.readouterr().err
