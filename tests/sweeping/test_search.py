"""A search for settings: what it proposes, what it gives up, and that it does not depend on who finishes first."""

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")
import optuna

import sweep
from configs import files
from configs.settings import UsageError
from recording.directory import RunDirectory
from sweeping.plan import read_sweep
from sweeping.search import STARTUP, Proposals, Search, given_up_at, read_searches, running_means
from tests.sweeping.small import written

SPACE: dict[str, Any] = {"reset.redo.tau": {"low": 0.01, "high": 0.9, "log": True}, "reset.redo.every": [1, 5]}
BLOCK: dict[str, Any] = {"seeds": [7, 8], "trials": 10, "at_once": 3, "arms": {"redo": SPACE}}


def searched(folder: Path, **changes: object) -> Search:
    sweep_ = read_sweep(written(folder, search={**BLOCK, **changes}), folder / "runs")
    (search,) = read_searches(sweep_, sweep_.search)
    return search


def pretend(search: Search, study: optuna.Study, backwards: bool, tasks: int = 5) -> list[dict[str, Any]]:
    """Make all trials, whose return is the better the nearer tau is to 0.1, batch by batch, in one order or another."""
    given_up = 0
    while not search.is_over(study):
        proposed = Proposals(search, study)
        jobs = list(proposed.jobs)[:: -1 if backwards else 1]
        for job in jobs:
            tau = float(job.words[job.words.index("--reset.redo.tau") + 1])
            for task in range(tasks):
                for name in job.names:
                    _write(RunDirectory(job.path / name), task, 100 - 20 * abs(math.log(tau / 0.1)))
                if proposed.is_hopeless(job):
                    given_up += 1
                    break
        proposed.tell(failed=[])
    found = search.made(study)
    assert given_up == sum(trial.state == optuna.trial.TrialState.PRUNED for trial in found)
    return [{"params": trial.params, "value": trial.value, "state": trial.state} for trial in found]


def _write(member: RunDirectory, task: int, earned: float) -> None:
    member.make()
    with member.tasks.open("a") as file:
        file.write(("" if task else "task,return_end\n") + f"{task},{earned}\n")


def test_the_same_file_gives_the_same_search(tmp_path: Path) -> None:
    """In whichever order trials finish, and whatever is interrupted in between."""
    found = []
    for place in ("one", "other", "interrupted"):
        folder = tmp_path / place
        folder.mkdir()
        search = searched(folder)
        study = search.study()
        if place == "interrupted":
            half = Search(**{**vars(search), "trials": 5})
            pretend(half, study, backwards=False)
            search = searched(folder, trials=10)
            study.ask(search.space)  # of a driver that was killed when it had proposed
            study.ask()  # of one that was killed before
        found.append(pretend(search, study, backwards=place == "other"))
    assert found[0] == found[1]
    assert len(found[0]) == 10
    assert any(trial["state"] == optuna.trial.TrialState.PRUNED for trial in found[0])


def test_another_search_begins_anew(tmp_path: Path) -> None:
    """With other settings, seeds or ranges; more trials go on with those that there are."""
    journals = tmp_path / "runs" / "search" / "switching"
    for change in ({}, {"trials": 3}, {"seeds": [8]}, {"arms": {"redo": {"reset.redo.tau": [0.1, 0.2]}}}):
        searched(tmp_path, **change).study()
    assert len(list(journals.glob("redo-*.journal"))) == 3


def test_a_search_may_have_a_shorter_benchmark_of_its_own(tmp_path: Path) -> None:
    """On which the sweep itself does not train the arm."""
    periodic = {"name": "permuted", "period": 1024}
    short = {"schedule": periodic, "steps": 2048, "arms": ["none"]}
    benchmarks = {"switching": {"schedule": periodic}, "short": short}
    path = written(tmp_path, benchmarks=benchmarks, search={**BLOCK, "benchmark": "short"})
    sweep_ = read_sweep(path, tmp_path / "runs")
    (search,) = read_searches(sweep_, sweep_.search)
    job = search.job({"reset.redo.tau": 0.5, "reset.redo.every": 1})
    assert job.words[job.words.index("--steps") + 1] == "2048"
    assert {(job.benchmark, job.arm) for job in sweep_.jobs} == {
        *{("switching", "none"), ("switching", "redo"), ("short", "none")}
    }


