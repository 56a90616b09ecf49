"""Asks the chosen diagnostics at their moments, of a model that goes on learning as if nobody looked.

- At the start of a rollout, every so many steps and at the end of each task: cheap metrics, those of weights, and of
  activations on the current batch and on the probe batch. More rarely the costly ones as well: curvature, single
  gradients, the trainability probe.
- At the end of a task's first rollout, before any update on it: metrics with `at_switch`.
- At a sample of the optimisers' steps: metrics of steps; their means count for the measurement that follows.

The current batch is drawn from the last rollout, or from the last steps in the replay buffer. The probe batch is drawn
from the first rollout, or from the first steps, as many as a batch has, and stays as it is: what moves there is the
network, not what it sees.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from agents.hooks import OptimizerHooks, Watching
from agents.layers import Network, Param
from agents.sb3 import Batch, read_networks, sample_batch
from agents.viewing import ModelView, initial_tensors
from metrics.base import Measured, Metric, Policy, StepView

STEP_EVERY = 16
"""Every how many of an optimiser's steps its gradient is looked at. A choice."""

OUTPUTS_EVERY = 4
"""Every how many of those looks the outputs on the probe batch are compared as well, which costs two forward passes."""

FEWEST = 32
"""Transitions of a new task from which on its first batch is measured."""

When = Literal["rollout", "switch"]
WhichBatch = Literal["current", "probe"]


@dataclass(frozen=True)
class Measurement:
    """Values measured together.

    Attributes:
        step: environment step of the run.
        task: the task that the batch is from.
        when: at which moment.
        batch: on which batch; what needs none counts as of the current one.
        values: by `<network>/<name>`.
    """

    step: int
    task: int
    when: When
    batch: WhichBatch
    values: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """A line of `metrics.jsonl`, to six figures; what could not be measured is left out."""
        values = {key: float(f"{value:.6g}") for key, value in self.values.items() if np.isfinite(value)}
        return {"step": self.step, "task": self.task, "when": self.when, "batch": self.batch, "values": values}


