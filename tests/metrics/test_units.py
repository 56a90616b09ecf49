"""What units do, on activations whose answers are known and in models whose units are made to do it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.layers import Layer, Network, Param
from agents.modules import AdaptiveLinear, CReLU, Fourier, SmoothLeakyReLU
from configs.settings import SettingError
from metrics.units import (
    Active,
    Dead,
    Dormant,
    Linearised,
    Saturated,
    active_fraction,
    dormancy_score,
    linearized_units,
    saturation,
)
from metrics.units.linearised import BOTH_SIDES
from tests.features import Watched, by_hand
from tests.models import weights

NETWORK = Network("actor", "actor", [])
METRICS = (Dormant, Dead, Saturated, Linearised, Active)


class Seen:
    """A view of given tensors."""

    def __init__(self, activations: dict[Layer, Tensor], preactivations: dict[Layer, Tensor] | None = None) -> None:
        self.h, self.z = activations, preactivations or {}

    def activations(self, network: Network) -> dict[Layer, Tensor]:
        return self.h

    def preactivations(self, network: Network) -> dict[Layer, Tensor]:
        return self.z


def layer(nonlinearity: nn.Module | None, units: int = 2, name: str = "actor.0") -> Layer:
    linear = nn.Linear(3, units)
    expansion = int(getattr(nonlinearity, "expansion", 1))
    weight = Param(f"{name}.weight", linear.weight, lambda old, generator: old)
    return Layer(name, linear, weight, None, nonlinearity or linear, expansion=expansion, nonlinearity=nonlinearity)


def run(metric: Any, nonlinearity: nn.Module | None, preactivations: list[list[float]]) -> dict[str, float]:
    """What a metric says of one layer whose nonlinearity is given these `[samples, units]`."""
    z = torch.tensor(preactivations)
    one = layer(nonlinearity, z.shape[1])
    with torch.no_grad():
        h = one.samples(nonlinearity(z) if nonlinearity else z)
    return metric.measure(NETWORK, Seen({one: h}, {one: z}))


def watched(model: Watched) -> Any:
    """A view of what was seen of a model's last pass."""
    with model.watcher.detached():
        found = {
            network: (model.watcher.read(network, "activations"), model.watcher.read(network, "preactivations"))
            for network in model.networks.values()
        }

    class View:
        activations = staticmethod(lambda network: found[network][0])
        preactivations = staticmethod(lambda network: found[network][1])

    return View()


def test_dormancy_score_by_hand() -> None:
    activations = torch.tensor([[0.0, 1.0, -3.0, 0.2], [0.0, -1.0, 1.0, 0.0]])
    # mean absolute activations 0, 1, 2, 0.1; their mean 0.775
    torch.testing.assert_close(dormancy_score(activations), torch.tensor([0.0, 1.0, 2.0, 0.1]) / 0.775)


def test_scores_of_stacked_members_are_those_of_each_alone() -> None:
    stack = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(dormancy_score(stack), torch.stack([dormancy_score(member) for member in stack]))


def test_dormant_gives_the_fraction_of_the_network_and_of_each_layer() -> None:
    relu = nn.ReLU()
    layers = {
        layer(relu, 4, "actor.0"): torch.tensor([[0.0, 1.0, 2.0, 0.1]]),
        layer(relu, 2, "actor.features.1"): torch.tensor([[1.0, 1.0]]),
    }
    view: Any = Seen(layers)
    expected = {"dormant": 2 / 6, "dormant/0": 0.5, "dormant/features.1": 0.0}
    assert Dormant(tau=0.13).measure(NETWORK, view) == pytest.approx(expected)
    assert Dormant(tau=0.1).measure(NETWORK, view)["dormant"] == pytest.approx(1 / 6)
    silent: Any = Seen({layer(relu, 3, "actor.0"): torch.zeros(5, 3)})
    assert Dormant(tau=0.0).measure(NETWORK, silent)["dormant"] == 1


def test_a_relu_is_dead_when_it_is_exactly_0_on_all_samples() -> None:
    z = [[-1.0, 0.0, 1e-9, -5.0], [-0.1, 0.0, -9.0, 2.0]]
    assert run(Dead(), nn.ReLU(), z) == {"dead": 0.5, "dead/0": 0.5}
    assert run(Dead(), AdaptiveLinear("relu", 4), z)["dead"] == 0.5  # its slopes start at 0
    assert run(Dead(), nn.ReLU6(), [[-1.0, 7.0], [-1.0, 8.0]])["dead"] == 0.5  # 6 is not silent


