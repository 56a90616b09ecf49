"""One short real run of each kind, recorded once for all tests that look at what it left behind."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from agents.hooks import OptimizerHooks
from agents.sb3 import read_networks
from configs.building import build
from configs.command_line import Config, parse
from recording.directory import RunDirectory
from recording.measuring import STEP_EVERY, Measurer
from recording.recorder import Recorder
from recording.tensorboard import Curves

PPO = """--env CartPole-v1 --schedule permuted --schedule.period 160 --steps 480 --agent ppo --agent.n-envs 2
    --agent.n-steps 40 --agent.batch-size 20 --agent.n-epochs 4 --agent.max-grad-norm 0.01 --network.hidden 12,10
    --reset redo --reset.every 8 --reset.tau 0.6 --regularizer spectral --measure-every 1 --seed 5"""
SAC = """--env Pendulum-v1 --schedule pendulum_mass_drift --schedule.boundary truncate --schedule.period 212 --steps 636
    --agent sac --agent.learning-starts 40 --agent.batch-size 16 --agent.buffer-size 400 --network.hidden 12,10
    --agent.train-freq 4
    --reset redo --reset.every 25 --reset.tau 0.6 --measure-every 1e6 --seed 5"""


class Witness(BaseCallback):
    """Sees for itself what the recorder should: episodes as `Monitor` reports them, gradients at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[tuple[int, int, float]] = []  # step, task, return
        self.cut = 0
        self.norms: dict[str, list[tuple[int, float]]] = {}  # by network: environment step, norm

    def _on_training_start(self) -> None:
        self.hooks = []
        for network in read_networks(self.model):
            if not network.layers or network.optimizer is None:
                continue
            tensors = [param.tensor for param in network.params()]
            self.hooks.append(self.watch(network.name, network.optimizer, tensors))

    def watch(self, name: str, optimizer: torch.optim.Optimizer, tensors: list[torch.Tensor]) -> OptimizerHooks:
        count = 0

        def before_step(optimizer: torch.optim.Optimizer) -> None:
            nonlocal count
            if count % STEP_EVERY == 0:
                grads = [tensor.grad.flatten() for tensor in tensors if tensor.grad is not None]
                self.norms.setdefault(name, []).append((self.num_timesteps, float(torch.cat(grads).norm())))
            count += 1

        return OptimizerHooks(optimizer, before_step=before_step)

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            self.cut += "episode" in info and "cut_short" in info
            if "episode" in info and "cut_short" not in info:
                self.episodes.append((self.num_timesteps, info["task"], info["episode"]["r"]))
        return True


@dataclass
class Recorded:
    """A finished run and what an independent witness saw of it."""

    config: Config
    directory: RunDirectory
    model: BaseAlgorithm
    recorder: Recorder
    witness: Witness
    events: list[dict[str, Any]] = field(default_factory=list)


def record(line: str, path: Path) -> Recorded:
    """Run a command line as `recording.training` does, with a witness beside."""
    config = parse(line.split())
    torch.set_num_threads(1)
    _, env, model, plasticity = build(config)
    directory = RunDirectory(path)
    directory.create(config)
    curves = TensorBoardOutputFormat(str(path))
    model.set_logger(Logger(str(path), [curves]))
    run = config.run
    recorder = Recorder(
        directory,
        plasticity,
        lambda task: f"task {task}",
        Curves(config.as_dict(), run.histograms),
        Measurer(config.metrics, run.seed, run.measure_samples, directory.probe),
        run.measure_every,
        run.measure_costly_every,
    )
    witness = Witness()
    model.learn(run.steps, callback=[recorder, plasticity, witness])
    curves.close()
    env.close()
    return Recorded(config, directory, model, recorder, witness)


@pytest.fixture(scope="session")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """PPO with ReDo and spectral regularisation on CartPole, three tasks."""
    return record(PPO, tmp_path_factory.mktemp("ppo") / "run")


@pytest.fixture(scope="session")
def sac(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """SAC with ReDo on a Pendulum whose mass drifts, three tasks."""
    return record(SAC, tmp_path_factory.mktemp("sac") / "run")


@pytest.fixture(params=["ppo", "sac"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """Either of the two."""
    run: Recorded = request.getfixturevalue(request.param)
    return run