def test_numbers_that_yaml_reads_as_texts_are_numbers(tmp_path: Path) -> None:
    ranges = {"redo": {"reset.redo.tau": {"low": "1e-3", "high": "5e-1", "log": True}}}
    (range_,) = searched(tmp_path, arms=ranges).space.values()
    assert (range_.low, range_.high, range_.log) == (1e-3, 0.5, True)


def test_it_comes_nearer_to_what_is_best(tmp_path: Path) -> None:
    search = searched(tmp_path, trials=24)
    found = pretend(search, search.study(), backwards=False)
    far = [abs(math.log(trial["params"]["reset.redo.tau"] / 0.1)) for trial in found]
    assert sum(far[-8:]) / 8 < 0.7 * sum(far[:8]) / 8


def test_what_is_below_the_median_of_those_before_is_given_up() -> None:
    before = [[10.0, 20.0, 30.0], [12.0, 22.0, 32.0], [14.0, 24.0, 34.0], [16.0, 26.0, 36.0]]
    assert given_up_at([13.0, 23.0], before) is None, "the median is as good as any"
    assert given_up_at([12.9], before) == 0
    assert given_up_at([13.1, 22.9], before) == 1
    assert given_up_at([99.0, 99.0, 0.0], before) is None, "after the last task it is finished"
    assert given_up_at([math.nan], before) == 0
    assert given_up_at([0.0], before[: STARTUP - 1]) is None, "too few to say"
    assert given_up_at([], before) is None


def test_the_first_task_does_not_count() -> None:
    assert running_means([1000.0, 1.0, 3.0, 8.0]) == [1.0, 2.0, 4.0]
    assert running_means([1000.0]) == []


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "seed of the report": ({"seeds": [1]}, "seeds must be other than those that are reported, not 1"),
    "no seeds": ({"seeds": None}, "seeds must be a whole number"),
    "unknown arm": ({"arms": {"reddo": SPACE}}, "must be of none, redo, not 'reddo'; did you mean 'redo'"),
    "unknown key": ({"trails": 3}, "'trails' is no part of a search.*did you mean 'trials'"),
    "unknown benchmark": ({"benchmark": "swithing"}, "did you mean 'switching'"),
    "unknown setting": ({"arms": {"redo": {"reset.redo.tua": [1, 2]}}}, "did you mean"),
    "range": ({"arms": {"redo": {"reset.redo.tau": {"low": 2, "high": 1}}}}, "low below high"),
    "log": ({"arms": {"redo": {"reset.redo.tau": {"low": 0, "high": 1, "log": True}}}}, "above 0 where log"),
    "out of range": ({"arms": {"redo": {"reset.redo.every": {"low": -5, "high": 5}}}}, "every.* must be"),
    "nothing": ({"arms": {}}, "needs at least one arm"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_in_a_sentence(name: str, tmp_path: Path) -> None:
    changes, sentence = MISTAKES[name]
    with pytest.raises(UsageError, match=sentence) as caught:
        searched(tmp_path, **changes)
    assert str(caught.value).startswith("tiny.yaml")
    assert "\n" not in str(caught.value)


def test_a_search_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trains its trials, says which was best, and keeps it as an arm that a sweep can take."""
    block = {**BLOCK, "seeds": [7], "trials": 2, "at_once": 2}
    path = written(tmp_path, search=block)
    words = [str(path), "--out", str(tmp_path / "runs"), "--search", "--jobs", "2"]
    assert sweep.main(words) == 0
    said = capsys.readouterr().out
    assert "redo on switching: 2 trials finished, 0 given up, 0 failed" in said
    kept = tmp_path / "runs" / "search" / "switching" / "redo.yaml"
    tuned = files.read(kept)
    assert list(tuned) == ["redo tuned"]
    (job,) = read_sweep(written(tmp_path, arms=tuned, seeds=1), tmp_path / "runs").jobs
    assert "--reset.redo.tau" in job.words
    written(tmp_path, search=block)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "runs").rglob("tasks.csv"))
    assert sweep.main(words) == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "runs").rglob("tasks.csv")) == before


def test_a_sweep_without_a_search_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main([str(written(tmp_path)), "--search"]) == 2
    assert "tiny.yaml has no search" in capsys.readouterr().err
