"""What a person sees of a report outside of its page: the headline and the ranked arms of each study."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from recording.console import NOTHING, make_table, share
from reporting.figures.naming import printable
from reporting.statistics import Interval
from reporting.summary import Summary
from reporting.words import headline, written

COLUMNS = ("", "arm", "return (95 %)", "gap (95 %)", "beats none", "runs")


def print_summary(summary: Summary, console: Console) -> None:
    """The study's headline and its table, best arm first."""
    console.print(Text(printable(summary.study.title), style="bold"), soft_wrap=True)
    for sentence in headline(summary):
        console.print(Text(printable(sentence)), soft_wrap=True)
    table = make_table()
    for name in COLUMNS:
        if name == "arm":
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows(summary):
        table.add_row(*map(Text, row))
    console.print(table)


def rows(summary: Summary) -> Iterator[tuple[str, ...]]:
    """The cells of the table, best arm first."""
    for rank, arm in enumerate(summary.arms, 1):
        yield (
            str(rank),
            printable(arm.label),
            _cell(arm.aggregate),
            _cell(arm.gap),
            NOTHING if arm.improvement is None else share(arm.improvement.value),
            str(arm.runs),
        )


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return NOTHING
    value, ends = written(interval)
    return f"{value} ({ends})" if ends else value
