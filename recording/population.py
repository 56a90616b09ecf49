"""From a population's configuration to its trained members: in this process, or shared among several."""

import shlex
import shutil

from rich.console import Console

from checkpoints.lock import RunLock
from configs.population import Population
from recording.arm_table import ArmTable
from recording.directory import State
from recording.members import PopulationDirectory, default_population_path
from recording.populating import is_finished, take_up, train_members
from recording.run import tensorboard_command
from recording.shares import draw_means, join, split, train_shares


def train_population(population: Population, console: Console, command: str = "") -> int:
    """Train a population in its directory, and show arms and members; returns the exit status."""
    directory = PopulationDirectory(population.run.run_dir or default_population_path(population))
    directory.check(population)
    if not population.run.restart:
        directory.check_sharing(population)
    if is_finished(population, directory, console):
        return 0
    if population.processes > 1:
        return train_in_processes(population, directory, console, command)
    status = train_members(population, directory, console, command)
    if status == 0:
        draw_means(population, directory)
    return status


def train_in_processes(population: Population, directory: PopulationDirectory, console: Console, command: str) -> int:
    """Train the members in several processes, a share of them in each; returns the exit status."""
    directory.make()
    state: State = "failed"
    with RunLock(directory.lock) as lock:
        if is_finished(population, directory, console):
            return 0
        take_up(population, directory, console, command)
        shares = split(population, directory)
        table = ArmTable(population, console)
        try:
            status = train_shares(shares, population, table, console, command)
            if status == 0:
                join(population, shares, directory)
                state = "finished"
            elif status > 1:
                state = "interrupted"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            lock.check()
            steps = min(share.steps // len(share.population.members) for share in shares)
            seconds = max(float(share.directory.status().get("seconds", 0.0)) for share in shares)
            directory.set_status(state, steps, seconds)
        if state == "finished":
            for share in shares:
                shutil.rmtree(share.directory.path, ignore_errors=True)
            directory.lock.unlink()
    table.print_summary()
    console.print(f"{directory.path} ({state})", style="bold", highlight=False, soft_wrap=True)
    if state != "finished":
        console.print("The same command goes on from what each process has saved.")
    console.print(
        f"Look at the curves: {tensorboard_command()} --logdir {shlex.quote(str(directory.path))}",
        soft_wrap=True,
        highlight=False,
    )
    return status
