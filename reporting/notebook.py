"""Comparisons in a notebook, or a program: what `report.py` finds, without its page.

>>> comparison = compare("runs/cartpole_permuted")  # shows as a table of the ranked arms
>>> comparison.figure("gap_per_task")
"""

import html
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from configs.settings import UsageError, did_you_mean
from reporting.console import COLUMNS, print_summary, rows
from reporting.figures import WIDTH, looks
from reporting.illustrations import Illustration, illustrate
from reporting.random_policy import random_return
from reporting.runs import find_runs, group
from reporting.summary import Summary, summarize
from reporting.words import headline


@dataclass(frozen=True, repr=False)
class Comparison:
    """The arms of one study, the best first.

    Attributes:
        summary: all that was found: intervals, tasks, diagnostics.
    """

    summary: Summary

    @cached_property
    def illustrations(self) -> dict[str, Illustration]:
        """The figures of a report, by name; each says how to read it, or why there is nothing to draw."""
        shown = looks(sorted(arm.label for arm in self.summary.arms))
        return {each.name: each for each in illustrate(self.summary, shown)}

    def figure(self, name: str, width: float = WIDTH) -> Figure:
        """One of the report's figures, drawn anew: `return_per_task`, `gap_per_task`, `learning_curves` and others.

        Args:
            name: which, as `illustrations` lists them.
            width: inches; 3.4 for a paper's column.

        Raises:
            UsageError: there is no such figure, or nothing to draw in it.
        """
        found = self.illustrations.get(name)
        if found is None:
            known = ", ".join(self.illustrations)
            raise UsageError(f"there is no figure {name!r}, but {known}{did_you_mean(name, self.illustrations)}.")
        if found.draw is None:
            raise UsageError(f"{name}: {found.caption} {found.command}".rstrip())
        return found.draw(width=width)

    def __str__(self) -> str:
        """Headline and table as plain text."""
        console = Console(file=io.StringIO(), width=120, color_system=None)
        print_summary(self.summary, console)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().rstrip()

    __repr__ = __str__  # what an interactive shell shows

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(self.summary)
        )
        sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in headline(self.summary))
        return f"{sentences}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def compare(*paths: Path | str, random_episodes: int = 0) -> Comparison:
    """Compare all runs in some directories.

    Args:
        paths: run directories, or folders with some anywhere below.
        random_episodes: episodes of a random policy, for the normalised gap; 0 leaves it out.

    Raises:
        UsageError: there are no runs, or runs of several studies, which are not to be compared.
    """
    studies = group(find_runs(paths))
    if len(studies) > 1:
        titles = "; ".join(f"{study.title} {study.differing}".strip() for study in studies)
        raise UsageError(f"these are runs of {len(studies)} studies, name the folders of one: {titles}.")
    (study,) = studies
    chance = None
    if random_episodes:
        some_run = next(run for runs in study.arms.values() for run in runs)
        chance, _ = random_return(some_run, random_episodes)
    return Comparison(summarize(study, chance))
