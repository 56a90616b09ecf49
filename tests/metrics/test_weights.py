"""Diagnostics of weights: by hand, against plain loops and dense decompositions, and on real agents."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.layers import Consumer, Layer, Network, Param
from agents.sb3 import read_networks
from agents.viewing import ModelView, initial_tensors
from metrics.base import View
from metrics.weights import (
    Condition,
    InitDistance,
    LargestSingularValue,
    RowSimilarity,
    SmallestSingularValue,
    WeightNorm,
    condition,
    extremes,
    norms,
    row_similarity,
)
from metrics.weights import singular as singular_module
from tests.features import move
from tests.models import make

ALL = [WeightNorm(), InitDistance(), LargestSingularValue(), SmallestSingularValue(), Condition(), RowSimilarity()]
KINDS = ["ppo", "ppo-box", "ppo-norm", "sac", "sac-cnn", "ppo-cnn", "ppo-crelu", "dqn"]


def view_of(model: Any, networks: list[Network], initial: dict[Tensor, Tensor] | None = None) -> View:
    return ModelView(model, networks, None, initial=initial)


def chain(*weights: Tensor, name: str = "net") -> Network:
    """A network of linear layers with these weights, no biases; the last is its head."""
    layers = []
    for index, weight in enumerate(weights):
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        module.weight.data = weight.clone()
        label = "head" if index == len(weights) - 1 else str(index)
        param = Param(f"{name}.{label}.weight", module.weight, lambda old, generator: old)
        layers.append(Layer(f"{name}.{label}", module, param, None, module))
    for layer, following in itertools.pairwise(layers):
        layer.consumers.append(Consumer(following, 0, 1, layer.units))
    return Network(name, "actor", layers)


def start_of(network: Network, values: list[Tensor] | None = None) -> View:
    """A view that knows nothing but where the layers' weights started: at zero, or at these values."""
    weights = [layer.weight.tensor for layer in network.layers]
    return view_of(None, [network], dict(zip(weights, values or map(torch.zeros_like, weights), strict=True)))


def test_norms_by_hand() -> None:
    assert norms([torch.tensor([[3.0]]), torch.tensor([5.0, 12.0])]) == pytest.approx([3, 13])
    assert norms([]) == []
    network = chain(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[12.0, 0.0]]))
    found = WeightNorm().measure(network, start_of(network))
    assert found == pytest.approx({"weight_norm": 13, "weight_norm/0": 5, "weight_norm/head": 12})


def test_norms_do_not_overflow_in_single_precision() -> None:
    assert norms([torch.full((4,), 1e30)]) == pytest.approx([2e30])


def test_distance_by_hand() -> None:
    network = chain(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[1.0, 1.0]]))
    view = start_of(network, [torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 7.0]])])
    found = InitDistance().measure(network, view)  # differences (3, 2) and 6, of norms 2 and sqrt(50)
    assert found == pytest.approx(
        {
            "init_relative": 7 / math.sqrt(54),
            "init_relative/0": math.sqrt(13) / 2,
            "init_relative/head": 6 / math.sqrt(50),
            "init_distance": 7,
        }
    )


def test_what_started_at_zero_has_a_distance_but_no_relative_one() -> None:
    network = chain(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0]]))
    assert InitDistance().measure(network, start_of(network)) == pytest.approx({"init_distance": math.sqrt(26)})
    found = InitDistance().measure(network, start_of(network, [torch.zeros(1, 2), torch.tensor([[2.0]])]))
    assert found == pytest.approx(
        {"init_relative": math.sqrt(26) / 2, "init_relative/head": 0.5, "init_distance": math.sqrt(26)}
    )


def test_where_a_start_is_not_known_there_is_no_distance() -> None:
    network = chain(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0]]))
    assert InitDistance().measure(network, view_of(None, [network])) == {}
    first = network.layers[0].weight.tensor
    view = view_of(None, [network], {first: torch.tensor([[3.0, 2.0]])})
    assert InitDistance().measure(network, view) == pytest.approx({"init_relative/0": 2 / math.sqrt(13)})


