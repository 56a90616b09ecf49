"""What a person sees of a report in the terminal: the headline and the ranked arms of each study."""

from rich.console import Console
from rich.text import Text

from recording.console import make_table, share
from reporting.figures.naming import printable
from reporting.statistics import Interval
from reporting.summary import Summary
from reporting.words import headline, written


def print_summary(summary: Summary, console: Console) -> None:
    """The study's headline and its table, best arm first."""
    console.print(Text(printable(summary.study.title), style="bold"), soft_wrap=True)
    for sentence in headline(summary):
        console.print(Text(printable(sentence)), soft_wrap=True)
    table = make_table()
    table.add_column("", justify="right")
    table.add_column("arm", overflow="fold")
    for name in ("return (95 %)", "gap (95 %)", "beats none", "runs"):
        table.add_column(name, justify="right", no_wrap=True)
    for rank, arm in enumerate(summary.arms, 1):
        table.add_row(
            str(rank),
            Text(printable(arm.label)),
            _cell(arm.aggregate),
            _cell(arm.gap),
            "–" if arm.improvement is None else share(arm.improvement.value),
            str(arm.runs),
        )
    console.print(table)


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    value, ends = written(interval)
    return f"{value} ({ends})" if ends else value
