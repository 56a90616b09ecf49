"""A population is trained: all members at once where that is possible, and otherwise one after another."""

import sys
from collections.abc import Callable

from rich.console import Console

from checkpoints.lock import RunLock
from configs.population import Population
from recording.arm_table import ArmTable
from recording.directory import State
from recording.failures import RunError
from recording.members import PopulationDirectory
from recording.population_run import PopulationRun
from recording.training import NotAtOnceError, train, train_stacked


def train_members(
    population: Population,
    directory: PopulationDirectory,
    console: Console,
    command: str,
    make_run: Callable[..., PopulationRun] = PopulationRun,
    say: Callable[[str], None] | None = None,
) -> int:
    """Train all members in this process, in a directory that has been checked.

    Args:
        population: what they are.
        directory: where that is recorded which concerns all of them.
        console: where to print.
        command: that led here, to be written down.
        make_run: makes the run of all of them, where they can be trained at once.
        say: says why they cannot; prints it where there is none.

    Returns:
        The exit status.
    """
    if population.stack:
        try:
            return train_stacked(population, directory, console, command, make_run)
        except NotAtOnceError as error:
            note = f"Note: {error} The members are trained one after another."
            say(note) if say else console.print(note, soft_wrap=True)
    return train_in_turn(population, directory, console, command)


def train_in_turn(population: Population, directory: PopulationDirectory, console: Console, command: str) -> int:
    """Train the members one after another, each as the run that it would be alone; returns the exit status.

    Those that are finished are not trained again. Where one fails, the others are trained all the same.
    """
    directory.make()
    state: State = "failed"
    with RunLock(directory.lock) as lock:
        if is_finished(population, directory, console):
            return 0
        take_up(population, directory, console, command)
        failed = []
        try:
            for config, own in zip(population.members, directory.of(population), strict=True):
                config.run.restart = False  # the population has begun anew, if that was asked for
                try:
                    if status := train(config, console, command, own):
                        state = "interrupted"
                        return status
                except RunError as error:
                    failed.append(own.path.name)
                    print(f"train.py: member {own.path.name}: {error}", file=sys.stderr)
            state = "failed" if failed else "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            lock.check()
            seconds = sum(float(own.status().get("seconds", 0.0)) for own in directory.of(population))
            directory.set_status(state, population.run.steps if state == "finished" else 0, seconds)
        if state == "finished":
            directory.lock.unlink()
    print_population(population, directory, f"{directory.path} ({state})", console)
    return 1 if failed else 0


def take_up(population: Population, directory: PopulationDirectory, console: Console, command: str) -> None:
    """Go on with the members that are in the directory, or begin anew, while holding its lock."""
    goes_on = directory.is_unfinished(population) and not population.run.restart
    if not goes_on and (moved := directory.create(population, command)):
        console.print(f"An unfinished run was in the way; it is kept in {moved}.", soft_wrap=True)
    directory.set_status("running", 0)


def is_finished(population: Population, directory: PopulationDirectory, console: Console) -> bool:
    """Whether the population is finished; if so, its tables are shown again."""
    if directory.state() != "finished":
        return False
    print_population(population, directory, f"{directory.path} (finished before)", console)
    console.print("Nothing to do: this very population is finished. Give other --seeds or --run-dir to train again.")
    return True


def print_population(population: Population, directory: PopulationDirectory, title: str, console: Console) -> None:
    """Tasks, arms and members, from the members' directories."""
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    table = ArmTable(population, console)
    for number, own in enumerate(directory.of(population)):
        for row in own.read_tasks():
            table.add(number, row)
    table.print_summary()
