"""Ranks and norms of features whose singular values are known, and of models' features."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.layers import Layer, Network
from configs.settings import SettingError
from metrics.ranks import (
    ApproximateRank,
    EffectiveRank,
    FeatureNorm,
    FeatureRank,
    PreactivationNorm,
    SRank,
    StableRank,
    approximate_rank,
    effective_rank,
    feature_rank,
    singular,
    singular_values,
    srank,
    stable_rank,
)
from metrics.ranks.feature_norm import mean_norm
from tests.features import Watched, by_hand
from tests.models import weights

RANKS = (EffectiveRank, SRank, ApproximateRank, StableRank, FeatureRank)
NETWORK = Network("actor", "actor", [])


class Seen:
    """A view of given features, or of what was seen of a model's last pass."""

    def __init__(self, features: Tensor | None = None, model: Watched | None = None) -> None:
        self.given, self.model = features, model

    def features(self, network: Network) -> Tensor | None:
        if self.model is None:
            return self.given
        output = self.model.watcher.output(network.hidden[-1]) if network.hidden else None
        return None if output is None else output.detach().flatten(1)

    def activations(self, network: Network) -> dict[Layer, Tensor]:
        return self.read(network, "activations")

    def preactivations(self, network: Network) -> dict[Layer, Tensor]:
        return self.read(network, "preactivations")

    def read(self, network: Network, kind: Any) -> dict[Layer, Tensor]:
        assert self.model is not None
        return {layer: tensor.detach() for layer, tensor in self.model.watcher.read(network, kind).items()}


def as_view(features: Tensor | None) -> Any:
    return Seen(features)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_spectrum(sigma: list[float], samples: int = 50, units: int = 20) -> Tensor:
    """A dense matrix with these singular values and zeros."""
    left, _ = torch.linalg.qr(random(samples, len(sigma), seed=1).double())
    right, _ = torch.linalg.qr(random(units, len(sigma), seed=2).double())
    return (left * torch.tensor(sigma).double()) @ right.T


def smooth(samples: int, units: int) -> Tensor:
    """Features as a small tanh network has them, with a long tail of singular values."""
    return (random(samples, 4) @ random(4, units, seed=1) @ (random(units, units, seed=2) / units**0.5)).tanh().tanh()


@pytest.mark.parametrize("shape", [(512, 64), (512, 256), (64, 200), (30, 30), (1, 5), (5, 1)])
def test_singular_values_are_those_of_the_decomposition(shape: tuple[int, int]) -> None:
    for features in (random(*shape), smooth(*shape), 1e4 + random(*shape), 1e-20 * random(*shape)):
        expected = torch.linalg.svdvals(features.double())
        torch.testing.assert_close(singular_values(features), expected, rtol=0, atol=1.3e-7 * float(expected[0]))
        entropy = torch.special.entr(expected / expected.sum()).sum()
        assert effective_rank(singular_values(features)) == pytest.approx(float(entropy.exp()), rel=1e-6)


def test_singular_values_far_above_the_floor_are_exact_to_single_precision() -> None:
    sigma = [10.0 ** (-k / 2) for k in range(12)]  # 1 down to 3e-6
    torch.testing.assert_close(
        singular_values(with_spectrum(sigma))[:12], torch.tensor(sigma).double(), rtol=1e-4, atol=0
    )
    assert (singular_values(with_spectrum(sigma))[12:] == 0).all()


def test_duplicates_and_silent_units_add_no_singular_values() -> None:
    features = smooth(100, 8)
    padded = torch.cat([features, features[:, :3], torch.zeros(100, 30)], dim=1)
    assert int((singular_values(padded) > 0).sum()) == 8


def test_effective_rank_of_known_matrices() -> None:
    assert effective_rank(singular_values(torch.eye(7))) == pytest.approx(7)
    assert effective_rank(singular_values(torch.ones(9, 4))) == pytest.approx(1)
    assert effective_rank(singular_values(torch.zeros(9, 4))) == 0.0
    # singular values 3 and 1: p = 3/4, 1/4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(singular_values(torch.diag(torch.tensor([3.0, 1.0])))) == pytest.approx(math.exp(entropy))
    assert effective_rank(singular_values(random(200, 5) @ random(5, 40, seed=1))) <= 5 + 1e-6


