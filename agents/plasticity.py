"""The SB3 callback that fires interventions at the right moments, on any algorithm.

    model = PPO("MlpPolicy", "CartPole-v1")
    model.learn(100_000, callback=Plasticity(ReDo(tau=0.1), Spectral(strength=1e-4)))

| moment | what fires | why there |
|---|---|---|
| `zero_grad` | penalties of regularisers | before clipping; equals adding them to the loss |
| before `optimizer.step()` | decoupled decay | after clipping, from which it is free |
| after `optimizer.step()` | resets defined per gradient step | before it, stale gradients would move the new weights |
| rollout start | periodic resets, resets at a switch | nothing stands between a rollout and its own update |
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from agents.firing import Firing
from agents.hooks import OptimizerHooks
from agents.interventions import Intervention, Moment, MomentName, ResetEvent
from agents.layers import Layer, Network
from agents.passes import TwoPasses
from agents.sb3 import Batch, activations, penalties_reach, read_networks, sample_batch
from agents.stacking import hash_seed
from agents.watching import Watcher


class Plasticity(BaseCallback):
    """Attaches resets and regularisers to an SB3 model while it learns, and detaches them afterwards.

    Where the environment reports tasks in its `info` (`envs.NonStationary` does), interventions can fire at switches.

    Args:
        interventions: in the order in which they fire.
        seed: of the interventions' own random generators; the agent's random stream is never touched.
        batch_size: how many observations activations are measured on: of the last rollout, or of the replay buffer.

    Attributes:
        networks: the model as networks of layers, once learning has started.
        task: number of the task that the environment will be in at its next step.
        listeners: called with each event, a plain dictionary: step, task, method, network, part, what, count, why.
        penalties: the last value of each regulariser's penalty on each network, with its strength.
        watcher: shows interventions what passes through the networks.
        firings: what fires around the steps of each of the model's optimisers, once learning has started.
        generators: of each intervention, by its number.
    """

    def __init__(self, *interventions: Intervention, seed: int = 0, batch_size: int = 512) -> None:
        super().__init__()
        self.interventions = interventions
        self.seed = seed
        self.batch_size = batch_size
        self.networks: list[Network] = []
        self.task = 0
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self.penalties: dict[tuple[str, str], Tensor] = {}
        self.generators: dict[int, torch.Generator] = {}
        self.watcher = Watcher()
        self.firings: list[Firing] = []
        self._hooks: list[OptimizerHooks] = []
        self._passes: TwoPasses | None = None
        self._batch: Batch | None = None
        self._last_model: BaseAlgorithm | None = None
        self._counters: dict[str, Any] = {}
        self._pending: dict[str, Any] | None = None

    def _on_training_start(self) -> None:
        self.close()
        self.networks = self.check(self.model)
        if self.model is not self._last_model:
            self._start_anew()
        for index in range(len(self.interventions)):
            if index not in self.generators:
                generator = torch.Generator(self.model.device)
                self.generators[index] = generator.manual_seed(hash_seed(self.seed, index))
        steps = [firing.steps for firing in self.firings]
        self.firings = self._make_firings()
        for firing, taken in zip(self.firings, steps, strict=False):
            firing.steps = taken
        self._restore()
        for intervention in self.interventions:
            for network in self.networks:
                if intervention.acts_on(network):
                    self.watcher.watch(network, intervention.watches())
        self._hooks = [firing.listen() for firing in self.firings]
        self._passes = TwoPasses(self.model, self.networks)

    def _make_firings(self) -> list[Firing]:
        """What fires around the steps of each optimiser."""
        optimizers = dict.fromkeys(net.optimizer for net in self.networks if net.optimizer is not None)
        return [
            Firing(
                self.interventions,
                [network for network in self.networks if network.optimizer is optimizer],
                optimizer,
                self.watcher,
                self.generators,
                self.note_penalty,
                self.report,
            )
            for optimizer in optimizers
        ]

    def _start_anew(self) -> None:
        """Forget what another model has left behind in the interventions."""
        self._last_model = self.model
        self._counters = {"rollouts": 0, "task": None}
        self.generators, self._batch, self.task, self.firings = {}, None, 0, []
        for intervention in self.interventions:
            intervention.state = {}

    def note_penalty(self, item: Intervention, network: str, value: Tensor) -> None:
        """Keep the last value of a penalty."""
        self.penalties[type(item).__name__.lower(), network] = value

    def _on_rollout_start(self) -> None:
        if self._passes:
            self._passes.end()
        moment = Moment(
            env_steps=self.num_timesteps,
            rollouts=self._counters["rollouts"],
            gradient_steps={firing.optimizer: firing.steps for firing in self.firings},
            switched=self._counters["task"] is not None and self.task != self._counters["task"],
            activations=self._activations,
        )
        for number, item in self._using("between_rollouts"):
            networks = [network for network in self.networks if item.acts_on(network)]
            self.report(item, item.between_rollouts(networks, moment, self.generators[number]))
        self._batch = None
        self._counters["task"] = self.task
        self._counters["rollouts"] += 1

    def _on_step(self) -> bool:
        infos = self.locals["infos"]
        self.task = max((info.get("next_task", 0) for info in infos), default=0)
        return True

    def _on_rollout_end(self) -> None:
        # An on-policy buffer is emptied before the next rollout starts; a replay buffer is read when it is needed.
        if self._using("between_rollouts") and hasattr(self.model, "rollout_buffer"):
            self._batch = self._sample()
        if self._passes:
            self._passes.begin()

    def _on_training_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Take all hooks off the model; SB3 does not say when learning has been interrupted, so its caller must."""
        for hooks in self._hooks:
            hooks.remove()
        self._hooks = []
        self.watcher.close()
        if self._passes:
            self._passes.end()
            self._passes = None

    def _using(self, moment: MomentName) -> list[tuple[int, Intervention]]:
        """The interventions that implement a moment, each with the number of its generator."""
        return [(number, item) for number, item in enumerate(self.interventions) if item.uses(moment)]

    def _sample(self) -> Batch | None:
        # A generator made from the step rather than one that is kept: nothing to save, and the same after a resume.
        return sample_batch(self.model, self.batch_size, np.random.default_rng([self.seed, self.num_timesteps]))

    def _activations(self, network: Network) -> dict[Layer, Tensor]:
        self._batch = self._batch or self._sample()
        return activations(self.model, network.hidden, self._batch) if self._batch else {}

    def report(self, source: Intervention, events: Iterable[ResetEvent]) -> None:
        """Tell the listeners what an intervention has done."""
        for event in events:
            entry = {"step": self.num_timesteps, "task": self.task, "method": type(source).__name__, **asdict(event)}
            del entry["member"]
            for listener in self.listeners:
                listener(entry)

    def check(self, model: BaseAlgorithm) -> list[Network]:
        """Refuse, with a ValueError, what would silently do nothing on this model; returns the model's networks."""
        networks, algorithm = read_networks(model), type(model).__name__
        TwoPasses(model, networks)
        for intervention in self.interventions:
            name = type(intervention).__name__
            own = [network for network in networks if intervention.acts_on(network)]
            if not own:
                present = ", ".join(network.name for network in networks)
                raise ValueError(
                    f"{name} would act on nothing: with networks {intervention.networks} there is nothing for it in "
                    f"{algorithm}, which has {present}."
                )
            unreached = [network.name for network in own if not penalties_reach(model, network)]
            if unreached and intervention.needs_gradients:
                raise ValueError(
                    f"{name} cannot reach the {unreached[0]} of {algorithm}, which is moved without its optimiser."
                )
            intervention.check(own, [other for other in self.interventions if other is not intervention])
        return networks

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: counters, generators, what each intervention remembers."""
        return {
            "counters": {**self._counters, "gradient_steps": [firing.steps for firing in self.firings]},
            "task": self.task,
            "generators": {index: generator.get_state() for index, generator in self.generators.items()},
            "interventions": [intervention.state_dict() for intervention in self.interventions],
            "penalties": dict(self.penalties),
            # An on-policy buffer has been emptied by the time the next rollout asks for its observations.
            "batch": self._batch and (self._batch.observations, self._batch.actions),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave: at once while learning goes on, otherwise once it starts.

        In the middle of learning this comes before the agent's own weights are loaded: an intervention may have to give
        its networks another form first.
        """
        self._pending = state
        if self._hooks:
            for intervention, own in zip(self.interventions, state["interventions"], strict=True):
                intervention.reshape([network for network in self.networks if intervention.acts_on(network)], own)
            self._restore()

    def _restore(self) -> None:
        if self._pending is None:
            return
        state, self._pending = self._pending, None
        self._counters = dict(state["counters"])
        for firing, steps in zip(self.firings, self._counters.pop("gradient_steps"), strict=True):
            firing.steps = steps
        self.task = state["task"]
        self.penalties = {key: value.to(self.model.device) for key, value in state["penalties"].items()}
        self._batch = Batch(*state["batch"]) if state["batch"] else None
        for index, generator_state in state["generators"].items():
            self.generators[index].set_state(generator_state)
        for intervention, own in zip(self.interventions, state["interventions"], strict=True):
            intervention.load_state_dict(own)
