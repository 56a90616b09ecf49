"""PPO on a population: rollouts and updates of all members at once.

As Stable-Baselines3 trains it: what a member draws, keeps and logs is what its own `collect_rollouts` and `train` would
have drawn, kept and logged.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from agents.population.actions import actions_of
from agents.population.headed import Headed
from agents.population.modules import CannotStackError
from agents.population.observations import preprocess
from agents.population.rollouts import Rollouts
from agents.population.rows import Rows
from agents.population.stack import Scope, Stack
from agents.population.streams import Streams
from agents.population.surrogate import Losses, Surrogate, generalised_advantages

AT_ONCE = 256
"""Steps of a rollout that are looked back on in one pass: more would need more memory and save nothing."""


class OnPolicyStack(Stack):
    """Members that PPO trains; arguments and errors as for `Stack`."""

    alike = (
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
    )
    log_interval = 1

    def __init__(self, models: Sequence[Any], streams: Sequence[Streams], parts: Sequence[slice]) -> None:
        super().__init__(models, streams, parts)
        first = self.first
        policy, extractor = first.policy, first.policy.mlp_extractor
        if type(extractor) is not MlpExtractor:
            raise CannotStackError(f"a {type(extractor).__name__}")
        if type(first.rollout_buffer) is not RolloutBuffer:
            raise CannotStackError(f"a {type(first.rollout_buffer).__name__}")
        self.actions = actions_of(policy.action_dist)
        self.rollouts = Rollouts(self.models, self.streams)
        rows = Rows([list(model.policy.parameters()) for model in self.models])
        self.update = self._stepped(rows, [model.policy.optimizer for model in self.models], first.max_grad_norm)
        gradient = self.update.gradient
        actor_body = [policy.pi_features_extractor, extractor.policy_net]
        critic_body = [policy.vf_features_extractor, extractor.value_net]
        self.actor = Headed(rows, gradient, actor_body, [policy.action_net])
        self.critic = Headed(rows, gradient, critic_body, [policy.value_net])
        if self.actor.numbers & self.critic.numbers:
            raise CannotStackError("an extractor of features that actor and critic share")
        self._show(self.actor)
        self._show(self.critic)
        self.collected = 0
        self.log_std: Tensor | None = None
        for number in set(range(len(rows.shapes))) - self.actor.numbers - self.critic.numbers:
            if rows.members[0][number] is not getattr(policy, "log_std", None):
                raise CannotStackError("a parameter that is neither the actor's nor the critic's")
            self.log_std, self._by_log_std = rows.stacked[number], rows.views(gradient)[number]

    @classmethod
    def refuses(cls, models: Sequence[Any]) -> str | None:
        """Why agents of this algorithm cannot be stacked for their settings."""
        if any(model.target_kl is not None for model in models):
            return "with target_kl each member would end its updates at a time of its own."
        if any(_ranges(model, left) != _ranges(models[0], left) for model in models for left in (1.0, 0.5, 0.0)):
            return "members differ in clip_range or clip_range_vf."
        return None

    # Rollouts

    @torch.inference_mode()
    def act(self, observations: Any, std: Tensor | None) -> tuple[Tensor, Tensor]:
        """Actions `[members, samples, dimensions]`, and what the head gave, `[members, samples, outputs]`.

        Args:
            observations: of all members.
            std: what the distribution makes of their `log_std`.
        """
        seen = preprocess(observations, self.first.policy)
        # Where actions are real numbers the last bit matters: chaotic environments make it a different rollout.
        is_real = isinstance(self.first.action_space, spaces.Box)
        (outputs,) = self.actor.exactly(seen) if is_real else self.actor(seen)
        return self.actions.sample(outputs, std, self.streams), outputs

    def collect(self, callbacks: Sequence[BaseCallback], scopes: Sequence[Scope], log_interval: int) -> bool:
        """Collect one rollout of every member.

        Values and log-probabilities are known once the rollout is complete, in the buffer.
        """
        models, first = self.models, self.first
        for model in models:
            model.policy.set_training_mode(False)
        self.update.rows.adopt()
        self.rollouts.begin()
        arrays = self.rollouts.arrays
        box = isinstance(first.action_space, spaces.Box)
        shape = (len(models), first.n_envs, *first.action_space.shape)
        observed, starts = self._observed()
        ended, outputs, std = np.zeros_like(starts), list[Tensor](), self.actions.std(self.log_std)
        for step in range(first.n_steps):
            arrays["observations"][:, step], arrays["episode_starts"][:, step] = observed, starts
            found, given = self.act(observed, std)
            outputs.append(given)
            actions = found.cpu().numpy()
            arrays["actions"][:, step] = actions
            actions = actions.reshape(shape)
            clipped = np.clip(actions, first.action_space.low, first.action_space.high) if box else actions
            all_stepped: list[Any] = self.steps(list(clipped))
            for number, stepped in enumerate(all_stepped):
                model, scope = models[number], scopes[number]
                scope["actions"], scope["clipped_actions"] = actions[number], clipped[number]
                scope["n_steps"] = step
                if not self._hear(number, callbacks[number], scope, stepped):
                    return False
                model._last_obs, _, model._last_episode_starts, _ = stepped
                observed[number] = stepped[0].reshape(observed.shape[1:])
                ended[number] = stepped[2]
            if ended.any():
                for number in np.flatnonzero(ended.any(axis=1)).tolist():
                    _bootstrap(models[number], *all_stepped[number][1:])
            arrays["rewards"][:, step] = [rewards for _, rewards, _, _ in all_stepped]
            starts, ended = ended, starts
        self._look_back(outputs, observed, starts)
        self.rollouts.end()
        for callback in callbacks:
            callback.on_rollout_end()
        for model in models:
            model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
        self.collected += 1
        if self.collected % log_interval == 0:
            for model in models:
                model.dump_logs(self.collected)
        return True

    def _observed(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """What all environments have shown last, `[members, environments, ...]`, and whether episodes start there."""
        shape = self.rollouts.arrays["observations"].shape
        observed = np.stack([model._last_obs for model in self.models]).reshape(shape[0], *shape[2:])
        return observed, np.stack([model._last_episode_starts for model in self.models])

    @torch.inference_mode()
    def _look_back(self, outputs: Sequence[Tensor], observed: NDArray[Any], ended: NDArray[Any]) -> None:
        """Values, log-probabilities and advantages of all steps, which nobody needs before.

        Args:
            outputs: of the actor, at each step.
            observed: after the last one, `[members, environments, ...]`.
            ended: whether an episode ended with it, `[members, environments]`.
        """
        arrays, policy = self.rollouts.arrays, self.first.policy
        for start in range(0, len(outputs), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            expected = self.critic(preprocess(self._merged(arrays["observations"][:, part]), policy))[0]
            actions = self._merged(arrays["actions"][:, part]).float()
            given = torch.stack(list(outputs[part]), dim=1).flatten(1, 2)
            log_probs = self.actions.evaluate(given, self.log_std, actions).log_prob
            for name, found in (("values", expected), ("log_probs", log_probs)):
                array = arrays[name][:, part]
                array[:] = found.cpu().numpy().reshape(array.shape)
        following = self.critic(preprocess(observed, policy))[0].squeeze(-1).cpu().numpy()
        rewards, values, starts = (arrays[name] for name in ("rewards", "values", "episode_starts"))
        gamma, gae_lambda = self.first.gamma, self.first.gae_lambda
        arrays["advantages"][:] = generalised_advantages(rewards, values, starts, following, ended, gamma, gae_lambda)
        arrays["returns"][:] = arrays["advantages"] + arrays["values"]

    def _merged(self, array: NDArray[Any]) -> Tensor:
        """From `[members, steps, environments, ...]` to `[members, steps * environments, ...]`."""
        return torch.as_tensor(array, device=self.first.device).flatten(1, 2)

    # Updates

    def train(self) -> None:
        """Train every member on its rollout."""
        first = self.first
        for model in self.models:
            model.policy.set_training_mode(True)
            model._update_learning_rate(model.policy.optimizer)
        left = first._current_progress_remaining
        surrogate = Surrogate(
            float(first.clip_range(left)),
            None if first.clip_range_vf is None else float(first.clip_range_vf(left)),
            first.ent_coef,
            first.vf_coef,
            first.normalize_advantage,
        )
        self.update.begin()
        minibatches = self.rollouts.minibatches(first.batch_size, first.n_epochs)
        steps = [self._gradient_step(batch, surrogate) for batch in minibatches]
        self.update.end()
        self._log(steps, surrogate)

    @torch.no_grad()
    def _gradient_step(self, batch: dict[str, Tensor], surrogate: Surrogate) -> Losses:
        """One gradient step of every member."""
        seen = preprocess(batch["observations"], self.first.policy)
        (outputs,), (values,) = self.actor(seen, keep=True), self.critic(seen, keep=True)
        known = self.actions.evaluate(outputs, self.log_std, batch["actions"])
        losses, gradients, by_values = surrogate(known, values.squeeze(-1), batch)
        self.update.before_backward()
        self.actor.learn(gradients.outputs)
        self.critic.learn(by_values.unsqueeze(-1))
        if gradients.log_std is not None:
            self._by_log_std.copy_(gradients.log_std)
        self.update.step()
        return losses

    @torch.no_grad()
    def _log(self, steps: list[Losses], surrogate: Surrogate) -> None:
        """Give each member's logger what SB3 would, in one go: nothing waited for the device until now."""
        found = {name: values.tolist() for name, values in surrogate.logged(steps, self.first.n_epochs).items()}
        for number, model in enumerate(self.models):
            buffer, record = model.rollout_buffer, model.logger.record
            model._n_updates += model.n_epochs
            for name, values in found.items():
                record(f"train/{name}", values[number])
            # In the order in which SB3's buffer lies once it has been trained on, which sums otherwise.
            known = (getattr(buffer, name).swapaxes(0, 1).flatten() for name in ("values", "returns"))
            record("train/explained_variance", explained_variance(*known))
            if self.log_std is not None:
                record("train/std", self.log_std[number].exp().mean().item())
            record("train/n_updates", model._n_updates, exclude="tensorboard")
            record("train/clip_range", surrogate.clip)
            if surrogate.clip_vf is not None:
                record("train/clip_range_vf", surrogate.clip_vf)

    def release(self) -> None:
        """Give every member memory of its own again."""
        super().release()
        self.rollouts.release()


def _bootstrap(model: Any, rewards: Any, dones: Any, infos: Any) -> None:
    """Episodes that were only cut short are worth what the critic expects of their last observation."""
    for index in np.flatnonzero(dones):
        info = infos[index]
        if info.get("terminal_observation") is not None and info.get("TimeLimit.truncated", False):
            last = model.policy.obs_to_tensor(info["terminal_observation"])[0]
            with torch.no_grad():
                rewards[index] += model.gamma * model.policy.predict_values(last)[0]


def _ranges(model: Any, left: float) -> list[float]:
    """What PPO clips to when so much of its progress is left."""
    return [float(clip(left)) for clip in (model.clip_range, model.clip_range_vf) if clip is not None]
