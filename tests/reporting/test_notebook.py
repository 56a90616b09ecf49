"""Comparisons in a notebook, of run directories of known numbers."""

from pathlib import Path

import pytest

from configs.settings import UsageError
from reporting.notebook import compare
from tests.reporting.synthetic import write_study


def test_runs_are_compared_and_shown_as_a_table_and_as_figures(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=2)
    comparison = compare(tmp_path)
    assert [arm.label for arm in comparison.summary.arms] == ["fresh", "redo", "none"]
    text, page = str(comparison), comparison._repr_html_()
    assert [text.index(f"{rank}  {arm} ") for rank, arm in enumerate(["fresh", "redo", "none"], 1)]
    assert "Plasticity is lost: in later tasks the plain agent earns 60.0 less" in text
    assert "Plasticity is lost: in later tasks the plain agent earns 60.0 less" in page
    assert page.count("<tr>") == 4
    assert comparison.figure("gap_per_task").get_figwidth() == 6.8
    assert comparison.figure("return_per_task", width=3.4).get_figwidth() == 3.4


def test_what_an_arm_is_called_is_no_markup(tmp_path: Path) -> None:
    write_study(tmp_path, {"none": (1.0, 2.0), "redo tau=0.05": (3.0, 4.0)}, seeds=1)
    comparison = compare(tmp_path)
    comparison.summary.arms[0].label = "<b>&"
    assert "<td>&lt;b&gt;&amp;</td>" in comparison._repr_html_()


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    write_study(tmp_path / "a", {"none": (1.0, 2.0)}, seeds=1)
    write_study(tmp_path / "b", {"none": (1.0, 2.0)}, seeds=1, benchmark="other")
    with pytest.raises(UsageError, match=r"these are runs of 2 studies, name the folders of one: .*other"):
        compare(tmp_path)
    with pytest.raises(UsageError, match="There is no directory"):
        compare(tmp_path / "c")
    comparison = compare(tmp_path / "a")
    with pytest.raises(UsageError, match=r"there is no figure 'gap_per_tsk', but .*did you mean 'gap_per_task'"):
        comparison.figure("gap_per_tsk")
    with pytest.raises(UsageError, match=r"gap_per_task: There is no arm that starts each task afresh.*--reset full"):
        comparison.figure("gap_per_task")