@pytest.mark.parametrize("nonlinearity", [nn.LeakyReLU(), nn.LeakyReLU(1e-4), SmoothLeakyReLU()])
def test_leaky_units_do_not_die(nonlinearity: nn.Module) -> None:
    assert run(Dead(), nonlinearity, [[-1.0, -30.0], [-0.5, -30.0]])["dead"] == 0.0


def test_adalin_units_with_a_slope_do_not_die() -> None:
    nonlinearity = AdaptiveLinear("relu", 2)
    nn.init.constant_(nonlinearity.alpha[1:], 0.1)
    assert run(Dead(), nonlinearity, [[-1.0, -1.0], [-2.0, -2.0]])["dead"] == 0.5


@pytest.mark.parametrize("nonlinearity", [nn.GELU(), nn.SiLU(), nn.Mish(), nn.Softplus()])
def test_smooth_rectifiers_die_near_0(nonlinearity: nn.Module) -> None:
    z = [[-11.0, -11.0, 3.0], [-12.0, 1.0, 3.0]]  # a constant 3 is not dead
    assert run(Dead(), nonlinearity, z)["dead"] == pytest.approx(1 / 3)
    if isinstance(nonlinearity, nn.SiLU):
        assert run(Dead(near_zero=0.0), nonlinearity, z)["dead"] == 0.0


def test_a_bounded_unit_is_dead_when_its_output_hardly_varies() -> None:
    # Standard deviations of two values: their distance over the root of 2.
    h = torch.tensor([[0.5, 0.5, -1.0, 0.9], [0.5 + 0.0014, 0.5 + 0.0015, -1.0, -0.9]])
    for nonlinearity in (nn.Tanh(), nn.Sigmoid(), AdaptiveLinear("tanh", 4), nn.Identity(), None):
        view: Any = Seen({layer(nonlinearity, 4): h})
        assert Dead().measure(NETWORK, view)["dead"] == 0.5
        assert Dead(spread=0.01).measure(NETWORK, view)["dead"] == 0.75


def test_an_elu_far_below_zero_is_dead_and_one_above_is_not() -> None:
    assert run(Dead(), nn.ELU(), [[-20.0, 1.0, -1.0], [-30.0, 2.0, -0.9]])["dead"] == pytest.approx(1 / 3)


def test_both_outputs_of_a_unit_have_to_be_dead() -> None:
    assert run(Dead(), CReLU(), [[-1.0, 0.0], [-2.0, 0.0]])["dead"] == 0.5
    assert run(Dead(), Fourier(), [[0.5, 0.1], [0.5, 2.0]])["dead"] == 0.0  # sine and cosine of one z differ


