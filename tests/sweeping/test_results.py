"""The pages of `docs/results/`: what they say is what was collected, and what was collected is what runs say."""

import csv
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from sweeping.job import Job

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = runpy.run_path(str(DOCS / "results.py"))


def test_figures_are_those_of_the_runs(undisturbed: list[Job]) -> None:
    folder = undisturbed[0].path.parents[1]
    figures = RESULTS["collect"](str(folder.with_name("tiny.yaml")), folder)
    found = figures["benchmarks"]["switching"]
    assert figures["seeds"] == [0, 1]
    assert (found["steps"], found["tasks"]) == (6144, 6)
    assert sorted(found["arms"]) == ["none", "redo"]
    for job in undisturbed:
        rows = [list(csv.DictReader((job.path / name / "tasks.csv").open())) for name in job.names]
        ends = np.array([[float(row["return_end"]) for row in run] for run in rows])
        dormant = np.array([[float(row["dormant"]) for row in run[1:]] for run in rows])
        own = found["arms"][job.arm]
        assert own["return"][0] == pytest.approx(scipy.stats.trim_mean(ends[:, 1:].ravel(), 0.25))
        assert own["of_runs"] == pytest.approx(ends[:, 1:].mean(1))
        assert own["per_task"]["mean"] == pytest.approx(ends.mean(0))
        assert np.all(np.asarray(own["per_task"]["low"]) <= ends.mean(0))
        assert np.all(np.asarray(own["per_task"]["high"]) >= ends.mean(0))
        assert own["dormant"] == pytest.approx(dormant.mean())
    assert found["arms"]["redo"]["gap"] is None, "there is no fresh agent"
    table = RESULTS["table"](figures, "switching")
    assert "| **none** |" in table
    assert "| 1 | `redo` |" in table
    assert f"| {found['arms']['redo']['return'][0]:.0f} (" in table
    assert "redo" not in RESULTS["table"](figures, "switching", 0)
    assert "**none**" in RESULTS["table"](figures, "switching", 0)
    less = found["arms"]["redo"]["of_runs"][0] - found["arms"]["none"]["of_runs"][0]
    less += found["arms"]["redo"]["of_runs"][1] - found["arms"]["none"]["of_runs"][1]
    beside = RESULTS["some"](figures, "switching", ["redo", "none"]).splitlines()
    digits = 0 if abs(less) >= 60 else 1
    assert f"| {less / 2:.{digits}f} (".replace("-", "−") in beside[3]
    # What the plain agent comes to where nothing changes stands among the others, in its place.
    control = {"tasks": 1, "arms": {"none": found["arms"]["none"] | {"return": [1e6, 1e6, 1e6]}}}
    figures["benchmarks"]["still"] = control
    assert RESULTS["table"](figures, "switching").splitlines()[2].startswith("|  | **still** | 1000000 (")


@pytest.mark.parametrize(
    "path", [RESULTS["README"], *sorted((DOCS / "results").glob("*.md"))], ids=lambda path: path.stem
)
def test_tables_are_those_of_the_figures(path: Path) -> None:
    page = path.read_text()
    assert RESULTS["filled"](page, RESULTS["known_figures"]()) == page, "run python docs/results.py"
    for _, name, benchmark, _, _ in RESULTS["TABLE"].findall(page):
        assert benchmark in (
            RESULTS["SHARES"],
            *json.loads((DOCS / "results" / f"{name}.json").read_text())["benchmarks"],
        )
