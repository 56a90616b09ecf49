"""Continual backpropagation against loops over units in plain numbers, and what it keeps of the function."""

import copy
import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.interventions import Intervention, ResetEvent, Step
from agents.layers import Layer, Network
from agents.plasticity import Plasticity
from agents.sb3 import read_networks
from agents.watching import Watched, Watcher
from configs.settings import SettingError
from resets import CBP
from tests.models import STEPS, make, plain_weights, step_of, train, weights

# ---------- a second implementation, unit by unit ----------


def rows(tensor: Tensor) -> list[list[float]]:
    """A matrix as lists of Python's numbers, which have double precision."""
    return [[float(value) for value in row] for row in tensor.tolist()]


@dataclass
class Unit:
    """What the loop remembers of one unit."""

    age: int = 0
    utility: float = 0.0
    mean: float = 0.0


@dataclass
class Loop:
    """Continual backpropagation of fully connected layers, written as in the paper."""

    rate: float
    maturity: int
    utility: str
    decay: float = 0.99
    units: dict[str, list[Unit]] = field(default_factory=dict)
    owed: dict[str, float] = field(default_factory=dict)

    def step(self, layer: Layer, h: list[list[float]], slopes: list[list[float]] | None) -> dict[int, float]:
        """The units to replace in a layer, each with its mean activation."""
        units = self.units.setdefault(layer.name, [Unit() for _ in range(layer.units)])
        incoming = rows(layer.weight.matrix)
        readers = [row for consumer in layer.consumers for row in rows(consumer.layer.weight.matrix)]
        grads = rows(layer.weight.tensor.grad)  # type: ignore[arg-type]
        for i, unit in enumerate(units):
            values = [sample[i] for sample in h]
            unit.age += 1
            seen = 1 - self.decay**unit.age
            unit.mean = self.decay * unit.mean + (1 - self.decay) * sum(values) / len(values)
            centre = unit.mean / seen
            size = sum(map(abs, values)) / len(values)
            deviation = sum(abs(value - centre) for value in values) / len(values)
            out = sum(abs(row[i]) for row in readers) / len(readers)
            into = sum(map(abs, incoming[i])) / len(incoming[i])
            worth = {
                "contribution": size * out,
                "zero_contribution": deviation * out,
                "adaptable_contribution": deviation * out / into,
                "feature_by_input": deviation / into,
                "weight": out,
                "adaptation": 1 / into,
                "gradient": sum(map(abs, grads[i])) / len(grads[i]),
            }
            if slopes is not None:
                effect = sum(slope[i] * (value - centre) for slope, value in zip(slopes, values, strict=True))
                worth["attribution"] = abs(effect)
            unit.utility = self.decay * unit.utility + (1 - self.decay) * worth[self.utility]
        elder = [i for i, unit in enumerate(units) if unit.age > self.maturity]
        self.owed[layer.name] = self.owed.get(layer.name, 0.0) + self.rate * len(elder)
        count = int(self.owed[layer.name] + 1e-9)  # 10 times 0.1 is no more than 1
        self.owed[layer.name] -= count
        elder.sort(key=lambda i: units[i].utility / (1 - self.decay ** units[i].age))
        return {i: units[i].mean / (1 - self.decay ** units[i].age) for i in elder[:count]}


