"""Compare runs: `python report.py runs/cartpole_permuted` writes one page of tables and figures.

Reads run directories, groups them into studies, compares the arms of each, and prints the ranked arms.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from configs.scripts import Parser, make_folder, script, whole
from configs.settings import UsageError

EXTRA = ("matplotlib", "scipy", "jinja2")
"""Packages that only reports need."""


@script("report.py")
def main(words: list[str]) -> int:
    """Run a command line; returns the exit status: 0, 2 after a mistake of the user's, 130 when interrupted."""
    options = read(words)
    with extra_installed():
        report(options, shlex.join(["python", "report.py", *words]))
    return 0


def read(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; a UsageError where something is wrong with it."""
    parser = Parser("report.py", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories, or folders with some anywhere below")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for page and figures (%(default)s)")
    parser.add_argument("--title", default="Plasticity report", help="heading of the page")
    parser.add_argument("--pdf", action="store_true", help="also write each figure as a PDF for a paper's column")
    parser.add_argument("--dpi", type=whole(30, 600), default=200, help="dots an inch of the PNGs (%(default)s)")
    parser.add_argument(
        "--random-episodes",
        type=whole(0, 10_000),
        default=10,
        help="episodes of a random policy, for the normalised gap; 0 leaves it out (%(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser.read(words)


@contextmanager
def extra_installed() -> Iterator[None]:
    """Make one sentence out of a missing package that only reports need."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in EXTRA:
            raise
        raise UsageError(f"{name} is not installed; pip install 'perennial[report]' adds what reports need.") from error


def report(options: argparse.Namespace, made_by: str) -> None:
    """Summarise the studies among the runs, write page and figures, and print the tables."""
    from recording.console import make_console
    from reporting.console import print_summary
    from reporting.figures import looks
    from reporting.page import render
    from reporting.random_policy import random_return
    from reporting.runs import find_runs, group
    from reporting.summary import summarize
    from reporting.writing import draw, write_text

    console = make_console(options.quiet)
    unreadable: list[str] = []
    studies = group(find_runs(options.runs, unreadable))
    if not studies:
        raise UsageError(unreadable[0])
    make_folder(options.out)
    summaries = []
    for study in studies:
        some_run = next(run for runs in study.arms.values() for run in runs)
        chance, why = random_return(some_run, options.random_episodes) if options.random_episodes else (None, "")
        summary = summarize(study, chance)
        summary.missing += [why] if why else []
        summaries.append(summary)
    shown = looks(sorted({arm.label for summary in summaries for arm in summary.arms}))
    pictures = draw(summaries, shown, options.out, options.dpi, options.pdf)
    page = write_text(
        options.out / "report.html", render(options.title, summaries, pictures, shown, made_by, unreadable)
    )
    for summary in summaries:
        print_summary(summary, console)
    console.print(f"The page: {page}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
