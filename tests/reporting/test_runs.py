"""Reading run directories: whole ones, unfinished ones, old ones, and such as nobody should have written."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from configs.settings import UsageError
from reporting.runs import Run, find_runs, group, read_run
from tests.reporting.synthetic import ARMS, FULL, PERIOD, config, write_run, write_study


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    columns = {"actor/dormant": [0.1, math.nan], "switch/actor/entropy": [0.69, 0.01]}
    run = read_run(write_run(tmp_path / "run", "redo tau=0.05", 3, [100, 50], columns=columns))
    assert (run.benchmark, run.label, run.seed) == ("synthetic", "redo tau=0.05", 3)
    assert (run.state, run.steps, run.command) == ("finished", 2000, "train.py --seed 3")
    assert run.missing == []
    first, second = run.tasks
    assert (first["task"], first["start"], first["end"], first["change"]) == (0, 0, PERIOD, "signs 0")
    assert first["return_end"] == 100
    assert second["return"] == pytest.approx((10 + 50) / 2)
    assert first["actor/dormant"] == 0.1
    assert math.isnan(second["actor/dormant"])
    assert run.episodes is not None
    assert len(run.episodes) == 200
    of_second = run.episodes.task == 1
    np.testing.assert_array_equal(run.episodes.step[of_second], np.arange(1010, 2001, 10))
    np.testing.assert_array_equal(run.episodes.earned[of_second], [10.0] * 50 + [50.0] * 50)


def test_an_unfinished_run_says_what_it_lacks(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", returns=[100] * 12, finished=5, state="interrupted")
    run = read_run(path)
    assert len(run.tasks) == 5
    assert run.missing == ["interrupted, not finished: 5,000 of 12,000 steps, 5 tasks"]


def test_lines_that_are_still_being_written_are_left_out(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", returns=[100, 50], state="running")
    for name, torn in (("tasks.csv", "2,2000,3000,sig"), ("episodes.csv", "2010,2,1")):
        with (path / name).open("a") as file:
            file.write(torn)
    run = read_run(path)
    assert len(run.tasks) == 2
    assert run.episodes is not None
    assert len(run.episodes) == 200
    assert run.missing == ["running, not finished: 2,000 of 2,000 steps, 2 tasks"]


def test_an_older_run_without_episodes(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", episodes=False)
    (path / "versions.json").unlink()
    run = read_run(path)
    assert run.episodes is None
    assert run.command is None
    assert len(run.tasks) == 4
    assert [sentence.split(",")[0] for sentence in run.missing] == ["no episodes.csv"]


@pytest.mark.parametrize("status", ['{"sta', "[1]", "[" * 100_000])
def test_a_run_that_has_only_begun(tmp_path: Path, status: str) -> None:
    path = write_run(tmp_path / "run", finished=0, state="running")
    (path / "status.json").write_text(status)
    run = read_run(path)
    assert run.state == "unknown"
    assert run.tasks == []
    assert run.steps == 0
    assert "no finished task in tasks.csv" in run.missing


def test_damaged_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", returns=[100, 50])
    header = (path / "tasks.csv").read_text().splitlines()[0]
    cells = header.count(",") - 3
    with (path / "tasks.csv").open("a") as file:
        file.write("99999999999,0,10,x" + ",1" * cells + "\n")  # no task of ours
        file.write("-1,0,10,x" + ",1" * cells + "\n")
        file.write("2,50,10,x" + ",1" * cells + "\n")  # ends before it begins
        file.write("3,0,10\n" + "3,0,10,x" + ",1" * cells + ",1\n")
        file.write("1,1000,2000,again" + ",7" * cells + "\n")  # a resumed run writes a task twice
    with (path / "episodes.csv").open("a") as file:
        file.write("1e400,0,5,5,0\n2001,nan,5,5,0\n2002,1,inf,5,0\nhello\n-3,0,1,1,0\n2003,1,5,5,1\n")
    run = read_run(path)
    assert [row["task"] for row in run.tasks] == [0, 1]
    assert run.tasks[1]["change"] == "again"
    assert run.episodes is not None
    assert len(run.episodes) == 201
    assert run.episodes.cut_short.sum() == 1
    assert run.missing == ["5 damaged rows of tasks.csv left out", "5 damaged rows of episodes.csv left out"]


def test_text_in_a_run_is_data(tmp_path: Path) -> None:
    text = '=cmd|"/C calc"!A0, <script>alert(1)</script>\n__import__("os")'
    path = write_run(tmp_path / "run", returns=[100], changes=[text])
    assert read_run(path).tasks[0]["change"] == text
    (path / "config.yaml").write_text("benchmark: !!python/object/apply:os.system ['touch here']\n")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_run(path)


def test_configurations_without_end_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", returns=[100])
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    (path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UsageError, match="more than 20,000 values, aliases written out"):
        read_run(path)
    (path / "config.yaml").write_text("a: " + "[" * 500)
    with pytest.raises(UsageError):
        read_run(path)


@pytest.mark.timeout(10)
def test_a_table_that_never_ends_is_not_opened(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", returns=[100])
    (path / "episodes.csv").unlink()
    os.mkfifo(path / "episodes.csv")
    assert read_run(path).episodes is None


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.yaml"):
        read_run(tmp_path)
    with pytest.raises(UsageError, match="no run in it"):
        find_runs([tmp_path])
    with pytest.raises(UsageError, match="no directory"):
        find_runs([tmp_path / "nowhere"])


def test_runs_are_found_below_a_folder_once_and_not_through_links(tmp_path: Path) -> None:
    inside, outside = tmp_path / "runs", tmp_path / "elsewhere"
    write_run(inside / "b" / "deep", seed=1)
    write_run(inside / "a", seed=0)
    write_run(outside / "c", seed=2)
    (inside / "link").symlink_to(outside, target_is_directory=True)
    (inside / "site").mkdir()
    (inside / "site" / "config.yaml").write_text("somebody: else\n")
    assert [run.seed for run in find_runs([inside, inside / "a"])] == [0, 1]
    assert [run.seed for run in find_runs([inside / "a", outside])] == [2, 0]


def test_runs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    (write_run(tmp_path / "torn") / "config.yaml").write_text("")
    with pytest.raises(UsageError):
        find_runs([tmp_path])
    problems: list[str] = []
    assert [run.path.name for run in find_runs([tmp_path], problems)] == ["good"]
    assert len(problems) == 1
    assert "torn" in problems[0]


@pytest.mark.parametrize("arm", ARMS)
def test_arms_are_called_what_they_are(tmp_path: Path, arm: str) -> None:
    assert read_run(write_run(tmp_path / "run", arm)).label == arm


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"reset": {"full": FULL, "redo": {"tau": 0.1}}}, "everything renewed+redo"),
        ({"reset": {"full": FULL | {"when": "periodic", "every": 5000}}}, "full when=periodic every=5000"),
        ({"reset": {"full": FULL | {"parts": "head"}}}, "heads renewed"),
        ({"reset": {"full": FULL | {"parts": "moments", "networks": "actor"}}}, "actor's moments renewed"),
        ({"reset": {"full": FULL | {"networks": "critic"}}}, "critic renewed"),
        ({"reset": {"full": FULL | {"every": 7}}}, "fresh"),  # a period that is never used
        ({"reset": {"last_layers": {"when": "switch", "networks": "actor"}}}, "actor's head renewed"),
        ({"reset": {"last_layers": {"when": "switch", "layers": 2}}}, "last 2 layers renewed"),
        ({"reset": {"last_layers": {"when": "periodic"}}}, "last_layers"),
        ({"reset": {"redo": {"when": "switch", "every": 7}}}, "redo when=switch"),
        ({"regularizer": {"spectral": {}, "l2": {}}}, "spectral+l2"),
        ({"reset": {"unheard_of": {"x": 1, "y": [1, 2]}}}, "unheard_of x=1 y=1,2"),
        ({"optimizer": {"name": "adam", "eps": 1e-8}}, "none"),
        ({"optimizer": {"name": "adam", "betas": [0.9, 0.999]}}, "none"),
        ({"optimizer": {"name": "adam", "betas": [0.99, 0.99]}}, "adam betas=0.99,0.99"),
        ({"optimizer": {"name": "trac"}, "reset": {"full": FULL}}, "everything renewed+trac"),
        ({"normalize": {"policy": "moving", "horizon": 5000}}, "norm_moving horizon=5000"),
        ({"network": {"activation": "crelu", "layer_norm": "before"}}, "crelu+layer_norm=before"),
        ({"reset": "none", "regularizer": "none"}, "none"),
        ({"reset": 7, "network": [1], "optimizer": None}, "none"),
    ],
)
def test_settings_that_are_not_the_default_are_in_the_label(tmp_path: Path, settings: dict, label: str) -> None:
    assert read_run(write_run(tmp_path / "run", **settings)).label == label


def arms(runs: list[Run]) -> list[dict[str, list[int]]]:
    return [{label: [run.seed for run in own] for label, own in study.arms.items()} for study in group(runs)]


def test_a_study_has_arms_and_seeds(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=2)
    write_run(tmp_path / "other", "redo tau=0.05", device="cuda", metrics={"dormant": {}}, measure_every=4096)
    runs = find_runs([tmp_path])
    assert arms(runs) == [{"fresh": [0, 1], "none": [0, 1], "redo": [0, 1], "redo tau=0.05": [0]}]
    (study,) = group(runs)
    assert study.title == "synthetic: CartPole-v1, ppo"
    assert study.differing == ""
    assert study.left_out == []


def test_other_budgets_and_agents_are_other_studies(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", agent={"name": "ppo", "learning_rate": 0.001, "n_envs": 1})
    write_run(tmp_path / "c", returns=[100, 50])
    found = {study.differing for study in group(find_runs([tmp_path]))}
    assert found == {
        "steps 4000, agent.learning_rate 0.0003",
        "steps 4000, agent.learning_rate 0.001",
        "steps 2000, agent.learning_rate 0.0003",
    }


def test_what_all_arms_share_is_no_arm(tmp_path: Path) -> None:
    settings = {"normalize": {"policy": "cumulative"}}
    write_run(tmp_path / "a", "none", **settings)
    write_run(tmp_path / "b", "fresh", **settings)
    (study,) = group(find_runs([tmp_path]))
    assert list(study.arms) == ["fresh", "none"]
    assert study.title.endswith("ppo, norm_cumulative")
    write_run(tmp_path / "c", "none")
    assert list(arms(find_runs([tmp_path]))[0]) == ["everything renewed+norm_cumulative", "none", "norm_cumulative"]


def test_a_nonlinearity_of_its_own_is_an_arm_and_a_stock_one_a_study(tmp_path: Path) -> None:
    network = config()["network"]
    write_run(tmp_path / "relu")
    write_run(tmp_path / "crelu", network=network | {"activation": "crelu"})
    assert arms(find_runs([tmp_path])) == [{"crelu": [0], "none": [0]}]
    write_run(tmp_path / "tanh", network=network | {"activation": "tanh"})
    assert arms(find_runs([tmp_path])) == [{"crelu": [0], "none": [0]}] * 2


def test_of_two_runs_of_one_arm_and_seed_the_further_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "new")
    write_run(tmp_path / "new.old1", finished=2, state="interrupted")
    (study,) = group(find_runs([tmp_path]))
    assert [run.path.name for run in study.arms["none"]] == ["new"]
    assert len(study.left_out) == 1
    assert "new.old1" in study.left_out[0]


def test_the_synthetic_configuration_is_like_a_real_one(tmp_path: Path) -> None:
    from configs.command_line import parse

    real = parse(["--reset", "redo+full"]).as_dict()
    made = yaml.safe_load((write_run(tmp_path / "run", "redo") / "config.yaml").read_text())
    assert set(made) - {"benchmark"} <= set(real)
    assert made["reset"]["redo"] == real["reset"]["redo"]
    assert made["network"].keys() == real["network"].keys()
    assert real["reset"]["full"] == FULL
