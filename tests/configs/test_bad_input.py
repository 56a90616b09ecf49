"""Bad input ends in one sentence, never in a traceback, a directory or a process that hangs."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

import train
from agents import AGENTS
from configs.building import build, check_memory, notes
from envs import Tasks, make_vec_env
from envs.schedules import Constant
from recording.directory import default_path
from recording.members import default_population_path
from tests.configs.bad_input import Case, cases

CASES = int(os.environ.get("CASES", "1000"))
"""Drawn configurations; CASES=100000 looks longer."""


def outcome(case: Case, capsys: pytest.CaptureFixture[str]) -> int:
    """The exit status of a command line in the working directory, which is 0 or 2; checks what a refusal looks like."""
    for name, text in case.files.items():
        Path(name).write_bytes(text.encode(errors="surrogatepass"))
    before = set(Path().iterdir())
    status = train.main(case.words)
    printed = capsys.readouterr()
    assert status in (0, 2)
    assert set(Path().iterdir()) == before
    if status == 2:
        assert printed.out == ""
        assert re.fullmatch(r"train\.py: error: .*[.?]\n", printed.err), printed.err
        assert printed.err[:-1].isprintable()
        assert len(printed.err) < 3000
    return status


@pytest.fixture
def nothing_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stops a command before it makes anything, though not before what only reads the configuration; the directory."""

    def stop(config: Any, console: Any, command: str) -> int:
        assert config.run.steps > 0
        default_path(config).is_dir()
        yaml.safe_dump(config.as_dict())
        list(notes(config, config.tasks))
        return 0

    def stop_all(population: Any, console: Any, command: str) -> int:
        default_population_path(population).is_dir()
        yaml.safe_dump(population.as_dict())
        return train.train(population.members[-1], console, command)

    monkeypatch.setattr(train, "train", stop)
    monkeypatch.setattr(train, "train_population", stop_all)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@given(case=cases())
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.timeout(max(300, CASES // 5))
def test_a_configuration_is_valid_or_refused_in_one_sentence(
    nothing_trains: Path, capsys: pytest.CaptureFixture[str], case: Case
) -> None:
    outcome(case, capsys)


@given(case=cases(most_settings=2, spoil=False))
@settings(max_examples=CASES // 12, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.timeout(max(300, CASES // 5))
def test_what_is_read_is_built_or_refused_in_one_sentence(
    nothing_trains: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: Case
) -> None:
    def stop(config: Any, console: Any, command: str) -> int:
        build(config)[1].close()
        return 0

    monkeypatch.setattr(train, "train", stop)
    # A process each, and packages that need not be installed, are other tests' business.
    outcome(Case([*case.words, "--stepping=dummy", "--device=cpu"], case.files), capsys)


HUGE = str(10**9)
TOO_MUCH = [
    ("--agent.n-envs", HUGE, "at most 4096"),
    ("--agent.n-steps", HUGE, "of memory"),
    ("--agent.n-steps", str(2**63), "at most 1000000000"),
    ("--network.hidden", HUGE, "at most 16384"),
    ("--network.hidden", "1," * 3000, "at most 100 layers"),
    ("--measure-samples", HUGE, "at most 100000"),
    ("--threads", HUGE, "at most 256"),
    ("--steps", str(2**63), "are the most; choose fewer steps"),
    ("--agent.learning-rate", "1e300", "at most 1e+30"),
    ("--schedule", "rotated", "--schedule.observation-rotation.dimensions", HUGE, "at most 4096"),
    ("--schedule", "delayed.yaml", "--schedule.observation-delay.high", HUGE, "at most 10000"),
    ("--regularizer", "infer", "--regularizer.heads", HUGE, "at most 10000"),
    ("--metrics", "hessian", "--metrics.order", HUGE, "at most 1000"),
    ("--metrics", "hessian", "--metrics.probes", HUGE, "at most 1000"),
    ("--optimizer.weight-decay", "1e300", "at most 1e+30"),
]
"""Flags that would fill the memory or overflow, and what the sentence says."""


@pytest.mark.parametrize("case", TOO_MUCH, ids=lambda case: case[-3])
def test_what_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: tuple[str, ...]
) -> None:
    *more, allowed = case
    monkeypatch.chdir(tmp_path)
    Path("delayed.yaml").write_text("kind: periodic\nperiod: 4096\nchanges: {observation_delay: {}}\n")
    words = ["--env", "CartPole-v1", "--schedule", "permuted", "--optimizer", "adam", "--agent.batch-size", "2"]
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2**20, "SC_PAGE_SIZE": 2**12}.__getitem__)
    assert train.main([*words, *more]) == 2
    printed = capsys.readouterr().err
    assert re.fullmatch(rf"train\.py: error: .*{re.escape(allowed)}.*\.\n", printed), printed
    assert [path.name for path in tmp_path.iterdir()] == ["delayed.yaml"]


def test_a_replay_buffer_counts_as_far_as_the_run_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 16 * 1000}.__getitem__)
    env = make_vec_env("Pendulum-v1", Tasks(Constant(), {}), 1, 0)  # 3 observations and an action of 4 bytes each
    agent = AGENTS["sac"](buffer_size=10**9)  # type: ignore[call-arg]
    check_memory(agent.transitions(steps=1000), env)
    with pytest.raises(ValueError, match="to keep 1,001 transitions"):
        check_memory(agent.transitions(steps=1001), env)
    env.close()


RUNS = [
    "--agent.learning-rate 1e-30",
    "--agent.clip-range 1e30 --agent.vf-coef 0 --normalize moving --normalize.clip-obs 1e-30",
    "--reset redo --reset.every 1 --reset.tau -1e30",
    "--reset shrink_perturb --reset.when periodic --reset.every 1 --reset.perturb 0",
    "--optimizer adam --optimizer.eps 1e30",
    "--regularizer l2 --regularizer.strength 0",
]
"""Extreme, yet allowed."""


@pytest.mark.parametrize("words", RUNS)
def test_extreme_settings_that_are_allowed_run_to_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    small = "--env CartPole-v1 --steps 64 --agent.n-steps 32 --agent.batch-size 32 --agent.n-epochs 1 --metrics none"
    assert train.main([*small.split(), *words.split(), "--quiet", "--run-dir", str(tmp_path / "r")]) == 0
    assert capsys.readouterr().err == ""
    assert (tmp_path / "r" / "model.zip").is_file()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    words = ["--env", "CartPole-v1", "--steps", "64", "--agent.n-steps", "32", "--agent.batch-size", "32", "--quiet"]
    for path in (tmp_path / "file" / "run", tmp_path / "file"):
        assert train.main([*words, "--run-dir", str(path)]) == 2
        assert re.fullmatch(rf"train\.py: error: --run-dir {path} .*\.\n", capsys.readouterr().err)
