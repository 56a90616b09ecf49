"""Figures hold the numbers they were given, and nothing that a run directory says can break or disfigure them."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color, to_hex
from matplotlib.figure import Figure

from reporting.figures import COLUMN, Dot, Earned, Line, dots, learning_curves, looks, over_tasks, panels, png, save_pdf
from reporting.figures.learning import bin_edges, binned
from reporting.figures.naming import shortened, spread, wrapped

NAN = float("nan")
RUNS = np.array([[10.0, 20.0, 30.0], [30.0, NAN, 50.0]])
ARMS = looks(["none", "fresh", "redo"])


def curve(axes: Axes, color: str, thin: bool = False) -> list[list[tuple[float, float]]]:
    """Points of the lines of a colour over the data: of means, or of single runs."""
    return [
        [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in axes.lines
        if same_color(line.get_color(), color) and line.get_gid() is None and (line.get_linewidth() < 0.8) == thin
    ]


def band(axes: Axes) -> list[tuple[float, float]]:
    (found,) = [each for each in axes.collections if isinstance(each, PolyCollection)]
    return sorted({(float(x), float(y)) for x, y in found.get_paths()[0].vertices})


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_line_is_the_mean_of_the_runs_that_have_a_value() -> None:
    (axes,) = over_tasks({"none": Line(RUNS)}, ARMS, "return").axes
    assert curve(axes, ARMS["none"].color) == [[(0, 20), (1, 20), (2, 40)]]
    assert curve(axes, ARMS["none"].color, thin=True) == [[(0, 10), (1, 20), (2, 30)], [(0, 30), (2, 50)]]


def test_a_single_run_is_drawn_once() -> None:
    (axes,) = over_tasks({"redo": Line(RUNS[:1])}, ARMS, "return").axes
    assert len(curve(axes, ARMS["redo"].color)) == 1
    assert not curve(axes, ARMS["redo"].color, thin=True)


def test_a_band_reaches_from_low_to_high_where_both_are_known() -> None:
    line = Line(RUNS, np.array([1.0, 2.0, NAN]), np.array([40.0, 50.0, 60.0]))
    (axes,) = over_tasks({"none": line}, ARMS, "return").axes
    assert band(axes) == [(0, 1), (0, 40), (1, 2), (1, 50)]


def test_tasks_are_numbered_from_the_first_and_labelled() -> None:
    (axes,) = over_tasks({"none": Line(RUNS)}, ARMS, "return", x_label="visit", first=1).axes
    assert [x for x, _ in curve(axes, ARMS["none"].color)[0]] == [1, 2, 3]
    assert (axes.get_xlabel(), axes.get_title(loc="left")) == ("visit", "return")


def test_zero_has_a_line_where_it_means_something() -> None:
    (axes,) = over_tasks({"none": Line(RUNS)}, ARMS, "gap", zero=True).axes
    assert any(set(line.get_ydata()) == {0} for line in axes.lines)


def test_each_line_ends_in_the_name_of_its_arm_in_its_colour() -> None:
    figure = over_tasks({"none": Line(RUNS), "redo": Line(RUNS + 100)}, ARMS, "return")
    shown = {text.get_text(): to_hex(str(text.get_color())) for text in figure.axes[0].texts}
    assert shown == {arm: ARMS[arm].color.lower() for arm in ("none", "redo")}


def test_an_arm_without_a_value_is_drawn_without_a_line_or_a_name() -> None:
    figure = over_tasks({"none": Line(RUNS), "redo": Line(np.full((2, 3), NAN))}, ARMS, "return")
    assert texts(figure) == ["none"]
    png(figure, 30)


def test_tasks_that_no_run_has_finished_take_no_room() -> None:
    runs = np.array([[1.0, 2.0, NAN, NAN], [1.0, NAN, NAN, NAN]])
    (axes,) = over_tasks({"none": Line(runs)}, ARMS, "return").axes
    assert 1 < axes.get_xlim()[1] < 1.5


def test_nothing_at_all_can_still_be_drawn() -> None:
    png(over_tasks({"none": Line(np.full((1, 1), NAN))}, ARMS, "return"), 30)
    png(over_tasks({}, ARMS, "return"), 30)


def test_labels_that_would_overlap_are_moved_apart_as_little_as_possible() -> None:
    assert spread([0.0, 1.0], [0.2, 0.2]) == pytest.approx([0.0, 1.0])
    assert spread([0.5, 0.5], [0.2, 0.2]) == pytest.approx([0.4, 0.6])
    assert spread([0.5, 0.5, 0.9], [0.2, 0.4, 0.1]) == pytest.approx([0.35, 0.65, 0.9])
    assert spread([0.1, 0.15, 0.2, 5.0], [0.1] * 4) == pytest.approx([0.05, 0.15, 0.25, 5.0])


def test_labels_never_overlap_and_keep_their_order() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        places, heights = sorted(generator.random(8)), generator.uniform(0.02, 0.3, 8).tolist()
        found = spread(places, heights)
        gaps = np.diff(found) - (np.array(heights[:-1]) + np.array(heights[1:])) / 2
        assert gaps.min() > -1e-9


def test_the_plain_agent_is_grey_and_no_two_arms_look_alike() -> None:
    arms = ["none", "fresh", *(f"arm {number}" for number in range(26))]
    found = looks(arms)
    red, green, blue = matplotlib.colors.to_rgb(found["none"].color)
    assert red == green == blue
    assert len(set(found.values())) == len(arms)
    assert len({found[arm].color for arm in arms[:9]}) == 9


def test_an_arm_looks_the_same_whatever_it_is_drawn_with() -> None:
    assert looks(["redo", "none"])["none"] == looks(["none"])["none"]
    assert looks(["a", "fresh", "b"])["b"] == looks(["none", "a", "b"])["b"]


def test_dots_and_whiskers_stand_at_their_values() -> None:
    rows = [
        Dot("redo", 3.0, 2.0, 5.0, ARMS["redo"], np.array([2.5, NAN, 3.5])),
        Dot("none", 1.0, NAN, NAN, ARMS["none"]),
    ]
    (axes,) = dots(rows, "return", references=[(0.5, "no difference")]).axes
    redo = [line.get_xydata().tolist() for line in axes.lines if line.get_color() == ARMS["redo"].color]
    assert [[3.0, 0.0]] in redo
    assert [[2.0, 0.0], [5.0, 0.0]] in redo
    assert [[2.5, 0.26], [3.5, 0.26]] in redo
    assert [line.get_xydata().tolist() for line in axes.lines if line.get_color() == ARMS["none"].color] == [
        [[1.0, 1.0]]
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["redo", "none"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    assert texts(axes.figure) == ["no difference"]


def test_shares_reach_over_the_whole_range_and_beyond_it_where_the_data_does() -> None:
    (axes,) = dots([Dot("a", 0.5, -0.4, 0.6, ARMS["redo"])], "share", limits=(0.0, 1.0), share=True).axes
    low, high = axes.get_xlim()
    assert low < -0.4
    assert high == 1.0
    assert axes.xaxis.get_major_formatter()(0.5) == "50 %"


def test_each_diagnostic_has_a_panel_with_a_line_for_each_arm() -> None:
    found = {
        name: {"none": Line(RUNS + shift), "redo": Line(RUNS)}
        for shift, name in enumerate(["dead", "churn", "rank_ratio"])
    }
    figure = panels(found, ARMS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["dead", "churn", "rank ratio"]
    for shift, axes in enumerate(figure.axes):
        assert curve(axes, ARMS["none"].color) == [[(0, 20 + shift), (1, 20 + shift), (2, 40 + shift)]]
        assert len(curve(axes, ARMS["redo"].color)) == 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["none", "redo"]


def test_bins_never_reach_over_a_switch_and_are_alike_within_a_task() -> None:
    edges = bin_edges([100.0, 400.0], 500.0)
    assert {0.0, 100.0, 400.0, 500.0} <= set(edges.tolist())
    assert np.allclose(np.diff(edges[(edges >= 100) & (edges <= 400)]), 25)
    assert (np.diff(edges) > 0).all()


def test_bins_stay_few_however_many_switches_there_are() -> None:
    assert len(bin_edges([float(step) for step in range(1, 5000)], 5000.0)) <= 241
    assert len(bin_edges([], 5000.0)) <= 241


def test_a_bin_has_the_mean_of_the_episodes_that_ended_in_it() -> None:
    run = Earned(np.array([5.0, 10.0, 11.0, 35.0]), np.array([1.0, 3.0, 7.0, NAN]))
    assert binned(run, np.array([0.0, 10.0, 20.0, 30.0, 40.0])) == pytest.approx([2.0, 7.0, NAN, NAN], nan_ok=True)


def test_learning_curves_show_the_bins_and_the_switches() -> None:
    step = np.arange(1.0, 201.0)
    arms = {"none": [Earned(step, np.where(step <= 100, 1.0, 5.0))], "fresh": [Earned(step, step)]}
    (axes,) = learning_curves(arms, ARMS, [100.0], end=200.0).axes
    assert [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "switch"] == [100.0]
    points = curve(axes, ARMS["none"].color)[0]
    assert {y for x, y in points if x < 100} == {1.0}
    assert {y for x, y in points if x > 100} == {5.0}


def test_any_name_can_be_drawn() -> None:
    names = ["$x_1$", r"\frac{1}", "_hidden", "<script>", "a" * 300, "日本", "%s {0}", "a\nb", ""]
    found = looks(names)
    lines = {name: Line(RUNS + place) for place, name in enumerate(names)}
    for figure in [
        over_tasks(lines, found, "return"),
        panels({name or "unnamed": lines for name in names[:3]}, found),
        dots([Dot(name, 1.0, 0.0, 2.0, found[name]) for name in names], "return"),
    ]:
        assert png(figure, 20).startswith(b"\x89PNG")


def test_names_are_shown_as_they_are_and_not_read_as_formulas() -> None:
    found = looks(["$x_1$", "_hidden"])
    figure = over_tasks({"$x_1$": Line(RUNS), "_hidden": Line(RUNS + 9)}, found, "return")
    assert {text.get_text().strip("\u200a") for text in figure.axes[0].texts} == {"$x_1$", "_hidden"}
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)
    (legend,) = panels({"dead": {"_hidden": Line(RUNS)}}, found).legends
    assert [text.get_text().strip("\u200a") for text in legend.get_texts()] == ["_hidden"]


def test_long_names_are_broken_or_shortened() -> None:
    assert wrapped("redo+spectral+crelu+unit_adam", 14) == "redo+spectral+\ncrelu+\nunit_adam"
    assert all(len(line) <= 26 for line in wrapped("x" * 500).split("\n"))
    assert wrapped("x" * 500).count("\n") == 2
    assert len(shortened("x" * 500)) == 40
    assert shortened("redo") == "redo"


def test_settings_of_matplotlib_are_left_as_they_were_and_files_are_the_same_each_time(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    first, second = (png(over_tasks({"none": Line(RUNS)}, ARMS, "return"), 30) for _ in range(2))
    save_pdf(over_tasks({"none": Line(RUNS)}, ARMS, "return", width=COLUMN), tmp_path / "figure.pdf")
    assert first == second
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert dict(matplotlib.rcParams) == before
