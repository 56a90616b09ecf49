"""What a person sees while a run goes on and at its end: the progress bar, then the table of tasks."""

import math
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
from recording.recorder import Recorder, TaskRow

REFRESH_SECONDS = 0.2


class ProgressBar(BaseCallback):
    """A live bar with steps, steps a second, time left, the current task (of the last) and its return so far.

    Above it the table of tasks grows by a row whenever one is finished; where the output is no terminal, that is all.

    Args:
        total: environment steps in all.
        tasks: how many tasks the run will meet.
        recorder: follows task and return.
        console: where to draw.
    """

    def __init__(self, total: int, tasks: int, recorder: Recorder, console: Console) -> None:
        super().__init__()
        self.total = total
        self.tasks = tasks
        self.recorder = recorder
        self.console = console
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
        self.table = TaskTable(console)
        self._drawn = 0.0

    def _on_training_start(self) -> None:
        self._began, self._first = time.monotonic(), self.num_timesteps
        self.row = self.bar.add_task("", total=self.total, speed=0.0, now="")
        self.bar.start()

    def resume(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Go on from a step of the run: show the tasks that were finished before, and measure the speed from here."""
        for row in rows:
            self.table.add(row)
        self._began, self._first = time.monotonic(), step

    def _on_step(self) -> bool:
        now = time.monotonic()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            speed = (self.num_timesteps - self._first) / max(now - self._began, 1e-9)
            recent = self.recorder.returns.at_end
            earned = "" if math.isnan(recent) else f" · return {number(recent)}"
            label = f"task {self.recorder.task}/{self.tasks - 1}{earned}"
            self.bar.update(self.row, completed=self.num_timesteps, speed=speed, now=label, refresh=True)
        return True

    def _on_training_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the screen; also after an interrupted run."""
        self.bar.stop()

    def task_finished(self, row: TaskRow) -> None:
        """Add a finished task to the table above the bar."""
        self.table.add(row.flat())


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


def number(value: float) -> str:
    """Four figures at most; a dash where nothing was measured."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.3f}"


def share(value: float) -> str:
    """A fraction as a percentage."""
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def make_console(quiet: bool) -> Console:
    """The console that everything but errors is printed on."""
    return Console(quiet=quiet, file=sys.stdout)


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
