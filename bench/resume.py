"""Is every run taken up exactly? `python bench/resume.py` tries all methods, agents, networks and environments.

Each case is trained to its end, then stopped after a checkpoint and taken up, and the two are compared without
tolerance, as in `tests/test_resume.py`, which has a few of each kind. `--only sac` runs the cases whose group or name
has this in it. Prints a line for each case, and counts by group at the end.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parent.parent))  # where the tests are, which are not installed

from optimizers import OPTIMIZERS
from tests.methods import METHODS
from tests.resuming import check_resume, flags_of
from tests.test_resume import ALL_METRICS, DQN, PPO, ROBOT, SAC

BASES = {"ppo": PPO, "sac": SAC}
PERIODIC = "--optimizer.when periodic --optimizer.every 64"
NETWORKS = (
    *(f"--network.activation {name}" for name in ("crelu", "fourier", "adaptive_linear", "smooth_leaky_relu")),
    "--network.layer-norm before",
    "--network.spectral-norm hidden",
)
ENVIRONMENTS = {
    "Acrobot-v1": "--schedule rotated",
    "CartPole-v1": "--schedule cartpole_length",
    "MountainCar-v0": "--schedule offsets",
    "MountainCarContinuous-v0": "--schedule reward_flip",
    "Pendulum-v1": "--schedule pendulum_mass_drift",
    "LunarLander-v3": "--config lunar_contexts",
    "BipedalWalker-v3": "--schedule stationary",
    "CarRacing-v3": "--schedule stationary",
    "Ant-v5": "--schedule friction",
    "HalfCheetah-v5": "--schedule direction",
    "Hopper-v5": "--schedule failing_motors",
    "Humanoid-v5": "--schedule gravity",
    "HumanoidStandup-v5": "--schedule gravity",
    "InvertedDoublePendulum-v5": "--schedule gravity",
    "InvertedPendulum-v5": "--schedule gravity",
    "Pusher-v5": "--schedule stationary",
    "Reacher-v5": "--schedule stationary",
    "Swimmer-v5": "--schedule gravity_walk",
    "Walker2d-v5": "--schedule noise_swing",
}


def cases() -> Iterator[tuple[str, str, str]]:
    """Group, name and flags of each case."""
    for base, flags in BASES.items():
        for name, method in METHODS.items():
            relu = "--network.activation relu" if method.name == "snr" else ""
            yield "methods", f"{base}, {name}", f"{flags} {flags_of(method)} {relu}"
        for name in OPTIMIZERS:
            if name != "kron" and (base, name) != ("sac", "sam"):  # optional; needs the loss twice
                more = PERIODIC if name in ("adam_rel", "moment_reset") else ""
                yield "optimisers", f"{base}, {name}", f"{flags} --optimizer {name} {more}"
        for network in NETWORKS:
            yield "networks", f"{base}, {network}", f"{flags} {network}"
        for policy in ("cumulative", "moving", "freeze", "reset"):
            yield "normalisations", f"{base}, {policy}", f"{flags} --normalize {policy} --normalize.rewards true"
        yield "metrics", f"{base}, all", f"{flags} {ALL_METRICS}"
    a2c = PPO.replace("--agent.batch-size 32 --agent.n-epochs 2", "")
    yield "agents", "a2c", f"{a2c} --agent a2c --agent.n-steps 8 {ALL_METRICS}"
    for agent in ("td3", "tqc"):
        yield "agents", agent, f"{SAC} --agent {agent} {ALL_METRICS}"
    yield "agents", "dqn", f"{DQN} --env CartPole-v1 {ALL_METRICS}"
    for env, schedule in ENVIRONMENTS.items():
        period = "" if "stationary" in schedule else "--schedule.period 200"
        cnn = "--network cnn" if env == "CarRacing-v3" else "--network.hidden 8"
        flags = f"{schedule} {period} --env {env} --agent ppo {ROBOT}".replace("--network.hidden 8", cnn)
        for stepping in ("dummy", "subproc", "auto"):
            yield "environments", f"{env}, {stepping}", f"{flags} --stepping {stepping}"
    yield "environments", "nine rooms", f"--config nine_rooms --schedule.period 200 --agent ppo {ROBOT}"


def main() -> int:
    """Run the cases; returns 1 where one was not the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="cases whose group or name has this in it")
    only = parser.parse_args().only
    console, same, tried = Console(), Counter[str](), Counter[str]()
    home = Path.cwd()
    for group, name, flags in cases():
        if only not in f"{group} {name}":
            continue
        tried[group] += 1
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                check_resume(flags, every=128 if group == "environments" else 64, saves=2)
                same[group] += 1
                verdict = "the same"
            except AssertionError as error:
                verdict = f"NOT the same: {str(error) or 'it could not be trained'}"
            finally:
                os.chdir(home)
        console.print(f"{group}: {name}: {verdict} ({time.monotonic() - began:.1f} s)", highlight=False)
    table = Table("group", "cases", "the same, bit for bit")
    for group, count in tried.items():
        table.add_row(group, str(count), str(same[group]))
    console.print(table)
    return int(same != tried)


if __name__ == "__main__":
    sys.exit(main())
