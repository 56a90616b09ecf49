"""The tour, a notebook: its cells run from first to last, and what it shows was made by them."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parent.parent / "docs" / "tour.ipynb"


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def tables(notebook: Any) -> str:
    return "".join(output.get("data", {}).get("text/html", "") for output in outputs(notebook))


def test_it_runs_from_first_to_last_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUR_SCALE", "0.02")
    notebook = nbformat.read(TOUR, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert pictures(notebook) == pictures(nbformat.read(TOUR, as_version=4)) == 2
    assert all(f"<td>{arm}</td>" in tables(notebook) for arm in ("none", "fresh", "redo"))
    assert "<td>dormant</td>" in tables(notebook)
    streams = "".join(output.text for output in outputs(notebook) if output.output_type == "stream")
    assert "from step  30,720: obs" in streams
    assert "Warning" not in streams


def test_what_it_shows_is_of_the_cells_in_their_order() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "Plasticity is lost: in later tasks the plain agent earns" in tables(notebook)
    assert "/home/" not in TOUR.read_text()
    assert "/tmp/" not in TOUR.read_text()
