"""The page: all studies of a report in one HTML file that needs nothing beside itself.

Images are in it as data URIs, there is no script, and a policy in its head forbids a browser to fetch anything. Names,
paths and commands come from run directories, which anybody may have written: Jinja2 escapes them all.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reporting.definitions import definitions
from reporting.figures import Looks
from reporting.illustrations import Illustration
from reporting.provenance import command, versions
from reporting.runs import Run
from reporting.summary import Moved, Summary
from reporting.tables import Table, ranking, speed
from reporting.words import counted, headline, written

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Picture:
    """An illustration with its PNG file, if it could be drawn."""

    illustration: Illustration
    file: str = ""
    png: bytes = b""

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the head of a PNG file says them."""
        return int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")


@dataclass(frozen=True)
class Correlation:
    """A diagnostic and how it went with the loss of return."""

    name: str
    text: str
    interval: str


@dataclass(frozen=True)
class Chapter:
    """A study as the template shows it."""

    summary: Summary
    extent: str
    headline: list[str]
    ranking: Table
    speed: Table
    pictures: list[Picture]
    moved: list[Correlation]
    still: list[Correlation]
    runs: list[Run]
    commands: list[str]
    rebuilt: str
    versions: list[tuple[str, str]]


def render(
    title: str,
    summaries: Sequence[Summary],
    pictures: Sequence[list[Picture]],
    looks: Looks,
    made_by: str,
    left_out: Sequence[str] = (),
) -> str:
    """The page's HTML.

    Args:
        title: its heading.
        summaries: one a study.
        pictures: the figures of each study.
        looks: how each arm is drawn.
        made_by: the command that made the page.
        left_out: runs that could not be read, in sentences.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    chapters = [chapter(summary, drawn, looks) for summary, drawn in zip(summaries, pictures, strict=True)]
    names = {name for summary in summaries for arm in summary.arms for name in (*arm.diagnostics, *arm.at_switch)}
    measures, diagnostics = definitions(names)
    return environment.get_template(TEMPLATE).render(
        title=title, chapters=chapters, measures=measures, diagnostics=diagnostics, made_by=made_by, left_out=left_out
    )


def chapter(summary: Summary, pictures: list[Picture], looks: Looks) -> Chapter:
    """One study, ready for the template."""
    runs = [run for arm in summary.arms for run in summary.study.arms.get(arm.label, [])]
    unknown = sum(run.command is None for run in runs)
    rebuilt = (
        f"The command of {counted(unknown, 'run')} was not recorded; --config with a run's configuration repeats it."
    )
    return Chapter(
        summary=summary,
        extent=extent(summary, runs),
        headline=headline(summary),
        ranking=ranking(summary.arms, looks),
        speed=speed(summary.arms, looks),
        pictures=pictures,
        moved=[_correlation(each) for each in summary.moved if each.moved],
        still=[_correlation(each) for each in summary.moved if not each.moved],
        runs=runs,
        commands=[command(run) for run in runs],
        rebuilt=rebuilt if unknown else "",
        versions=versions(runs),
    )


def extent(summary: Summary, runs: Sequence[Run]) -> str:
    """How much there is: arms, runs, seeds, tasks."""
    seeds = {run.seed for run in runs}
    tasks = max((len(run.tasks) for run in runs), default=0)
    unfinished = sum(run.state != "finished" for run in runs)
    text = (
        f"{counted(len(summary.arms), 'arm')}, {counted(len(runs), 'run')}, {counted(len(seeds), 'seed')}, "
        f"up to {counted(tasks, 'task')}"
    )
    return f"{text}; {counted(unfinished, 'run')} not finished." if unfinished else f"{text}."


def _correlation(moved: Moved) -> Correlation:
    return Correlation(moved.name, *written(moved.correlation))