def test_srank_counts_singular_values_and_the_approximate_rank_their_squares() -> None:
    sigma = torch.tensor([8.0, 1.0, 1.0]).double()  # shares 0.8, 0.9, 1; of squares 64/66, 65/66, 1
    assert [srank(sigma, delta) for delta in (0.21, 0.19, 0.11, 0.09)] == [1, 2, 2, 3]
    assert [approximate_rank(sigma, delta) for delta in (0.031, 0.03, 0.016, 0.015)] == [1, 2, 2, 3]
    assert srank(torch.ones(100).double()) == 99  # 99 of 100 are 99 %, a tie
    assert (
        srank(torch.full((400,), 0.3, dtype=torch.float64)) == 396
    )  # rounding leaves the sum of 396 of them a little short
    assert approximate_rank(torch.ones(100).double()) == 99
    assert srank(torch.ones(99).double()) == 99


def test_stable_rank_by_hand() -> None:
    assert stable_rank(torch.tensor([2.0, 1.0, 1.0, 0.0])) == pytest.approx(1.5)
    features = smooth(60, 20)
    norms = float((torch.linalg.matrix_norm(features) / torch.linalg.matrix_norm(features, ord=2)) ** 2)
    assert stable_rank(singular_values(features)) == pytest.approx(norms, rel=1e-5)


def test_feature_rank_counts_above_an_absolute_threshold() -> None:
    sigma = torch.tensor([3.0, 0.5, 0.11, 0.09])
    assert feature_rank(sigma, samples=100) == 3  # 0.01 times the root of 100
    assert feature_rank(sigma, samples=100, epsilon=0.06) == 1
    assert feature_rank(sigma, samples=10_000) == 1
    once = with_spectrum([3.0, 0.5, 0.11, 0.06], samples=100)
    assert feature_rank(singular_values(once), 100) == 3
    # Seeing every sample twice changes nothing; smaller features have a smaller rank.
    assert feature_rank(singular_values(torch.cat([once, once])), 200) == 3
    assert feature_rank(singular_values(once / 10), 100) == 1


def test_a_matrix_of_full_rank_has_it_by_every_definition() -> None:
    found = [metric().measure(NETWORK, as_view(torch.eye(40))) for metric in RANKS]
    assert [value for values in found for value in values.values()] == pytest.approx([40] * 5)
    low = random(200, 5) @ random(5, 40, seed=1)
    counts = [SRank, ApproximateRank, FeatureRank]
    assert [next(iter(metric().measure(NETWORK, as_view(low)).values())) for metric in counts] == [5, 5, 5]


@pytest.mark.parametrize("metric", [metric() for metric in RANKS])
def test_ranks_of_nothing_and_of_no_number(metric: Any) -> None:
    (name,) = metric.names
    assert metric.measure(NETWORK, as_view(torch.zeros(8, 3))) == {name: 0.0}
    assert metric.measure(NETWORK, as_view(None)) == {}
    for bad in (math.nan, math.inf):
        features = torch.ones(8, 3)
        features[2, 1] = bad
        assert math.isnan(metric.measure(NETWORK, as_view(features))[name])


def test_settings_reach_the_ranks() -> None:
    view = as_view(torch.diag(torch.tensor([8.0, 1.0, 1.0])))
    assert SRank(delta=0.21).measure(NETWORK, view) == {"srank": 1}
    assert SRank(delta=0.01).measure(NETWORK, view) == {"srank": 3}
    assert ApproximateRank(delta=0.016).measure(NETWORK, view) == {"approximate_rank": 2}
    assert FeatureRank(epsilon=1.0).measure(NETWORK, view) == {"feature_rank": 1}  # 1 / root of 3 is below
    for settings in ({"delta": 0.0}, {"delta": 1.0}):
        with pytest.raises(SettingError):
            SRank(**settings)


