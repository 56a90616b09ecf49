"""What each method costs: `python bench/interventions.py`.

Times the training between two rollouts (for PPO with SB3's defaults 320 minibatch updates on 2048 steps, and whatever
fires between rollouts) with a method at its defaults and without any, in turns in one process, and prints the ratios.
Timed resets fire once a rollout here, whatever their default period: an upper bound of what they cost.

Times are those of the processor, since other programs share it. Ratios are medians over rounds, each a method's time
over the mean of the plain agent's just before and just after it; the range is that of the middle half of the rounds.
`--write` keeps each in `bench/results/` as soon as it is measured, from where `docs/methods.md` takes them; those that
were not measured now stay as they are.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import stable_baselines3 as sb3
import torch
from keeping import keep
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.interventions import Intervention
from agents.networks import MLP
from agents.plasticity import Plasticity
from optimizers import OPTIMIZERS
from regularizers import REGULARIZERS
from resets import RESETS, TimedReset

RESULTS = Path(__file__).parent / "results" / "interventions.json"
ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": sb3.PPO, "sac": sb3.SAC}
UPDATES = {"ppo": 320, "sac": 64}
"""Updates between two rollouts that a method's firing between rollouts is spread over; SAC has a rollout at every step,
so that its timed resets are given the 64 steps of a round."""

NETWORKS: dict[str, dict[str, Any]] = {
    "network.layer-norm before": {"layer_norm": "before"},
    "network.layer-norm after": {"layer_norm": "after"},
    "network.activation crelu": {"activation": "crelu"},
    "network.activation fourier": {"activation": "fourier"},
    "network.activation adaptive_linear": {"activation": "adaptive_linear"},
    "network.activation smooth_leaky_relu": {"activation": "smooth_leaky_relu"},
    "network.spectral-norm hidden": {"spectral_norm": "hidden"},
}


class Subject:
    """A model that has collected data, and its interventions, ready to be trained over and over."""

    def __init__(self, agent: str, hidden: int, interventions: list[Intervention], policy_kwargs: dict[str, Any]):
        kwargs = {"net_arch": [hidden, hidden], "activation_fn": torch.nn.ReLU} | policy_kwargs
        policy = kwargs.pop("policy", "MlpPolicy")
        self.model = _model(agent, policy, kwargs)
        self.plasticity = Plasticity(*interventions)
        _, callback = self.model._setup_learn(10**6, self.plasticity)
        callback.on_training_start(locals(), globals())
        callback.on_rollout_start()
        _collect(self.model, callback)
        self.callback = callback

    def seconds(self, updates: int) -> tuple[float, float]:
        """Time per update, and the time of what fires between two rollouts, the sampling of activations included."""
        clock = [time.process_time()]
        self.callback.on_rollout_end()
        clock.append(time.process_time())
        if isinstance(self.model, sb3.PPO):
            self.model.n_epochs = updates // 32
            self.model.train()
        else:
            self.model.train(gradient_steps=updates, batch_size=256)
        clock.append(time.process_time())
        self.callback.on_rollout_start()
        clock.append(time.process_time())
        return (clock[2] - clock[1]) / updates, clock[1] - clock[0] + clock[3] - clock[2]


def _model(agent: str, policy: Any, kwargs: dict[str, Any]) -> BaseAlgorithm:
    if agent == "ppo":
        return sb3.PPO(policy, "CartPole-v1", seed=0, device="cpu", policy_kwargs=kwargs)
    return sb3.SAC(policy, "Pendulum-v1", seed=0, device="cpu", policy_kwargs=kwargs, buffer_size=4096)


def _collect(model: Any, callback: Any) -> None:
    if isinstance(model, sb3.PPO):
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    else:
        model.learning_starts = 512
        model.train_freq = type(model.train_freq)(512, model.train_freq.unit)
        model.collect_rollouts(
            model.env, callback=callback, train_freq=model.train_freq, replay_buffer=model.replay_buffer,
            learning_starts=512,
        )  # fmt: skip


@dataclass
class Arm:
    """One method: its room, and what makes a subject with it."""

    room: str
    name: str
    make: Callable[[type[BaseAlgorithm]], tuple[list[Intervention], dict[str, Any]]]


def arms(only: list[str]) -> Iterator[Arm]:
    """Every method of every room at its defaults, or those named."""
    found = [
        *(Arm("resets", name, partial(_with_intervention, kind)) for name, kind in RESETS.items()),
        *(Arm("regularizers", name, partial(_with_intervention, kind)) for name, kind in REGULARIZERS.items()),
        *(Arm("optimizers", name, partial(_with_optimizer, kind)) for name, kind in OPTIMIZERS.items()),
        *(Arm("networks", name, partial(_with_network, settings)) for name, settings in NETWORKS.items()),
    ]
    return (arm for arm in found if not only or arm.name in only)


def _with_intervention(kind: type[Any], algorithm: type[BaseAlgorithm]) -> tuple[list[Intervention], dict[str, Any]]:
    return [at_every_rollout(kind)], {}


def _with_optimizer(kind: type[Any], algorithm: type[BaseAlgorithm]) -> tuple[list[Intervention], dict[str, Any]]:
    settings = kind()
    return settings.interventions(), settings.policy_kwargs(1e-5 if algorithm is sb3.PPO else 1e-8)


def _with_network(
    settings: dict[str, Any], algorithm: type[BaseAlgorithm]
) -> tuple[list[Intervention], dict[str, Any]]:
    return [], network(settings, algorithm)


def at_every_rollout(kind: type[Any]) -> Any:
    """A reset at its defaults, but fired between all rollouts where it is one that fires there."""
    if issubclass(kind, TimedReset) and kind().when in ("periodic", "switch"):
        return kind(when="periodic", every=1, unit="rollouts")
    return kind()


def network(settings: dict[str, Any], algorithm: type[BaseAlgorithm]) -> dict[str, Any]:
    """Policy and its arguments for network settings."""
    chosen = MLP(**settings)
    return {"policy": chosen.policy(gym.spaces.Box(-1, 1, (1,)), algorithm)} | chosen.policy_kwargs()


def ratios(agent: str, hidden: int, arm: Arm, rounds: int) -> dict[str, float]:
    """An arm's time over the plain agent's: median and middle half over the rounds."""
    # A new plain agent for each arm: one that has been trained for hours on the same data is no fair measure.
    plain, subject = Subject(agent, hidden, [], {}), Subject(agent, hidden, *arm.make(ALGORITHMS[agent]))
    plain.seconds(64)
    updates = 64
    subject.seconds(updates)
    found = []
    before, _ = plain.seconds(updates)
    for _ in range(rounds):
        own, between = subject.seconds(updates)
        after, nothing = plain.seconds(updates)
        found.append((own + (between - nothing) / UPDATES[agent]) / ((before + after) / 2))
        before = after
    subject.plasticity.close()
    quarters = statistics.quantiles(found, n=4)
    return {"ratio": round(quarters[1], 3), "low": round(quarters[0], 3), "high": round(quarters[2], 3)}


def main() -> None:
    """Time all arms, print the table, and keep the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="names of methods; all without any")
    parser.add_argument("--agent", choices=("ppo", "sac"), default="ppo")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256], help="widths of both hidden layers")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.distributions.Distribution.set_default_validate_args(False)
    console = Console()
    chosen = list(arms(options.only))
    figures: dict[str, dict[str, dict[str, float]]] = {arm.name: {} for arm in chosen}
    for hidden in options.hidden:
        for arm in track(chosen, f"{options.agent} {hidden}x{hidden}", console=console, transient=True):
            found = ratios(options.agent, hidden, arm, options.rounds)
            figures[arm.name][f"{hidden}x{hidden}"] = found
            if options.write:
                keep(RESULTS, {f"{hidden}x{hidden}": found}, options.agent, "methods", arm.name)
    table = Table(
        "room",
        "method",
        *(f"{hidden}x{hidden}" for hidden in options.hidden),
        title=f"{options.agent}: time over that of none",
    )
    for arm in chosen:
        cells = [f"{cell['ratio']:.2f} ({cell['low']:.2f}-{cell['high']:.2f})" for cell in figures[arm.name].values()]
        table.add_row(arm.room, arm.name, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
