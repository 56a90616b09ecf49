"""Diagnostics of gradients: by hand, against plain loops and a dense SVD, and on real networks."""

import itertools
import math

import pytest
import stable_baselines3 as sb3
import torch
from torch import Tensor

from agents.layers import Network, Param
from agents.sb3 import read_networks
from agents.viewing import ModelView
from metrics.base import StepView
from metrics.gradients import (
    DormantGradients,
    GradientCosine,
    GradientDiversity,
    GradientNorm,
    GradientRank,
    GradientSignal,
    GradientSparsity,
    agreement,
    cosine_matrix,
    gradient_diversity,
    gradient_dormant,
    gradient_norm,
    gradient_rank,
    gradient_strength,
    gram,
    signal_to_noise,
    sparsity,
)
from metrics.gradients import samples as samples_module
from tests.models import make

OF_STEPS = [GradientNorm(), GradientSparsity(), DormantGradients()]
OF_SAMPLES = [GradientRank(), GradientDiversity(), GradientSignal(), GradientCosine()]
HUGE = 1 / torch.finfo(torch.float64).eps


class Sampled(ModelView):
    """A view of nothing but gradients of samples."""

    def __init__(self, gradients: Tensor | None) -> None:
        super().__init__(None, [], None)  # type: ignore[arg-type]
        self.gradients = gradients

    def sample_gradients(self, network: Network) -> Tensor | None:
        return self.gradients


