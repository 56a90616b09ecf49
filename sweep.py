"""Train many agents, arms x benchmarks x seeds of one YAML file: `python sweep.py first_look`.

    python sweep.py first_look              # train all cells that are not finished; the same command goes on
    python sweep.py first_look --dry-run    # what that will take: cells, steps, hours, disk
    python sweep.py first_look --status     # how it stands, from here or from another machine
    python sweep.py first_look --report     # tables and figures of what is there
    python sweep.py tuned --search          # look for the settings of arms that its file names

Each cell is a run of `train.py` in a directory of its own; the seeds of an arm are trained together as a population.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import report
from configs.scripts import Parser, called, make_folder, script, whole
from configs.settings import UsageError
from recording.console import make_console, make_table
from recording.signals import Interruption
from sweeping.engines import Engine, Local
from sweeping.estimate import free_bytes, measure
from sweeping.plan import Sweep, find, read_sweep
from sweeping.running import run
from sweeping.table import LiveTable, duration, look, print_view


@script("sweep.py")
def main(words: list[str]) -> int:
    """Run a command line.

    Returns:
        The exit status: 0, 1 where cells have failed, 2 after a mistake of the user's, 130 or 143 when interrupted.
    """
    options = read(words)
    sweep = read_sweep(find(options.sweep), options.out, options.scale)
    console = make_console(options.quiet)
    if options.dry_run:
        return estimate(sweep, console, options.jobs or len(os.sched_getaffinity(0)))
    if options.status:
        return status(sweep, console)
    if options.search:
        return search(sweep, console, options)
    if options.report:
        return compare(sweep, options.quiet, options.pdf)
    return train(sweep, console, options)


def read(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; a UsageError where something is wrong with it."""
    cores = len(os.sched_getaffinity(0))
    parser = Parser("sweep.py", __doc__)
    parser.add_argument("sweep", help="a YAML file, or the name of one in configs/sweeps/")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="train nothing but short trials; say what all will take")
    what.add_argument("--status", action="store_true", help="say how the sweep stands")
    what.add_argument("--search", action="store_true", help="look for settings of arms, as the file's search says")
    what.add_argument("--report", action="store_true", help="compare what is finished, as report.py does")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="who runs jobs (%(default)s)")
    parser.add_argument("--address", help="of an existing Ray cluster, such as auto or 10.0.0.1:6379")
    parser.add_argument("--jobs", type=whole(1, 4096), help=f"jobs at a time ({cores}, the cores; of a cluster, all)")
    parser.add_argument("--retries", type=whole(0, 100), default=1, help="of a job that has failed (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the runs (runs/ and the sweep's name)")
    parser.add_argument("--scale", type=float, help="factor on the lengths of runs and tasks, such as 0.1 for a trial")
    parser.add_argument("--pdf", action="store_true", help="with --report: each figure as a PDF for a paper, too")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    options = parser.read(words)
    if options.pdf and not options.report:
        raise UsageError("--pdf is for the figures of a report; add --report.")
    if options.jobs is None and options.address is None:
        options.jobs = cores
    if options.address is not None and options.engine != "ray":
        raise UsageError("--address is of a Ray cluster; add --engine ray.")
    return options


def train(sweep: Sweep, console: Console, options: argparse.Namespace) -> int:
    """Train what is not finished; returns the exit status."""
    make_folder(sweep.folder)
    engine = make_engine(options)
    _print_title(sweep, console, f", {engine.slots()} at a time")
    with engine, LiveTable(sweep, console, engine.slots()) as table, Interruption(notify=table.say) as interruption:
        progress = run(sweep, engine, table, options.retries, interruption.is_due)
    print_view(look(sweep, progress.failed), console)
    if interruption.requested:
        console.print("The same command goes on.")
        return interruption.status
    console.print(f"Compare them: {called('sweep.py')} {options.sweep} --report", soft_wrap=True, highlight=False)
    return 1 if progress.failed else 0


