"""Does a run survive being killed? `python bench/chaos.py --kills 20 -- --agent ppo --reset redo …`.

Trains once undisturbed, then again while it is killed (SIGKILL) at random moments of its life, each time taken up by
the same command, until it has finished; and compares the two, bit for bit. Some kills are aimed at the moments at which
a checkpoint is being written. Prints how often it was killed, where it had got to, and what differs.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recording.comparing import differences
from recording.directory import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
FOREVER = 1e6


def run(directory: Path, flags: list[str], life: float, aimed: bool = False) -> int | None:
    """Start the command and kill it after `life` seconds; if aimed, as soon as it then writes a checkpoint.

    Returns:
        Its exit status; None where it was killed.
    """
    command = [sys.executable, str(ROOT / "train.py"), *flags, "--run-dir", str(directory), "--quiet"]
    process = subprocess.Popen(command)
    try:
        return process.wait(life)
    except subprocess.TimeoutExpired:
        while aimed and process.poll() is None and not list((directory / "checkpoints").glob(".tmp-*")):
            time.sleep(0.0002)
        process.send_signal(signal.SIGKILL)
        return None if process.wait() == -signal.SIGKILL else process.returncode


def main() -> int:
    """Run the comparison; returns 1 where the runs differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("flags", nargs="*", help="flags for train.py, behind --")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp())
    whole, killed = folder / "whole", folder / "killed"
    began = time.monotonic()
    if run(whole, arguments.flags, FOREVER) != 0:
        return 1
    length = time.monotonic() - began
    status, kills, aimed, steps = None, 0, 0, []
    while status is None:
        if kills < arguments.kills:
            aim = kills % 3 == 2
            # Starting takes seconds by itself; most lives are long enough to get somewhere.
            status = run(killed, arguments.flags, rng.uniform(0.0, max(20.0, 2 * length / arguments.kills)), aim)
        else:
            aim, status = False, run(killed, arguments.flags, FOREVER)
        if status is None:
            kills, aimed = kills + 1, aimed + aim
            checkpoints = sorted((killed / "checkpoints").glob("step-*"))
            steps.append(checkpoints[-1].name.split("-")[1].lstrip("0") or "0" if checkpoints else "-")
    print(f"undisturbed: {length:.0f} s; killed {kills} times, {aimed} of them while a checkpoint was being written")
    print(f"newest checkpoint after each kill: {' '.join(steps)}")
    if status != 0:
        print(f"the last attempt ended with status {status}; see {killed}")
        return 1
    found = differences(whole, killed)
    print("\n".join(found) or f"the same, bit for bit ({RunDirectory(killed).status()['steps']:,} steps)")
    if not found:
        shutil.rmtree(folder)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
