"""Sweeps on a Ray cluster of two nodes on this machine, one of which is taken away in the middle."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
import ray
from ray.cluster_utils import Cluster

import sweep
from sweeping.job import Job
from sweeping.plan import read_sweep
from sweeping.ray_engine import Ray
from sweeping.running import run
from tests.sweeping.small import Heard, at_work, same, worker, written


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


def test_a_node_that_is_lost_takes_nothing_with_it(cluster: Cluster, undisturbed: list[Job], tmp_path: Path) -> None:
    """And a worker that is killed; what is left behind is what an undisturbed sweep leaves."""
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    sweep_ = read_sweep(written(tmp_path), tmp_path / "runs")
    engine, heard = Ray(cluster.address), Heard()
    assert engine.slots() == 2
    done: list[str] = []

    def disturb() -> bool:
        if not done:
            # On a busy machine a job may be finished before the other one has begun: it waits for that.
            working = list(filter(at_work, sweep_.jobs))
            everyone = len(working) == len(sweep_.jobs)
            for job in working:
                os.kill(worker(job), signal.SIGCONT if everyone else signal.SIGSTOP)
            if everyone:
                cluster.remove_node(node, allow_graceful=False)
                done.append("node")
        elif done == ["node"] and any(map(at_work, sweep_.jobs)):
            os.kill(worker(next(filter(at_work, sweep_.jobs))), signal.SIGKILL)
            done.append("worker")
        return False

    with engine:
        progress = run(sweep_, engine, heard, retries=0, is_leaving=disturb)
    assert done == ["node", "worker"]
    assert not progress.failed
    assert any("its worker was lost; it goes on later" in sentence for sentence in heard.said)
    assert any("it was ended from outside (status -9); it goes on later" in sentence for sentence in heard.said)
    same(sweep_.jobs, undisturbed)


@pytest.mark.parametrize(("most", "slots"), [(1, 1), (2, 2), (3, 2), (None, 2)])
def test_a_cluster_is_used_as_far_as_asked_for(most: int | None, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `--jobs`: of two processors those that are there, or fewer; Ray is not asked for more of an address."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **given: asked.append(given))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "memory": 9.0})
    assert Ray("auto", most).slots() == slots
    assert asked[0]["address"] == "auto"
    assert "num_cpus" not in asked[0]


def test_no_cluster_at_an_address_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(written(tmp_path)), "--engine", "ray", "--address", "127.0.0.1:1"]
    assert sweep.main(words) == 2
    found = capsys.readouterr().err
    assert found.startswith("sweep.py: error: --address 127.0.0.1:1: there is no Ray cluster")
    assert found.count("\n") == 1
