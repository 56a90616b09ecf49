"""What a person sees while a run goes on and at its end: the progress bar, then the table of tasks."""

import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from stable_baselines3.common.callbacks import BaseCallback

from envs.verify import Effect
from recording.recorder import Recorder

REFRESH_SECONDS = 0.2
NOTHING = "–"
"""Where nothing was measured."""


class Bar:
    """A live bar with steps, steps a second, time left, and a few words; nothing where the output is no terminal.

    Args:
        total: steps in all.
        console: where to draw.
    """

    def __init__(self, total: int, console: Console) -> None:
        self.total = total
        self.bar = Progress(
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[speed]:,.0f} steps/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._drawn = 0.0
        self._first: tuple[float, int] | None = None

    def start(self) -> None:
        """Begin to draw."""
        self.row = self.bar.add_task("", total=self.total, speed=0.0, now="")
        self.bar.start()

    def is_due(self) -> bool:
        """Whether it is time to draw again."""
        return time.monotonic() - self._drawn >= REFRESH_SECONDS

    def draw(self, done: int, words: str) -> None:
        """Show how many steps are done; the speed is that since the first time."""
        self._drawn = now = time.monotonic()
        began, first = self._first = self._first or (now, done)
        speed = (done - first) / max(now - began, 1e-9)
        self.bar.update(self.row, completed=done, speed=speed, now=words, refresh=True)

    def close(self) -> None:
        """Take it off the screen."""
        self.bar.stop()


class ProgressBar(BaseCallback):
    """Draws a bar with the current task (of the last) and its return so far.

    Args:
        steps: environment steps of each member.
        tasks: how many tasks a member will meet.
        recorders: follow task and return, one for each member; steps are counted over all of them.
        console: where to draw.
    """

    def __init__(self, steps: int, tasks: int, recorders: Sequence[Recorder], console: Console) -> None:
        super().__init__()
        self.tasks = tasks
        self.recorders = recorders
        self.bar = Bar(steps * len(recorders), console)

    def _on_training_start(self) -> None:
        self.bar.start()

    def _on_step(self) -> bool:
        if self.bar.is_due():
            self._draw()
        return True

    def _draw(self) -> None:
        returns = [recorder.returns.at_end for recorder in self.recorders]
        done = self.num_timesteps * len(self.recorders)
        self.bar.draw(done, progress(self.recorders[0].task, self.tasks, returns))

    def _on_training_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the screen; also after an interrupted run."""
        self.bar.close()


def progress(task: int, tasks: int, returns: Sequence[float]) -> str:
    """The task, of the last one, and the return so far with its spread over members."""
    earned = spread(returns)
    return f"task {task}/{tasks - 1}" + ("" if earned == NOTHING else f" · return {earned}")


class TaskTable:
    """The table of tasks, a row at a time, so that it grows while a run goes on.

    Args:
        console: where to print; its width decides how much room the description of a task has.
    """

    WIDTHS: ClassVar = {"task": 4, "return": 7, "at end": 7, "dormant": 7, "rank": 5, "resets": 12}
    NARROW: ClassVar = {"return": 6, "at end": 6, "rank": 4, "resets": 8}

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Print one task, a row of `tasks.csv`; the first one below the titles."""
        cells = (
            str(row["task"]),
            str(row["change"]),
            number(row["return"]),
            number(row["return_end"]),
            share(row["dormant"]),
            number(row["effective_rank"]),
            str(row["resets"]),
        )
        if not self.rows:
            self.console.print(self._columns(titles=True))
        table = self._columns(titles=False)
        table.add_row(*cells)
        self.console.print(table)
        self.rows += 1

    def _columns(self, titles: bool) -> Table:
        table = make_table()
        table.show_header = titles
        widths = self.WIDTHS | (self.NARROW if self.console.width < 72 else {})
        gaps = 2 * len(widths) + 1  # between columns, and after each
        changed = max(10, self.console.width - sum(widths.values()) - gaps)
        for name, width in widths.items():
            table.add_column(name, width=width, justify="left" if name == "resets" else "right", overflow="fold")
            if name == "task":
                table.add_column("what changed", width=changed, overflow="fold")
        return table


def print_tasks(rows: Sequence[Mapping[str, Any]], title: str, console: Console) -> None:
    """The table of finished tasks, from the rows of `tasks.csv`."""
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    if not rows:
        console.print("No task has been finished.")
    table = TaskTable(console)
    for row in rows:
        table.add(row)


def make_table() -> Table:
    """An empty table with as little ink and width as will do."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def number(value: float, like: float | None = None) -> str:
    """Four figures at most, or as many decimals as another number has; a dash where nothing was measured."""
    if math.isnan(value):
        return NOTHING
    size = abs(value if like is None else like)
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 1 else 3}f}"


def spread(values: Sequence[float]) -> str:
    """The mean of what is known, and where that is more than one value the standard deviation: `433.2 ± 35.1`."""
    known = [value for value in values if not math.isnan(value)]
    mean = statistics.fmean(known) if known else math.nan
    return f"{number(mean)} ± {number(statistics.stdev(known), like=mean)}" if len(known) > 1 else number(mean)


def share(value: float) -> str:
    """A fraction as a percentage."""
    return NOTHING if math.isnan(value) else f"{100 * value:.0f} %"


def make_console(quiet: bool) -> Console:
    """The console that everything but errors is printed on."""
    # Paths and names of arms may hold what would be read as markup.
    return Console(quiet=quiet, file=sys.stdout, markup=False, emoji=False)


def print_effects(effects: Sequence[Effect], console: Console) -> None:
    """What `--verify` measured: each scheduled value and how far it moves the environment's transitions."""
    if not effects:
        console.print("Nothing changes in this run, so there is nothing to verify.")
        return
    console.print("Largest difference that each scheduled value makes to an observation or reward", style="bold")
    table = make_table()
    table.add_column("task", justify="right")
    table.add_column("change", overflow="fold")
    table.add_column("value", overflow="fold")
    table.add_column("difference", justify="right")
    for effect in effects:
        table.add_row(str(effect.task), effect.change, effect.value, number(effect.effect))
    console.print(table)
