"""A configuration is trained: its agents are made, and their run begins or goes on in a directory, locked meanwhile."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from rich.console import Console

from agents import population as stacked
from checkpoints.lock import RunLock
from configs.building import build, check
from configs.command_line import Config
from configs.command_line import Run as Settings
from configs.population import Population
from recording.console import print_tasks
from recording.directory import RunDirectory, default_path
from recording.failures import abandon
from recording.member import Member
from recording.members import PopulationDirectory
from recording.population_run import PopulationRun
from recording.run import Run
from recording.signals import ignored


class NotAtOnceError(Exception):
    """Agents cannot be trained at once; the message is one sentence that says why."""


def train(config: Config, console: Console, command: str = "", directory: RunDirectory | None = None) -> int:
    """Train as configured, record the run in its directory, and show the table of tasks.

    Args:
        config: everything the run depends on.
        console: where to print.
        command: that led here, to be written down.
        directory: None: the one that is configured, or named after the configuration.

    Returns:
        The exit status.
    """
    directory = directory or RunDirectory(config.run.run_dir or default_path(config))
    directory.check(config)
    if is_finished(directory, console):
        return 0
    prepare(config.run)
    with processes_that_ignore_interrupts(config.run):
        member = Member(config, directory, build(config))
    run = Run(config, directory, console, [member])
    return work_on(run, command, [config], lambda: is_finished(directory, console))


def train_stacked(
    population: Population,
    directory: PopulationDirectory,
    console: Console,
    command: str,
    make_run: Callable[..., PopulationRun] = PopulationRun,
) -> int:
    """Train all members of a population at once, in a directory that has been checked.

    Returns:
        The exit status.

    Raises:
        NotAtOnceError: these agents cannot be trained at once. Nothing has been written.
    """
    prepare(population.run)
    members, streams = list[Member](), list[stacked.Streams]()
    try:
        with processes_that_ignore_interrupts(population.run):
            for config, name, own in zip(population.members, population.names, directory.of(population), strict=True):
                built = build(config, members=len(population.members) if members else 1)
                streams.append(stacked.Streams.capture(built[2].device))
                members.append(Member(config, own, built, name, streams[-1].active))
                # At the first already, before many are made for nothing, and once all are there.
                models = [member.model for member in members]
                if len(members) in (1, len(population.members)):
                    remedies = [member.plasticity for member in members]
                    if reason := stacked.stackable(models) or stacked.blocked(models, remedies):
                        raise NotAtOnceError(reason)
        trainer = stacked.Population(models, streams)
    except BaseException:
        for member in members:
            abandon(member.env)
        raise
    run = make_run(population, directory, console, members, trainer)
    # Arms share their tasks, which depend on the seed.
    seeds = len(population.seeds)
    return work_on(run, command, population.members[:seeds], lambda: directory.state() == "finished")


def work_on(run: Run, command: str, configs: Sequence[Config], is_finished: Callable[[], bool]) -> int:
    """Try the schedule out, lock the directory, train, and close all environments, however that ends.

    Args:
        run: what is trained.
        command: that led here.
        configs: whose schedules are tried where the run begins.
        is_finished: whether another process has finished it, asked once it is this one's.

    Returns:
        The exit status.
    """
    status = 0
    try:
        if run.config.run.preflight and not run.directory.is_unfinished(run.config):
            for config in configs:
                check(config)
        run.directory.make()
        with RunLock(run.directory.lock) as lock:
            if not is_finished():
                run.begin(command)
                status = run.learn(lock)
            if status == 0:
                run.directory.lock.unlink(missing_ok=True)
    except BaseException:
        for member in run.members:
            abandon(member.env)
        raise
    for member in run.members:
        member.env.close() if status == 0 else abandon(member.env)
    return status


def prepare(run: Settings) -> None:
    """Set the process up for training."""
    torch.set_num_threads(run.threads)
    # SB3 makes a distribution at every step; checking its arguments anew each time costs a fifth of a PPO run.
    torch.distributions.Distribution.set_default_validate_args(False)


def processes_that_ignore_interrupts(run: Settings) -> AbstractContextManager[None]:
    """Ctrl-C reaches the processes of environments too; it is the run itself that decides when to leave."""
    return ignored() if run.stepping == "subproc" else nullcontext()


def is_finished(directory: RunDirectory, console: Console) -> bool:
    """Whether the run is finished; if so, its table is shown again."""
    if directory.state() != "finished":
        return False
    print_tasks(directory.read_tasks(), f"{directory.path} (finished before)", console)
    console.print("Nothing to do: this very run is finished. Give another --seed or --run-dir to train again.")
    return True
