"""What a person sees of a population: a row for each task with the arms beside each other, then arms and members."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from configs.arms import FRESH
from configs.population import Population
from recording.console import make_table, number, share, spread
from recording.gap import figures

Rows = list[dict[str, Any]]
"""Of a member's `tasks.csv`."""
CELL, MEAN_ONLY = 15, 8
"""Columns of the terminal that `433.2 ± 35.1` takes, and the mean alone."""
MOST_MEMBERS = 64
"""Members that have lines of their own at the end."""


class ArmTable:
    """The return at the end of each task, a column for each arm; a row is printed once all members have finished it.

    Args:
        population: whose arms and seeds they are.
        console: where to print; where it is too narrow for all arms, tasks are left to the summary.
    """

    def __init__(self, population: Population, console: Console) -> None:
        self.population = population
        self.members = [config.arm for config in population.members]
        self.arms = list(dict.fromkeys(self.members))
        self.names = population.names
        self.console = console
        self.rows: list[Rows] = [[] for _ in self.members]
        self.shown = 0

    def add(self, member: int, row: dict[str, Any]) -> None:
        """Take in a task that a member has finished."""
        self.rows[member].append(row)
        while all(len(own) > self.shown for own in self.rows):
            self._print_task(self.shown)
            self.shown += 1

    def _print_task(self, task: int) -> None:
        room = (self.console.width - 6) // len(self.arms)
        if room < MEAN_ONLY:
            return
        if task == 0:
            self.console.print("Return at the end of each task, mean ± standard deviation over seeds")
            self.console.print(self._columns(room, titles=True))
        table = self._columns(room, titles=False)
        shown = [spread([rows[task]["return_end"] for rows in self._of(arm)]) for arm in self.arms]
        table.add_row(str(task), *(text if room >= CELL else text.partition(" ")[0] for text in shown))
        self.console.print(table)

    def _columns(self, room: int, titles: bool) -> Table:
        table = make_table()
        table.show_header = titles
        table.add_column("task", width=4, justify="right")
        width = min(room - 2, max(CELL - 2, *map(len, self.arms)))
        for arm in self.arms:
            table.add_column(arm, width=width, justify="right", overflow="fold")
        return table

    def _of(self, arm: str) -> list[Rows]:
        return [rows for rows, own in zip(self.rows, self.members, strict=True) if own == arm]

    def print_summary(self) -> None:
        """A line for each arm, then one for each member."""
        if not any(self.rows):
            self.console.print("No task has been finished.")
            return
        found = summaries(self.population, self.rows)
        columns = [name for name in COLUMNS if any(name in summary for summary in found)]
        table = make_table()
        table.add_column("", overflow="fold")
        for column in columns:
            table.add_column(COLUMNS[column], justify="right", overflow="fold")
        for arm in self.arms:
            own = [summary for summary, its in zip(found, self.members, strict=True) if its == arm]
            table.add_row(arm, *(_cell(column, own, arm) for column in columns))
        if len(self.arms) < len(found) <= MOST_MEMBERS:
            table.add_section()
            for name, arm, summary in zip(self.names, self.members, found, strict=True):
                table.add_row(name, *(_cell(column, [summary], arm) for column in columns))
        self.console.print("Later tasks, mean ± standard deviation over seeds; networks at the end")
        self.console.print(table)


COLUMNS = {
    "return": "return",
    "return_end": "at end",
    "plasticity_gap": "gap to fresh",
    "dormant": "dormant",
    "effective_rank": "rank",
}
"""The summary's columns and their titles."""


def summaries(population: Population, rows: Sequence[Rows]) -> list[dict[str, float]]:
    """For each member its mean returns over the later tasks, its gap to the fresh member, and its networks' end.

    Args:
        population: which members these are.
        rows: of their tasks.
    """
    pairs = list(zip(population.members, rows, strict=True))
    fresh = {config.run.seed: own for config, own in pairs if config.arm == FRESH}
    found = []
    for config, own in pairs:
        last = own[-1] if own else {}
        networks = {name: last.get(name, math.nan) for name in ("dormant", "effective_rank")}
        found.append(figures(own, fresh.get(config.run.seed)) | networks)
    return found


def _cell(column: str, summaries: Sequence[dict[str, float]], arm: str) -> str:
    """What is known of some members of an arm in one column."""
    if column == "plasticity_gap" and arm == FRESH:
        return ""
    values = [summary.get(column, math.nan) for summary in summaries]
    if column in ("dormant", "effective_rank"):
        known = [value for value in values if not math.isnan(value)]
        mean = statistics.fmean(known) if known else math.nan
        return share(mean) if column == "dormant" else number(mean)
    return spread(values)
