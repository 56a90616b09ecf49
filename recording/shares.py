"""Several processes share the members of a population: each trains its own as a population, one looks after them all.

A share keeps its lock and checkpoints in `part-<number>/`, its members record where they would anyway. What a process
has to say goes through a pipe to the one that has started it, and it ends with that one, however that ends.
"""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from rich.console import Console

from configs.arms import FRESH
from configs.population import Population
from configs.settings import UsageError
from recording.arm_table import ArmTable, summaries
from recording.console import REFRESH_SECONDS, Bar, ProgressBar, progress
from recording.directory import State
from recording.failures import RunError
from recording.gap import write_gap
from recording.mean_curves import merge
from recording.members import PopulationDirectory
from recording.populating import train_members
from recording.population_run import PopulationRun
from recording.recorder import Recorder
from recording.signals import Interruption, end_with_parent, ignored


@dataclass
class Share:
    """What one process trains.

    Attributes:
        population: its members.
        first: the number of the first of them among all.
        directory: where it keeps what concerns them all.
        whole: the arms of which all members are here.
        steps: environment steps that are done, over its members.
        task: the one that they are in.
        returns: of their last episodes.
        status: the process's exit status; None while it goes on.
        problem: what it has failed from, in a sentence.
    """

    population: Population
    first: int
    directory: PopulationDirectory
    whole: tuple[str, ...]
    steps: int = 0
    task: int = 0
    returns: tuple[float, ...] = ()
    status: int | None = None
    problem: str = ""


