"""Many agents trained at once: each an ordinary SB3 model, their parameters rows of the same tensors.

    population = Population.build(lambda seed: PPO("MlpPolicy", "CartPole-v1", seed=seed), range(8))
    population.learn(100_000)
    population.models[3].save("member 3")

Between two updates a member is, in every respect, the model that it would be alone: its environment, buffers, logger,
callbacks and optimiser are its own, and it draws from random streams of its own. What is done at once is what costs
time: all networks answer observations, and learn, in one batched operation each.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.population.interventions import Attached, blocked, parts_of
from agents.population.modules import CannotStackError
from agents.population.off_policy import OffPolicyStack
from agents.population.on_policy import OnPolicyStack
from agents.population.stack import Scope, Stack
from agents.population.streams import Streams

STACKS: dict[type[BaseAlgorithm], type[Stack]] = {PPO: OnPolicyStack, SAC: OffPolicyStack}
"""The algorithms that can be stacked."""


class Population:
    """Members that learn in lockstep.

    Args:
        models: ordinary SB3 models, alike but for their seeds, each with an environment of its own.
        streams: each member's random streams, captured right after its model was made.

    Raises:
        ValueError: these models cannot be trained at once; one sentence.
    """

    def __init__(self, models: Sequence[BaseAlgorithm], streams: Sequence[Streams]) -> None:
        if reason := stackable(models):
            raise ValueError(reason)
        self.models: list[Any] = list(models)
        self.streams = list(streams)
        self.stack: Stack | None = None
        self.attached: Attached | None = None

    @classmethod
    def build(cls, make: Callable[[int], BaseAlgorithm], seeds: Iterable[int]) -> "Population":
        """Make a member for each seed."""
        models, streams = [], []
        for seed in seeds:
            models.append(make(seed))
            streams.append(Streams.capture(models[-1].device))
        return cls(models, streams)

    def learn(
        self,
        total_timesteps: int,
        callbacks: Sequence[BaseCallback | None] | None = None,
        log_interval: int | None = None,
        at_rollout: Callable[[], None] = lambda: None,
    ) -> None:
        """Train every member for so many steps of its environments, as its own `learn` would.

        Args:
            total_timesteps: of each member.
            callbacks: one for each member. They find what SB3's callbacks find; where they draw from global
                generators, these are nobody's.
            log_interval: rollouts (SAC: episodes) between two dumps of each member's logger; None: the algorithm's own
                default.
            at_rollout: called at the start of each rollout, once all callbacks have been told of it.
        """
        if reason := blocked(self.models, callbacks or ()):
            raise ValueError(reason)
        begun: list[BaseCallback] = []
        scopes: list[Scope] = []
        for model, own, callback in zip(self.models, self.streams, callbacks or [None] * len(self.models), strict=True):
            with own.active():
                total_timesteps, listener = model._setup_learn(
                    total_timesteps, callback, True, type(model).__name__, False
                )
            begun.append(listener)
            scopes.append({"self": model, "callback": listener, "total_timesteps": total_timesteps, "env": model.env})
        for listener, scope in zip(begun, scopes, strict=True):
            listener.on_training_start(scope, {})
        parts = parts_of(begun)
        try:
            self.stack = stack = STACKS[type(self.models[0])](self.models, self.streams, parts)
            self.attached = attached = Attached(stack, self.models, begun, parts)
            while self.models[0].num_timesteps < total_timesteps:
                for listener in begun:
                    listener.on_rollout_start()
                at_rollout()
                if not stack.collect(begun, scopes, log_interval or stack.log_interval):
                    break
                attached.begin()
                stack.train()
                attached.end()
        finally:
            if self.attached is not None:
                self.attached.close()
            if self.stack is not None:
                self.stack.release()
            self.stack = self.attached = None
        for listener in begun:
            listener.on_training_end()


def stackable(models: Sequence[BaseAlgorithm]) -> str | None:
    """Why models cannot be trained at once, in one sentence; None where they can."""
    first: Any = models[0]
    kind = type(first)
    if kind not in STACKS:
        return f"{kind.__name__} is not known stacked; {' and '.join(known.__name__ for known in STACKS)} are."
    stack = STACKS[kind]
    for model in models:
        if type(model) is not kind:
            return f"{type(model).__name__} cannot be stacked with {kind.__name__}."
        for name in stack.alike:
            if getattr(model, name) != getattr(first, name):
                return f"members differ in {name}: {getattr(first, name)} and {getattr(model, name)}."
        if [tensor.shape for tensor in model.policy.parameters()] != [each.shape for each in first.policy.parameters()]:
            return "members differ in the shapes of their networks."
        if str(model.policy) != str(first.policy):
            return "members differ in the modules of their networks."
        if (model.get_vec_normalize_env() is None) != (first.get_vec_normalize_env() is None):
            return "members differ in whether what they observe is normalised."
    if first.use_sde:
        return "state-dependent exploration (gSDE) is not known stacked."
    if reason := stack.refuses(models):
        return reason
    try:
        with torch.no_grad():
            stack([first], [Streams()], [slice(0, 1)]).release()
    except CannotStackError as error:
        return f"{error} is not known stacked."
    return None
