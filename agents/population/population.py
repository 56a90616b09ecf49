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
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from agents.population.interventions import Attached, blocked, parts_of
from agents.population.modules import CannotStackError
from agents.population.off_policy import OffPolicyStack
from agents.population.on_policy import OnPolicyStack
from agents.population.streams import Streams

ALIKE: dict[type[BaseAlgorithm], tuple[str, ...]] = {
    PPO: (
        "observation_space",
        "action_space",
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
    SAC: (
        "observation_space",
        "action_space",
        "n_envs",
        "batch_size",
        "buffer_size",
        "learning_starts",
        "train_freq",
        "gradient_steps",
        "gamma",
        "tau",
        "ent_coef",
        "target_entropy",
        "target_update_interval",
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
        self.stack: OnPolicyStack | OffPolicyStack | None = None
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
        scopes: list[dict[str, Any]] = []
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
            if isinstance(self.models[0], SAC):
                self.stack = OffPolicyStack(self.models, self.streams, parts)
                self.attached = Attached(self.stack, self.models, begun, parts)
                self._learn_off_policy(self.stack, total_timesteps, begun, scopes, log_interval or 4, at_rollout)
            else:
                self.stack = OnPolicyStack(self.models, self.streams, parts)
                self.attached = Attached(self.stack, self.models, begun, parts)
                self._learn_on_policy(self.stack, total_timesteps, begun, scopes, log_interval or 1, at_rollout)
        finally:
            if self.attached is not None:
                self.attached.close()
            if self.stack is not None:
                self.stack.release()
            self.stack = self.attached = None
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
            self._train(stack)

    def _learn_off_policy(
        self,
        stack: OffPolicyStack,
        total_timesteps: int,
        callbacks: list[BaseCallback],
        scopes: list[dict[str, Any]],
        log_interval: int,
        at_rollout: Callable[[], None],
    ) -> None:
        first = self.models[0]
        for model, scope in zip(self.models, scopes, strict=True):
            scope["replay_buffer"] = model.replay_buffer
        while first.num_timesteps < total_timesteps:
            for callback in callbacks:
                callback.on_rollout_start()
            at_rollout()
            if not stack.collect(callbacks, scopes, log_interval):
                break
            if first.num_timesteps > first.learning_starts:
                self._train(stack)

    def _train(self, stack: OnPolicyStack | OffPolicyStack) -> None:
        assert self.attached is not None
        self.attached.begin()
        stack.train()
        self.attached.end()

    def settle(self) -> None:
        """Have every member be, in all that it remembers, what it would be alone; called before anybody looks."""


def stackable(models: Sequence[BaseAlgorithm]) -> str | None:
    """Why models cannot be trained at once, in one sentence; None where they can."""
    first: Any = models[0]
    kind = type(first)
    alike = next((names for known, names in ALIKE.items() if kind is known), None)
    if alike is None:
        return f"{kind.__name__} is not known stacked; {' and '.join(known.__name__ for known in ALIKE)} are."
    for model in models:
        if type(model) is not kind:
            return f"{type(model).__name__} cannot be stacked with {kind.__name__}."
        for name in alike:
            if getattr(model, name) != getattr(first, name):
                return f"members differ in {name}: {getattr(first, name)} and {getattr(model, name)}."
        if [tensor.shape for tensor in model.policy.parameters()] != [each.shape for each in first.policy.parameters()]:
            return "members differ in the shapes of their networks."
        if str(model.policy) != str(first.policy):
            return "members differ in the modules of their networks."
        if (model.get_vec_normalize_env() is None) != (first.get_vec_normalize_env() is None):
            return "members differ in whether what they observe is normalised."
        if any(_ranges(model, left) != _ranges(first, left) for left in (1.0, 0.5, 0.0)):
            return "members differ in clip_range or clip_range_vf."
    if getattr(first, "target_kl", None) is not None:
        return "with target_kl each member would end its updates at a time of its own."
    if getattr(first, "use_sde", False):
        return "state-dependent exploration (gSDE) is not known stacked."
    if getattr(first, "action_noise", None) is not None:
        return "noise added to actions is not known stacked."
    if getattr(first, "optimize_memory_usage", False):
        return "a replay buffer with optimize_memory_usage is not known stacked."
    if kind is SAC and first.train_freq.unit is not TrainFrequencyUnit.STEP:
        return "with train_freq in episodes each member would end its rollouts at a time of its own."
    stack = OffPolicyStack if isinstance(first, SAC) else OnPolicyStack
    try:
        with torch.no_grad():
            stack([first], [Streams()], [slice(0, 1)]).release()
    except CannotStackError as error:
        return f"{error} is not known stacked."
    return None


def _ranges(model: Any, left: float) -> list[float]:
    """What PPO clips to when so much of its progress is left."""
    schedules = (getattr(model, name, None) for name in ("clip_range", "clip_range_vf"))
    return [float(schedule(left)) for schedule in schedules if schedule is not None]
