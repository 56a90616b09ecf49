"""The file of a sweep: which cells it has, what each one's command line is, and what is said of mistakes."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs import files
from configs.command_line import Config, parse
from configs.population import Population, read
from configs.settings import UsageError
from sweeping.plan import Sweep, as_words, find, read_sweep

SMALL: dict[str, Any] = {
    "seeds": 3,
    "together": 2,
    "settings": {"agent": {"name": "ppo", "gamma": 0.9}, "env": "CartPole-v1", "steps": 4096},
    "benchmarks": {
        "switching": {"schedule": {"name": "permuted", "period": 1024}},
        "other": {"schedule": {"name": "rotated", "period": 1024}},
    },
    "arms": {
        "none": None,
        "fresh": None,
        "gentle": {"reset": {"redo": {"tau": 0.05}}, "regularizer": ["l2", "spectral"], "agent": {"n_epochs": 3}},
    },
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return path


def swept(folder: Path, **changes: object) -> Sweep:
    return read_sweep(written(folder, **changes), folder / "runs")


def test_cells_are_arms_by_benchmarks_by_seeds(tmp_path: Path) -> None:
    sweep = swept(tmp_path)
    assert sweep.cells == 3 * 2 * 3
    assert sweep.arms == ["none", "fresh", "gentle"]
    assert sweep.benchmarks == ["switching", "other"]
    found = [(job.benchmark, job.arm, job.seeds) for job in sweep.jobs[:6]]
    # The first seeds of all arms first, so that there is something to compare early.
    assert found == [("switching", arm, seeds) for seeds in [(0, 1), (2,)] for arm in sweep.arms]
    assert len({job.path for job in sweep.jobs}) == len(sweep.jobs) == 12
    assert sweep.jobs[0].path.parent == tmp_path / "runs" / "switching"
    assert [job.steps for job in sweep.jobs[:4]] == [8192, 8192, 8192, 4096]


def test_a_benchmark_can_name_its_arms(tmp_path: Path) -> None:
    sweep = swept(tmp_path, benchmarks={"switching": SMALL["benchmarks"]["switching"], "still": {"arms": ["none"]}})
    assert {job.arm for job in sweep.jobs if job.benchmark == "still"} == {"none"}
    assert {job.arm for job in sweep.jobs if job.benchmark == "switching"} == {"none", "fresh", "gentle"}


def test_settings_without_a_name_are_of_what_was_named_before(tmp_path: Path) -> None:
    settings = {"agent": "sac", "env": "Pendulum-v1", "steps": 4096}
    arms = {"none": None, "large": {"agent": {"buffer_size": 500}}, "other": {"agent": {"name": "ppo", "n_epochs": 3}}}
    sweep = swept(tmp_path, settings=settings, benchmarks={"still": {}}, arms=arms, seeds=1)
    plain, large, other = (parse(job.words) for job in sweep.jobs)
    assert large.names["agent"] == plain.names["agent"] == "sac"
    assert large.as_dict()["agent"]["buffer_size"] == 500
    assert other.names["agent"] == "ppo"


def test_each_job_is_a_command_line_of_train_py(tmp_path: Path) -> None:
    """With the settings of the arm over those of the benchmark over those of all."""
    jobs = {(job.benchmark, job.arm, job.seeds): job for job in swept(tmp_path).jobs}
    job = jobs["switching", "gentle", (2,)]
    config = read(job.words)
    assert isinstance(config, Config)
    assert (config.run.env, config.run.steps, config.run.seed) == ("CartPole-v1", 4096, 2)
    assert config.names["schedule"] == "permuted"
    assert (config.agent.gamma, config.agent.n_epochs) == (0.9, 3)  # type: ignore[attr-defined]
    assert list(config.resets) == ["redo"]
    assert config.resets["redo"].tau == 0.05  # type: ignore[attr-defined]
    assert list(config.regularizers) == ["l2", "spectral"]
    population = read(jobs["other", "fresh", (0, 1)].words)
    assert isinstance(population, Population)
    assert population.names == ["fresh-s0", "fresh-s1"]
    assert (
        population.members[1].as_dict()
        == parse(
            shlex.split(
                "--agent ppo --agent.gamma 0.9 --env CartPole-v1 --steps 4096 --schedule rotated "
                "--schedule.period 1024 --reset fresh --seed 1"
            )
        ).as_dict()
    )


def test_the_directory_is_named_after_all_that_the_cell_depends_on(tmp_path: Path) -> None:
    one, same = swept(tmp_path), swept(tmp_path)
    assert [job.path for job in one.jobs] == [job.path for job in same.jobs]
    other = swept(tmp_path, settings={**SMALL["settings"], "steps": 8192})
    assert not {job.path for job in one.jobs} & {job.path for job in other.jobs}
    more = swept(tmp_path, seeds=4, together=2)
    assert {job.path for job in one.jobs if job.seeds == (0, 1)} <= {job.path for job in more.jobs}, "seeds are added"


def test_names_stand_for_themselves(tmp_path: Path) -> None:
    sweep = swept(
        tmp_path, settings={"agent": "ppo"}, benchmarks=["cartpole_permuted"], arms=["none", "redo+l2", "redo+swr"]
    )
    words = {job.arm: " ".join(job.words) for job in sweep.jobs}
    assert "--reset redo --regularizer l2 --config cartpole_permuted" in words["redo+l2"]
    assert "--reset redo+swr" in words["redo+swr"]
    assert "--reset" not in words["none"]


@pytest.mark.parametrize(
    "tree",
    [
        {"agent": {"name": "sac", "learning_rate": 1e-3}, "env": "Pendulum-v1", "reset": ["redo", "swr"]},
        {
            "env": "CartPole-v1",
            "reset": {"cbp": {"layers": "first"}, "redo": {}},
            "metrics": ["dormant", "stable_rank"],
        },
        {
            "env": "CartPole-v1",
            "normalize": {"policy": "moving"},
            "network": {"name": "mlp", "hidden": [32, 32]},
            "optimizer": {"name": "unit_adam"},
            "regularizer": "l2",
        },
        {"env": "CartPole-v1", "normalize": "moving", "schedule": {"name": "permuted", "period": 4096}},
        {"env": "CartPole-v1", "normalize": False},  # as YAML reads `off`
        {"env": "CartPole-v1", "normalize": {"policy": False}},
    ],
)
def test_words_say_what_a_file_for_config_says(tree: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump(tree))
    expected = parse(["--config", str(path)]).as_dict() | {"benchmark": ""}
    assert parse(as_words(tree, "here")).as_dict() == expected


def test_what_is_said_of_stacking_is_not_said_to_a_run_alone(tmp_path: Path) -> None:
    for stack in (True, False):
        sweep = swept(tmp_path, settings={**SMALL["settings"], "stack": stack}, arms=["none"])
        for job in sweep.jobs:
            asked = read(job.words)
            assert isinstance(asked, Population) == (len(job.seeds) > 1)
            assert not isinstance(asked, Population) or asked.stack == stack


MISTAKES = {
    "unknown part": ({"arm": {}}, "'arm' is no part of a sweep, .*; did you mean 'arms'"),
    "no arms": ({"arms": []}, "arms needs at least one name"),
    "twice": ({"arms": ["none", "none"]}, "arms names none twice"),
    "unknown arm": ({"arms": ["none", "reddo"]}, "there is no reset or regularizer 'reddo'.*did you mean 'redo'"),
    "unknown setting": (
        {"arms": {"slow": {"reset": {"redo": {"tua": 1}}}}},
        "arm slow on switching: .*did you mean",
    ),
    "bad value": ({"benchmarks": {"b": {"steps": "many"}}}, "arm none on b: .*steps.*many"),
    "same": ({"arms": {"none": None, "plain": {"reset": "none"}}}, "arm plain on switching: is the same as arm none"),
    "own seed": ({"settings": {"seed": 3}}, "seed has no place in a sweep: the sweep's own `seeds`"),
    "own folder": ({"settings": {"run-dir": "x"}}, "run_dir has no place in a sweep"),
    "seeds": ({"seeds": 0}, "seeds must be a whole number from 1"),
    "seed twice": ({"seeds": [1, 1]}, "seeds names 1 twice"),
    "negative": ({"seeds": [-1]}, "seeds must be whole numbers from 0"),
    "together": ({"together": "all"}, "together must be a whole number"),
    "schedule": (
        {"arms": {"own": {"schedule": {"kind": "periodic"}}}},
        "own on switching: a schedule of one's own is a",
    ),
    "several": ({"arms": {"two": {"reset": "none,redo"}}}, "these are 2 arms, none, redo; give each a name"),
    "arm of a benchmark that is no name": ({"benchmarks": {"b": {"arms": [{"reset": "redo"}]}}}, "b.arms must be of"),
    "arm of a benchmark that is nothing": ({"benchmarks": {"b": {"arms": [None]}}}, "b.arms must be of .*, not None"),
    "arms of a benchmark": ({"benchmarks": {"b": {"arms": ["nonne"]}}}, "benchmarks.b.arms .*did you mean 'none'"),
    "no switch": ({"benchmarks": {"b": {"schedule": "stationary"}}}, "arm fresh on b: .*waits for a switch"),
    "slash": ({"arms": {"a/b": {}}}, "short names without slashes, not 'a/b'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_in_a_sentence(name: str, tmp_path: Path) -> None:
    changes, sentence = MISTAKES[name]
    with pytest.raises(UsageError, match=sentence) as caught:
        swept(tmp_path, **changes)
    assert str(caught.value).startswith("small.yaml")
    assert str(caught.value).endswith((".", "?"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", files.shipped("sweeps"))
def test_shipped_sweeps_can_be_read(name: str) -> None:
    assert read_sweep(find(name)).cells


@pytest.mark.parametrize("given", [0.5, None])
def test_scale_reaches_what_a_sweep_says_of_steps_and_tasks(given: float | None, tmp_path: Path) -> None:
    """As it reaches what a benchmark's file says, whether the flag or the sweep's own file names it."""
    path = written(tmp_path, settings={**SMALL["settings"], **({} if given else {"scale": 0.5})})
    for job in read_sweep(path, tmp_path / "runs", given).jobs:
        assert job.words[job.words.index("--steps") + 1] == "2048"
        assert job.words[job.words.index("--schedule.period") + 1] == "512"
        assert job.steps == 2048 * job.cells
