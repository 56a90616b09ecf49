"""SAC on a population: rollouts and updates of all members at once.

Haarnoja, Zhou, Hartikainen, Tucker, Ha, Tan, Kumar, Zhu, Gupta, Abbeel and Levine, 2018, arXiv 1812.05905, as
Stable-Baselines3 trains it: what a member draws, keeps and logs is what its own `collect_rollouts` and `train` would
have drawn, kept and logged.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from torch import Tensor

from agents.population.headed import Headed
from agents.population.modules import CannotStackError
from agents.population.observations import preprocess
from agents.population.replay import Replay
from agents.population.rows import Rows
from agents.population.squashed import Squashed
from agents.population.stack import Scope, Stack
from agents.population.stepping import Trained
from agents.population.streams import Streams

LOGGED = ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss")
"""What is logged of each gradient step, the last one only where the entropy coefficient is learnt."""


class Critics:
    """The critics of all members, or their target networks.

    Args:
        rows: their parameters, a block for each critic of a member.
        gradient: where the gradients go, laid out as the rows are.
        first: SB3's, of the first member.

    Raises:
        CannotStackError: they are of a kind that is not known stacked.
    """

    def __init__(self, rows: Rows, gradient: Tensor, first: Any) -> None:
        if type(first.features_extractor) is not FlattenExtractor:
            raise CannotStackError(f"a {type(first.features_extractor).__name__}")
        network = first.q_networks[0]
        self.number = len(first.q_networks)
        self.network = Headed(rows, gradient, [network[:-1]], [network[-1]])

    @staticmethod
    def rows(critics: Sequence[Any]) -> Rows:
        """The parameters of SB3's critics of all members."""
        networks = critics[0].q_networks
        return Rows(
            [list(critic.parameters()) for critic in critics], [len(list(networks[0].parameters()))] * len(networks)
        )

    def __call__(self, seen: Tensor, actions: Tensor, keep: bool = False) -> Tensor:
        """Values `[members, critics, samples]` of observations and actions `[members, samples, ...]`.

        Args:
            seen: observations.
            actions: between -1 and 1.
            keep: whether `learn` or `by_actions` follows.
        """
        inputs = torch.cat([seen.flatten(2), actions], dim=-1)
        each = inputs.unsqueeze(1).expand(-1, self.number, -1, -1).flatten(0, 1)
        values: Tensor = self.network(each, keep)[0]
        return values.view(len(inputs), self.number, -1)

    def learn(self, gradient: Tensor) -> None:
        """Write the gradients of a loss by all parameters, given that by the values."""
        self.network.learn(gradient.reshape(-1, gradient.shape[2], 1))

    def by_actions(self, gradient: Tensor, dimensions: int) -> Tensor:
        """The gradient of a loss by the actions `[members, samples, dimensions]`, given that by the values."""
        by_inputs = self.network.by_inputs(gradient.reshape(-1, gradient.shape[2], 1))
        return by_inputs[..., -dimensions:].reshape(*gradient.shape, dimensions).sum(dim=1)


