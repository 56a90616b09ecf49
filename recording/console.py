"""What a person sees while a run goes on and at its end: the progress bar, then the table of tasks."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from stable_baselines3.common.callbacks import BaseCallback

from envs.verify import Effect
from recording.recorder import Recorder, TaskRow, reset_text

REFRESH_SECONDS = 0.2


class ProgressBar(BaseCallback):
    """A live bar with steps, steps a second, time left, the current task (of the last) and its return so far.

    Where the output is no terminal, a line is printed for each finished task instead.

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
        self._drawn = 0.0

    def _on_training_start(self) -> None:
        self._began, self._first = time.monotonic(), self.num_timesteps
        self.row = self.bar.add_task("", total=self.total, speed=0.0, now="")
        self.bar.start()

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
        """Print a line about a finished task where there is no live bar."""
        if not self.console.is_terminal:
            self.console.print(
                f"task {row.task} ({row.change}): return {number(row.returns.mean)}, at its end "
                f"{number(row.returns.at_end)}, dormant {share(row.mean('dormant'))}, "
                f"resets {reset_text(row.resets)}",
                highlight=False,
                soft_wrap=True,
            )


def print_tasks(rows: Sequence[Mapping[str, Any]], title: str, console: Console) -> None:
    """The table of finished tasks, from the rows of `tasks.csv`."""
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    if not rows:
        console.print("No task has been finished.")
        return
    table = make_table()
    table.add_column("task", justify="right")
    table.add_column("what changed", overflow="fold")
    for name in ("return", "at end", "dormant", "rank"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("resets")
    for row in rows:
        table.add_row(
            str(row["task"]),
            row["change"],
            number(row["return"]),
            number(row["return_end"]),
            share(row["dormant"]),
            number(row["effective_rank"]),
            str(row["resets"]),
        )
    console.print(table)


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
