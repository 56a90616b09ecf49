"""All diagnostics of one model at once: in a notebook, or after training.

    from metrics import diagnose
    diagnose(model, observations)

What needs only weights and observations can be asked of any Stable-Baselines3 model. Distances from the initialisation
need that, as `initial`; what is measured at gradient steps or needs rewards (curvature, trust region) belongs to
a run: `train.py --metrics all`.
"""

import html
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.layers import Network
from agents.sb3 import Batch, read_networks
from agents.viewing import ModelView, initial_tensors
from configs.settings import UsageError, did_you_mean
from metrics import METRICS, Metric


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What was measured of one model; printed, or shown in a notebook, it is a table.

    Attributes:
        values: for each network, by name of the value: `dormant` for all of it, `dormant/0` for its layer 0.
        titles: what each value is, by name.
    """

    values: dict[str, dict[str, float]]
    titles: dict[str, str]

    def rows(self, layers: bool = False) -> list[tuple[str, str, list[float]]]:
        """Title, name and the value of each network, NaN where it has none; with a row for each layer if asked for."""
        names = dict.fromkeys(name for own in self.values.values() for name in own if layers or "/" not in name)
        return [
            (
                self.titles.get(name.partition("/")[0], ""),
                name,
                [own.get(name, math.nan) for own in self.values.values()],
            )
            for name in names
        ]

    def table(self, layers: bool = False) -> Table:
        """The rows as a table for a terminal."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("what")
        table.add_column("name", style="cyan")
        for network in self.values:
            table.add_column(network, justify="right")
        for title, name, values in self.rows(layers):
            table.add_row(title if "/" not in name else "", name, *map(_number, values))
        return table

    def __str__(self) -> str:
        """The table as plain text."""
        console = Console(file=io.StringIO(), width=100, color_system=None)
        console.print(self.table())
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().rstrip()

    __repr__ = __str__  # what an interactive shell shows

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(word)}</th>" for word in ("what", "name", *self.values))
        body = "".join(
            f"<tr><td>{html.escape(title)}</td><td>{html.escape(name)}</td>"
            + "".join(f"<td style='text-align:right'>{_number(value)}</td>" for value in values)
            + "</tr>"
            for title, name, values in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def diagnose(
    model: BaseAlgorithm,
    observations: Any,
    actions: Any = None,
    metrics: Iterable[str] | Mapping[str, Metric] | None = None,
    initial: BaseAlgorithm | None = None,
) -> Diagnosis:
    """Measure a model on observations.

    Nothing of the model changes: neither its weights nor its random numbers.

    Args:
        model: any SB3 or sb3-contrib model of linear and convolutional layers.
        observations: a batch as the environment gives them, samples first: an array, or a dictionary of arrays. Where
            the model has a `VecNormalize`, they are normalised by it. A few hundred at least: ranks cannot exceed
            their number.
        actions: for critics that read actions, scaled to [-1, 1] as they read them; None: what the policy does without
            noise.
        metrics: names, or metrics with settings of their own; None: all that can be measured.
        initial: the model as it was before training, for the distances from there.

    Raises:
        UsageError: no metric of such a name, or observations that are not the model's.
    """
    chosen = {name: _metric(name)() for name in metrics or METRICS} if not isinstance(metrics, Mapping) else metrics
    networks = [network for network in read_networks(model) if network.layers]
    start = {}
    if initial is not None:
        theirs = [network for network in read_networks(initial) if network.layers]
        start = _paired(networks, theirs)
    view = ModelView(model, networks, _batch(model, observations, actions), initial=start)
    usable = {name: metric for name, metric in chosen.items() if metric.reads in ("weights", "batch")}
    if metrics is not None and len(usable) < len(chosen):
        left = ", ".join(name for name in chosen if name not in usable)
        raise UsageError(f"metrics: {left} can only be measured while a model is trained: train.py --metrics {left}.")
    values: dict[str, dict[str, float]] = {}
    for network in networks:
        values[network.name] = {}
        for metric in usable.values():
            if metric.applies(network):
                values[network.name] |= metric.measure(network, view)
    titles = {name: metric.title for metric in usable.values() for name in metric.names}
    return Diagnosis(values, titles)


def _metric(name: str) -> type[Metric]:
    if name not in METRICS:
        raise UsageError(f"there is no metric {name!r}; choose from {', '.join(METRICS)}{did_you_mean(name, METRICS)}.")
    return METRICS[name]


def _paired(networks: list[Network], theirs: list[Network]) -> dict[torch.Tensor, torch.Tensor]:
    """For each parameter that of another model of the same build."""
    ours = [param for network in networks for param in network.params()]
    others = [param for network in theirs for param in network.params()]
    if [(param.name, param.tensor.shape) for param in ours] != [(param.name, param.tensor.shape) for param in others]:
        raise UsageError("initial: is not a model of the same build.")
    copies = initial_tensors(theirs)
    return {param.tensor: copies[other.tensor] for param, other in zip(ours, others, strict=True)}


def _batch(model: Any, observations: Any, actions: Any) -> Batch:
    normalizer = model.get_vec_normalize_env()
    try:
        given = normalizer.normalize_obs(observations) if normalizer else observations
        training = model.policy.training
        tensors, one = model.policy.obs_to_tensor(given)
        if not one:
            raise ValueError("a batch is needed, with the samples in the first dimension")
        if actions is None:
            actions, _ = model.policy.predict(given, deterministic=True)
            # What a critic reads is scaled to [-1, 1], as what a replay buffer holds is.
            if hasattr(model.policy, "critic"):
                actions = model.policy.scale_action(actions)
        model.policy.set_training_mode(training)
    except (ValueError, TypeError, AssertionError, KeyError, IndexError) as error:
        problem = " ".join(str(error).split())
        raise UsageError(f"observations: do not fit {model.observation_space} ({problem}).") from error
    return Batch(tensors, torch.as_tensor(np.asarray(actions), dtype=torch.float32, device=model.device))


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"
