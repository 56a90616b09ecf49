"""Train agents in an environment that keeps changing: `python train.py --agent ppo --reset redo`.

Reads the configuration, builds environment, agent and interventions, learns, and prints a table of tasks. With --seeds,
or with several arms (`--reset none,redo`), all of these agents are trained together. Whatever ends the run before its
time, the same command goes on where it was last saved.
"""

import shlex
import sys

from checkpoints.lock import BUSY, BusyError
from configs.building import check
from configs.help import print_help
from configs.population import Population, read
from configs.scripts import script
from recording.console import make_console, print_effects
from recording.failures import RunError
from recording.population import train_population
from recording.training import train


@script("train.py", {BusyError: BUSY, RunError: 1})
def main(words: list[str]) -> int:
    """Run a command line.

    Returns:
        The exit status: 0, 1 when the run failed, 2 after a mistake of the user's, 75 where another process trains
        the same run, 130 or 143 when interrupted.
    """
    if "--help" in words or "-h" in words:
        print_help([word for word in words if word not in ("--help", "-h")])
        return 0
    command = shlex.join(["python", "train.py", *words])
    asked = read(words)
    console = make_console(asked.run.quiet)
    if asked.run.verify:
        print_effects(check(asked.members[0] if isinstance(asked, Population) else asked), console)
        return 0
    if isinstance(asked, Population):
        return train_population(asked, console, command)
    return train(asked, console, command)


if __name__ == "__main__":
    sys.exit(main())
