"""Train one agent in an environment that keeps changing: `python train.py --agent ppo --reset redo`.

Reads the configuration, builds environment, agent and interventions, learns, and prints a table of tasks.
"""

import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence

import torch
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv

from agents.algorithms import OnPolicy
from agents.plasticity import Plasticity
from configs.command_line import Config, parse
from configs.help import print_help
from configs.settings import UsageError
from envs import Tasks, make_vec_env
from envs.verify import Effect, verify
from recording.console import ProgressBar, effect_table, make_console, task_table
from recording.directory import RunDirectory, State, default_path
from recording.recorder import Recorder
from recording.tensorboard import Curves


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 2 after a user's mistake, 130 when interrupted."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if "--help" in words or "-h" in words:
            print_help([word for word in words if word not in ("--help", "-h")])
            return 0
        config = parse(words)
        tasks = Tasks(config.schedule, config.changes, config.run.seed)
        console = make_console(config.run.quiet)
        if config.run.verify:
            console.print(effect_table(check(config, tasks)))
            return 0
        return train(config, tasks, console)
    except UsageError as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2


def train(config: Config, tasks: Tasks, console: Console) -> int:
    """Train as configured, record the run in its directory, and show the table of tasks."""
    directory = RunDirectory(config.run.run_dir or default_path(config))
    if directory.state() == "finished":
        console.print(task_table(directory.read_tasks(), f"{directory.path} (finished before)"))
        console.print("Nothing to do: this very run is finished. Give another --seed or --run-dir to train again.")
        return 0
    torch.set_num_threads(config.run.threads)
    # SB3 makes a distribution at every step; checking its arguments anew each time costs a fifth of a PPO run.
    torch.distributions.Distribution.set_default_validate_args(False)
    env, model, plasticity = build(config, tasks)
    if moved := directory.create(config):
        console.print(f"An unfinished run was in the way; it is kept in {moved}.")
    for note in notes(config, tasks):
        console.print(f"Note: {note}")
    console.print(f"{config.names['agent']} + {config.arm} on {config.run.env}, {directory.path}", highlight=False)

    curves = TensorBoardOutputFormat(str(directory.path))
    model.set_logger(Logger(str(directory.path), [curves]))
    recorder = Recorder(
        directory,
        plasticity,
        describe=lambda task: str(env.env_method("describe_task", task, indices=[0])[0]),
        curves=Curves(config.as_dict()),
        measure_every=config.run.measure_every,
        seed=config.run.seed,
    )
    bar = ProgressBar(config.run.steps, tasks.n_tasks(config.run.steps), recorder, console)
    recorder.on_task = bar.task_finished
    state: State = "failed"
    try:
        model.learn(config.run.steps, callback=[recorder, plasticity, bar])
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
    finally:
        bar.close()
        recorder.close()
        model.save(directory.model)
        curves.close()
        env.close()
        directory.set_status(state, model.num_timesteps)
    console.print(task_table(directory.read_tasks(), f"{directory.path} ({state} after {model.num_timesteps:,} steps)"))
    console.print(f"Look at the curves: tensorboard --logdir {shlex.quote(str(directory.path))}", soft_wrap=True)
    return 0 if state == "finished" else 130


def build(config: Config, tasks: Tasks) -> tuple[VecEnv, BaseAlgorithm, Plasticity]:
    """Make environment, agent and interventions; whatever does not fit together is a UsageError of one sentence."""
    try:
        env = make_vec_env(config.run.env, tasks, config.agent.n_envs, config.run.seed)
        config.agent.check_spaces(config.run.env, env.action_space)
        with warnings.catch_warnings():
            # SB3 advises against GPUs for small networks; whoever says --device cuda has decided.
            warnings.filterwarnings("ignore", message="You are trying to run .* on the GPU")
            model = config.agent.build(env, config.network, config.run.seed, config.run.device)
        plasticity = Plasticity(*config.resets.values(), *config.regularizers.values(), seed=config.run.seed)
        plasticity.check(model)
    except ValueError as error:
        sentence = str(error)
        raise UsageError(sentence if sentence.endswith((".", "?")) else f"{sentence}.") from error
    return env, model, plasticity


def check(config: Config, tasks: Tasks) -> list[Effect]:
    """The measured effect of each scheduled value; a UsageError where one has none."""
    try:
        return verify(config.run.env, tasks, config.run.steps)
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def notes(config: Config, tasks: Tasks) -> Iterator[str]:
    """What a careful user would want to know before the run."""
    rollout, steps = config.agent.rollout(), config.run.steps
    if steps % rollout:
        yield f"{steps:,} steps are rounded up to {-(-steps // rollout) * rollout:,}, whole rollouts of {rollout:,}."
    switch = tasks.next_switch(0)
    if isinstance(config.agent, OnPolicy) and switch and switch < steps and switch % rollout:
        nearest = max(1, round(switch / rollout)) * rollout
        yield (
            f"tasks switch in the middle of rollouts ({switch:,} is no multiple of {rollout:,}), which mixes two tasks "
            f"in one update; --schedule.period {nearest} would not."
        )


if __name__ == "__main__":
    sys.exit(main())