def test_a_view_is_decomposed_once_for_all_ranks_and_each_view_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []

    def counting(features: Tensor) -> Tensor:
        calls.append(features)
        return singular_values(features)

    monkeypatch.setattr(singular, "singular_values", counting)
    first, second, other = as_view(torch.eye(3)), as_view(torch.eye(4)), Network("critic", "critic", [])
    for metric in RANKS:
        metric().measure(NETWORK, first)
    assert len(calls) == 1
    assert EffectiveRank().measure(NETWORK, second)["effective_rank"] == pytest.approx(4)
    EffectiveRank().measure(other, second)
    assert len(calls) == 3


def test_norms_by_hand() -> None:
    features = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]])
    assert mean_norm(features, 3) == pytest.approx(5)
    # Two positions of one observation: the root of all squares together.
    assert mean_norm(torch.tensor([[3.0], [4.0], [6.0], [8.0]]), 2) == pytest.approx(7.5)
    # Two outputs of one unit: all first ones stand before all second ones.
    assert mean_norm(torch.tensor([[3.0], [6.0], [4.0], [8.0]]), 2, outputs=2) == pytest.approx(7.5)


def test_norms_of_a_model_are_those_computed_by_hand() -> None:
    model = Watched("ppo")
    critic = model.networks["critic"]
    view: Any = Seen(model=model)
    (observations,) = model.inputs("critic")
    (z0, h0), (z1, h1) = by_hand(critic, observations)
    after = {"feature_norm": h1, "feature_norm/0": h0, "feature_norm/1": h1}
    before = {"preact_norm": z1, "preact_norm/0": z0, "preact_norm/1": z1}
    for metric, expected in ((FeatureNorm(), after), (PreactivationNorm(), before)):
        found = metric.measure(critic, view)
        norms = {
            name: sum(math.hypot(*sample.tolist()) for sample in part) / len(part) for name, part in expected.items()
        }
        assert found == pytest.approx(norms, rel=1e-5)


def test_norms_of_images_are_of_whole_maps() -> None:
    model = Watched("ppo-cnn-crelu")
    network = model.networks["shared"]
    view: Any = Seen(model=model)
    output = model.watcher.output(network.hidden[0])
    assert output is not None
    assert output.dim() == 4
    found = FeatureNorm().measure(network, view)
    assert found["feature_norm/0"] == pytest.approx(float(output.detach().flatten(1).norm(dim=1).mean()), rel=1e-5)
    # relu(z)^2 + relu(-z)^2 = z^2
    given = PreactivationNorm().measure(network, view)
    assert given["preact_norm/0"] == pytest.approx(found["feature_norm/0"], rel=1e-5)


@pytest.mark.parametrize("kind", ["ppo", "ppo-crelu-layernorm", "ppo-dict-fourier", "sac-cnn-tiny", "dqn"])
def test_every_network_has_its_values_under_declared_names_and_stays_as_it_is(kind: str) -> None:
    model = Watched(kind)
    before = weights(model.model)
    for network in model.networks.values():
        view: Any = Seen(model=model)
        features = view.features(network)
        for metric in (metric() for metric in (*RANKS, FeatureNorm, PreactivationNorm)):
            found = metric.measure(network, view)
            if features is None:
                assert found == {}
                continue
            assert found[metric.names[0]] > 0
            assert len(metric.names[0]) <= 16
            if type(metric) in RANKS:
                assert found[metric.names[0]] <= min(features.shape)
    assert torch.equal(weights(model.model), before)


def test_a_collapsed_layer_has_rank_one() -> None:
    model = Watched("ppo")
    critic = model.networks["critic"]
    with torch.no_grad():
        nn.init.ones_(critic.hidden[-1].weight.tensor)
    model.run(samples=32)
    view: Any = Seen(model=model)
    assert EffectiveRank().measure(critic, view)["effective_rank"] == pytest.approx(1, abs=1e-4)
    assert SRank().measure(critic, view) == {"srank": 1}
