"""Self-normalised resets against a loop over units with plain lists, on made-up and on real silences."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from torch import Tensor, nn

from agents.interventions import ResetEvent, Step
from agents.layers import Layer, Network
from agents.plasticity import Plasticity
from agents.sb3 import read_networks
from resets import SNR
from tests.models import make


@dataclass
class Loop:
    """The rule for one layer, unit by unit and with a list of silences instead of a histogram."""

    snr: SNR
    units: int
    steps: int = 0
    ages: list[int] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    silences: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ages = [0] * self.units
        self.limits = [max(1, self.snr.max_age // 2)] * self.units
        self.silences = [[] for _ in range(self.units)]

    def step(self, fires: list[bool]) -> set[int]:
        reset = set()
        self.steps += 1
        for i, fired in enumerate(fires):
            if fired:
                if self.ages[i]:
                    self.silences[i].append(self.ages[i])
                self.ages[i] = 0
            else:
                self.ages[i] += 1
            if self.ages[i] >= self.limits[i]:
                self.silences[i].append(self.ages[i])
                self.ages[i] = 0
                reset.add(i)
        if self.steps % self.snr.adapt_every == 0:
            for i, past in enumerate(self.silences):
                if len(past) >= self.snr.min_silences:
                    past.sort()
                    quantile = past[math.ceil(self.snr.percentile * len(past) - 1e-9) - 1]
                    grown = min(int(self.snr.expansion * self.limits[i]), self.snr.max_age)
                    self.limits[i] = quantile if quantile < self.limits[i] else grown
            self.silences = [[] for _ in range(self.units)]
        return reset


@pytest.mark.parametrize(
    "snr",
    [
        SNR(max_age=20, adapt_every=60, percentile=0.9, min_silences=3),
        SNR(max_age=9, adapt_every=25, percentile=0.75, expansion=1.5, min_silences=1),
        SNR(max_age=6, adapt_every=1, percentile=0.5, min_silences=1),
    ],
)
def test_against_a_loop_over_units(snr: SNR) -> None:
    """Two layers whose units fire at random, each unit at its own rate, some ever more rarely."""
    layers = read_networks(make("ppo"))[0].hidden[:1] + read_networks(make("ppo"))[1].hidden[:1]
    loops = [Loop(snr, 12) for _ in layers]
    generator = torch.Generator().manual_seed(0)
    rates = torch.rand(2, 12, generator=generator)
    resets = 0
    for step in range(600):
        rates = rates if step % 100 else rates * 0.8
        fires = torch.rand(2, 12, generator=generator) < rates
        h = torch.zeros(2, 5, 12)
        h[:, 3] = torch.where(fires, 0.1, 0.0)
        found = {layer: mask for masks in snr.follow(layers, h) for layer, mask in zip(layers, masks, strict=True)}
        for layer, loop, fired in zip(layers, loops, fires.tolist(), strict=True):
            expected = loop.step(fired)
            mask = found.get(layer, torch.zeros(12, dtype=torch.bool))
            assert set(mask.nonzero().flatten().tolist()) == expected, step
            resets += len(expected)
            assert snr.state[f"age.{layer.name}"].tolist() == loop.ages
            assert snr.state[f"limit.{layer.name}"].tolist() == loop.limits
    assert resets > 50


def test_a_unit_that_is_never_silent_keeps_its_threshold() -> None:
    """In the authors' code such a unit would be reset at the first minibatch that it misses."""
    layers = read_networks(make("ppo"))[0].hidden[:1]
    snr = SNR(max_age=40, adapt_every=10)
    for _ in range(100):
        assert snr.follow(layers, torch.ones(1, 4, 12)) == []
    silent = torch.ones(1, 4, 12)
    silent[:, :, 5] = 0.0
    found = [snr.follow(layers, silent) for _ in range(20)]
    assert all(not masks for masks in found[:19])
    assert found[19][0][0].nonzero().flatten().tolist() == [5]


@dataclass
class Compared(SNR):
    """Looks at every step of a real run what the loop would do, and what became of the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loops: dict[Layer, Loop] = {}
        self.reset = 0

    def after_step(self, networks: list[Network], step: Step, generator: torch.Generator) -> Iterator[ResetEvent]:
        silent: dict[Layer, set[int]] = {}
        for network in networks:
            for layer, h in step.activations(network).items():
                if isinstance(layer.output, nn.ReLU):
                    loop = self.loops.setdefault(layer, Loop(self, layer.units))
                    active = [sum(value > 0 for value in values) for values in h.T.tolist()]
                    silent[layer] = loop.step([count > self.firing * len(h) for count in active])
        before: dict[Layer, Tensor] = {layer: layer.weight.matrix.detach().clone() for layer in silent}
        events = list(super().after_step(networks, step, generator))
        assert {event.part: event.count for event in events} == {
            layer.name: len(units) for layer, units in silent.items() if units
        }
        read = {consumer.layer for layer, units in silent.items() if units for consumer in layer.consumers}
        for layer, units in silent.items():
            changed = (layer.weight.matrix != before[layer]).any(dim=1).nonzero().flatten().tolist()
            assert set(changed) == units or layer in read
            for unit in units:
                for consumer in layer.consumers:
                    assert torch.all(consumer.by_unit(consumer.layer.weight.matrix.detach())[:, unit] == 0)
                for value, start in layer.weight.moments():
                    assert torch.all(layer.weight.as_matrix(value)[unit] == start)
            self.reset += len(units)
        yield from events


@pytest.mark.parametrize(("kind", "firing"), [("ppo", 0.5), ("sac", 0.4), ("ppo-cnn-tiny", 0.0), ("sac-cnn-tiny", 0.0)])
def test_real_runs_against_the_loop(kind: str, firing: float) -> None:
    model: Any = make(kind)
    if kind.startswith("ppo"):
        model.n_epochs = 20
    compared = Compared(max_age=6, adapt_every=5, min_silences=2, percentile=0.8, firing=firing)
    model.learn({"ppo": 64, "sac": 44, "ppo-cnn-tiny": 16, "sac-cnn-tiny": 56}[kind], callback=Plasticity(compared))
    assert compared.reset >= 3


def test_a_channel_fires_where_any_position_does() -> None:
    model = make("ppo-cnn-tiny")
    shared = read_networks(model)[0]
    conv = shared.hidden[0]
    with torch.no_grad():
        conv.weight.tensor[4] = 0.0
        conv.bias.tensor[4] = -1.0  # type: ignore[union-attr]
    snr = SNR(max_age=4)
    events: list[dict[str, Any]] = []
    plasticity = Plasticity(snr)
    plasticity.listeners.append(events.append)
    model.learn(16, callback=plasticity)
    first = [event for event in events if event["part"] == conv.name]
    assert first[0]["count"] >= 1
    assert torch.any(conv.weight.tensor[4] != 0)
    assert snr.state[f"past.{conv.name}"].numel() == conv.units * 5


def test_other_nonlinearities_are_refused_or_left_alone() -> None:
    tanh = sb3.PPO("MlpPolicy", "CartPole-v1", device="cpu")
    with pytest.raises(ValueError, match=r"only units of ReLU ever are.* Tanh: choose --network.activation relu\.$"):
        Plasticity(SNR()).check(tanh)
    Plasticity(SNR()).check(make("ppo"))
    mixed = make("ppo-cnn-tiny")  # convolutions with ReLU, tanh behind them
    snr: Any = SNR(max_age=2, firing=0.5)
    mixed.learn(32, callback=Plasticity(snr))
    assert "age.shared.0" in snr.state
    assert "age.actor.0" not in snr.state