def compare(sweep: Sweep, quiet: bool, pdf: bool = False) -> int:
    """Write the report of all cells that are finished; returns the exit status."""
    finished = [str(job.path) for job in sweep.jobs if job.state() == "finished"]
    if not finished:
        raise UsageError(f"{sweep.folder}: no cell of {sweep.name} is finished yet.")
    words = ["--out", str(sweep.folder / "report"), "--title", sweep.name, *(["--quiet"] if quiet else [])]
    words += ["--pdf"] if pdf else []
    return report.main([*finished, *words])


def make_engine(options: argparse.Namespace) -> Engine:
    """Who runs the jobs."""
    if options.engine == "local":
        return Local(options.jobs)
    try:
        from sweeping.ray_engine import Ray
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise UsageError("ray is not installed; pip install 'perennial[sweep]' adds it.") from error
    return Ray(options.address, options.jobs)


def search(sweep: Sweep, console: Console, options: argparse.Namespace) -> int:
    """Make the trials that are not there yet; returns the exit status."""
    try:
        from sweeping.search import Proposals, print_trials, read_searches, write_best
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise UsageError("optuna is not installed; pip install 'perennial[sweep]' adds it.") from error
    if sweep.search is None:
        raise UsageError(f"{sweep.name}.yaml has no search; docs/sweeps.md shows one.")
    searches = read_searches(sweep, sweep.search)
    make_folder(sweep.folder)
    with make_engine(options) as engine, Interruption(notify=console.print) as interruption:
        for each in searches:
            study = each.study()
            while not each.is_over(study):
                proposed = Proposals(each, study)
                part = Sweep(f"{sweep.name}, search", each.folder, list(proposed.jobs))
                with LiveTable(part, console, engine.slots()) as table:
                    progress = run(part, engine, table, options.retries, interruption.is_due, proposed.is_hopeless)
                if interruption.requested:
                    console.print("The same command goes on.")
                    return interruption.status
                proposed.tell(progress.failed)
            print_trials(each, study, console)
            if path := write_best(each, study):
                console.print(f"The best, as an arm: {path}", soft_wrap=True, highlight=False)
    return 0


def status(sweep: Sweep, console: Console) -> int:
    """Show how a sweep stands."""
    print_view(look(sweep), console)
    return 0


def estimate(sweep: Sweep, console: Console, slots: int) -> int:
    """Show what a sweep will take."""
    _print_title(sweep, console)
    costs = measure(sweep)
    table = make_table()
    table.add_column("benchmark")
    for column in ("cells", "steps", "steps/s of a job", "alone", "disk"):
        table.add_column(column, justify="right")
    seconds = size = 0.0
    for benchmark, cost in costs.items():
        jobs = [job for job in sweep.jobs if job.benchmark == benchmark]
        own, room = sum(map(cost.seconds, jobs)), sum(map(cost.size, jobs))
        steps, cells = sum(job.steps for job in jobs), sum(job.cells for job in jobs)
        table.add_row(benchmark, f"{cells:,}", f"{steps:,}", f"{1 / cost.step:,.0f}", duration(own), megabytes(room))
        seconds, size = seconds + own, size + room
    console.print(table)
    longest = max(costs[job.benchmark].seconds(job) for job in sweep.jobs)
    console.print(
        f"About {duration(max(longest, seconds / slots))} with {slots} jobs at a time, {megabytes(size)} of disk "
        f"({megabytes(free_bytes(sweep.folder))} are free). Trials of the first arm; other arms may take longer, "
        "and so do jobs that share a processor.",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def _print_title(sweep: Sweep, console: Console, more: str = "") -> None:
    amount = f"{sweep.cells:,} cells in {len(sweep.jobs):,} jobs{more}"
    console.print(f"{sweep.name}: {amount}; {sweep.folder}", style="bold", highlight=False, soft_wrap=True)


def megabytes(size: float) -> str:
    """Bytes in words."""
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


if __name__ == "__main__":
    sys.exit(main())