@pytest.mark.parametrize("kind", ["ppo-box", "sac"])
def test_distance_is_that_of_all_parameters_in_one_vector(kind: str) -> None:
    model = make(kind)
    networks = [network for network in read_networks(model) if network.layers]
    initial = initial_tensors(networks)
    for network in networks:
        view = view_of(model, networks, initial)
        found = InitDistance().measure(network, view)
        assert set(found.values()) == {0.0}
        before = torch.cat([param.tensor.detach().flatten() for param in network.params()]).clone()
        old = {layer: layer.weight.tensor.detach().clone() for layer in network.layers}
        move(network)
        after = torch.cat([param.tensor.detach().flatten() for param in network.params()])
        found = InitDistance().measure(network, view)
        assert found["init_distance"] == pytest.approx(float((after - before).norm()))
        assert found["init_relative"] == pytest.approx(float((after - before).norm() / before.norm()))
        for layer, start in old.items():
            expected = float((layer.weight.tensor.detach() - start).norm() / start.norm())
            assert found[f"init_relative/{layer.name.removeprefix(network.name + '.')}"] == pytest.approx(expected)
        assert WeightNorm().measure(network, view)["weight_norm"] == pytest.approx(float(after.norm()))


def test_singular_values_by_hand() -> None:
    first = torch.tensor([[3.0, 0.0], [0.0, 0.5], [0.0, 0.0]])  # singular values 3 and 0.5
    second = torch.tensor([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0]])  # 2 and 1
    head = torch.tensor([[30.0, 40.0]])  # 50
    network = chain(first, second, head)
    view = start_of(network)
    assert LargestSingularValue().measure(network, view) == pytest.approx(
        {"spectral_norm": 3, "spectral_norm/0": 3, "spectral_norm/1": 2, "spectral_norm/head": 50}
    )
    assert SmallestSingularValue().measure(network, view) == pytest.approx(
        {"smallest_sv": 0.5, "smallest_sv/0": 0.5, "smallest_sv/1": 1, "smallest_sv/head": 50}
    )
    assert Condition().measure(network, view) == pytest.approx(
        {"condition": 6, "condition/0": 6, "condition/1": 2, "condition/head": 1}
    )


def test_layers_of_one_shape_keep_their_own_values() -> None:
    network = chain(*(torch.eye(3) * size for size in (1.0, 5.0, 2.0)), torch.full((1, 3), 7.0))
    found = LargestSingularValue().measure(network, start_of(network))
    assert list(found.values()) == pytest.approx([5, 1, 5, 2, 7 * math.sqrt(3)])


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5), (1, 6), (6, 1)])
def test_extremes_are_roots_of_eigenvalues_of_the_smaller_product(shape: tuple[int, int]) -> None:
    weight = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    product = weight.double() @ weight.double().mT if shape[0] <= shape[1] else weight.double().mT @ weight.double()
    values = torch.linalg.eigvalsh(product).sqrt()
    torch.testing.assert_close(extremes(weight), values[:, [-1, 0]], rtol=1e-6, atol=1e-9)


def test_a_singular_matrix_has_a_condition_that_is_a_number() -> None:
    most = 1 / torch.finfo(torch.float32).eps
    assert condition(2.0, 0.5) == 4
    assert condition(2.0, 0.0) == pytest.approx(most)
    assert condition(2.0, 1e-30) == pytest.approx(most)
    assert condition(0.0, 0.0) == pytest.approx(most)
    same = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    network = chain(same, torch.eye(2), torch.ones(1, 2))
    assert Condition().measure(network, start_of(network))["condition"] == pytest.approx(most, rel=1e-3)
    zero = chain(torch.zeros(3, 2), torch.eye(3))
    assert Condition().measure(zero, start_of(zero))["condition"] == pytest.approx(most)


def test_weights_that_are_not_finite_have_no_singular_values() -> None:
    broken = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    for metric in (LargestSingularValue(), SmallestSingularValue(), Condition()):
        for order in ((broken, torch.eye(2)), (torch.eye(2), broken)):
            network = chain(*order, torch.ones(1, 2))
            found = metric.measure(network, start_of(network)).values()
            assert [math.isnan(value) for value in found] == [True, order[0] is broken, order[1] is broken, False]


def test_singular_values_are_computed_once_a_view_and_anew_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    network, shapes = chain(torch.eye(2), torch.eye(2), torch.ones(1, 2)), []

    def counted(stack: Tensor) -> Tensor:
        shapes.append(tuple(stack.shape))
        return extremes(stack)

    monkeypatch.setattr(singular_module, "extremes", counted)
    view = start_of(network)
    for metric in (LargestSingularValue(), SmallestSingularValue(), Condition()):
        metric.measure(network, view)
    assert shapes == [(2, 2, 2), (1, 1, 2)]
    network.layers[0].weight.tensor.data *= 3
    assert LargestSingularValue().measure(network, start_of(network))["spectral_norm"] == pytest.approx(3)
    kept = len(singular_module._seen)
    del view
    assert len(singular_module._seen) == kept - 1