def test_saturation_by_hand() -> None:
    h = torch.tensor([[0.991, -0.5, 1.0], [-0.991, 0.98, 0.0], [1.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
    torch.testing.assert_close(saturation(h), torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(saturation(torch.stack([h, 0 * h])), torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 0.0]]))
    view: Any = Seen({layer(nn.Tanh(), 3): h})
    found = Saturated().measure(NETWORK, view)
    expected = {"saturated": 0.5, "saturated/0": 0.5, "saturated_always": 1 / 3, "saturated_always/0": 1 / 3}
    assert found == pytest.approx(expected)
    assert Saturated(threshold=0.97).measure(NETWORK, view)["saturated"] == pytest.approx(1.75 / 3)


def test_saturation_is_measured_from_the_middle_of_the_range() -> None:
    logit = math.log(0.996 / 0.004)
    assert run(Saturated(), nn.Sigmoid(), [[logit, 0.0], [-logit, 4.6]])["saturated"] == 0.5  # sigmoid(4.6) = 0.990
    assert run(Saturated(), nn.Hardtanh(-3, 5), [[-2.97, 1.0], [4.97, 4.9]])["saturated"] == 0.5
    assert run(Saturated(), nn.Softsign(), [[98.0], [101.0]])["saturated"] == 0.5


def test_a_unit_that_jumps_between_its_limits_is_saturated_and_not_dead() -> None:
    z = [[9.0, 9.0], [-9.0, 9.0]]
    assert run(Saturated(), nn.Tanh(), z)["saturated_always"] == 1.0
    assert run(Dead(), nn.Tanh(), z)["dead"] == 0.5


def test_a_relu_is_linearised_when_it_is_positive_on_all_samples() -> None:
    z = [[1.0, 1.0, -1.0, 0.0], [2.0, -1.0, -2.0, 1.0]]
    assert run(Linearised(), nn.ReLU(), z) == {"linearised": 0.25, "linearised/0": 0.25}


def test_leaky_units_are_linearised_on_either_side() -> None:
    z = [[1.0, 1.0, -1.0, 0.0], [2.0, -1.0, -2.0, 1.0]]
    assert run(Linearised(), nn.LeakyReLU(), z)["linearised"] == 0.5
    assert run(Linearised(), CReLU(), z)["linearised"] == 0.5
    adaptive = AdaptiveLinear("relu", 4)
    assert run(Linearised(), adaptive, z)["linearised"] == 0.25  # with a slope of 0 the third unit is dead
    nn.init.constant_(adaptive.alpha, 0.1)
    assert run(Linearised(), adaptive, z)["linearised"] == 0.5


def test_a_flat_piece_is_no_line() -> None:
    z = [[1.0, 7.0, -1.0, 5.0], [2.0, 8.0, -2.0, 7.0]]
    assert run(Linearised(), nn.ReLU6(), z)["linearised"] == 0.25
    assert run(Linearised(), nn.Hardtanh(), [[0.5, 2.0, -2.0], [-0.5, 3.0, -3.0]])["linearised"] == pytest.approx(1 / 3)
    assert run(Linearised(), nn.Hardsigmoid(), [[2.9, 2.0], [-2.9, 4.0]])["linearised"] == 0.5


def test_linearised_units_are_those_with_one_slope_on_all_samples() -> None:
    z = torch.randn(6, 40, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for nonlinearity, pieces in ((nn.LeakyReLU(0.2), BOTH_SIDES), (nn.ReLU(), ((0.0, math.inf),))):
        h = nonlinearity(z)
        (slopes,) = torch.autograd.grad(h.sum(), z)
        expected = [len({float(slope) for slope in unit}) == 1 and float(unit[0]) != 0 for unit in slopes.T]
        assert linearized_units(z, h, pieces).tolist() == expected
        assert 0 < sum(expected) < 40


def test_active_counts_positive_outputs() -> None:
    z = [[1.0, -1.0, 0.0, 3.0], [2.0, 4.0, -1.0, -1.0]]
    assert active_fraction(torch.tensor(z)) == 0.5
    for nonlinearity in (nn.ReLU(), nn.GELU(), nn.ELU(), AdaptiveLinear("relu", 4)):
        assert run(Active(), nonlinearity, z) == {"active": 0.5, "active/0": 0.5}
    assert run(Dead(), nn.ReLU(), z)["dead"] == 0.25  # the third unit only


def test_active_weighs_layers_by_their_outputs() -> None:
    wide, narrow = torch.ones(6, 2), torch.zeros(3, 2)  # a convolution at two positions, a layer behind it
    view: Any = Seen({layer(nn.ReLU()): wide, layer(nn.ReLU(), name="actor.1"): narrow, layer(nn.Tanh()): wide})
    assert Active().measure(NETWORK, view) == pytest.approx({"active": 12 / 18, "active/0": 1.0, "active/1": 0.0})


@pytest.mark.parametrize(
    ("metric", "silent"),
    [
        (
            Saturated(),
            [nn.ReLU(), nn.ReLU6(), nn.ELU(), nn.GELU(), AdaptiveLinear("tanh", 2), CReLU(), Fourier(), None],
        ),
        (Linearised(), [nn.Tanh(), nn.GELU(), nn.ELU(), SmoothLeakyReLU(), AdaptiveLinear("tanh", 2), Fourier(), None]),
        (Active(), [nn.Tanh(), nn.Sigmoid(), nn.Hardtanh(), AdaptiveLinear("tanh", 2), CReLU(), Fourier(), None]),
    ],
)
def test_metrics_are_silent_where_they_have_nothing_to_say(metric: Any, silent: list[nn.Module | None]) -> None:
    for nonlinearity in silent:
        assert run(metric, nonlinearity, [[1.0, 2.0], [-1.0, 3.0]]) == {}
    assert metric.measure(NETWORK, Seen({})) == {}


def test_networks_count_the_units_of_all_layers_together() -> None:
    layers = {layer(nn.ReLU(), 3, "actor.0"): torch.zeros(5, 3), layer(nn.ReLU(), 1, "actor.1"): torch.ones(5, 1)}
    view: Any = Seen(layers, layers)
    assert Dead().measure(NETWORK, view) == {"dead": 0.75, "dead/0": 1.0, "dead/1": 0.0}
    assert Linearised().measure(NETWORK, view) == {"linearised": 0.25, "linearised/0": 0.0, "linearised/1": 1.0}


@pytest.mark.parametrize("metric", [metric() for metric in METRICS])
def test_what_is_not_finite_is_not_counted(metric: Any) -> None:
    nonlinearity = nn.Tanh() if isinstance(metric, Saturated) else nn.ReLU()
    for bad in (math.nan, math.inf):
        h = {layer(nonlinearity): torch.tensor([[0.0, bad], [0.0, 1.0]])}
        view: Any = Seen(h, h)
        found = metric.measure(NETWORK, view)
        assert found
        assert all(math.isnan(value) for value in found.values())


def test_thresholds_have_their_range() -> None:
    for settings in ({"spread": 0.0}, {"near_zero": -1.0}):
        with pytest.raises(SettingError):
            Dead(**settings)
    with pytest.raises(SettingError):
        Saturated(threshold=1.0)


def test_units_of_a_model_are_what_a_naive_loop_finds() -> None:
    model = Watched("ppo")
    actor = model.networks["actor"]
    with torch.no_grad():
        for number, hidden in enumerate(actor.hidden):
            assert hidden.bias is not None
            hidden.bias.tensor[:3] = -1e3  # dead
            hidden.bias.tensor[3 : 4 + number] = 1e3  # linear
    model.run(samples=32)
    (observations,) = model.inputs("actor")
    view = watched(model)
    dead = linear = units = positive = values = 0
    for z, h in by_hand(actor, observations):
        for given, gave in zip(z.T.tolist(), h.T.tolist(), strict=True):
            dead += all(value == 0 for value in gave)
            linear += all(value > 0 for value in given)
            units += 1
            positive += sum(value > 0 for value in gave)
            values += len(gave)
    assert units == 22
    assert dead >= 6
    assert linear >= 3
    assert Dead().measure(actor, view)["dead"] == pytest.approx(dead / units)
    assert Linearised().measure(actor, view)["linearised"] == pytest.approx(linear / units)
    assert Active().measure(actor, view)["active"] == pytest.approx(positive / values)


def test_a_channel_is_dead_when_it_is_at_all_positions() -> None:
    model = Watched("ppo-cnn-tiny")
    network = model.networks["shared"]
    first = network.hidden[0]
    with torch.no_grad():
        assert first.bias is not None
        first.bias.tensor[:8] = -1e3
    model.run()
    maps = model.watcher.output(first)
    assert maps is not None
    dead = [not any(maps[:, channel].flatten().tolist()) for channel in range(first.units)]
    assert 8 <= sum(dead) < first.units
    assert Dead().measure(network, watched(model))["dead/0"] == pytest.approx(sum(dead) / first.units)
    assert Active().measure(network, watched(model))["active/0"] == pytest.approx(float((maps > 0).float().mean()))


@pytest.mark.parametrize("kind", ["ppo", "ppo-norm", "ppo-fourier", "ppo-adaptive", "ppo-cnn-crelu", "td3-smooth"])
def test_values_are_shares_under_declared_names_and_change_nothing(kind: str) -> None:
    model = Watched(kind)
    view, before = watched(model), weights(model.model)
    for network in model.networks.values():
        for metric in (metric() for metric in METRICS):
            found = metric.measure(network, view)
            assert all(0 <= value <= 1 for value in found.values())
            assert {name.split("/")[0] for name in found} in (set(), set(metric.names))
            assert all(len(name) <= 16 for name in metric.names)
    assert torch.equal(weights(model.model), before)