@dataclass
class Compared(CBP):
    """Continual backpropagation that looks at each of its steps what the loop would do."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loop = Loop(self.replacement_rate, self.maturity, self.utility)
        self.replaced = 0
        self.steps = 0

    def after_step(self, networks: list[Network], step: Step, generator: torch.Generator) -> Iterator[ResetEvent]:
        self.steps += 1
        lost: dict[Layer, dict[int, float]] = {}
        for network in networks:
            slopes = step.gradients(network) if self.utility == "attribution" else {}
            for layer, h in step.activations(network).items():
                lost[layer] = self.loop.step(layer, rows(h), rows(slopes[layer]) if slopes else None)
        everything = {param: param.tensor.detach().clone() for network in networks for param in network.params()}
        events = list(super().after_step(networks, step, generator))

        assert {event.part: event.count for event in events} == {
            layer.name: len(units) for layer, units in lost.items() if units
        }
        shifts: dict[Layer, list[float]] = {}
        columns: dict[Layer, set[int]] = {}
        for layer, units in lost.items():
            for consumer in layer.consumers:
                old = rows(everything[consumer.layer.weight])
                shifts[consumer.layer] = [sum(row[i] * mean for i, mean in units.items()) for row in old]
                columns[consumer.layer] = set(units)
                assert all(value == 0 for i in units for value in consumer.layer.weight.tensor[:, i].tolist()), (
                    "outgoing weights of a new unit"
                )
        for network in networks:
            for layer in network.layers:
                assert layer.bias is not None
                new = set(lost.get(layer, {}))
                for k in range(layer.units):
                    if k in new:
                        assert not torch.equal(layer.weight.tensor[k], everything[layer.weight][k])
                        continue
                    expected = float(everything[layer.bias][k]) + shifts.get(layer, [0.0] * layer.units)[k]
                    assert float(layer.bias.tensor.detach()[k]) == pytest.approx(expected, abs=1e-5)
                    kept = [j for j in range(layer.weight.matrix.shape[1]) if j not in columns.get(layer, set())]
                    assert torch.equal(layer.weight.tensor[k, kept], everything[layer.weight][k, kept])
            assert all(torch.equal(param.tensor, everything[param]) for param in network.free)
        for layer, units in lost.items():
            for i in units:
                self.loop.units[layer.name][i] = Unit()
            self.replaced += len(units)
        yield from events


@pytest.mark.parametrize(
    ("kind", "utility"),
    [
        ("ppo-long", "contribution"),
        ("sac", "contribution"),
        ("ppo-box", "zero_contribution"),
        ("sac", "adaptable_contribution"),
        ("ppo-long", "feature_by_input"),
        ("ppo-long", "weight"),
        ("ppo-long", "adaptation"),
        ("sac", "gradient"),
        ("ppo-long", "attribution"),
        ("sac", "attribution"),
    ],
)
def test_against_a_loop_over_units(kind: str, utility: Any) -> None:
    model: Any = make(kind)
    if kind != "sac":  # one rollout, in four minibatches or in one
        model.n_epochs = {"ppo-long": 13, "ppo-box": 48}[kind]
    compared = Compared(replacement_rate=0.013, maturity=3, utility=utility, accumulate=True)
    model.learn(50 if kind == "sac" else 64, callback=Plasticity(compared))
    assert compared.steps >= 48
    assert compared.replaced >= 12


# ---------- the function is kept ----------


@dataclass
class Inputs(Intervention):
    """Keeps what the networks of a model were given at the last step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kept: dict[str, Any] = {}

    def watches(self) -> set[Watched]:
        return {"inputs"}

    def after_step(self, networks: list[Network], step: Step, generator: torch.Generator) -> Iterable[ResetEvent]:
        self.kept |= {network.name: step.inputs(network) for network in networks}
        return ()


@functools.cache
def trained(kind: str) -> tuple[Any, dict[str, Any]]:
    inputs = Inputs()
    model, _ = train(kind, inputs, steps=STEPS.get(kind, 48))
    return model.policy.state_dict(), inputs.kept


def prepared(kind: str) -> tuple[list[Network], dict[str, Any]]:
    """A trained model's networks, to be changed at will, and a minibatch for each."""
    parameters, inputs = trained(kind)
    model = make(kind)
    model.policy.load_state_dict(parameters)
    return [network for network in read_networks(model) if network.layers], inputs


