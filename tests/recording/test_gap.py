"""A run's final figures, and the gap to the fresh arm beside it, whichever of them finishes last."""

import math
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from configs import files, studies
from configs.command_line import parse
from recording.directory import RunDirectory
from recording.gap import finals, gap, tell_others

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
        assert finals(directories[arm])["plasticity_gap"] == pytest.approx(expected)
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
    tell_others(RunDirectory(tmp_path / "runs" / "full"))
    assert sorted(unfinished.path.iterdir()) == before
    files.write(unfinished.config, {"agent": "another"}, "")
    unfinished.set_status("finished", 10)
    tell_others(RunDirectory(tmp_path / "runs" / "full"))
    assert sorted(unfinished.path.iterdir()) == before