class Measurer:
    """Measures one model while it learns.

    Args:
        metrics: by name, as chosen.
        seed: of the run; what is drawn follows from it and the step.
        samples: how many transitions a batch has.
        probe: where the probe batch is kept; None: nowhere.
        listen: called with each measurement.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        seed: int,
        samples: int = 512,
        probe: Path | None = None,
        listen: Callable[[Measurement], None] = lambda measurement: None,
    ) -> None:
        self.metrics = dict(metrics)
        self.seed = seed
        self.samples = samples
        self.probe_file = probe
        self.listen = listen
        self.networks: list[Network] = []
        self.probe: Batch | None = None
        self._batch: Batch | None = None
        self._before: Policy | None = None
        self._initial: dict[Tensor, Tensor] = {}
        self._steps: dict[str, dict[str, list[float]]] = {}
        self._hooks: list[OptimizerHooks] = []
        self.taps: list[_Tap] = []

    def idle(self, model: BaseAlgorithm) -> list[str]:
        """The names of metrics that have nothing to measure in this model."""
        networks = [network for network in read_networks(model) if network.layers]
        return [
            name
            for name, metric in self.metrics.items()
            if not any(metric.applies(network) for network in networks) or not _has_rollouts(metric, model)
        ]

    def start(self, model: BaseAlgorithm) -> None:
        """Learning starts: see the networks as they are now, and listen to their optimisers."""
        self.close()
        self.model = model
        self.read_networks()
        self._initial = initial_tensors(self.networks)
        of_steps = [metric for metric in self.metrics.values() if metric.reads == "step"]
        if not of_steps:
            return
        for optimizer in dict.fromkeys(network.optimizer for network in self.networks if network.optimizer):
            tap = _Tap(self, optimizer, of_steps)
            self.taps.append(tap)
            self._hooks.append(OptimizerHooks(optimizer, tap.start, tap.stop, tap.compare, idleness=tap))

    def read_networks(self) -> None:
        """See the model's layers; anew once an intervention has put others in their place."""
        self.networks = [network for network in read_networks(self.model) if network.layers]

    def close(self) -> None:
        """Stop listening."""
        for hooks in self._hooks:
            hooks.remove()
        for tap in self.taps:
            tap.cancel()
        self._hooks, self.taps = [], []

    def collected(self, step: int) -> None:
        """A rollout has been collected and not yet been trained on; off-policy, a few steps."""
        if self.metrics and hasattr(self.model, "rollout_buffer"):
            self._batch = self._sample(step, None)
            if any(metric.reads == "rollout" and not metric.costly for metric in self.metrics.values()):
                self._before = self._view(self._batch, step).policy()
        if self.probe is None and self.metrics and (self._batch is not None or step >= self.samples):
            self._keep_probe(step)

    def measure_switch(self, step: int, task: int, steps_in_task: int, costly: bool) -> bool:
        """Measure the first batch of a task; False where there are still too few of its transitions."""
        metrics = [metric for metric in self.metrics.values() if metric.at_switch and (costly or not metric.costly)]
        if not metrics:
            return True
        if steps_in_task < FEWEST:
            return False
        batch = sample_batch(self.model, self.samples, self._rng(step, 2), recent=steps_in_task, learning=True)
        if batch is None:
            return False
        self._measure(metrics, self._view(batch, step), "switch", "current", step, task)
        return True

    def measure(self, step: int, task: int, recent: int, costly: bool) -> dict[str, dict[str, float]]:
        """Measure every network now.

        Args:
            step: environment step.
            task: the task that was trained on last.
            recent: off-policy the current batch is drawn from the last so many steps.
            costly: whether costly metrics are measured too.

        Returns:
            What was measured on the current batch, for each network by name of the value.
        """
        batch = self._batch or self._sample(step, recent)
        if self.probe is None:
            self._keep_probe(step)
        chosen = [metric for metric in self.metrics.values() if metric.reads != "step"]
        view = self._view(batch, step)
        values = self._measure(
            [metric for metric in chosen if costly or not metric.costly], view, "rollout", "current", step, task
        )
        if self.probe is not None:
            of_batches = [metric for metric in chosen if metric.reads == "batch" and not metric.costly]
            self._measure(of_batches, self._view(self.probe, step), "rollout", "probe", step, task)
        self._batch, self._before = None, None
        return values

    def state_dict(self) -> dict[str, Any]:
        """What is remembered between two rollouts: the probe batch, steps seen since the last measurement.

        The networks' first weights are left out: whoever goes on has made them anew.
        """
        return {
            "probe": None if self.probe is None else vars(self.probe),
            "steps": {
                network: {name: list(values) for name, values in own.items()} for network, own in self._steps.items()
            },
            "counts": [tap.count for tap in self.taps],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, once the networks have the form that they had then."""
        self.read_networks()
        self.probe = None if state["probe"] is None else Batch(**state["probe"])
        self._steps = state["steps"]
        for tap, count in zip(self.taps, state["counts"], strict=True):
            tap.count = count

    def columns(self) -> list[str]:
        """All values of whole networks that may be measured, `<network>/<name>`, those at a switch `switch/…`."""
        chosen = [(network, metric) for network in self.networks for metric in self.metrics.values()]
        chosen = [pair for pair in chosen if pair[1].applies(pair[0]) and _has_rollouts(pair[1], self.model)]
        own = [f"{network.name}/{name}" for network, metric in chosen for name in metric.names]
        at_switch = [(network, metric) for network, metric in chosen if metric.at_switch]
        return own + [f"switch/{network.name}/{name}" for network, metric in at_switch for name in metric.names]

    def distributions(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """Every layer's weights and its units' activations on the current batch, for histograms."""
        view = self._view(self._batch or self._sample(step, None), step)
        for network in self.networks:
            for layer in network.layers:
                yield f"weights/{layer.name}", layer.weight.tensor.detach()
            for layer, found in view.activations(network).items():
                yield f"activations/{layer.name}", found

    def _measure(
        self, metrics: Sequence[Metric], view: ModelView, when: When, which: WhichBatch, step: int, task: int
    ) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for network in self.networks:
            values = self._of_steps(network) if when == "rollout" and which == "current" else {}
            for metric in metrics:
                if metric.applies(network) and (view.batch is not None or metric.reads == "weights"):
                    values |= metric.measure(network, view)
            found[network.name] = values
        flat = {f"{network}/{name}": value for network, values in found.items() for name, value in values.items()}
        if flat:
            self.listen(Measurement(step, task, when, which, flat))
        return found

    def _of_steps(self, network: Network) -> Measured:
        """Means over the sampled steps since the last measurement."""
        seen = self._steps.pop(network.name, {})
        known = {name: [value for value in values if not math.isnan(value)] for name, values in seen.items()}
        return {name: sum(values) / len(values) if values else math.nan for name, values in known.items()}

    def step_seen(self, network: Network, measured: Measured) -> None:
        """Take in the values of one step."""
        own = self._steps.setdefault(network.name, {})
        for name, value in measured.items():
            own.setdefault(name, []).append(value)

    def outputs(self) -> dict[Network, list[Tensor]]:
        """What all networks make of the probe batch now."""
        view = self._view(self.probe, 0)
        return {network: view.outputs(network) for network in self.networks} if self.probe else {}

    def _view(self, batch: Batch | None, step: int) -> ModelView:
        before = self._before if batch is self._batch else None
        return ModelView(self.model, self.networks, batch, (self.seed, step), self._initial, before)

    def _sample(self, step: int, recent: int | None) -> Batch | None:
        return sample_batch(self.model, self.samples, self._rng(step, 1), recent=recent, learning=True)

    def _rng(self, step: int, purpose: int) -> np.random.Generator:
        # Made from the step rather than kept: nothing to save, and the same after a resume.
        return np.random.default_rng([self.seed, step, purpose])

    def _keep_probe(self, step: int) -> None:
        self.probe = self._batch or self._sample(step, None)
        if self.probe_file is None or self.probe is None:
            return
        observations = self.probe.observations
        parts = observations if isinstance(observations, dict) else {"observations": observations}
        arrays = {f"observations.{key}" if isinstance(observations, dict) else key: part for key, part in parts.items()}
        actions = {} if self.probe.actions is None else {"actions": self.probe.actions}
        np.savez(self.probe_file, **{key: part.cpu().numpy() for key, part in (arrays | actions).items()})


def _has_rollouts(metric: Metric, model: BaseAlgorithm) -> bool:
    """Whether the agent has what a metric of rollouts reads: advantages and returns, for all but costly ones."""
    return metric.reads != "rollout" or metric.costly or hasattr(model, "rollout_buffer")


class _Tap(Watching):
    """Looks at a sample of one optimiser's steps."""

    def __init__(self, measurer: Measurer, optimizer: torch.optim.Optimizer, metrics: Sequence[Metric]) -> None:
        self.measurer = measurer
        self.optimizer = optimizer
        self.metrics = metrics
        self.reads_outputs = any(metric.reads_outputs for metric in metrics)
        self.count = 0
        self._handles: list[Any] = []
        self._gradients: dict[Tensor, Tensor] = {}
        self._before: dict[Network, list[Tensor]] = {}

    def networks(self) -> Iterator[Network]:
        """Those that the optimiser steps."""
        return (network for network in self.measurer.networks if network.optimizer is self.optimizer)

    def due(self) -> int:
        """The steps up to the next one of the sample."""
        return -self.count % STEP_EVERY

    def skipped(self, steps: int) -> None:
        """They count."""
        self.count += steps

    def look(self, gradients: Mapping[Tensor, Tensor]) -> None:
        """Keep the gradients, and what the networks make of the probe batch before the step."""
        self.cancel()
        watched = {param.tensor for network in self.networks() for param in network.params()}
        self._gradients = {tensor: own.clone() for tensor, own in gradients.items() if tensor in watched}
        self._see_outputs(self.count)

    def looked(self) -> None:
        """Measure the step."""
        self.compare(self.optimizer)

    def start(self, optimizer: torch.optim.Optimizer) -> None:
        """Right after `zero_grad`: watch the gradients that the next backward pass leaves, where it is their turn."""
        self.cancel()
        if self.count % STEP_EVERY == 0:
            for network in self.networks():
                for param in network.params():
                    handle = param.tensor.register_post_accumulate_grad_hook(self.keep)  # type: ignore[no-untyped-call]
                    self._handles.append(handle)
        self.count += 1

    def stop(self, optimizer: torch.optim.Optimizer) -> None:
        """Right before the step: what was kept is the whole gradient, as it was before clipping."""
        watching = bool(self._handles)
        self._unhook()
        if watching:
            self._see_outputs(self.count - 1)
        else:
            self._gradients = {}

    def _see_outputs(self, step: int) -> None:
        if self.reads_outputs and step % (STEP_EVERY * OUTPUTS_EVERY) == 0:
            self._before = self.measurer.outputs()

    def compare(self, optimizer: torch.optim.Optimizer) -> None:
        """Right after the step: measure it."""
        if not self._gradients:
            return
        after = self.measurer.outputs() if self._before else {}
        for network in self.networks():
            gradients: dict[Param, Tensor] = {
                param: self._gradients[param.tensor] for param in network.params() if param.tensor in self._gradients
            }
            step = StepView(gradients, self._before.get(network, []), after.get(network, []))
            for metric in self.metrics:
                if metric.applies(network) and gradients and (step.before or not metric.reads_outputs):
                    self.measurer.step_seen(network, metric.measure_step(network, step))
        self.cancel()

    def cancel(self) -> None:
        """Stop watching and forget."""
        self._unhook()
        self._gradients, self._before = {}, {}

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def keep(self, tensor: Tensor) -> None:
        """Keep the gradient that a backward pass has just completed."""
        assert tensor.grad is not None
        self._gradients[tensor] = tensor.grad.detach().clone()  # SB3 clips in place
