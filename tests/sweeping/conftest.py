"""What an undisturbed sweep leaves, once for all tests."""

import pytest

import sweep
from sweeping.job import Job
from tests.sweeping.small import jobs, written


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    folder = tmp_path_factory.mktemp("undisturbed")
    path = written(folder)
    assert sweep.main([str(path), "--out", str(folder / "runs"), "--jobs", "2", "--quiet"]) == 0
    return jobs(path, folder / "runs")
