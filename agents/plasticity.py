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
from functools import partial
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from agents.hooks import Idleness, OptimizerHooks, Unneeded
from agents.interventions import Intervention, Moment, MomentName, ResetEvent, Step
from agents.layers import Layer, Network
from agents.passes import TwoPasses
from agents.sb3 import Batch, activations, penalties_reach, read_networks, sample_batch
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
        self._generators: dict[int, torch.Generator] = {}
        self._hooks: list[OptimizerHooks] = []
        self._watcher = Watcher()
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
        optimizers = list(dict.fromkeys(net.optimizer for net in self.networks if net.optimizer is not None))
        self._optimizers = optimizers
        self._counters["gradient_steps"] = self._counters["gradient_steps"] or [0] * len(optimizers)
        for index in range(len(self.interventions)):
            if index not in self._generators:
                generator = torch.Generator(self.model.device)
                self._generators[index] = generator.manual_seed(hash_seed(self.seed, index))
        self._restore()
        for intervention in self.interventions:
            for network in self.networks:
                if intervention.acts_on(network):
                    self._watcher.watch(network, intervention.watches())
        self._hooks = [self._listen(optimizer, index) for index, optimizer in enumerate(optimizers)]
        self._passes = TwoPasses(self.model, self.networks)

    def _start_anew(self) -> None:
        """Forget what another model has left behind in the interventions."""
        self._last_model = self.model
        self._counters = {"rollouts": 0, "task": None, "gradient_steps": []}
        self._generators, self._batch, self.task = {}, None, 0
        for intervention in self.interventions:
            intervention.state = {}

    def _listen(self, optimizer: torch.optim.Optimizer, index: int) -> OptimizerHooks:
        """Hook penalties and per-step resets to one optimiser; those that do not concern it cost nothing."""
        own = [network for network in self.networks if network.optimizer is optimizer]
        terms = [(item, net) for _, item in self._using("loss_term") for net in own if item.acts_on(net)]
        closed = self._grouped("before_backward", own)
        before, after = self._grouped("before_step", own), self._grouped("after_step", own)
        params = list({param.tensor: param for network in own for param in network.params()}.values())
        steps: list[int] = self._counters["gradient_steps"]

        def add_penalties(optimizer: torch.optim.Optimizer) -> None:
            step = Step(optimizer, steps[index], self._watcher)
            for _, item, networks in closed:
                for name, value in item.before_backward(networks, step).items():
                    self._note_penalty(item, name, value)
            if not terms:
                return
            with self._watcher.leaves() as leaves:
                found = [(item, network, item.loss_term(network, step)) for item, network in terms]
            values = [term for _, _, term in found if term is not None]
            if not values:
                return
            for item, network, term in found:
                self._note_penalty(item, network.name, term)
            # An intervention may have handed a parameter's place to another tensor (plasticity injection).
            tensors = [param.tensor for param in params]
            sought = [*tensors, *leaves.values()]
            gradients = torch.autograd.grad(torch.stack(values).sum(), sought, retain_graph=True, allow_unused=True)
            for param, gradient in zip(tensors, gradients, strict=False):
                if gradient is not None:
                    param.grad = gradient if param.grad is None else param.grad + gradient
            # What concerns activations goes backward with the loss that SB3 is about to differentiate.
            for tensor, gradient in zip(leaves, gradients[len(tensors) :], strict=True):
                if gradient is not None:
                    tensor.register_hook(partial(torch.add, gradient))  # type: ignore[no-untyped-call]

        def before_step(optimizer: torch.optim.Optimizer) -> None:
            step = Step(optimizer, steps[index], self._watcher)
            with self._watcher.detached():
                for number, item, networks in before:
                    item.before_step(networks, step, self._generators[number])

        def after_step(optimizer: torch.optim.Optimizer) -> None:
            step = Step(optimizer, steps[index], self._watcher)
            steps[index] += 1
            if after:
                with self._watcher.detached():
                    for number, item, networks in after:
                        self._report(item, item.after_step(networks, step, self._generators[number]))

        def count(taken: int) -> None:
            steps[index] += taken

        return OptimizerHooks(
            optimizer,
            add_penalties if terms or closed else None,
            before_step if before else None,
            after_step,
            idleness=Idleness() if terms or closed or before or after else Unneeded(count),
        )

    def _grouped(self, moment: MomentName, networks: list[Network]) -> list[tuple[int, Intervention, list[Network]]]:
        """Each intervention that implements a moment, its number, and all of these networks that it acts on."""
        found = [
            (number, item, [network for network in networks if item.acts_on(network)])
            for number, item in self._using(moment)
        ]
        return [entry for entry in found if entry[2]]

    def _note_penalty(self, item: Intervention, network: str, term: Tensor | None) -> None:
        if term is not None:
            self.penalties[type(item).__name__.lower(), network] = term.detach()

    def _on_rollout_start(self) -> None:
        if self._passes:
            self._passes.end()
        moment = Moment(
            env_steps=self.num_timesteps,
            rollouts=self._counters["rollouts"],
            gradient_steps=dict(zip(self._optimizers, self._counters["gradient_steps"], strict=True)),
            switched=self._counters["task"] is not None and self.task != self._counters["task"],
            activations=self._activations,
        )
        for number, item in self._using("between_rollouts"):
            networks = [network for network in self.networks if item.acts_on(network)]
            self._report(item, item.between_rollouts(networks, moment, self._generators[number]))
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
        self._watcher.close()
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

    def _report(self, source: Intervention, events: Iterable[ResetEvent]) -> None:
        """Tell the listeners what an intervention has done."""
        for event in events:
            entry = {"step": self.num_timesteps, "task": self.task, "method": type(source).__name__, **asdict(event)}
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
            "counters": {**self._counters, "gradient_steps": list(self._counters["gradient_steps"])},
            "task": self.task,
            "generators": {index: generator.get_state() for index, generator in self._generators.items()},
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
        steps = self._counters["gradient_steps"]
        steps[:] = state["counters"]["gradient_steps"]  # the hooks count in this very list
        self._counters = {**state["counters"], "gradient_steps": steps}
        self.task = state["task"]
        self.penalties = {key: value.to(self.model.device) for key, value in state["penalties"].items()}
        self._batch = Batch(*state["batch"]) if state["batch"] else None
        for index, generator_state in state["generators"].items():
            self._generators[index].set_state(generator_state)
        for intervention, own in zip(self.interventions, state["interventions"], strict=True):
            intervention.load_state_dict(own)


def hash_seed(*numbers: int) -> int:
    """One 63-bit seed out of several numbers, well mixed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
