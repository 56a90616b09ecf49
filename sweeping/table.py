"""What a person sees of a sweep: how many cells are done, what is at work and how fast, what has failed, time left."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from recording.console import NOTHING, make_table
from sweeping.job import Job, State
from sweeping.plan import Sweep
from sweeping.running import Progress

DRAW_EVERY = 1.0
WORDS: dict[State, str] = {
    "running": "running",
    "unfinished": "interrupted",
    "dropped": "given up",
    "failed": "failed",
}
"""What jobs that are neither done nor waiting are called."""
MOST_ROWS = 24
"""Jobs at work that are shown one by one."""


class Speeds:
    """How fast jobs are, from how far they were found before."""

    def __init__(self) -> None:
        self._first: dict[Job, tuple[float, int]] = {}
        self._last: dict[Job, tuple[float, int]] = {}

    def see(self, job: Job, done: int) -> None:
        """A job has been looked at."""
        first = self._first.setdefault(job, (time.monotonic(), done))
        if done != self._last.get(job, first)[1]:
            self._last[job] = time.monotonic(), done

    def of(self, job: Job) -> float:
        """Environment steps a second; nan where it has not moved yet."""
        if job not in self._last:
            return math.nan
        (began, first), (now, done) = self._first[job], self._last[job]
        return (done - first) / max(now - began, 1e-9)


@dataclass(frozen=True)
class View:
    """What is known of a sweep at one moment.

    Attributes:
        sweep: which.
        states: of each job.
        done: environment steps of each job.
        speeds: of jobs at work.
        seconds: that finished jobs took.
        problems: what jobs have failed from.
        slots: jobs at a time; 0 where that is not known.
    """

    sweep: Sweep
    states: dict[Job, State]
    done: dict[Job, int]
    speeds: dict[Job, float]
    seconds: dict[Job, float]
    problems: dict[Job, str]
    slots: int = 0

    def jobs(self, *states: State) -> list[Job]:
        """Those in one of some states."""
        return [job for job in self.sweep.jobs if self.states[job] in states]

    def cells(self, *states: State) -> int:
        """How many runs are in one of some states."""
        return sum(job.cells for job in self.jobs(*states))

    def seconds_left(self) -> float:
        """Until all is done, if what is left goes at the speed of its benchmark so far; nan where nothing is known."""
        known: dict[str, list[float]] = defaultdict(list)
        for job, seconds in self.seconds.items():
            if seconds:
                known[job.benchmark].append(seconds / job.steps)
        for job, speed in self.speeds.items():
            if speed > 0:
                known[job.benchmark].append(1 / speed)
        everywhere = [each for own in known.values() for each in own]
        if not everywhere:
            return math.nan
        total, longest = 0.0, 0.0
        for job in self.jobs("waiting", "running", "unfinished"):
            own = known[job.benchmark] or everywhere
            seconds = (job.steps - self.done[job]) * sum(own) / len(own)
            total, longest = total + seconds, max(longest, seconds)
        slots = self.slots or max(1, len(self.jobs("running")))
        return max(longest, total / slots)


def look(sweep: Sweep, failed: Mapping[Job, str] | None = None) -> View:
    """What the directories of a sweep say.

    Args:
        sweep: which.
        failed: what jobs are known to have failed from, of which some have come to nothing that a directory tells.
    """
    states: dict[Job, State] = {job: job.state() for job in sweep.jobs}
    done = {job: 0 if states[job] == "waiting" else job.done() for job in sweep.jobs}
    problems = {job: job.problem() for job, state in states.items() if state == "failed"} | dict(failed or {})
    states |= dict.fromkeys(problems, "failed")
    seconds = {job: job.seconds() for job, state in states.items() if state == "finished"}
    return View(sweep, states, done, _speeds(sweep.jobs, states, done), seconds, problems)


def _speeds(
    jobs: Sequence[Job], states: dict[Job, State], done: dict[Job, int], speeds: Speeds | None = None
) -> dict[Job, float]:
    found = {}
    for job in jobs:
        if states[job] == "running":
            if speeds is not None:
                speeds.see(job, done[job])
                found[job] = speeds.of(job)
            else:
                seconds = job.seconds()
                found[job] = done[job] / seconds if seconds else math.nan
    return found


class LiveTable:
    """The table of a sweep while it is run; lines where the output is no terminal.

    Args:
        sweep: which.
        console: where to draw.
        slots: jobs at a time.
    """

    def __init__(self, sweep: Sweep, console: Console, slots: int) -> None:
        self.sweep = sweep
        self.console = console
        self.slots = slots
        self.speeds = Speeds()
        self._done: dict[Job, int] = {}
        self._seconds: dict[Job, float] = {}
        self._drawn = -math.inf
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "LiveTable":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, sentence: str) -> None:
        """A line above the table."""
        self.console.print(sentence, soft_wrap=True, highlight=False)

    def draw(self, progress: Progress) -> None:
        """Draw anew, once a second."""
        if time.monotonic() - self._drawn < DRAW_EVERY or not self._live.is_started:
            return
        self._drawn = time.monotonic()
        self._live.update(render(self._view(progress)), refresh=True)

    def _view(self, progress: Progress) -> View:
        """What this process knows, without a look into the directories of jobs that nobody is at work on."""
        found: list[tuple[State, Iterable[Job]]] = [
            ("waiting", progress.waiting),
            ("running", [*progress.running, *progress.elsewhere]),
            ("finished", progress.finished),
            ("failed", progress.failed),
            ("dropped", progress.dropped),
        ]
        states = {job: state for state, jobs in found for job in jobs}
        for job, state in states.items():
            if state in ("finished", "dropped"):
                self._done[job] = job.steps
            elif state == "running" or job not in self._done:
                self._done[job] = job.done()
        for job in progress.finished:
            if job not in self._seconds:  # a file each, which is much where there are thousands
                self._seconds[job] = job.seconds()
        speeds = _speeds(self.sweep.jobs, states, self._done, self.speeds)
        return View(self.sweep, states, self._done, speeds, self._seconds, progress.failed, self.slots)


def print_view(view: View, console: Console) -> None:
    """How all cells stand, and what is worth telling of them; paths on one line, to be copied."""
    print_cells(view, console)
    for part in render(view).renderables:
        console.print(part, soft_wrap=isinstance(part, Text))


def render(view: View) -> Group:
    """A line on the whole, a row for each job at work, and what has failed."""
    sweep = view.sweep
    parts = [f"{view.cells('finished'):,} of {sweep.cells:,} cells done"]
    for state, words in WORDS.items():
        if cells := view.cells(state):
            parts.append(f"{cells:,} {words}")
    total = sum(job.steps for job in sweep.jobs)
    speed = sum(each for each in view.speeds.values() if each > 0)
    parts.append(f"{100 * sum(view.done.values()) / total:.0f} % of {total:,} steps")
    if speed:
        parts.append(f"{speed:,.0f} steps/s")
    if view.jobs("waiting", "running", "unfinished"):
        left = view.seconds_left()
        parts.append("" if math.isnan(left) else f"{duration(left)} left")
    rows: list[RenderableType] = [Text(" · ".join(filter(None, parts)), style="bold")]
    if running := view.jobs("running"):
        rows.append(_running(view, running))
    for job in view.jobs("failed"):
        rows.append(Text(f"failed: {job.name}", style="red"))
        rows.append(Text("  " + view.problems.get(job, job.problem()).replace("\n", "\n  ")))
        rows.append(Text(f"  all of it: {job.log}", overflow="fold"))
    return Group(*rows)


def _running(view: View, jobs: list[Job]) -> Table:
    table = make_table()
    table.add_column("running", overflow="fold", ratio=2)
    table.add_column("", width=20)
    table.add_column("done", justify="right")
    table.add_column("steps/s", justify="right")
    for job in jobs[:MOST_ROWS]:
        speed = view.speeds.get(job, math.nan)
        table.add_row(
            job.name,
            ProgressBar(total=job.steps, completed=view.done[job], width=20),
            f"{100 * view.done[job] / job.steps:.0f} %",
            NOTHING if math.isnan(speed) else f"{speed:,.0f}",
        )
    if (more := len(jobs) - MOST_ROWS) > 0:
        table.add_row(f"and {more:,} more", "", "", "")
    return table


def print_cells(view: View, console: Console) -> None:
    """Arms by benchmarks: how many cells of each are done, of how many."""
    table = make_table()
    table.add_column("cells done")
    for benchmark in view.sweep.benchmarks:
        table.add_column(benchmark, justify="right", overflow="fold")
    for arm in view.sweep.arms:
        row = [arm]
        for benchmark in view.sweep.benchmarks:
            jobs = [job for job in view.sweep.jobs if (job.arm, job.benchmark) == (arm, benchmark)]
            finished = sum(job.cells for job in jobs if view.states[job] == "finished")
            failed = sum(job.cells for job in jobs if view.states[job] == "failed")
            done = f"{finished}/{sum(job.cells for job in jobs)}" if jobs else NOTHING
            row.append(done + (f", {failed} failed" if failed else ""))
        table.add_row(*row)
    console.print(table)


def duration(seconds: float) -> str:
    """Seconds in words: `45 s`, `12 min`, `3 h 20 min`, `4 d 3 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
