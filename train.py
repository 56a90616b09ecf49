"""Train one agent in an environment that keeps changing: `python train.py --agent ppo --reset redo`.

Reads the configuration, builds environment, agent and interventions, learns, and prints a table of tasks.
"""

import os
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import torch
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv

from agents.algorithms import OnPolicy
from agents.interventions import Intervention
from agents.plasticity import Plasticity
from agents.sb3 import read_networks
from configs.command_line import Config, parse
from configs.help import print_help
from configs.settings import UsageError
from envs import Tasks, make_vec_env
from envs.compositions import Composition
from envs.normalize import Normalize, normalize
from envs.schedules import Periodic
from envs.verify import Effect, verify
from metrics import METRICS
from optimizers.targets import AtNewTarget
from recording.console import ProgressBar, make_console, print_effects, print_tasks
from recording.directory import RunDirectory, State, default_path
from recording.gap import finals, tell_others
from recording.measuring import Measurer
from recording.recorder import Recorder
from recording.tensorboard import Curves
from resets import TimedReset

MOST_SWITCHES = 1000
"""Switches looked through for one in the middle of a rollout."""


class DivergedError(Exception):
    """Training has driven the weights to infinity or beyond."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit status: 0, 1 when training diverged, 2 after a mistake of the user's, 130 when interrupted.
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
    except DivergedError as error:
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
    if directory.state() == "finished":
        print_tasks(directory.read_tasks(), f"{directory.path} (finished before)", console)
        console.print("Nothing to do: this very run is finished. Give another --seed or --run-dir to train again.")
        return 0
    torch.set_num_threads(config.run.threads)
    # SB3 makes a distribution at every step; checking its arguments anew each time costs a fifth of a PPO run.
    torch.distributions.Distribution.set_default_validate_args(False)
    tasks, env, model, plasticity = build(config)
    measurer = Measurer(config.metrics, config.run.seed, config.run.measure_samples, directory.probe)
    if config.run.preflight:
        check(config)
    if moved := directory.create(config, command):
        console.print(f"An unfinished run was in the way; it is kept in {moved}.")
    for note in [*notes(config, tasks), *idle_metrics(measurer, model)]:
        console.print(f"Note: {note}")
    console.print(f"{config.names['agent']} + {config.arm} on {config.run.env}, {directory.path}", highlight=False)

    settings = {key: value for key, value in config.as_dict().items() if key != "metrics"}
    curves = TensorBoardOutputFormat(str(directory.path))
    model.set_logger(Logger(str(directory.path), [curves]))
    recorder = Recorder(
        directory,
        plasticity,
        describe=lambda task: str(env.env_method("describe_task", task, indices=[0])[0]),
        curves=Curves({"arm": config.arm, **settings}, config.run.histograms),
        measurer=measurer,
        measure_every=config.run.measure_every,
        costly_every=config.run.measure_costly_every,
    )
    bar = ProgressBar(config.run.steps, tasks.n_tasks(config.run.steps), recorder, console)
    recorder.on_task = bar.task_finished
    state: State = "failed"
    began = time.monotonic()
    try:
        model.learn(config.run.steps, callback=[recorder, plasticity, bar])
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
    except (RuntimeError, ValueError) as error:
        if all(bool(weights.isfinite().all()) for weights in model.policy.parameters()):
            raise
        raise DivergedError(
            f"training diverged before step {model.num_timesteps:,}: weights are infinite or no numbers; "
            f"a smaller --agent.learning-rate may help ({directory.path} is what was recorded)."
        ) from error
    finally:
        bar.close()
        plasticity.close()
        recorder.close()
        model.save(directory.model)
        directory.set_status(state, model.num_timesteps, time.monotonic() - began)
        if state == "finished":
            recorder.curves.finish(model.num_timesteps, finals(directory))
            tell_others(directory)
        if isinstance(env, Normalize):
            env.save(directory.normalizer)
        curves.close()
        env.close()
    ended = f"{directory.path} ({state} after {model.num_timesteps:,} steps)"
    console.print(ended, style="bold", soft_wrap=True, highlight=False)
    look = f"{tensorboard_command()} --logdir {shlex.quote(str(directory.path))}"
    console.print(f"Look at the curves: {look}", soft_wrap=True, highlight=False)
    return 0 if state == "finished" else 130


def tensorboard_command() -> str:
    """TensorBoard as it can be called from here: by its name, or by its path in an environment that is not active."""
    beside = Path(sys.executable).parent / "tensorboard"
    if shutil.which("tensorboard") or not beside.exists():
        return "tensorboard"
    return shlex.quote(os.path.relpath(beside))


def build(config: Config) -> tuple[Tasks, VecEnv, BaseAlgorithm, Plasticity]:
    """Make tasks, environment, agent and interventions; whatever does not fit together is a UsageError."""
    check_device(config.run.device)
    with usage_errors():
        tasks = config.tasks
        env = make_vec_env(config.run.env, tasks, config.agent.n_envs, config.run.seed, config.run.stepping)
        gamma, context = getattr(config.agent, "gamma", 0.99), env.get_attr("context_size", [0])[0]
        env = normalize(env, config.normalize, gamma, context)
        config.agent.check_spaces(config.run.env, env.action_space)
        policy_kwargs = config.optimizer.policy_kwargs(config.agent.adam_eps)
    with usage_errors(f"agent {config.names['agent']} cannot be made: "), warnings.catch_warnings():
        # SB3 advises against GPUs for small networks; whoever says --device cuda has decided.
        warnings.filterwarnings("ignore", message="You are trying to run .* on the GPU")
        model = config.agent.build(env, config.network, config.run.seed, config.run.device, **policy_kwargs)
    with usage_errors():
        check_times(config, tasks)
        interventions = [*config.resets.values(), *config.regularizers.values(), *config.optimizer.interventions()]
        plasticity = Plasticity(*interventions, seed=config.run.seed)
        plasticity.check(model)
    return tasks, env, model, plasticity


def check_times(config: Config, tasks: Tasks) -> None:
    """Refuse resets whose time would never come in this run."""
    steps, switch = config.run.steps, tasks.next_switch(0)
    named: list[tuple[str, Intervention]] = [(f"reset {name}", reset) for name, reset in config.resets.items()]
    named += [(f"optimizer {config.names['optimizer']}", item) for item in config.optimizer.interventions()]
    for name, reset in named:
        if not isinstance(reset, TimedReset):
            continue
        tau = getattr(config.agent, "tau", 1.0)
        if isinstance(reset, AtNewTarget) and reset.waits_for_copies and tau < 1:
            raise ValueError(
                f"{name} waits for copies of a target network, but with tau {tau:g} it moves a little at every step; "
                "choose periodic or switch for --optimizer.when"
            )
        if reset.when == "switch" and (switch is None or switch >= steps):
            raise ValueError(f"{name} waits for a switch, but in {steps:,} steps of this schedule there is none")
        if reset.when == "periodic" and reset.unit == "env_steps" and reset.every >= steps:
            raise ValueError(f"{name} fires every {reset.every:,} steps, but the run has {steps:,} only")


def check(config: Config) -> list[Effect]:
    """The measured effect of each scheduled value; a UsageError where one has none."""
    with usage_errors():
        return verify(config.run.env, config.tasks, config.run.steps)


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have, where SB3 would quietly take the CPU."""
    try:
        torch.empty(0, device="cpu" if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device: PyTorch finds no {device} on this machine; choose cpu or auto.") from error


@contextmanager
def usage_errors(beginning: str = "") -> Iterator[None]:
    """Make a UsageError of one sentence out of what Gymnasium, SB3 and this project raise for what does not fit."""
    try:
        yield
    except (ValueError, AssertionError, NotImplementedError, MemoryError, gym.error.Error) as error:
        sentence = f"{beginning}{' '.join(str(error).split()) or type(error).__name__}"
        raise UsageError(sentence if sentence.endswith((".", "?")) else f"{sentence}.") from error


def notes(config: Config, tasks: Tasks) -> Iterator[str]:
    """What a careful user would want to know before the run."""
    rollout, steps = config.agent.rollout(), config.run.steps
    if steps % rollout:
        yield f"{steps:,} steps are rounded up to {-(-steps // rollout) * rollout:,}, whole rollouts of {rollout:,}."
    switches = (tasks.start(task) for task in range(1, min(tasks.n_tasks(steps), MOST_SWITCHES)))
    middle = next((switch for switch in switches if switch % rollout), None)
    if isinstance(config.agent, OnPolicy) and middle and not tasks.gradual:
        clocks = [f".{name}" for name in tasks.parts] if isinstance(tasks, Composition) else [""]
        aligned = " ".join(f"--schedule{clock}.align {rollout}" for clock in clocks)
        if type(tasks.schedule) is Periodic:
            aligned = f"--schedule.period {max(1, round(tasks.schedule.period / rollout)) * rollout}"
        yield (
            f"tasks switch in the middle of rollouts (step {middle:,} is no multiple of {rollout:,}), which mixes two "
            f"tasks in one update; {aligned} would not."
        )


def idle_metrics(measurer: Measurer, model: BaseAlgorithm) -> Iterator[str]:
    """Which of the metrics that were singled out have nothing to measure."""
    idle = measurer.idle(model)
    if idle and len(measurer.metrics) < len(METRICS):
        networks = ", ".join(network.name for network in read_networks(model))
        yield f"there is nothing for the metrics {', '.join(idle)} in {type(model).__name__}, which has {networks}."


if __name__ == "__main__":
    sys.exit(main())