def follow(cbp: CBP, networks: list[Network], inputs: dict[str, Any], seed: int = 0) -> list[ResetEvent]:
    """One step, on the networks as they are."""
    watcher = Watcher()
    for network in networks:
        watcher.watch(network, cbp.watches())
        outputs = network.run(*inputs[network.name])
        if "gradients" in cbp.watches():
            torch.stack([output.square().mean() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    with watcher.detached():
        events = list(cbp.after_step(networks, step_of(networks[0], watcher), torch.Generator().manual_seed(seed)))
    watcher.close()
    return events


def outputs(networks: list[Network], inputs: dict[str, Any]) -> list[Tensor]:
    with torch.no_grad():
        return [output for net in networks if net.heads for output in net.run(*inputs[net.name])]


def make_constant(layer: Layer, unit: int, value: float) -> None:
    """A unit that gives the same whatever it reads."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.tensor[unit] = 0.0
        layer.bias.tensor[unit] = value


def mask(layer: Layer, *units: int) -> Tensor:
    return torch.isin(torch.arange(layer.units), torch.tensor(units))


KINDS = ["ppo", "ppo-cnn", "ppo-crelu", "sac-cnn-crelu", "ppo-dict-fourier", "sac", "sac-cnn-shared"]


@pytest.mark.parametrize("kind", KINDS)
def test_replacing_a_constant_unit_changes_no_output(kind: str) -> None:
    networks, inputs = prepared(kind)
    layers = list(dict.fromkeys(layer for network in networks for layer in network.hidden))
    for number, layer in enumerate(layers):
        make_constant(layer, 1, 0.7)
        make_constant(layer, 2, 0.4 + 0.1 * number)
    before = outputs(networks, inputs)
    cbp = CBP(replacement_rate=1e-9, maturity=0)
    assert follow(cbp, networks, inputs) == []
    # One layer after the other, then the same in neighbouring layers at once.
    for layer in layers:
        cbp.replace({layer: mask(layer, 1)}, torch.Generator().manual_seed(1))
        assert torch.all(outgoing_of(layer, 1) == 0)
    for old, new in zip(before, outputs(networks, inputs), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)
    cbp.replace({layer: mask(layer, 2) for layer in layers}, torch.Generator().manual_seed(2))
    for layer in layers:
        assert torch.all(outgoing_of(layer, 2) == 0)
    for old, new in zip(before, outputs(networks, inputs), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)

    without, inputs = prepared(kind)
    for layer in (layer for network in without for layer in network.hidden):
        make_constant(layer, 1, 0.7)
    before = outputs(without, inputs)
    cbp = CBP(replacement_rate=1e-9, bias_compensation=False)
    follow(cbp, without, inputs)
    last = without[0].hidden[-1]
    cbp.replace({last: mask(last, 1)}, torch.Generator())
    after = outputs(without, inputs)
    assert max(float((new - old).abs().max()) for old, new in zip(before, after, strict=True)) > 1e-3


def outgoing_of(layer: Layer, unit: int) -> Tensor:
    """All outgoing weights of one unit."""
    matrices = [(consumer, consumer.layer.weight.matrix.detach()) for consumer in layer.consumers]
    return torch.cat([consumer.by_unit(matrix)[:, unit].flatten() for consumer, matrix in matrices])


@pytest.mark.parametrize("kind", ["ppo", "sac", "ppo-crelu", "sac-cnn-shared"])
def test_the_mean_output_over_the_batch_is_kept_for_any_unit(kind: str) -> None:
    networks, inputs = prepared(kind)
    cbp = CBP(replacement_rate=1e-9, decay=0.9)
    for _ in range(5):  # the same minibatch again and again: its mean is the moving average, whatever the age
        follow(cbp, networks, inputs)
    before = outputs(networks, inputs)
    for network in networks:
        last = network.hidden[-1]
        if all(consumer.layer.is_head for consumer in last.consumers):
            cbp.replace({last: mask(last, 0, 3)}, torch.Generator())
    after = outputs(networks, inputs)
    moved = 0.0
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new.mean(dim=0), old.mean(dim=0), rtol=1e-4, atol=1e-5)
        moved = max(moved, float((new - old).abs().max()))
    assert moved > 1e-4, "single outputs do change"


def test_the_mean_of_both_outputs_of_a_unit_counts() -> None:
    (actor, *_), inputs = prepared("ppo-crelu")
    last = actor.hidden[-1]
    cbp = CBP(replacement_rate=1e-9)
    follow(cbp, [actor], inputs)
    mean = cbp.state[f"mean.{last.name}"] / cbp.state[f"seen.{last.name}"]
    assert mean.shape == (2, last.units)
    head, old = last.consumers[0].layer, last.consumers[0].layer.bias.tensor.clone()  # type: ignore[union-attr]
    w = head.weight.tensor.detach().clone()
    cbp.replace({last: mask(last, 3)}, torch.Generator())
    shift = w[:, 6] * mean[0, 3] + w[:, 7] * mean[1, 3]
    torch.testing.assert_close(head.bias.tensor, old + shift)  # type: ignore[union-attr]
    assert float(shift.abs().min()) > 0


# ---------- which, when, how many ----------


def test_new_units_are_protected_until_they_are_mature() -> None:
    networks, inputs = prepared("ppo")
    actor = networks[:1]
    cbp = CBP(replacement_rate=1.0, maturity=3)
    counts = [sum(event.count for event in follow(cbp, actor, inputs)) for _ in range(12)]
    assert counts == [0, 0, 0, 22, 0, 0, 0, 22, 0, 0, 0, 22]


def test_the_unit_of_lowest_utility_goes() -> None:
    (actor, *_), inputs = prepared("ppo")
    first = actor.hidden[0]
    with torch.no_grad():
        actor.hidden[1].weight.tensor[:, 5] *= 1e-4
    before = first.weight.tensor.detach().clone()
    events = follow(CBP(replacement_rate=1 / 12, maturity=0, layers="first", accumulate=True), [actor], inputs)
    assert [(event.part, event.count, event.why) for event in events] == [(first.name, 1, "lowest contribution")]
    changed = (first.weight.tensor != before).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize(("eligible", "rate"), [(20, 0.004), (64, 0.02), (10, 0.0), (5, 1.0)])
def test_fractions_are_chances(eligible: int, rate: float) -> None:
    (actor, *_), _ = prepared("ppo")
    layer, cbp, generator = actor.hidden[0], CBP(replacement_rate=rate), torch.Generator().manual_seed(3)
    counts = [cbp.due(layer, eligible, generator) for _ in range(4000)]
    assert set(counts) <= {math.floor(rate * eligible), math.floor(rate * eligible) + 1}
    chance = rate * eligible - math.floor(rate * eligible)
    error = 4 * math.sqrt(chance * (1 - chance) / 4000)
    assert sum(counts) / 4000 == pytest.approx(rate * eligible, abs=error + 1e-12)
    fired = [count > math.floor(rate * eligible) for count in counts]
    if chance:  # no memory: as likely right after a replacement as ever
        after = [now for last, now in itertools.pairwise(fired) if last]
        assert sum(after) / len(after) == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / len(after)))


def test_fractions_add_up_where_that_is_asked_for() -> None:
    (actor, *_), _ = prepared("ppo")
    cbp = CBP(replacement_rate=0.05, accumulate=True)
    counts = [cbp.due(actor.hidden[0], 5, torch.Generator()) for _ in range(12)]
    assert counts == [0, 0, 0, 1] * 3


@pytest.mark.parametrize(
    ("layers", "parts"),
    [
        ("all", {"actor.0", "actor.1", "critic.0", "critic.1"}),
        ("first", {"actor.0", "critic.0"}),
        ((1,), {"actor.1", "critic.1"}),
        ((0, 1), {"actor.0", "actor.1", "critic.0", "critic.1"}),
    ],
)
def test_layers(layers: Any, parts: set[str]) -> None:
    networks, inputs = prepared("ppo")
    events = follow(CBP(replacement_rate=0.5, maturity=0, layers=layers), networks, inputs)
    assert {event.part for event in events} == parts


def test_wrong_layers_are_refused() -> None:
    networks, _ = prepared("ppo")
    with pytest.raises(SettingError, match="layers must be numbers from 0 to 1, not 0, 2"):
        CBP(layers=(0, 2)).check(networks, [])
    with pytest.raises(SettingError, match="layers must be one of all, first, not 'last'"):
        CBP(layers="last")  # type: ignore[arg-type]
    CBP(layers=(1,)).check(networks, [])


def test_a_network_that_was_not_run_is_passed_over() -> None:
    networks, inputs = prepared("ppo")
    actor, critic = networks
    cbp = CBP(replacement_rate=0.5, maturity=0)
    watcher = Watcher()
    for network in networks:
        watcher.watch(network, cbp.watches())
    for who in ([critic], [actor, critic], [actor]):
        watcher.close()
        for network in who:
            watcher.watch(network, cbp.watches())
            network.run(*inputs[network.name])
        step = step_of(actor, watcher)
        events = list(cbp.after_step(networks, step, torch.Generator()))
        assert {event.network for event in events} == {network.name for network in who}
    assert cbp.state["steps.actor.0"] == cbp.state["steps.critic.0"] == 2


def test_random_utility_is_a_lottery() -> None:
    networks, inputs = prepared("ppo")
    cbp = CBP(replacement_rate=1 / 12, maturity=0, utility="random", layers="first", accumulate=True)
    hit = set()
    for seed in range(12):
        before = networks[0].hidden[0].weight.tensor.detach().clone()
        follow(cbp, networks[:1], inputs, seed)
        hit |= set((networks[0].hidden[0].weight.tensor != before).any(dim=1).nonzero().flatten().tolist())
    assert len(hit) > 5


@pytest.mark.parametrize("compensation", [True, False])
def test_attribution_refers_to_what_takes_the_units_place(compensation: bool) -> None:
    networks, inputs = prepared("sac")
    critic = next(network for network in networks if network.name == "critic0")
    last = critic.hidden[-1]
    cbp = CBP(replacement_rate=1e-9, utility="attribution", bias_compensation=compensation)
    kept: dict[Layer, Tensor] = {}
    handle = last.output.register_forward_hook(lambda module, given, output: kept.update({last: output.detach()}))
    follow(cbp, [critic], inputs)
    handle.remove()
    h = kept[last]
    with torch.no_grad():
        q = critic.run(*inputs[critic.name])[0]
    slope = 2 * q / len(q) * last.consumers[0].layer.weight.tensor.detach()  # of mean q^2 by h
    effect = (slope * (h - h.mean(dim=0) * compensation)).sum(dim=0).abs()
    torch.testing.assert_close(cbp.state[f"utility.{last.name}"], 0.01 * effect, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["ppo-cnn", "sac-cnn-shared", "ppo-cnn-crelu"])
def test_channels_are_units_of_a_convolution(kind: str) -> None:
    networks, inputs = prepared(kind)
    conv, last = networks[0].hidden[1], networks[0].hidden[2]
    kept: dict[Layer, Tensor] = {}
    handles = [
        layer.output.register_forward_hook(lambda module, given, output, layer=layer: kept.update({layer: output}))
        for layer in (conv, last)
    ]
    cbp = CBP(replacement_rate=1e-9)
    follow(cbp, networks[:1], inputs)
    for layer in (conv, last):
        h = kept[layer].detach()
        h = h.view(len(h), layer.units, layer.expansion, *h.shape[2:])
        sizes = h.abs().mean(dim=(0, 2, 3, 4))
        (consumer, *others) = layer.consumers
        w = consumer.layer.weight.tensor.detach()
        out = w.view(len(w), layer.units, -1).abs().mean(dim=(0, 2))
        assert not others
        torch.testing.assert_close(cbp.state[f"utility.{layer.name}"], 0.01 * sizes * out, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(cbp.state[f"mean.{layer.name}"], 0.01 * h.mean(dim=(0, 3, 4)).mT)
    for handle in handles:
        handle.remove()


def test_contribution_counts_all_readers() -> None:
    networks, inputs = prepared("sac")
    actor = next(network for network in networks if network.name == "actor")
    last = actor.hidden[-1]
    cbp = CBP(replacement_rate=1e-9, utility="weight")
    follow(cbp, [actor], inputs)
    heads = torch.cat([consumer.layer.weight.tensor.detach() for consumer in last.consumers])
    assert len(last.consumers) == 2
    torch.testing.assert_close(cbp.state[f"utility.{last.name}"], 0.01 * heads.abs().mean(dim=0))


# ---------- what stays ----------


def test_fresh_rows_and_moments() -> None:
    for policy in ("keep", "zero"):
        model = make("ppo")
        model.learn(64)
        networks, inputs = read_networks(model), prepared("ppo")[1]
        first, second, _ = networks[0].layers
        before = [value.clone() for param in networks[0].params() for value, _ in param.moments()]
        cbp = CBP(replacement_rate=1e-9, moments=policy)
        follow(cbp, networks, inputs)
        cbp.replace({first: mask(first, 4)}, torch.Generator().manual_seed(8))
        fresh = first.weight.fresh(torch.Generator().manual_seed(8))
        assert torch.equal(first.weight.tensor[4], fresh[4])
        assert first.bias.tensor[4].item() == 0  # type: ignore[union-attr]
        after = [value for param in networks[0].params() for value, _ in param.moments()]
        if policy == "keep":
            assert all(map(torch.equal, before, after))
        else:
            for value, _ in first.weight.moments():
                assert torch.all(value[4] == 0)
                assert torch.any(value[3] != 0)
            for value, _ in second.weight.moments():
                assert torch.all(value[:, 4] == 0)
            for value, _ in second.bias.moments():  # type: ignore[union-attr]
                assert torch.any(value != 0), "a bias that is shifted keeps its statistics"


def test_heads_keep_their_rows_and_targets_stay() -> None:
    networks, inputs = prepared("sac")
    targets = {param: param.target.clone() for net in networks for param in net.params() if param.target is not None}
    heads = {layer: layer.weight.tensor.detach().clone() for net in networks for layer in net.layers if layer.is_head}
    events = follow(CBP(replacement_rate=0.5, maturity=0), networks, inputs)
    assert {event.network for event in events} == {"actor", "critic0", "critic1"}
    assert targets
    assert all(torch.equal(param.target, old) for param, old in targets.items())  # type: ignore[arg-type]
    for layer, old in heads.items():
        kept = layer.weight.tensor != 0
        assert torch.equal(layer.weight.tensor[kept], old[kept])
        assert int((~kept).all(dim=0).sum()) == 5


def test_a_copy_goes_on_as_the_original_does() -> None:
    networks, inputs = prepared("ppo")
    cbp = CBP(replacement_rate=1e-9, decay=0.5)
    follow(cbp, networks, inputs)
    other = copy.deepcopy(cbp)
    loaded = CBP(replacement_rate=1e-9, decay=0.5)
    loaded.load_state_dict(cbp.state_dict())
    for item in (cbp, other, loaded):
        follow(item, networks, inputs)
    for key, value in cbp.state_dict().items():
        assert torch.equal(torch.as_tensor(other.state_dict()[key]), torch.as_tensor(value)), key
        assert torch.equal(torch.as_tensor(loaded.state_dict()[key]), torch.as_tensor(value)), key


def test_nothing_happens_before_maturity_or_at_a_rate_of_zero() -> None:
    assert not CBP(replacement_rate=0.0).uses("after_step")
    model, plasticity = train("ppo", CBP(replacement_rate=1.0, maturity=100))
    assert torch.equal(weights(model), plain_weights("ppo"))
    assert plasticity.interventions[0].state["steps.actor.0"] == 4


def test_events_name_what_was_replaced() -> None:
    model = make("ppo")
    plasticity = Plasticity(CBP(replacement_rate=0.1, maturity=1))
    events: list[dict[str, Any]] = []
    plasticity.listeners.append(events.append)
    model.learn(STEPS["ppo"], callback=plasticity)
    assert events
    assert {event["method"] for event in events} == {"CBP"}
    assert all(event["what"] == "units" and event["count"] >= 1 for event in events)
