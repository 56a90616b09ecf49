"""From a configuration to what it describes: tasks, environment, agent and interventions.

Whatever does not fit together is a `UsageError` of one sentence, before anything has been written.
"""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.algorithms import OnPolicy
from agents.compiler import leave_unloaded
from agents.interventions import Intervention
from agents.plasticity import Plasticity
from configs.command_line import Config
from configs.settings import UsageError
from envs import Tasks, make_vec_env
from envs.compositions import Composition
from envs.normalize import normalize
from envs.schedules import Periodic, Together
from envs.verify import Effect, verify
from optimizers.targets import AtNewTarget
from regularizers import L2
from resets import TimedReset

MOST_SWITCHES = 1000
"""Switches looked through for one in the middle of a rollout."""
SELDOM_CLIPPED = 1e3
"""A norm that gradients seldom have."""
MUCH_DECAY = 1e-5
"""A strength of L2 beside which clipped gradients may be little; a choice."""


def build(config: Config, members: int = 1) -> tuple[Tasks, VecEnv, BaseAlgorithm, Plasticity]:
    """Make tasks, environment, agent and interventions; whatever does not fit together is a UsageError.

    Args:
        config: what to make.
        members: how many such agents there will be at once.
    """
    leave_unloaded()
    check_device(config.run.device)
    with usage_errors():
        tasks = config.tasks
        env = make_vec_env(config.run.env, tasks, config.agent.n_envs, config.run.seed, config.run.stepping)
        gamma, context = getattr(config.agent, "gamma", 0.99), env.get_attr("context_size", [0])[0]
        env = normalize(env, config.normalize, gamma, context)
        config.agent.check_spaces(config.run.env, env.action_space)
        check_memory(members * config.agent.transitions(config.run.steps), env)
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


def check_memory(transitions: int, env: VecEnv) -> None:
    """Refuse to keep more transitions than this machine's memory holds: a process that fills it is killed."""
    needed = transitions * (space_bytes(env.observation_space) + space_bytes(env.action_space))
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"to keep {transitions:,} transitions takes more than {needed / 2**30:,.0f} GiB of memory, and this "
            f"machine has {there / 2**30:,.0f}; choose fewer with --agent.n-steps or --agent.buffer-size"
        )


def space_bytes(space: gym.Space[Any]) -> int:
    """The bytes of one element of a space, those of its arrays."""
    if isinstance(space, gym.spaces.Dict):
        return sum(map(space_bytes, space.values()))
    return math.prod(space.shape or ()) * (space.dtype.itemsize if space.dtype else 0)


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
    except (ValueError, OverflowError, AssertionError, NotImplementedError, MemoryError, gym.error.Error) as error:
        sentence = f"{beginning}{' '.join(str(error).split()) or type(error).__name__}"
        raise UsageError(sentence if sentence.endswith((".", "?")) else f"{sentence}.") from error


def notes_on_methods(config: Config) -> Iterator[str]:
    """What a careful user would want to know of an arm before the run."""
    decay, agent = config.regularizers.get("l2"), config.agent
    if not isinstance(decay, L2) or decay.decay != "coupled" or not isinstance(agent, OnPolicy):
        return
    if decay.strength > MUCH_DECAY and agent.max_grad_norm < SELDOM_CLIPPED:
        yield (
            f"{config.names['agent']} clips gradients to a norm of {agent.max_grad_norm:g} before l2 is added, which "
            f"at a strength of {decay.strength:g} may leave little else to learn; its paper does not clip: "
            "--agent.max-grad-norm 1e9."
        )


def notes(config: Config, tasks: Tasks) -> Iterator[str]:
    """What a careful user would want to know of environment and schedule before the run."""
    rollout, steps = config.agent.rollout(), config.run.steps
    if steps % rollout:
        yield f"{steps:,} steps are rounded up to {-(-steps // rollout) * rollout:,}, whole rollouts of {rollout:,}."
    yield from _still(config, tasks)
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


def _still(config: Config, tasks: Tasks) -> Iterator[str]:
    """What never changes within the run, though it would in a longer one."""
    if isinstance(tasks, Composition) and isinstance(tasks.schedule, Together):
        parts = [(f" of {name}", part) for name, part in tasks.parts.items()]
    else:
        parts = [("", tasks)]
    for of, part in parts:
        first = part.next_switch(0)
        if first is not None and first >= config.run.steps and not part.gradual:
            yield (
                f"no switch{of} falls into this run of {config.run.steps:,} steps: the first is at step {first:,}; "
                "choose more --steps, or a shorter period."
            )