def random_gradients(samples: int = 9, parameters: int = 40, common: float = 0.5, seed: int = 0) -> Tensor:
    """Gradients that share a direction."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, parameters, generator=generator)
    return noise + common * torch.randn(parameters, generator=generator)


def actor(kind: str = "ppo") -> Network:
    return next(network for network in read_networks(make(kind)) if network.name == "actor")


def step(gradients: dict[Param, Tensor]) -> StepView:
    return StepView(gradients, [], [])


def test_norms_by_hand() -> None:
    gradients = [torch.tensor([[3.0, 0.0], [0.0, -4.0]]), torch.tensor([12.0, 1e-9, 0.0])]
    assert gradient_norm(gradients) == pytest.approx(13)
    assert gradient_norm([]) == 0
    assert sparsity(gradients) == pytest.approx((3 / 7, 19))
    assert sparsity(gradients, 0.0)[0] == pytest.approx(4 / 7)
    assert sparsity(gradients, 3.0)[0] == pytest.approx(2 / 7)


def test_few_large_gradients_keep_the_l2_norm_and_not_the_share() -> None:
    dense, sparse = torch.full((100,), 0.1), torch.zeros(100)
    sparse[0] = 1.0
    assert gradient_norm([dense]) == pytest.approx(gradient_norm([sparse]))
    assert sparsity([dense])[0] == 1
    assert sparsity([sparse])[0] == pytest.approx(0.01)


def test_dormant_gradients_by_hand() -> None:
    gradient = torch.tensor([[0.0, 0.0], [1.0, -3.0], [0.02, 0.02], [-2.0, 0.0]])  # means 0, 2, 0.02, 1; of them 0.755
    torch.testing.assert_close(gradient_strength(gradient), torch.tensor([0.0, 2.0, 0.02, 1.0]))
    assert gradient_dormant(gradient_strength(gradient), 0.02).tolist() == [True, False, False, False]
    assert gradient_dormant(gradient_strength(gradient), 0.03).tolist() == [True, False, True, False]
    assert gradient_dormant(gradient_strength(gradient), 1.0).tolist() == [True, False, True, False]
    assert gradient_dormant(torch.zeros(3), 0.0).all()


def test_dormancy_of_gradients_knows_no_scale_and_no_other_layer() -> None:
    strength = torch.rand(3, 50, generator=torch.Generator().manual_seed(0)) ** 4
    expected = torch.stack([gradient_dormant(one, 0.05) for one in strength])
    assert 0 < int(expected.sum()) < expected.numel()
    for scale in (1e-20, 1e20):
        assert torch.equal(gradient_dormant(strength * torch.tensor([[scale], [1.0], [1.0]]), 0.05), expected)


@pytest.mark.parametrize("widths", [(12, 10), (12, 12)])
def test_units_that_nothing_reads_get_no_gradient(widths: tuple[int, int]) -> None:
    model = sb3.PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [*widths]}, device="cpu", seed=0)
    network = next(network for network in read_networks(model) if network.name == "actor")
    _, second, head = network.layers
    with torch.no_grad():
        second.weight.tensor[:, [1, 4, 5]] = 0  # three units of the first layer are read by nobody
        head.weight.tensor[:, 7] = 0  # one of the second
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    params = network.params()
    found = torch.autograd.grad(network.run(inputs)[0].square().sum(), [param.tensor for param in params])
    gradients = dict(zip(params, found, strict=True))
    dormant = DormantGradients().measure_step(network, step(gradients))
    shares = {"dormant_grad/0": 3 / widths[0], "dormant_grad/1": 1 / widths[1]}
    assert dormant == pytest.approx({"dormant_grad": 4 / sum(widths)} | shares)
    without = 3 * (4 + 1) + 1 * (widths[0] + 1)  # their incoming weights and biases, nothing else
    total = sum(gradient.numel() for gradient in gradients.values())
    share = GradientSparsity(threshold=0.0).measure_step(network, step(gradients))["grad_l0"]
    assert share == pytest.approx((total - without) / total)


def test_a_channel_is_a_unit() -> None:
    network = next(network for network in read_networks(make("ppo-cnn")) if network.name == "shared")
    gradients = {layer.weight: torch.ones_like(layer.weight.tensor) for layer in network.hidden}
    first = network.hidden[0].weight
    assert first.tensor.dim() == 4
    gradients[first][:3] = 0
    found = DormantGradients().measure_step(network, step(gradients))
    assert [value for name, value in found.items() if "/" in name] == pytest.approx([3 / 32, 0, 0, 0])
    assert found["dormant_grad"] == pytest.approx(3 / sum(layer.units for layer in network.hidden))


def test_a_step_without_gradients_says_nothing() -> None:
    network = actor()
    for metric in OF_STEPS:
        assert metric.applies(network)
        assert metric.measure_step(network, step({})) == {}
    only_head = {network.layers[-1].weight: torch.ones(2, 10)}
    assert DormantGradients().measure_step(network, step(only_head)) == {}
    some = {network.layers[1].weight: torch.ones(10, 12)}
    assert DormantGradients().measure_step(network, step(some)) == {"dormant_grad": 0, "dormant_grad/1": 0}


def test_gram_is_the_product_in_double_precision_whatever_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = random_gradients()
    expected = gradients.double() @ gradients.double().T
    for columns in (1, 7, 40, 1000):
        monkeypatch.setattr(samples_module, "COLUMNS", columns)
        torch.testing.assert_close(gram(gradients.clone()), expected, rtol=1e-14, atol=1e-14)


def test_gram_is_computed_once_a_tensor_anew_when_it_changes_and_forgotten_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    product = samples_module._product

    def counted(gradients: Tensor) -> Tensor:
        calls.append(len(gradients))
        return product(gradients)

    monkeypatch.setattr(samples_module, "_product", counted)
    gradients, network = random_gradients(), actor()
    for metric in OF_SAMPLES:
        metric.measure(network, Sampled(gradients))
    assert len(calls) == 1
    gradients *= 2
    torch.testing.assert_close(gram(gradients), product(gradients))
    assert len(calls) == 2
    gram(gradients.clone())  # another tensor of the same numbers
    assert len(calls) == 3
    kept = len(samples_module._known)
    del gradients
    assert len(samples_module._known) == kept - 1
    with torch.inference_mode():
        inferred = random_gradients()
    assert torch.equal(gram(inferred), product(inferred))


def dense_rank(gradients: Tensor) -> float:
    sigma = torch.linalg.svdvals(gradients.double())
    share = sigma[sigma > 0] / sigma.sum()
    return math.exp(-float((share * share.log()).sum()))


def test_rank_of_gradients_is_that_of_a_dense_decomposition() -> None:
    for seed, (samples, parameters) in enumerate(((9, 40), (40, 9), (12, 12))):
        gradients = random_gradients(samples, parameters, seed=seed)
        assert gradient_rank(gradients) == pytest.approx(dense_rank(gradients), rel=1e-6)
    scaled = random_gradients()
    assert gradient_rank(1e-12 * scaled) == pytest.approx(dense_rank(scaled), rel=1e-5)


def test_rank_of_known_gradients() -> None:
    assert gradient_rank(3 * torch.eye(6, 20)) == pytest.approx(6)
    assert gradient_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(4 / 3**0.75)
    assert gradient_rank(torch.zeros(5, 8)) == 0
    one = torch.randn(64, 1, generator=torch.Generator().manual_seed(0)) * torch.rand(500)
    assert gradient_rank(one) == pytest.approx(1, abs=1e-4)  # multiples of one vector, rounded to single precision
    broken = torch.eye(3)
    broken[0, 0] = math.nan
    assert math.isnan(gradient_rank(broken))


def test_rounding_makes_no_rank() -> None:
    # Of a product in single precision the rank of three directions in 200 samples would come out as 3.08, for 3.00.
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(200, 3, generator=generator) @ torch.randn(3, 2000, generator=generator)
    three = torch.linalg.svdvals(low.double())[:3]
    share = three / three.sum()
    assert gradient_rank(low) == pytest.approx(float(torch.special.entr(share).sum().exp()), abs=1e-3)


def test_diversity_of_known_gradients() -> None:
    assert gradient_diversity(torch.eye(4)) == pytest.approx(1)
    assert gradient_diversity(torch.ones(4, 7)) == pytest.approx(1 / 4)
    # sum (1, 2) of (1, 0), (-1, 0), (1, 2): 7 over 5
    assert gradient_diversity(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0]])) == pytest.approx(7 / 5)
    assert gradient_diversity(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])) == pytest.approx(HUGE)
    assert math.isnan(gradient_diversity(torch.zeros(3, 2)))


def test_signal_to_noise_by_hand() -> None:
    # inner products 0, 0 and 2; signal 2/3; mean of squares (4 + 1 + 4) / 3 = 3, noise 7/3
    gradients = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    assert signal_to_noise(gradients) == pytest.approx(2 / 7)
    assert signal_to_noise(torch.eye(5)) == pytest.approx(0)
    assert signal_to_noise(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])) == pytest.approx(-1 / 2)
    assert signal_to_noise(torch.ones(4, 7)) == pytest.approx(HUGE)
    assert math.isnan(signal_to_noise(torch.zeros(3, 2)))
    assert math.isnan(signal_to_noise(torch.ones(1, 2)))


def test_signal_and_noise_are_the_mean_and_the_covariance_of_the_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, spread = torch.randn(30, generator=generator), 1 + torch.rand(30, generator=generator)
    truth = float(mean.square().sum() / spread.square().sum())
    for samples, repeats in ((4, 400), (64, 50)):  # few samples or many: the same
        signals, noises = [], []
        for _ in range(repeats):
            gradients = mean + spread * torch.randn(samples, 30, generator=generator)
            ratio, squares = signal_to_noise(gradients), float(gradients.square().sum() / samples)
            noises.append(squares / (1 + ratio))  # since both add up to the mean of squares
            signals.append(squares - noises[-1])
        assert sum(signals) / sum(noises) == pytest.approx(truth, rel=0.05)


def test_noise_is_the_unbiased_sample_covariance() -> None:
    gradients = random_gradients()
    noise = float(gradients.double().var(dim=0, unbiased=True).sum())
    signal = float(gradients.double().mean(dim=0).square().sum()) - noise / len(gradients)
    assert signal_to_noise(gradients) == pytest.approx(signal / noise)


def test_cosines_by_hand() -> None:
    gradients = torch.tensor([[1.0, 0.0], [3.0, 3.0], [0.0, 0.0], [-2.0, 0.0]])
    half = math.sqrt(0.5)
    expected = [[1, half, 0, -1], [half, 1, 0, -half], [0, 0, 0, 0], [-1, -half, 0, 1]]
    torch.testing.assert_close(cosine_matrix(gradients), torch.tensor(expected, dtype=torch.float64))
    assert agreement(gradients) == pytest.approx((-1 / 3, 2 / 3, 1 / 4))


def test_cosines_are_those_of_a_plain_loop() -> None:
    gradients = random_gradients(common=0.2)
    pairs = [
        float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))
        for a, b in itertools.combinations(gradients, 2)
    ]
    conflict = sum(value < 0 for value in pairs) / len(pairs)
    assert 0 < conflict < 1
    assert agreement(gradients) == pytest.approx((sum(pairs) / len(pairs), conflict, 0))
    matrix = cosine_matrix(gradients)
    assert float(matrix[1, 2]) == pytest.approx(pairs[len(gradients) - 1])
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-15)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(9, dtype=torch.float64))


def test_cosines_know_no_scale_of_any_sample_and_the_others_none_of_all() -> None:
    gradients = random_gradients()
    scales = torch.logspace(-20, 10, 9).unsqueeze(-1)
    assert agreement(scales * gradients) == pytest.approx(agreement(gradients), rel=1e-5)
    for measure in (gradient_rank, gradient_diversity, signal_to_noise):
        assert measure(1e-15 * gradients) == pytest.approx(measure(gradients), rel=1e-5)
        assert measure(gradients.flip(0)) == pytest.approx(measure(gradients), rel=1e-9)


def test_without_two_gradients_there_is_no_cosine() -> None:
    for gradients, zero in (
        (torch.zeros(3, 2), 1),
        (torch.tensor([[1.0, 1.0], [0.0, 0.0]]), 0.5),
        (torch.ones(1, 2), 0),
    ):
        mean, conflict, none = agreement(gradients)
        assert math.isnan(mean)
        assert math.isnan(conflict)
        assert none == zero
    broken = torch.eye(3)
    broken[0, 0] = math.nan
    assert all(math.isnan(value) for value in agreement(broken)[:2])


def test_one_over_the_diversity_is_the_other_ratio_of_signal_to_noise() -> None:
    gradients = random_gradients()
    ratio = float(gradients.mean(dim=0).square().sum() / gradients.square().sum(dim=1).mean())
    assert 1 / (len(gradients) * gradient_diversity(gradients)) == pytest.approx(ratio, rel=1e-5)


def test_metrics_give_the_names_they_announce_and_nothing_without_a_loss() -> None:
    network = actor()
    gradients = {param: torch.ones_like(param.tensor) for param in network.params()}
    for metric in OF_STEPS:
        found = metric.measure_step(network, step(gradients))
        assert {name for name in found if "/" not in name} == set(metric.names)
    for rows in OF_SAMPLES:
        assert rows.costly
        assert rows.applies(network)
        assert rows.measure(network, Sampled(None)) == {}
        found = rows.measure(network, Sampled(random_gradients()))
        assert tuple(found) == rows.names
        assert all(type(value) is float and math.isfinite(value) for value in found.values())
