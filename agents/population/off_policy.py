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
from torch import Tensor, nn

from agents.injection import leaves
from agents.population.by_hand import Shown
from agents.population.headed import Headed
from agents.population.modules import CannotStackError, StackedLinear
from agents.population.observations import preprocess
from agents.population.replay import Replay
from agents.population.rows import Rows, release_statistics
from agents.population.squashed import Squashed
from agents.population.stepping import Stepper
from agents.population.streams import Streams
from envs.stepping import Steps

LOGGED = ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss")
"""What is logged of each gradient step, the last one only where the entropy coefficient is learnt."""


class Trained:
    """Parameters that an optimiser of each member steps.

    Args:
        rows: the parameters.
        gradient: what they are stepped with, laid out as the rows are.
        optimizers: each member's own.
        parts: neighbouring members that are stepped together.
    """

    def __init__(
        self,
        rows: Rows,
        gradient: Tensor,
        optimizers: Sequence[torch.optim.Optimizer],
        parts: Sequence[slice],
    ) -> None:
        self.rows = rows
        self.gradient = gradient
        self.optimizers = list(optimizers)
        self.steppers = [Stepper(rows, gradient, self.optimizers[part], part.start) for part in parts]

    def begin(self) -> None:
        """Called before the first of some steps."""
        self.rows.adopt()
        for stepper in self.steppers:
            stepper.begin()

    def end(self) -> None:
        """Called after the last of them."""
        for stepper in self.steppers:
            stepper.end()

    def before_backward(self) -> None:
        """Called when the losses are known."""
        for stepper in self.steppers:
            stepper.before_backward()

    def step(self) -> None:
        """Take one step with the gradients as they are now."""
        for stepper in self.steppers:
            stepper.step()

    def release(self) -> None:
        """Give every member memory of its own again."""
        self.rows.release()
        for optimizer in self.optimizers:
            release_statistics(optimizer)


class Critics:
    """The critics of all members, or their target networks.

    Args:
        critics: SB3's, of each member.

    Raises:
        CannotStackError: they are of a kind that is not known stacked.
    """

    def __init__(self, critics: Sequence[Any]) -> None:
        first = critics[0].q_networks[0]
        if type(critics[0].features_extractor) is not FlattenExtractor:
            raise CannotStackError(f"a {type(critics[0].features_extractor).__name__}")
        self.number = len(critics[0].q_networks)
        blocks = [len(list(first.parameters()))] * self.number
        rows = Rows([list(critic.parameters()) for critic in critics], blocks)
        self.network = Headed(rows, [first[:-1]], [first[-1]])

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


