"""Where the time of training goes, in stock SB3 and in a population: `python bench/shares.py`.

Looks a thousand times a second of processor time at what Python is executing, and adds up by part: no clock stands in
the way of what is timed. Prints microseconds of processor time for one environment step, those of a population for the
step of one member. `--write` keeps them in `bench/results/shares.json`.
"""

import argparse
import inspect
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from keeping import keep
from racing.cases import CASES, ONE, POPULATION, SB3_THREAD, SIDES
from racing.stopwatch import Stopwatch
from racing.worker import learn
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, ContinuousCritic
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.sac.policies import Actor

from agents.population.headed import Headed
from agents.population.off_policy import OffPolicyStack
from agents.population.on_policy import OnPolicyStack
from agents.population.replay import Replay
from agents.population.squashed import Squashed
from agents.population.stepping import Stepper

RESULTS = Path(__file__).parent / "results" / "shares.json"
SHOWN = {"SB3": SB3_THREAD, "population of 1": ONE, "population of {}": POPULATION}
"""The sides, each with one thread."""
PARTS: dict[str, list[Callable[..., Any]]] = {
    "environments": [DummyVecEnv.step_wait],
    "acting": [ActorCriticPolicy.forward, OffPolicyAlgorithm._sample_action, OnPolicyStack.act, OffPolicyStack._act],
    "clipping, optimiser": [
        torch.nn.utils.clip_grad_norm_, torch.optim.Adam.step, torch.optim.Optimizer.zero_grad, Stepper.step,
    ],
    "target networks": [polyak_update, OffPolicyStack._update_targets],
    "minibatches": [RolloutBuffer.get, ReplayBuffer.sample, Replay.sample],
    "backward": [torch.Tensor.backward, Headed.learn, Headed.by_inputs],
    "forward": [
        ActorCriticPolicy.evaluate_actions, Actor.action_log_prob, ContinuousCritic.forward,
        Headed.__call__, Squashed.draw, Squashed.log_prob,
    ],
    "losses, rest of updates": [PPO.train, SAC.train, OnPolicyStack.train, OffPolicyStack.train],
}  # fmt: skip
"""By part, the functions that do it; what is going on in several of them belongs to the first part."""
REST = "rest of rollouts"
"""Buffers, callbacks, episodes' statistics."""
CODES: dict[str, set[CodeType]] = {
    part: {inspect.unwrap(function).__code__ for function in functions} for part, functions in PARTS.items()
}
console = Console()


class Sampler:
    """Counts which part is being done, a thousand times a second of processor time."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to count."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, 1e-3, 1e-3)

    def stop(self) -> None:
        """Count no longer."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        self.counts[part_of(frame)] += 1


def part_of(frame: FrameType | None) -> str:
    """Which part a frame, or one of those that called it, belongs to."""
    running = set()
    while frame is not None:
        running.add(frame.f_code)
        frame = frame.f_back
    return next((part for part, codes in CODES.items() if codes & running), REST)


def microseconds(case: str, side: str, seconds: float) -> dict[str, float]:
    """Processor time of each part for one environment step."""
    (work,) = CASES[case].works(SIDES[side], 1, CASES[case].members, seconds, "cpu")
    torch.set_num_threads(1)
    sampler = Sampler()
    lap = learn(work, Stopwatch(work, sampler.start))
    sampler.stop()
    step = 1e6 * lap.processor / lap.steps
    return {part: round(step * sampler.counts[part] / sampler.counts.total(), 1) for part in (*PARTS, REST)}


def main() -> None:
    """Look at all cases, print tables, and keep the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = ["ppo_cartpole", "ppo_cheetah", "sac_pendulum", "sac_cheetah"]
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=chosen, metavar="CASE")
    parser.add_argument("--seconds", type=float, default=5.0, help="that each side is looked at, at least")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    options = parser.parse_args()
    for name in options.only:
        case = CASES[name]
        found = {label.format(case.members): microseconds(name, side, options.seconds) for label, side in SHOWN.items()}
        if options.write:
            keep(RESULTS, {name: {"title": case.title, "microseconds": found}}, "cases")
        table = Table("part", *found, title=f"{case.title}: microseconds of a step")
        for part in (*PARTS, REST):
            table.add_row(part, *(f"{own[part]:,.0f}" for own in found.values()))
        table.add_row("all", *(f"{sum(own.values()):,.0f}" for own in found.values()))
        console.print(table)


if __name__ == "__main__":
    main()
