"""PPO on a population: rollouts and updates of all members at once.

Schulman, Wolski, Dhariwal, Radford and Klimov, 2017, arXiv 1707.06347, as Stable-Baselines3 trains it: what a member
draws, keeps and logs is what its own `collect_rollouts` and `train` would have drawn, kept and logged.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.utils import explained_variance
from torch import Tensor, nn

from agents.population.actions import Gaussian, actions_of
from agents.population.by_hand import Shown
from agents.population.modules import CannotStackError, Chain, StackedLinear, Stacker, is_watched
from agents.population.observations import preprocess
from agents.population.perceptron import Perceptrons, hidden_layers
from agents.population.rows import Rows, release_statistics
from agents.population.stepping import Stepper
from agents.population.streams import Streams
from envs.stepping import Steps


class Logged(NamedTuple):
    """What one gradient step leaves for the logger: `[members]` each, the log-ratios `[members, samples]`."""

    gain: Tensor
    value_loss: Tensor
    entropy: Tensor
    log_ratio: Tensor


ARRAYS = ("observations", "actions", "rewards", "returns", "episode_starts", "values", "log_probs", "advantages")
"""What a rollout buffer keeps."""


AT_ONCE = 256
"""Steps of a rollout that are looked back on in one pass: more would need more memory and save nothing."""


class OnPolicyStack:
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
        policy = first.policy
        if type(policy.mlp_extractor) is not MlpExtractor:
            raise CannotStackError(f"a {type(policy.mlp_extractor).__name__}")
        if type(first.rollout_buffer) is not RolloutBuffer:
            raise CannotStackError(f"a {type(first.rollout_buffer).__name__}")
        self.actions = actions_of(policy.action_dist)
        bodies = policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net
        plain = type(policy.pi_features_extractor) is type(policy.vf_features_extractor) is FlattenExtractor
        alike = plain and hidden_layers(bodies[0]) is not None and hidden_layers(bodies[0]) == hidden_layers(bodies[1])
        self.rows = Rows([_parameters(model.policy) for model in models], _blocks(policy) if alike else None)
        stacker = Stacker(self.rows.parameters.__getitem__)
        self.actor = stacker.chain([policy.pi_features_extractor, bodies[0]])
        self.critic = stacker.chain([policy.vf_features_extractor, bodies[1]])
        self.action_head = stacker.chain([policy.action_net])
        self.value_head = stacker.chain([policy.value_net])
        self.modules = stacker.made
        self.log_std = self.rows.parameters[policy.log_std] if isinstance(self.actions, Gaussian) else None
        self.action_linear, self.value_linear = _linear(self.action_head), _linear(self.value_head)
        # Where actions are real numbers the last bit matters: chaotic environments make it a different rollout.
        self.is_exact = isinstance(first.action_space, spaces.Box) and self.rows.flat.device.type == "cpu"
        acting = [part for chain in (self.actor, self.action_head) for part in chain.modules()]
        self.acting = [part for part in acting if isinstance(part, StackedLinear)]
        self.gradient = torch.zeros_like(self.rows.flat)
        self.bodies = Perceptrons(self.rows, self.gradient, hidden_layers(bodies[0]) or ()) if alike else None
        self.steppers = [
            Stepper(
                self.rows,
                self.gradient,
                [model.policy.optimizer for model in self.models[part]],
                part.start,
                first.max_grad_norm,
            )
            for part in parts
        ]
        places = self.rows.views(self.gradient)
        self._places: dict[Tensor | None, Tensor] = dict(zip(self.rows.parameters.values(), places, strict=True))
        self._leaves = [leaf for leaf in self.rows.parameters.values() if leaf is not self.log_std]
        self._fast_bodies: Perceptrons | None = None
        self.steps = Steps([model.env for model in self.models], torch.get_num_threads())
        self._memory: dict[str, np.ndarray[Any, Any]] = {}

    def rows_of(self, module: nn.Module) -> tuple[nn.Module, slice]:
        """Where a leaf of the first member is computed.

        Returns:
            The stacked module, and which rows of its inputs and outputs `[rows, samples, ...]` are the members'.
        """
        return self.modules[module], slice(None)

    def steppers_of(self, part: int) -> list[Stepper]:
        """What steps the members of a part, one for each of their optimisers."""
        return [self.steppers[part]]

    def by_hand(self) -> list[Shown]:
        """Who shows what passes through modules that are not called."""
        if self.bodies is None:
            return []
        self.bodies.shown = Shown([(self.actor, slice(0, None, 2)), (self.critic, slice(1, None, 2))])
        return [self.bodies.shown]

    # What the networks give

    @torch.inference_mode()
    def act(self, observations: Any) -> tuple[Tensor, Tensor]:
        """Actions `[members, samples, dimensions]`, and what the heads gave, `[members, samples, outputs]`."""
        outputs = self.action_head(self.actor(preprocess(observations, self.first.policy)))
        return self.actions.sample(outputs, self.log_std, self.streams), outputs

    # Rollouts

    def collect(self, callbacks: Sequence[BaseCallback], scopes: Sequence[dict[str, Any]]) -> bool:
        """Collect one rollout of every member; returns whether all callbacks want to go on.

        Callbacks find what they look for in the member's scope, under the names that SB3's own local variables have.
        Values and log-probabilities are known once the rollout is complete, in the buffer.
        """
        models, first = self.models, self.first
        for model in models:
            model.policy.set_training_mode(False)
        self.rows.adopt()
        buffers = self._buffers()
        box = isinstance(first.action_space, spaces.Box)
        for layer in self.acting:
            layer.exact = self.is_exact
        shape = (len(models), first.n_envs, *first.action_space.shape)
        observed, starts = self._observed()
        ended, outputs = np.zeros_like(starts), list[Tensor]()
        for step in range(first.n_steps):
            buffers["observations"][:, step], buffers["episode_starts"][:, step] = observed, starts
            found, given = self.act(observed)
            outputs.append(given)
            actions = found.cpu().numpy()
            buffers["actions"][:, step] = actions
            actions = actions.reshape(shape)
            clipped = np.clip(actions, first.action_space.low, first.action_space.high) if box else actions
            stepped: list[Any] = self.steps(list(clipped))
            for number, (new_obs, rewards, dones, infos) in enumerate(stepped):
                model, scope = models[number], scopes[number]
                model.num_timesteps += model.n_envs
                scope["actions"], scope["clipped_actions"] = actions[number], clipped[number]
                scope["new_obs"], scope["rewards"], scope["dones"], scope["infos"] = new_obs, rewards, dones, infos
                scope["n_steps"] = step
                if not callbacks[number].on_step():
                    return False
                model._update_info_buffer(infos, dones)
                model._last_obs, model._last_episode_starts = new_obs, dones
                observed[number] = new_obs.reshape(observed.shape[1:])
                ended[number] = dones
            if ended.any():
                for number in np.flatnonzero(ended.any(axis=1)).tolist():
                    self._bootstrap(models[number], *stepped[number][1:])
            buffers["rewards"][:, step] = [rewards for _, rewards, _, _ in stepped]
            starts, ended = ended, starts
        for layer in self.acting:
            layer.exact = False
        self._look_back(buffers, outputs)
        self._compute_advantages(buffers, observed, starts)
        for model in models:
            model.rollout_buffer.pos, model.rollout_buffer.full = model.n_steps, True
        for callback in callbacks:
            callback.on_rollout_end()
        return True

    def _observed(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """What all environments have shown last, `[members, environments, ...]`, and whether episodes start there."""
        shape = self._memory["observations"].shape
        observed = np.stack([model._last_obs for model in self.models]).reshape(shape[0], *shape[2:])
        return observed, np.stack([model._last_episode_starts for model in self.models])

    def _buffers(self) -> dict[str, np.ndarray[Any, Any]]:
        """The members' rollout buffers as arrays `[members, steps, environments, ...]`, theirs being the rows."""
        if not self._memory:
            buffer = self.first.rollout_buffer
            buffer.reset()
            for name in ARRAYS:
                like = getattr(buffer, name)
                self._memory[name] = np.zeros((len(self.models), *like.shape), dtype=like.dtype)
        for number, model in enumerate(self.models):
            for name, array in self._memory.items():
                setattr(model.rollout_buffer, name, array[number])
            model.rollout_buffer.generator_ready = False
            model.rollout_buffer.pos, model.rollout_buffer.full = 0, False
        return self._memory

    def _bootstrap(self, model: Any, rewards: Any, dones: Any, infos: Any) -> None:
        """Episodes that were only cut short are worth what the critic expects of their last observation."""
        for index in np.flatnonzero(dones):
            info = infos[index]
            if info.get("terminal_observation") is not None and info.get("TimeLimit.truncated", False):
                last = model.policy.obs_to_tensor(info["terminal_observation"])[0]
                with torch.no_grad():
                    rewards[index] += model.gamma * model.policy.predict_values(last)[0]

    @torch.inference_mode()
    def _look_back(self, buffers: dict[str, np.ndarray[Any, Any]], outputs: Sequence[Tensor]) -> None:
        """Values and log-probabilities of all steps, which nobody needs before: some hundred steps at a time.

        Args:
            buffers: with observations and actions.
            outputs: of the action heads, at each step.
        """
        for start in range(0, len(outputs), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            seen = preprocess(self._merged(buffers["observations"][:, part]), self.first.policy)
            values = self.value_head(self.critic(seen)).squeeze(-1)
            actions = self._merged(buffers["actions"][:, part]).float()
            given = torch.stack(list(outputs[part]), dim=1).flatten(1, 2)
            log_probs = self.actions.evaluate(given, self.log_std, actions).log_prob
            for name, found in (("values", values), ("log_probs", log_probs)):
                array = buffers[name][:, part]
                array[:] = found.cpu().numpy().reshape(array.shape)

    def _merged(self, array: np.ndarray[Any, Any]) -> Tensor:
        """From `[members, steps, environments, ...]` to `[members, steps * environments, ...]`."""
        return torch.as_tensor(array, device=self.first.device).flatten(1, 2)

    @torch.inference_mode()
    def _compute_advantages(
        self, buffers: dict[str, np.ndarray[Any, Any]], observed: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]
    ) -> None:
        """GAE of all members at once, in the order of operations of SB3's buffer."""
        gamma, gae_lambda = self.first.gamma, self.first.gae_lambda
        following = self.value_head(self.critic(preprocess(observed, self.first.policy))).squeeze(-1).cpu().numpy()
        goes_on = 1.0 - starts.astype(np.float32)
        # Steps first: each is then one stretch of memory.
        rewards, values, begun = (
            np.ascontiguousarray(buffers[name].swapaxes(0, 1)) for name in ("rewards", "values", "episode_starts")
        )
        advantages, advantage = np.empty_like(rewards), np.zeros_like(following)
        for step in reversed(range(len(rewards))):
            delta = rewards[step] + gamma * following * goes_on - values[step]
            advantage = delta + gamma * gae_lambda * goes_on * advantage
            advantages[step], following, goes_on = advantage, values[step], 1.0 - begun[step]
        buffers["advantages"][:] = advantages.swapaxes(0, 1)
        buffers["returns"][:] = buffers["advantages"] + buffers["values"]

    # Updates

    def train(self) -> None:
        """Train every member on its rollout."""
        for model in self.models:
            model.policy.set_training_mode(True)
            model._update_learning_rate(model.policy.optimizer)
        self.rows.adopt()
        for stepper in self.steppers:
            stepper.begin()
        first = self.first
        clip = float(first.clip_range(first._current_progress_remaining))
        clip_vf = None if first.clip_range_vf is None else float(first.clip_range_vf(first._current_progress_remaining))
        data = {
            name: self._flattened(self._memory[name]) for name in ARRAYS if name not in ("rewards", "episode_starts")
        }
        data["actions"] = data["actions"].float()
        members, count = data["actions"].shape[:2]
        offsets = torch.arange(members, device=first.device).mul_(count).unsqueeze(1)
        watched = any(map(is_watched, (self.actor, self.critic, self.action_head, self.value_head)))
        self._fast_bodies = None if watched else self.bodies
        steps: list[Logged] = []
        for _ in range(first.n_epochs):
            orders = np.stack([streams.numpy.permutation(count) for streams in self.streams])
            order = (torch.as_tensor(orders, device=first.device) + offsets).flatten()
            shuffled = {
                name: values.flatten(0, 1).index_select(0, order).view(members, count, *values.shape[2:])
                for name, values in data.items()
            }
            for start in range(0, count, first.batch_size):
                batch = {name: values[:, start : start + first.batch_size] for name, values in shuffled.items()}
                steps.append(self._minibatch(batch, clip, clip_vf))
        for stepper in self.steppers:
            stepper.end()
        self._log(steps, clip, clip_vf)

    def _flattened(self, array: np.ndarray[Any, Any]) -> Tensor:
        """From `[members, steps, environments, ...]` to `[members, environments * steps, ...]`, as SB3 orders them."""
        return torch.as_tensor(array, device=self.first.device).swapaxes(1, 2).flatten(1, 2)

    def _minibatch(self, batch: dict[str, Tensor], clip: float, clip_vf: float | None) -> Logged:
        """One gradient step of every member."""
        seen = preprocess(batch["observations"], self.first.policy)
        if bodies := self._fast_bodies:
            with torch.no_grad():
                latents = bodies.forward(seen.flatten(2), keep=True)
                outputs, values = self.action_head(latents[0]), self.value_head(latents[1])
        else:
            outputs, values = self.action_head(self.actor(seen)), self.value_head(self.critic(seen))
        logged, by_outputs, by_log_std, by_values = self._loss(outputs.detach(), values.detach(), batch, clip, clip_vf)
        for stepper in self.steppers:
            stepper.before_backward()
        if bodies:
            by_actor = self.action_linear.backward(latents[0], by_outputs, *self._places_of(self.action_linear))
            by_critic = self.value_linear.backward(latents[1], by_values, *self._places_of(self.value_linear))
            bodies.backward(by_actor, by_critic)
        else:
            found = torch.autograd.grad([outputs, values], self._leaves, [by_outputs, by_values])
            torch._foreach_copy_([self._places[leaf] for leaf in self._leaves], found)
        if by_log_std is not None:
            self._places[self.log_std].copy_(by_log_std)
        for stepper in self.steppers:
            stepper.step()
        return logged

    def _places_of(self, linear: StackedLinear) -> tuple[Tensor, Tensor | None]:
        """Where the gradients of a layer go."""
        return self._places[linear.weight], None if linear.bias is None else self._places[linear.bias]

    @torch.no_grad()
    def _loss(
        self, outputs: Tensor, values: Tensor, batch: dict[str, Tensor], clip: float, clip_vf: float | None
    ) -> tuple[Logged, Tensor, Tensor | None, Tensor]:
        """The losses of all members, and their gradients.

        With r = pi / pi_old and advantages A, d min(r A, clip(r) A) / d log pi is r A, or zero where the clipped one is
        smaller.

        Args:
            outputs: of the action head, `[members, samples, outputs]`.
            values: `[members, samples, 1]`.
            batch: the minibatch.
            clip: how far r may be from 1.
            clip_vf: how far values may be from the rollout's, if they are clipped.

        Returns:
            What is logged, and the gradients by outputs, log standard deviations and values.
        """
        first = self.first
        known = self.actions.evaluate(outputs, self.log_std, batch["actions"])
        advantages, count = batch["advantages"], values.shape[1]
        if first.normalize_advantage and count > 1:
            spread, mean = torch.std_mean(advantages, dim=1, keepdim=True)
            advantages = (advantages - mean) / (spread + 1e-8)
        log_ratio = known.log_prob - batch["log_probs"]
        ratio = log_ratio.exp()
        plain, clipped = advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)
        # Within the range both are the same.
        by_outputs, by_log_std = known.backward(
            torch.where(plain <= clipped, plain, 0.0) / -count, -first.ent_coef / count
        )
        error, goes_through = values.squeeze(-1) - batch["returns"], None
        if clip_vf is not None:
            moved = values.squeeze(-1) - batch["values"]
            error, goes_through = (
                batch["values"] + moved.clamp(-clip_vf, clip_vf) - batch["returns"],
                moved.abs() <= clip_vf,
            )
        by_values = error * (2 * first.vf_coef / count)
        if goes_through is not None:
            by_values = by_values * goes_through
        logged = Logged(
            torch.min(plain, clipped).mean(dim=1), error.square().mean(dim=1), known.entropy.mean(dim=1), log_ratio
        )
        return logged, by_outputs, by_log_std, by_values.unsqueeze(-1)

    @torch.no_grad()
    def _log(self, steps: list[Logged], clip: float, clip_vf: float | None) -> None:
        """Give each member's logger what SB3 would, in one go: nothing waited for the device until now."""
        last = steps[-(len(steps) // self.first.n_epochs) :]
        means = {
            "entropy_loss": -_mean([step.entropy for step in steps]),
            "policy_gradient_loss": -_mean([step.gain for step in steps]),
            "value_loss": _mean([step.value_loss for step in steps]),
            "approx_kl": _mean_of_samples(last, lambda log_ratio: (log_ratio.exp() - 1) - log_ratio),
            "clip_fraction": _mean_of_samples(steps, lambda log_ratio: ((log_ratio.exp() - 1).abs() > clip).float()),
        }
        gain, value_loss, entropy, _ = steps[-1]
        means["loss"] = self.first.vf_coef * value_loss - gain - self.first.ent_coef * entropy
        found = {name: values.tolist() for name, values in means.items()}
        for number, model in enumerate(self.models):
            buffer, record = model.rollout_buffer, model.logger.record
            model._n_updates += model.n_epochs
            # In the order in which SB3's buffer lies once it has been trained on, which sums otherwise.
            variance = explained_variance(
                *(getattr(buffer, name).swapaxes(0, 1).flatten() for name in ("values", "returns"))
            )
            for name, values in found.items():
                record(f"train/{name}", values[number])
            record("train/explained_variance", variance)
            if self.log_std is not None:
                record("train/std", self.log_std[number].detach().exp().mean().item())
            record("train/n_updates", model._n_updates, exclude="tensorboard")
            record("train/clip_range", clip)
            if clip_vf is not None:
                record("train/clip_range_vf", clip_vf)

    def release(self) -> None:
        """Give every member memory of its own again."""
        self.rows.release()
        for model in self.models:
            release_statistics(model.policy.optimizer)
        for model in self.models:
            for name in self._memory:
                setattr(model.rollout_buffer, name, getattr(model.rollout_buffer, name).copy())


def _parameters(policy: Any) -> list[nn.Parameter]:
    """All parameters, what belongs to the actor first."""
    actor = [policy.mlp_extractor.policy_net, policy.action_net]
    critic = [policy.mlp_extractor.value_net, policy.value_net]
    known = [param for module in [*actor, *critic] for param in module.parameters()]
    free = [param for param in policy.parameters() if not any(param is other for other in known)]
    count = sum(_blocks(policy)[:1]) - len(free)
    return [*known[:count], *free, *known[count:]]


def _linear(head: Chain) -> StackedLinear:
    """The one layer of a head."""
    (layer,) = head.parts
    if not isinstance(layer, StackedLinear):
        raise CannotStackError(f"a head that is a {type(layer).__name__}")
    return layer


def _blocks(policy: Any) -> list[int]:
    """How many parameters belong to the actor, and how many to the critic."""
    critic = [policy.mlp_extractor.value_net, policy.value_net]
    of_critic = sum(len(list(module.parameters())) for module in critic)
    return [len(list(policy.parameters())) - of_critic, of_critic]


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)


def _mean_of_samples(steps: Sequence[Logged], of: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over minibatches of the mean over their samples; a last minibatch may have fewer."""
    by_size: dict[int, list[Tensor]] = {}
    for step in steps:
        by_size.setdefault(step.log_ratio.shape[1], []).append(step.log_ratio)
    totals = [of(torch.stack(parts)).mean(dim=2).sum(dim=0) for parts in by_size.values()]
    return torch.stack(totals).sum(dim=0) / len(steps)