def split(population: Population, directory: PopulationDirectory) -> list[Share]:
    """Neighbouring members for each process, as many for one as for another, or one more."""
    members, arms = population.members, population.arms
    count = min(population.processes, len(members))
    starts = [len(members) * number // count for number in range(count + 1)]
    shares = []
    for number, (start, end) in enumerate(pairwise(starts)):
        own = Population(members[start:end], population.stack)
        whole = tuple(arm for arm, found in own.arms.items() if len(found) == len(arms[arm]))
        shares.append(Share(own, start, directory.part(number), whole))
    return shares


def train_shares(
    shares: Sequence[Share], population: Population, table: ArmTable, console: Console, command: str
) -> int:
    """Start a process for each share, show how they get on, and wait for them.

    A signal to leave is passed on; what one of them fails from does not end the others.

    Returns:
        The exit status: 0, or 1 where a process has failed, or 130 or 143 after a signal.
    """
    bar = Bar(population.run.steps * len(population.members), console)
    tasks = population.members[0].tasks.n_tasks(population.run.steps)
    said: set[str] = set()

    def say(sentence: str) -> None:
        if sentence not in said:  # by another of them
            said.add(sentence)
            console.print(sentence, soft_wrap=True, highlight=False)

    processes: dict[Connection, tuple[Share, BaseProcess]] = {}
    with Interruption(notify=say) as interruption:
        try:
            for share in shares:
                if share.directory.state() == "finished":
                    share.status, share.steps = 0, population.run.steps * len(share.population.members)
                    _show_finished(share, table)
                else:
                    connection, process = _start(share, command)
                    processes[connection] = share, process
            bar.start()
            is_leaving = False
            while processes:
                for ready in wait(list(processes), timeout=REFRESH_SECONDS):
                    assert isinstance(ready, Connection)
                    share, process = processes[ready]
                    try:
                        _hear(share, ready.recv(), table, say)
                    except EOFError:
                        process.join()
                        share.status = process.exitcode
                        del processes[ready]
                        if share.status == 0 and not share.steps:  # one after another, of which nothing was told
                            share.steps = population.run.steps * len(share.population.members)
                            _show_finished(share, table)
                if interruption.is_due() and not is_leaving:
                    is_leaving = True
                    for _, process in processes.values():
                        process.terminate()
                if bar.is_due() and all(share.steps for share in shares):
                    returns = [earned for share in shares for earned in share.returns]
                    bar.draw(sum(share.steps for share in shares), progress(shares[0].task, tasks, returns))
        finally:
            bar.close()
            for _, process in processes.values():
                process.kill()
    left = (0, 128 + signal.SIGTERM, -signal.SIGTERM) if interruption.requested else (0,)
    for share in shares:
        if share.status not in left:
            names = share.population.names
            print(f"train.py: {names[0]} to {names[-1]}: {share.problem or _cause(share.status)}", file=sys.stderr)
    failed = any(share.status not in left for share in shares)
    return interruption.status or int(failed)


def _cause(status: int | None) -> str:
    """Why a process has ended that has not said so."""
    if status is not None and status < 0:
        return f"a process was ended by {signal.Signals(-status).name}."
    return "a process has failed; what it failed from stands above."


def _show_finished(share: Share, table: ArmTable) -> None:
    for number, own in enumerate(share.directory.of(share.population)):
        for row in own.read_tasks():
            table.add(share.first + number, row)


def _start(share: Share, command: str) -> tuple[Connection, BaseProcess]:
    """A process that trains a share, and the pipe that it tells of it through."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(share, command, theirs))
    with ignored():  # Ctrl-C reaches all processes of a terminal; this one passes it on
        process.start()
    theirs.close()
    return ours, process


def _hear(share: Share, message: tuple[Any, ...], table: ArmTable, say: Callable[[str], None]) -> None:
    """Take in what a process has told."""
    match message:
        case ("progress", steps, task, returns):
            share.steps, share.task, share.returns = steps, task, returns
        case ("task", number, row):
            table.add(share.first + number, row)
        case ("say", sentence):
            say(sentence)
        case ("failed", sentence):
            share.problem = sentence


def _work(share: Share, command: str, connection: Connection) -> None:
    """Train a share, in a process of its own."""
    end_with_parent()
    for config in share.population.members:
        config.run.restart = False  # the population has begun anew, if that was asked for
    try:
        make = partial(ShareRun, tell=connection.send, whole=share.whole)
        status = train_members(
            share.population,
            share.directory,
            Console(quiet=True),
            command,
            make,
            lambda note: connection.send(("say", note)),
        )
    except (RunError, UsageError) as error:
        connection.send(("failed", str(error)))
        status = 1
    except KeyboardInterrupt:
        status = 128 + signal.SIGTERM
    sys.exit(status)


class ShareRun(PopulationRun):
    """A population that tells through a pipe what others show.

    Args:
        arguments: those of a population's run.
        tell: sends a message.
        whole: the arms of which all members are here, so that their mean can be drawn.
    """

    def __init__(self, *arguments: Any, tell: Callable[[tuple[Any, ...]], None], whole: Sequence[str]) -> None:
        super().__init__(*arguments)
        self.tell = tell
        self.arms = {arm: members for arm, members in self.arms.items() if arm in whole}

    def _bar(self, tasks: int) -> ProgressBar:
        return Reporter([member.recorder for member in self.members], self.tell)

    def _tasks_shown(self) -> Callable[[int, dict[str, Any]], None]:
        return lambda number, row: self.tell(("task", number, row))

    def _note(self, sentence: str) -> None:
        self.tell(("say", f"Note: {sentence}"))

    def _warn(self, sentence: str) -> None:
        self.tell(("say", f"Warning: {sentence}"))

    def _tell_end(self, state: State, saved: int | None) -> None:
        """The process that looks after all of them says how it ended."""


class Reporter(ProgressBar):
    """Tells how far the members are.

    Args:
        recorders: of the members.
        tell: sends a message.
    """

    def __init__(self, recorders: Sequence[Recorder], tell: Callable[[tuple[Any, ...]], None]) -> None:
        super().__init__(0, 0, recorders, Console(quiet=True))
        self.tell = tell

    def _draw(self) -> None:
        returns = tuple(recorder.returns.at_end for recorder in self.recorders)
        self.tell(("progress", self.num_timesteps * len(self.recorders), self.recorders[0].task, returns))


def draw_means(population: Population, directory: PopulationDirectory) -> None:
    """The mean curves of arms whose members were not trained at one step, so that nobody could draw them then."""
    directories = dict(zip(population.names, directory.of(population), strict=True))
    for arm, configs in population.arms.items():
        if len(configs) > 1 and not directory.mean(arm).exists():
            merge(directory.mean(arm), [directories[f"{arm}-s{config.run.seed}"].path for config in configs])


def join(population: Population, shares: Sequence[Share], directory: PopulationDirectory) -> None:
    """What could not be written by one process: means over members of several, gaps to a fresh member elsewhere."""
    directories = dict(zip(population.names, directory.of(population), strict=True))
    draw_means(population, directory)
    found = summaries(population, [own.read_tasks() for own in directories.values()])
    together = {name: share.first for share in shares for name in share.population.names}
    for config, name, summary in zip(population.members, population.names, found, strict=True):
        fresh = f"{FRESH}-s{config.run.seed}"
        if fresh in together and together[fresh] != together[name]:
            write_gap(directories[name], summary["plasticity_gap"])
