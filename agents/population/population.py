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
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.population.modules import CannotStackError
from agents.population.on_policy import OnPolicyStack
from agents.population.streams import Streams

ALIKE = {
    PPO: (
        "n_steps",
        "n_envs",
        "batch_size",
        "n_epochs",
        "gamma",
        "gae_lambda",
        "ent_coef",
        "vf_coef",
        "max_grad_norm",
        "normalize_advantage",
    ),
}
"""For each algorithm that can be stacked what must be the same in all members."""


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
        self.stack: OnPolicyStack | None = None

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
            log_interval: rollouts between two dumps of each member's logger; None: the algorithm's own default.
            at_rollout: called at the start of each rollout, once all callbacks have been told of it.
        """
        begun: list[BaseCallback] = []
        scopes: list[dict[str, Any]] = []
        for model, own, callback in zip(self.models, self.streams, callbacks or [None] * len(self.models), strict=True):
            with own.active():
                total_timesteps, listener = model._setup_learn(total_timesteps, callback, True, type(model).__name__, False)
            begun.append(listener)
            scopes.append({"self": model, "callback": listener, "total_timesteps": total_timesteps, "env": model.env})
        for listener, scope in zip(begun, scopes, strict=True):
            listener.on_training_start(scope, {})
        parts = [slice(0, len(self.models))]
        self.stack = OnPolicyStack(self.models, self.streams, parts)
        try:
            self._learn_on_policy(self.stack, total_timesteps, begun, scopes, log_interval or 1, at_rollout)
        finally:
            self.stack.release()
            self.stack = None
        for listener in begun:
            listener.on_training_end()

    def _learn_on_policy(
        self,
        stack: OnPolicyStack,
        total_timesteps: int,
        callbacks: list[BaseCallback],
        scopes: list[dict[str, Any]],
        log_interval: int,
        at_rollout: Callable[[], None],
    ) -> None:
        iteration = 0
        while self.models[0].num_timesteps < total_timesteps:
            for callback in callbacks:
                callback.on_rollout_start()
            at_rollout()
            if not stack.collect(callbacks, scopes):
                break
            iteration += 1
            for model in self.models:
                model._update_current_progress_remaining(model.num_timesteps, total_timesteps)
                if iteration % log_interval == 0:
                    model.dump_logs(iteration)
            stack.train()

    def settle(self) -> None:
        """Have every member be, in all that it remembers, what it would be alone; called before anybody looks."""


def stackable(models: Sequence[BaseAlgorithm]) -> str | None:
    """Why models cannot be trained at once, in one sentence; None where they can."""
    first: Any = models[0]
    kind = type(first)
    alike = next((names for known, names in ALIKE.items() if kind is known), None)
    if alike is None or kind.train is not PPO.train or kind.collect_rollouts is not OnPolicyAlgorithm.collect_rollouts:
        return f"{kind.__name__} is not known stacked; {' and '.join(known.__name__ for known in ALIKE)} are."
    for model in models:
        if type(model) is not kind:
            return f"{type(model).__name__} cannot be stacked with {kind.__name__}."
        for name in alike:
            if getattr(model, name) != getattr(first, name):
                return f"members differ in {name}: {getattr(first, name)} and {getattr(model, name)}."
        if [tensor.shape for tensor in model.policy.parameters()] != [each.shape for each in first.policy.parameters()]:
            return "members differ in the shapes of their networks."
    if getattr(first, "target_kl", None) is not None:
        return "with target_kl each member would end its updates at a time of its own."
    if getattr(first, "use_sde", False):
        return "state-dependent exploration (gSDE) is not known stacked."
    try:
        with torch.no_grad():
            OnPolicyStack([first], [Streams()], [slice(0, 1)]).release()
    except CannotStackError as error:
        return f"{error} is not known stacked."
    return None
