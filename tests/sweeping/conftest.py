"""What an undisturbed sweep leaves, once for all tests; a sweep of which nothing is trained yet."""

import os
import shutil
from pathlib import Path

import pytest

import sweep
from sweeping.job import Job
from sweeping.plan import Sweep, read_sweep
from tests.sweeping.small import STEPS, jobs, written


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is trained, by whichever process of the tests comes first; the others wait for it, as any drivers do."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each process has one of its own in it
    folder /= "undisturbed"
    folder.mkdir(exist_ok=True)
    path = written(folder)
    assert sweep.main([str(path), "--out", str(folder / "runs"), "--jobs", "2", "--quiet"]) == 0
    return folder


@pytest.fixture
def undisturbed(once: Path, tmp_path: Path) -> list[Job]:
    """Its jobs, in a copy."""
    folder = tmp_path / "undisturbed"
    shutil.copytree(once, folder)
    return jobs(folder / "tiny.yaml", folder / "runs")


@pytest.fixture(name="sweep")
def four_jobs(tmp_path: Path) -> Sweep:
    """Four jobs of a cell each."""
    settings = {"env": "CartPole-v1", "steps": STEPS}
    path = written(tmp_path, settings=settings, benchmarks={"b": {}}, arms=["none", "redo"], together=1)
    return read_sweep(path, tmp_path / "runs")
