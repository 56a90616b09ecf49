"""Train one agent in an environment that keeps changing: `python train.py --agent ppo --reset redo`.

Reads the configuration, builds environment, agent and interventions, learns, and prints a table of tasks. Whatever ends
the run before its time, the same command goes on where it was last saved.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from rich.console import Console

from checkpoints.lock import RunLock
from configs.building import build, check
from configs.command_line import Config, parse
from configs.help import print_help
from configs.settings import UsageError
from recording.console import make_console, print_effects, print_tasks
from recording.directory import RunDirectory, default_path
from recording.failures import RunError, abandon
from recording.run import Run
from recording.signals import ignored


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit status: 0, 1 when the run failed, 2 after a mistake of the user's, 130 or 143 when interrupted.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if "--help" in words or "-h" in words:
            print_help([word for word in words if word not in ("--help", "-h")])
            return 0
        config = parse(words)
        console = make_console(config.run.quiet)
        if config.run.verify:
            print_effects(check(config), console)
            return 0
        return train(config, console, shlex.join(["python", "train.py", *words]))
    except UsageError as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has read enough: train.py --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def train(config: Config, console: Console, command: str = "") -> int:
    """Train as configured, record the run in its directory, and show the table of tasks."""
    directory = RunDirectory(config.run.run_dir or default_path(config))
    directory.check(config)
    if is_finished(directory, console):
        return 0
    torch.set_num_threads(config.run.threads)
    # SB3 makes a distribution at every step; checking its arguments anew each time costs a fifth of a PPO run.
    torch.distributions.Distribution.set_default_validate_args(False)
    # Ctrl-C reaches the processes of environments too; it is the run itself that decides when to leave.
    with ignored() if config.run.stepping == "subproc" else nullcontext():
        tasks, env, model, plasticity = build(config)
    try:
        run = Run(config, directory, console, tasks, env, model, plasticity)
        if config.run.preflight and not directory.is_unfinished(config):
            check(config)
        directory.make()
        with RunLock(directory.lock) as lock:
            if is_finished(directory, console):  # by another process, meanwhile
                return 0
            run.begin(command)
            status = run.learn(lock)
            if status == 0:
                directory.lock.unlink()
    except BaseException:
        abandon(env)
        raise
    env.close() if status == 0 else abandon(env)
    return status


def is_finished(directory: RunDirectory, console: Console) -> bool:
    """Whether the run is finished; if so, its table is shown again."""
    if directory.state() != "finished":
        return False
    print_tasks(directory.read_tasks(), f"{directory.path} (finished before)", console)
    console.print("Nothing to do: this very run is finished. Give another --seed or --run-dir to train again.")
    return True


if __name__ == "__main__":
    sys.exit(main())