def test_orthogonal_layers_start_with_equal_singular_values() -> None:
    model = make("ppo")
    networks = [network for network in read_networks(model) if network.layers]
    view = view_of(model, networks)
    for network in networks:
        head = 0.01 if network.name == "actor" else 1.0
        largest = LargestSingularValue().measure(network, view)
        smallest = SmallestSingularValue().measure(network, view)
        assert list(largest.values()) == pytest.approx([math.sqrt(2)] * 3 + [head], rel=1e-5)
        assert list(smallest.values()) == pytest.approx([math.sqrt(2)] * 3 + [head], rel=1e-5)
        assert list(Condition().measure(network, view).values()) == pytest.approx([1] * 4, rel=1e-5)


def naive_similarity(weight: Tensor) -> float:
    rows = [row for row in weight.double() if bool(row.norm() > 0)]
    pairs = [(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    return sum(abs(float(a @ b / (a.norm() * b.norm()))) for a, b in pairs) / len(pairs)


def test_row_similarity_by_hand() -> None:
    # cosines 1/sqrt(2), -1/sqrt(2) and 0: the middle row is between the others
    assert float(row_similarity(torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -3.0]]))) == pytest.approx(math.sqrt(2) / 3)
    assert float(row_similarity(torch.eye(5))) == 0
    assert float(row_similarity(torch.tensor([[1.0, 2.0], [-3.0, -6.0]]))) == pytest.approx(1)


def test_row_similarity_is_that_of_a_plain_loop_and_knows_no_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 9, 6, generator=generator)
    weight[0, 3] = 0
    expected = torch.tensor([naive_similarity(one) for one in weight])
    torch.testing.assert_close(row_similarity(weight), expected)
    scales = torch.rand(2, 9, 1, generator=generator) + 0.1
    torch.testing.assert_close(row_similarity(-scales * weight), expected)


def test_rows_of_zeros_have_no_direction() -> None:
    assert float(row_similarity(torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0]]))) == pytest.approx(1)
    assert math.isnan(float(row_similarity(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))))
    assert math.isnan(float(row_similarity(torch.zeros(3, 2))))
    network = chain(torch.zeros(2, 3), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.ones(1, 2))
    found = RowSimilarity().measure(network, start_of(network))
    assert found["row_similarity"] == pytest.approx(1)  # of the layer that has one
    assert math.isnan(found["row_similarity/0"])
    assert list(found) == ["row_similarity", "row_similarity/0", "row_similarity/1"]


def test_random_rows_are_as_similar_as_their_dimension_lets_them() -> None:
    weight = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    # mean of |cos| in d dimensions: Gamma(d/2) / (sqrt(pi) Gamma((d + 1) / 2))
    expected = math.gamma(2) / (math.sqrt(math.pi) * math.gamma(2.5))
    assert expected == pytest.approx(0.424, abs=1e-3)
    assert float(row_similarity(weight)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_every_agent_has_values_and_keeps_its_weights(kind: str) -> None:
    model = make(kind)
    networks = [network for network in read_networks(model) if network.layers]
    initial = initial_tensors(networks)
    view = view_of(model, networks, initial)
    for network in networks:
        move(network)
    now = initial_tensors(networks)
    state = torch.get_rng_state()
    for network in networks:
        for metric in ALL:
            if not metric.applies(network):
                assert not network.hidden
                continue
            found = metric.measure(network, view)
            assert set(metric.names) == {name for name in found if "/" not in name}
            assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
            assert all(value > 0 for value in found.values())
    for tensor, before in now.items():
        assert torch.equal(tensor, before)
        assert tensor.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_convolutions_are_matrices_of_their_kernels() -> None:
    model = make("ppo-cnn")
    networks = [network for network in read_networks(model) if network.layers]
    shared = next(network for network in networks if network.name == "shared")
    move(shared)  # away from orthogonal rows
    kernel = shared.layers[0].weight.tensor.detach()
    assert kernel.dim() == 4
    view, label = view_of(model, networks), shared.layers[0].name.removeprefix("shared.")
    sigma = torch.linalg.svdvals(kernel.flatten(1).double())
    assert LargestSingularValue().measure(shared, view)[f"spectral_norm/{label}"] == pytest.approx(float(sigma[0]))
    assert SmallestSingularValue().measure(shared, view)[f"smallest_sv/{label}"] == pytest.approx(float(sigma[-1]))
    found = RowSimilarity().measure(shared, view)[f"row_similarity/{label}"]
    assert found == pytest.approx(naive_similarity(kernel.flatten(1)), rel=1e-4)