class OffPolicyStack:
    """The networks, rollouts and updates of all members.

    Args:
        models: the members, alike but for their seeds.
        streams: their random streams.
        parts: neighbouring members that are stepped together.

    Raises:
        CannotStackError: the networks are of a kind that is not known stacked.
    """

    def __init__(self, models: Sequence[Any], streams: Sequence[Streams], parts: Sequence[slice]) -> None:
        self.models = list(models)
        self.streams = list(streams)
        self.first = first = self.models[0]
        own = first.actor
        if type(first.replay_buffer) is not ReplayBuffer:
            raise CannotStackError(f"a {type(first.replay_buffer).__name__}")
        if type(own.action_dist) is not SquashedDiagGaussianDistribution:
            raise CannotStackError(f"a {type(own.action_dist).__name__}")
        self.steps = Steps([model.env for model in self.models], torch.get_num_threads())
        self.replay = Replay(self.models, self.streams)
        rows = Rows([list(model.actor.parameters()) for model in self.models])
        self.actor = Headed(rows, [own.features_extractor, own.latent_pi], [own.mu, own.log_std])
        self.critics = Critics([model.critic for model in self.models])
        self.targets = Critics([model.critic_target for model in self.models])
        self._places = {module: (stacked, slice(None)) for module, stacked in self.actor.made.items()}
        for index, network in enumerate(first.critic.q_networks):
            for leaf, twin in zip(leaves(network), leaves(first.critic.q_networks[0]), strict=True):
                self._places[leaf] = self.critics.network.made[twin], slice(index, None, self.critics.number)

        optimizers = [model.actor.optimizer for model in self.models]
        self.actor_steps = Trained(rows, self.actor.gradient, optimizers, parts)
        optimizers = [model.critic.optimizer for model in self.models]
        self.critic_steps = Trained(self.critics.network.rows, self.critics.network.gradient, optimizers, parts)
        self.trained = [self.actor_steps, self.critic_steps]
        self.temperature: Trained | None = None
        if first.ent_coef_optimizer is not None:
            rows = Rows([[model.log_ent_coef] for model in self.models])
            optimizers = [model.ent_coef_optimizer for model in self.models]
            self.temperature = Trained(rows, torch.zeros_like(rows.flat), optimizers, parts)
            self.trained.append(self.temperature)
        modules = (*self.actor.body.parts, *self.actor.heads)
        self.acting = [module for module in modules if isinstance(module, StackedLinear)]

    def rows_of(self, module: nn.Module) -> tuple[nn.Module, slice]:
        """Where a leaf of the first member is computed.

        Returns:
            The stacked module, and which rows of its inputs and outputs `[rows, samples, ...]` are the members'.
        """
        return self._places[module]

    def steppers_of(self, part: int) -> list[Stepper]:
        """What steps the members of a part, one for each of their optimisers."""
        return [trained.steppers[part] for trained in self.trained]

    def by_hand(self) -> list[Shown]:
        """Who shows what passes through modules that are not called."""
        return [*self.actor.by_hand(), *self.critics.network.by_hand()]

    # Rollouts

    def collect(self, callbacks: Sequence[BaseCallback], scopes: Sequence[dict[str, Any]], log_interval: int) -> bool:
        """Collect one rollout of every member; returns whether all callbacks want to go on.

        Callbacks find what they look for in the member's scope, under the names that SB3's own local variables have.
        """
        self.actor.rows.adopt()
        self.replay.adopt()
        for step in range(self.first.train_freq.frequency):
            actions, buffer_actions = self._act()
            for number, (new_obs, rewards, dones, infos) in enumerate(self.steps(list(actions))):
                model = self.models[number]
                model.num_timesteps += model.n_envs
                scopes[number].update(
                    actions=actions[number],
                    buffer_actions=buffer_actions[number],
                    new_obs=new_obs,
                    rewards=rewards,
                    dones=dones,
                    infos=infos,
                    num_collected_steps=step + 1,
                )
                if not callbacks[number].on_step():
                    return False
                model._update_info_buffer(infos, dones)
                model._store_transition(model.replay_buffer, buffer_actions[number], new_obs, rewards, dones, infos)
                model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
                for _ in range(np.count_nonzero(dones)):
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
        for layer in self.acting:
            layer.exact = self.first.device.type == "cpu"
        latent = self.actor.body(preprocess(observations, self.first.policy))
        mean, log_std = (head(latent) for head in self.actor.heads)
        for layer in self.acting:
            layer.exact = False
        actions: NDArray[Any] = Squashed.draw(mean, log_std, self.streams).actions.cpu().numpy()
        return actions

    # Updates

    def train(self) -> None:
        """Train every member on minibatches from its replay buffer."""
        first = self.first
        steps = first.gradient_steps if first.gradient_steps >= 0 else first.train_freq.frequency * first.n_envs
        if not steps:
            return
        for number, model in enumerate(self.models):
            model._update_learning_rate([part.optimizers[number] for part in self.trained])
        for part in self.trained:
            part.begin()
        self.targets.network.rows.adopt()
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
        target, tau = self.targets.network.rows.flat, self.first.tau
        target.mul_(1 - tau).add_(self.critics.network.rows.flat, alpha=tau)

    def release(self) -> None:
        """Give every member memory of its own again, but for replay buffers: these are never copied."""
        for part in self.trained:
            part.release()
        self.targets.network.rows.release()