class OffPolicyStack(Stack):
    """Members that SAC trains; arguments and errors as for `Stack`."""

    alike = (
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
    )
    log_interval = 4

    def __init__(self, models: Sequence[Any], streams: Sequence[Streams], parts: Sequence[slice]) -> None:
        super().__init__(models, streams, parts)
        first, own = self.first, self.first.actor
        if type(first.replay_buffer) is not ReplayBuffer:
            raise CannotStackError(f"a {type(first.replay_buffer).__name__}")
        if type(own.action_dist) is not SquashedDiagGaussianDistribution:
            raise CannotStackError(f"a {type(own.action_dist).__name__}")
        self.replay = Replay(self.models, self.streams)

        rows = Rows([list(model.actor.parameters()) for model in self.models])
        self.actor_steps = self._stepped(rows, [model.actor.optimizer for model in self.models])
        body = [own.features_extractor, own.latent_pi]
        self.actor = Headed(rows, self.actor_steps.gradient, body, [own.mu, own.log_std])
        self._show(self.actor)

        rows = Critics.rows([model.critic for model in self.models])
        self.critic_steps = self._stepped(rows, [model.critic.optimizer for model in self.models])
        self.critics = Critics(rows, self.critic_steps.gradient, first.critic)
        self._show(self.critics.network, list(first.critic.q_networks))
        self.target_rows = Critics.rows([model.critic_target for model in self.models])
        self.targets = Critics(self.target_rows, torch.empty_like(self.target_rows.flat), first.critic_target)

        self.temperature: Trained | None = None
        if first.ent_coef_optimizer is not None:
            rows = Rows([[model.log_ent_coef] for model in self.models])
            self.temperature = self._stepped(rows, [model.ent_coef_optimizer for model in self.models])

    @classmethod
    def refuses(cls, models: Sequence[Any]) -> str | None:
        """Why agents of this algorithm cannot be stacked for their settings."""
        first = models[0]
        if any(model.action_noise is not None for model in models):
            return "noise added to actions is not known stacked."
        if any(model.optimize_memory_usage for model in models):
            return "a replay buffer with optimize_memory_usage is not known stacked."
        if first.train_freq.unit is not TrainFrequencyUnit.STEP:
            return "with train_freq in episodes each member would end its rollouts at a time of its own."
        return None

    # Rollouts

    def collect(self, callbacks: Sequence[BaseCallback], scopes: Sequence[Scope], log_interval: int) -> bool:
        """Collect one rollout of every member."""
        self.actor_steps.rows.adopt()
        self.replay.adopt()
        for step in range(self.first.train_freq.frequency):
            actions, buffer_actions = self._act()
            for number, stepped in enumerate(self.steps(list(actions))):
                model, scope = self.models[number], scopes[number]
                scope["actions"], scope["buffer_actions"] = actions[number], buffer_actions[number]
                scope["replay_buffer"], scope["num_collected_steps"] = model.replay_buffer, step + 1
                if not self._hear(number, callbacks[number], scope, stepped):
                    return False
                model._store_transition(model.replay_buffer, buffer_actions[number], *stepped)
                model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
                for _ in range(np.count_nonzero(stepped[2])):
                    model._episode_num += 1
                    if model._episode_num % log_interval == 0:
                        model.dump_logs()
        for callback in callbacks:
            callback.on_rollout_end()
        return True

    def _act(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Actions for the environments and for the replay buffers, `[members, environments, ...]`."""
        first, policy = self.first, self.first.policy
        if first.num_timesteps < first.learning_starts:
            sampled = [model._sample_action(first.learning_starts, None, first.n_envs) for model in self.models]
            actions, buffer_actions = zip(*sampled, strict=True)
            return np.stack(actions), np.stack(buffer_actions)
        squashed = self._squashed(np.stack([model._last_obs for model in self.models]))
        squashed = squashed.reshape(*squashed.shape[:2], *first.action_space.shape)
        # There and back, as SB3 goes, which rounds.
        buffer_actions = policy.scale_action(policy.unscale_action(squashed))
        return policy.unscale_action(buffer_actions), buffer_actions

    @torch.inference_mode()
    def _squashed(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions between -1 and 1, `[members, environments, dimensions]`."""
        # The last bit of an action matters: chaotic environments make it a different rollout.
        mean, log_std = self.actor.exactly(preprocess(observations, self.first.policy))
        actions: NDArray[Any] = Squashed.draw(mean, log_std, self.streams).actions.cpu().numpy()
        return actions

    # Updates

    def train(self) -> None:
        """Train every member on minibatches from its replay buffer, once that holds enough."""
        first = self.first
        steps = first.gradient_steps if first.gradient_steps >= 0 else first.train_freq.frequency * first.n_envs
        if not steps or first.num_timesteps <= first.learning_starts:
            return
        for number, model in enumerate(self.models):
            model._update_learning_rate([part.optimizers[number] for part in self.trained])
        for part in self.trained:
            part.begin()
        self.target_rows.adopt()
        logged = []
        for step in range(steps):
            logged.append(self._gradient_step())
            if step % first.target_update_interval == 0:
                self._update_targets()
        for part in self.trained:
            part.end()
        means = torch.stack(logged).double().mean(dim=0).tolist()
        for number, model in enumerate(self.models):
            model._n_updates += steps
            model.logger.record("train/n_updates", model._n_updates, exclude="tensorboard")
            for name, values in zip(LOGGED, means, strict=False):
                model.logger.record(f"train/{name}", values[number])

    @torch.no_grad()
    def _gradient_step(self) -> Tensor:
        """One gradient step of every member; gives what is logged, `[names, members]`."""
        batch = self.replay.sample(self.first.batch_size)
        seen = preprocess(batch["observations"], self.first.policy)
        mean, log_std = self.actor(seen, keep=True)
        drawn = Squashed.draw(mean, log_std, self.streams)
        log_prob = drawn.log_prob()
        ent_coef, ent_coef_loss = self._step_temperature(log_prob)
        critic_loss = self._step_critics(seen, batch["actions"], self._target(batch, ent_coef))
        actor_loss = self._step_actor(seen, drawn, log_prob, ent_coef)
        return torch.stack([ent_coef, actor_loss, critic_loss, *ent_coef_loss])

    def _step_temperature(self, log_prob: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Entropy coefficients `[members]` as they were before their step, and the losses of those that are learnt."""
        if self.temperature is None:
            return torch.stack([model.ent_coef_tensor for model in self.models]), []
        log_ent_coef = self.temperature.rows.stacked[0].squeeze(1)
        ent_coef = log_ent_coef.exp()
        gradient = -(log_prob + self.first.target_entropy).mean(dim=1)
        loss = log_ent_coef * gradient
        self.temperature.before_backward()
        self.temperature.gradient[:, 0] = gradient
        self.temperature.step()
        return ent_coef, [loss]

    def _target(self, batch: dict[str, Tensor], ent_coef: Tensor) -> Tensor:
        """What critics are trained towards, `[members, samples]`."""
        following = preprocess(batch["next_observations"], self.first.policy)
        mean, log_std = self.actor(following)
        drawn = Squashed.draw(mean, log_std, self.streams)
        values = self.targets(following, drawn.actions).amin(dim=1) - ent_coef.unsqueeze(1) * drawn.log_prob()
        # An episode that was only cut short is worth what would have followed.
        goes_on = 1 - batch["dones"] * (1 - batch["timeouts"])
        target: Tensor = batch["rewards"] + goes_on * self.first.gamma * values
        return target

    def _step_critics(self, seen: Tensor, actions: Tensor, target: Tensor) -> Tensor:
        """Towards the target; gives the loss `[members]`, half the sum of all critics' mean squared errors."""
        error = self.critics(seen, actions, keep=True) - target.unsqueeze(1)
        self.critic_steps.before_backward()
        self.critics.learn(error / error.shape[2])
        self.critic_steps.step()
        return 0.5 * error.square().mean(dim=2).sum(dim=1)

    def _step_actor(self, seen: Tensor, drawn: Squashed, log_prob: Tensor, ent_coef: Tensor) -> Tensor:
        """Towards likelier actions of more value by the less trusting critic; gives the loss `[members]`."""
        values = self.critics(seen, drawn.actions, keep=True)
        least, chosen = values.min(dim=1, keepdim=True)
        by_values = torch.zeros_like(values).scatter_(1, chosen, -1 / values.shape[2])
        by_actions = self.critics.by_actions(by_values, drawn.actions.shape[2])
        self.actor_steps.before_backward()
        self.actor.learn(*drawn.backward(by_actions, ent_coef.view(-1, 1, 1) / values.shape[2]))
        self.actor_steps.step()
        return (ent_coef.unsqueeze(1) * log_prob - least.squeeze(1)).mean(dim=1)

    def _update_targets(self) -> None:
        """Polyak averages, in the order of operations of SB3's `polyak_update`."""
        tau = self.first.tau
        self.target_rows.flat.mul_(1 - tau).add_(self.critic_steps.rows.flat, alpha=tau)

    def release(self) -> None:
        """Give every member memory of its own again, but for replay buffers: these are never copied."""
        super().release()
        self.target_rows.release()
