"""What a person sees: figures, tables that fit, plain lines where there is no terminal, silence where asked."""

import io
import math
from collections import Counter

import pytest
from rich.console import Console

from agents.plasticity import Plasticity
from envs.verify import Effect
from metrics.tasks import TaskReturns
from recording.console import ProgressBar, TaskTable, make_console, number, print_effects, print_tasks, share
from recording.directory import RunDirectory
from recording.measuring import Measurer
from recording.recorder import Recorder, TaskRow, reset_text
from recording.tensorboard import Curves

ROW = {
    "task": 1,
    "change": "obs [-2 -1 -0 -3], actions swapped",
    "return": 123.4,
    "return_end": float("nan"),
    "dormant": 0.25,
    "effective_rank": 11.53,
    "resets": "38 units",
}


def screen(width: int = 80, terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=width, force_terminal=terminal), text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (-1234.5, "-1,234"), (45.67, "45.7"), (-1.25, "-1.2"), (0.1234, "0.123"), (math.nan, "–")],
)
def test_numbers_have_few_figures(value: float, text: str) -> None:
    assert number(value) == text


def test_shares_are_percentages() -> None:
    assert (share(0.256), share(math.nan)) == ("26 %", "–")


def test_resets_are_counted_in_words() -> None:
    assert reset_text(Counter(units=38, networks=1)) == "38 units, 1 network"
    assert reset_text(Counter()) == "0"


@pytest.mark.parametrize("resets", ["38 units", 0])
def test_the_table_of_tasks_has_every_cell(resets: object) -> None:
    console, text = screen(100)
    print_tasks([{**ROW, "resets": resets}], "runs/x (finished)", console)
    shown = text.getvalue()
    for word in ["runs/x (finished)", "what changed", "swapped", "123.4", "–", "25 %", "11.5", str(resets)]:
        assert word in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(("width", "most"), [(60, 4), (80, 2), (90, 1), (120, 1)])
def test_tables_fit_the_terminal(width: int, most: int) -> None:
    console, text = screen(width)
    print_tasks([ROW] * 12, "title", console)
    lines = text.getvalue().splitlines()
    assert 3 + 12 <= len(lines) <= 3 + 12 * most
    print_effects([Effect("observation_permutation", 1, "obs [-2 -1 -0 -3]", 5.7)], console)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width


def test_nothing_to_show_is_said() -> None:
    console, text = screen()
    print_tasks([], "title", console)
    print_effects([], console)
    assert "No task" in text.getvalue()
    assert "Nothing changes" in text.getvalue()


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    print_tasks([ROW], "title", make_console(quiet=True))
    assert capsys.readouterr().out == ""
    print_tasks([ROW], "title", make_console(quiet=False))
    assert "title" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_the_table_grows_above_a_live_bar_on_a_terminal_and_alone_elsewhere(
    terminal: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    recorder = Recorder(directory, Plasticity(), lambda task: "", Curves({}), Measurer({}, 0))
    console, text = screen(80, terminal)
    bar, table = ProgressBar(1000, 4, [recorder], console), TaskTable(console)
    bar._on_training_start()
    bar.num_timesteps, recorder.task = 500, 2
    recorder.returns.add(21.0)
    bar._on_step()
    table.add(TaskRow(2, 0, 500, "gravity x0.5", TaskReturns([1.5]), {}, Counter(units=2)).flat())
    assert text.getvalue().count("what changed") == 1
    table.add(TaskRow(3, 500, 1000, "gravity x2", TaskReturns([2.5]), {}, Counter(units=1)).flat())
    bar.close()
    shown = text.getvalue()
    assert shown.count("what changed") == 1, "the table grows"
    for word in ("gravity x0.5", "gravity x2", "2 units", "1 unit"):
        assert word in shown
    if terminal:
        assert "500/1,000" in shown
        assert "task 2/3 · return 21.0" in shown
    else:
        assert [line.split()[0] for line in shown.splitlines()[-2:]] == ["2", "3"]
        assert shown.count("\n") == 4


def test_paths_and_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    make_console(quiet=False).print("runs/[a] runs/b[/c] :smile:")
    assert capsys.readouterr().out == "runs/[a] runs/b[/c] :smile:\n"
