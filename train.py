"""Train agents in an environment that keeps changing: `python train.py --agent ppo --reset redo`.

Reads the configuration, builds environment, agent and interventions, learns, and prints a table of tasks. With --seeds,
or with several arms (`--reset none,redo`), all of these agents are trained together. Whatever ends the run before its
time, the same command goes on where it was last saved.
"""

import os
import shlex
import sys
from collections.abc import Sequence

from checkpoints.lock import BUSY, BusyError
from configs.building import check
from configs.help import print_help
from configs.population import Population, read
from configs.settings import UsageError
from recording.console import make_console, print_effects
from recording.failures import RunError
from recording.population import train_population
from recording.training import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit status: 0, 1 when the run failed, 2 after a mistake of the user's, 75 where another process trains
        the same run, 130 or 143 when interrupted.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = shlex.join(["python", "train.py", *words])
    try:
        if "--help" in words or "-h" in words:
            print_help([word for word in words if word not in ("--help", "-h")])
            return 0
        asked = read(words)
        console = make_console(asked.run.quiet)
        if asked.run.verify:
            print_effects(check(asked.members[0] if isinstance(asked, Population) else asked), console)
            return 0
        if isinstance(asked, Population):
            return train_population(asked, console, command)
        return train(asked, console, command)
    except UsageError as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return BUSY if isinstance(error, BusyError) else 2
    except RunError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has read enough: train.py --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
