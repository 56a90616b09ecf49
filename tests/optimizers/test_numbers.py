"""Each optimiser's steps against numbers worked out by hand, or an independent computation of its equations."""

import copy
import importlib.util
from collections.abc import Callable
from math import erf, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.layers import Param
from optimizers import OPTIMIZERS, TRAC, UPGD, Muon, OptimizerSettings, UnitAdam
from optimizers.base import AdamBased
from optimizers.kron import plain_functions
from optimizers.muon import MuonOptimizer, by_shape, orthogonalized
from optimizers.sam import SAMOptimizer
from optimizers.trac import TRACOptimizer, erfi
from optimizers.unit_adam import UnitAdamOptimizer, average_one
from optimizers.upgd import UPGDOptimizer

INSTALLED = [name for name in OPTIMIZERS if name != "kron" or importlib.util.find_spec("kron_torch")]
SHAPES = [(4, 3), (4,), (5, 4), (5,), (2, 5), (2,)]


def parameters(seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in SHAPES]


def gradients(step: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]


def make(settings: OptimizerSettings, params: list[Tensor], lr: float = 1e-2) -> torch.optim.Optimizer:
    kwargs = settings.policy_kwargs()
    optimizer: torch.optim.Optimizer = kwargs["optimizer_class"](params, lr=lr, **kwargs["optimizer_kwargs"])
    return optimizer


def descend(optimizer: torch.optim.Optimizer, params: list[Tensor], steps: range, dtype: Any = torch.float64) -> None:
    for step in steps:
        for param, grad in zip(params, gradients(step, dtype), strict=True):
            param.grad = grad
        if isinstance(optimizer, SAMOptimizer):
            optimizer.ascend()
            optimizer.restore()
        optimizer.step()


def first_steps(optimizer: torch.optim.Optimizer, param: Tensor, count: int) -> Tensor:
    """Lengths of steps under a constant gradient, in learning rates."""
    found = []
    for _ in range(count):
        before = param.detach().clone()
        param.grad = torch.full_like(param, 0.7)
        optimizer.step()
        found.append((before - param.detach()) / optimizer.param_groups[0]["lr"])
    return torch.stack(found)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [AdamBased, UnitAdamOptimizer])
def test_without_resets_it_is_torchs_adam(kind: Any, decay: float) -> None:
    ours, theirs = parameters(), parameters()
    arguments: dict[str, Any] = {"lr": 1e-2, "betas": (0.8, 0.99), "eps": 1e-5, "weight_decay": decay}
    descend(kind(ours, **arguments), ours, range(50))
    descend(torch.optim.Adam(theirs, **arguments), theirs, range(50))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


def test_in_single_precision_steps_of_great_age_are_right_to_two_in_a_hundred_thousand() -> None:
    tensor = torch.zeros(2, requires_grad=True)
    optimizer = UnitAdamOptimizer([tensor], lr=1.0, eps=1e-12)
    average, count = [torch.zeros(2)], 30_000
    for _ in range(count):
        average_one(average, 0.999)
    optimizer.state[tensor] = {"exp_avg": torch.full((2,), 0.7), "exp_avg_sq": torch.full((2,), 0.49)}
    optimizer.state[tensor] |= {"exp_one": torch.ones(2), "exp_one_sq": average[0]}
    assert 0 < 1 - float(average[0][0]) < 4e-5
    torch.testing.assert_close(first_steps(optimizer, tensor, 1), torch.ones(1, 2), rtol=2e-5, atol=0)


def test_in_single_precision_unit_adam_stays_near_torchs_adam() -> None:
    ours, theirs = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    descend(UnitAdamOptimizer(ours, lr=1e-3), ours, range(300), torch.float32)
    descend(torch.optim.Adam(theirs, lr=1e-3), theirs, range(300), torch.float32)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.99, 0.99), (0.9, 0.9), (0.0, 0.9)])
def test_a_partly_reset_tensor_steps_as_a_new_one_where_it_was_reset(betas: tuple[float, float]) -> None:
    """The table of what becomes of Adam after a partial reset, its last row: 1, 1, 1, for reset elements only."""
    tensor = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    optimizer = UnitAdamOptimizer([tensor], lr=1e-2, betas=betas)
    first_steps(optimizer, tensor, 600)
    param = Param("w", tensor, lambda old, generator: old, optimizer)
    param.overwrite(0.0, torch.tensor([[True], [False], [False]]), "zero")
    seen = torch.tensor([0.0, 1 - betas[1] ** 600, 1 - betas[1] ** 600], dtype=torch.float64)
    torch.testing.assert_close(optimizer.state[tensor]["exp_one_sq"][:, 0], seen, rtol=1e-12, atol=0)
    torch.testing.assert_close(first_steps(optimizer, tensor, 6), torch.ones(6, 3, 2).double(), rtol=1e-6, atol=1e-6)


def test_torchs_adam_kicks_after_the_same_reset() -> None:
    tensor = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([tensor], lr=1e-2)
    first_steps(optimizer, tensor, 8_000)
    Param("w", tensor, lambda old, generator: old, optimizer).reset_moments(torch.tensor([[True], [False], [False]]))
    steps = first_steps(optimizer, tensor, 6)
    expected = torch.tensor([3.16, 4.25, 4.95, 5.44, 5.80, 6.06]).double()
    torch.testing.assert_close(steps[:, 0, 0], expected, rtol=2e-3, atol=0)
    torch.testing.assert_close(steps[:, 1], torch.ones(6, 2).double(), rtol=1e-6, atol=0)


def test_erfi_is_the_imaginary_error_function() -> None:
    for x in (-3.0, -0.4, 0.0, 1e-9, 0.3, sqrt(0.5), 2.0, 5.9, 6.1, 8.0):
        grid = np.linspace(0, x, 200_001)
        integral = float(np.trapezoid(np.exp(grid**2), grid)) * 2 / sqrt(np.pi)
        assert erfi(x) == pytest.approx(integral, rel=2e-7, abs=1e-15)
    assert erfi(0.2) > erf(0.2)
    assert np.isfinite(erfi(1e6))


def naive_trac(params: list[Tensor], lr: float, steps: range) -> list[Tensor]:
    """The authors' procedure: the offset is found back from the weights."""
    decays = torch.tensor([0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999], dtype=torch.float64)
    sigma, variance, winnings = torch.full_like(decays, 1e-8), torch.zeros_like(decays), torch.zeros_like(decays)
    theta = torch.cat([param.detach().flatten() for param in params])
    reference, base = theta.clone(), torch.zeros_like(theta).requires_grad_()
    adam = torch.optim.Adam([base], lr=lr)
    for step in steps:
        grad = torch.cat([part.flatten() for part in gradients(step) if part.numel()])
        grad = grad.abs() if step % 7 else -grad.abs()  # mostly one way, so that the tuners win, then lose
        before = base.detach().clone()
        base.grad = grad
        adam.step()
        offset = (theta - reference) / (winnings.sum() + 1e-8)
        won = offset @ grad
        offset += base.detach() - before
        sigma, variance = decays * sigma - won, decays**2 * variance + won**2
        argument = sigma / (sqrt(2) * variance.sqrt() + 1e-8)
        winnings = 1e-8 / erfi(sqrt(0.5)) * torch.tensor([erfi(float(x)) for x in argument], dtype=torch.float64)
        theta = reference + offset * max(float(winnings.sum()), 0.0)
    return [part.view(shape) for part, shape in zip(theta.split([p.numel() for p in params]), SHAPES, strict=True)]


def test_trac_is_the_authors_procedure() -> None:
    ours, steps = parameters(), range(1, 120)
    optimizer = TRACOptimizer(ours, lr=1e-2)
    start = [param.detach().clone() for param in ours]
    for step in steps:
        for param, grad in zip(ours, gradients(step), strict=True):
            param.grad = grad.abs() if step % 7 else -grad.abs()
        optimizer.step()
    expected = naive_trac(start, 1e-2, steps)
    moved = [torch.linalg.norm(one.detach() - two) for one, two in zip(ours, start, strict=True)]
    assert min(moved) > 1e-4, "the tuners have won nothing, so that nothing is compared"
    for one, two, began in zip(ours, expected, start, strict=True):
        torch.testing.assert_close(one.detach() - began, two - began, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("zeroed", [False, True])
def test_tracs_reference_follows_a_weight_that_another_hand_has_moved(zeroed: bool) -> None:
    ours = parameters()
    optimizer = TRACOptimizer(ours, lr=1e-2, start=1e-2)
    descend(optimizer, ours, range(5))
    assert optimizer.param_groups[0]["tuners"]["sum"] > 0
    untouched = copy.deepcopy(optimizer.state_dict()), [param.detach().clone() for param in ours]
    where = torch.tensor([[True], [False], [False], [False]])
    Param("w", ours[0], lambda o, g: o, optimizer).overwrite(9.0, where, "zero" if zeroed else "keep")
    descend(optimizer, ours, range(5, 6))
    other = [param.requires_grad_() for param in untouched[1]]
    plain = TRACOptimizer(other, lr=1e-2, start=1e-2)
    plain.load_state_dict(untouched[0])
    descend(plain, other, range(5, 6))
    if not zeroed:  # the same step, from elsewhere
        torch.testing.assert_close(ours[0][1:], other[0][1:], rtol=0, atol=0)
        torch.testing.assert_close(optimizer.state[ours[0]]["offset"], plain.state[other[0]]["offset"])
    assert (ours[0][0] - 9.0).abs().max() < 0.1
    if zeroed:
        torch.testing.assert_close(optimizer.state[ours[0]]["reference"][0], torch.full((3,), 9.0).double())


@pytest.mark.parametrize("base", ["adam", "sgd"])
def test_upgd_by_a_loop_over_weights(base: Any) -> None:
    lr, decay, sigma = 1e-2, 0.05, 0.3
    ours, theirs = parameters(), [param.detach().numpy().copy() for param in parameters()]
    optimizer = make(UPGD(base=base, weight_decay=decay, sigma=sigma, utility_decay=0.9), ours, lr)
    assert isinstance(optimizer, UPGDOptimizer)
    generator = torch.Generator().manual_seed(optimizer.seed)
    memory = [{key: np.zeros_like(part) for key in "umv"} for part in theirs]
    global_stream = torch.get_rng_state()
    for t in range(1, 6):
        descend(optimizer, ours, range(t, t + 1))
        noise = torch.randn(sum(part.size for part in theirs), generator=generator, dtype=torch.float64).numpy()
        grads = [grad.numpy() for grad in gradients(t)]
        for part, grad, kept in zip(theirs, grads, memory, strict=True):
            kept["u"] = 0.9 * kept["u"] - 0.1 * grad * part
            kept["m"] = 0.9 * kept["m"] + 0.1 * grad
            kept["v"] = 0.999 * kept["v"] + 0.001 * grad**2
        largest = max(kept["u"].max() for kept in memory) / (1 - 0.9**t)
        at = 0
        for part, grad, kept in zip(theirs, grads, memory, strict=True):
            useful = 1 / (1 + np.exp(-kept["u"] / (1 - 0.9**t) / largest))
            mean, square = kept["m"] / (1 - 0.9**t), kept["v"] / (1 - 0.999**t)
            direction = mean / (np.sqrt(square) + 1e-8) if base == "adam" else grad
            xi = sigma * noise[at : at + part.size].reshape(part.shape)
            at += part.size
            part[...] = (1 - lr * decay) * part - 2 * lr * (1 - useful) * (direction + xi)
    assert torch.equal(torch.get_rng_state(), global_stream), "the noise came from the agent's random stream"
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.detach(), torch.as_tensor(two), rtol=1e-10, atol=1e-12)


def test_upgd_without_any_useful_weight_still_protects_the_least_useless() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = UPGDOptimizer([weight], lr=0.1, adaptive=False, sigma=0.0, weight_decay=0.0)
    weight.grad = torch.tensor([1.0, 1.0])  # utilities -1 and -2, largest -1
    optimizer.step()
    expected = 2 * 0.1 * torch.sigmoid(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(torch.tensor([1.0, 2.0]) - weight.detach(), expected)


def test_sam_takes_adams_step_along_the_gradient_uphill() -> None:
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    optimizer = SAMOptimizer([weight], lr=0.1, rho=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.25 * (weight**4).sum()
        loss.backward()
        return loss

    plain = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([plain], lr=0.1)
    for _ in range(4):
        at = plain.detach().clone()
        uphill = at + 0.5 * at**3 / (at**3).norm()
        loss = optimizer.step(closure)
        assert float(loss.detach()) == pytest.approx(float(0.25 * (at**4).sum()), rel=1e-9)
        plain.grad = uphill**3
        adam.step()
        torch.testing.assert_close(weight.detach(), plain.detach(), rtol=1e-10, atol=0)


def test_sam_needs_the_loss_twice() -> None:
    weight = torch.zeros(2, requires_grad=True)
    optimizer = SAMOptimizer([weight])
    weight.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="twice"):
        optimizer.step()


def test_sams_ascent_is_undone_bit_for_bit() -> None:
    ours = parameters(dtype=torch.float32)
    before = [param.detach().clone() for param in ours]
    optimizer = SAMOptimizer(ours, rho=0.3)
    for param, grad in zip(ours, gradients(0, torch.float32), strict=True):
        param.grad = grad
    optimizer.ascend()
    moved = torch.cat([(one.detach() - two).flatten() for one, two in zip(ours, before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.3, rel=1e-5)
    optimizer.restore()
    assert all(torch.equal(one, two) for one, two in zip(ours, before, strict=True))


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    found = orthogonalized(torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6
    assert values.max() < 1.3


def naive_muon(matrix: Tensor, steps: range, index: int, nesterov: bool, scale: str, decay: float) -> Tensor:
    weight, momentum = matrix.detach().clone(), torch.zeros_like(matrix)
    for step in steps:
        grad = gradients(step)[index]
        momentum = 0.95 * momentum + 0.05 * grad
        ahead = 0.05 * grad + 0.95 * momentum if nesterov else momentum
        left, values, right = torch.linalg.svd(ahead, full_matrices=False)
        values = values / ahead.norm()
        for _ in range(5):  # the iteration acts on the singular values alone
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        rows, columns = matrix.shape
        factor = 0.2 * max(rows, columns) ** 0.5 if scale == "adam" else max(1, rows / columns) ** 0.5
        weight = (1 - 1e-2 * decay) * weight - 1e-2 * factor * (left * values) @ right
    return weight


@pytest.mark.parametrize(("nesterov", "scale", "decay"), [(True, "adam", 0.0), (False, "aspect", 0.5)])
def test_muon_by_singular_values_and_adam_elsewhere(nesterov: bool, scale: Any, decay: float) -> None:
    ours, theirs = parameters(), parameters()
    start = [param.detach().clone() for param in ours]
    optimizer = make(Muon(nesterov=nesterov, scale=scale, weight_decay=decay), ours)
    assert optimizer.param_groups[0]["hidden"] == [False, False, True, False, False, False]
    descend(optimizer, ours, range(4))
    descend(torch.optim.Adam(theirs, lr=1e-2), theirs, range(4))
    expected = naive_muon(start[2], range(4), 2, nesterov, scale, decay)
    torch.testing.assert_close(ours[2].detach(), expected, rtol=1e-9, atol=1e-11)
    for index in (0, 1, 3, 4, 5):
        torch.testing.assert_close(ours[index], theirs[index], rtol=1e-12, atol=1e-14)
    assert optimizer.state[ours[2]].keys() == {"momentum_buffer"}


def test_muon_is_near_torchs_own() -> None:
    kind = getattr(torch.optim, "Muon", None)
    if kind is None:
        pytest.skip("this torch has no Muon")
    ours, theirs = (torch.randn(16, 8, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    start = ours.detach().clone()
    one = MuonOptimizer([{"params": [ours], "hidden": [True]}], lr=1e-2, weight_decay=0.1)
    two = kind([theirs], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        ours.grad = theirs.grad = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
        one.step()
        two.step()
    assert (ours - theirs).norm() < 0.03 * (ours - start).norm()  # torch's iterates in bfloat16


def test_muons_guess_from_shapes() -> None:
    cnn = [(32, 1, 8, 8), (32,), (64, 32, 4, 4), (64,), (12, 64), (12,), (10, 12), (10,), (3, 10), (3,), (1, 10), (1,)]
    params = [torch.zeros(shape) for shape in cnn]
    hidden = [tuple(param.shape) for param, flag in zip(params, by_shape(params, False), strict=True) if flag]
    assert hidden == [(64, 32, 4, 4), (12, 64), (10, 12)]
    assert sum(by_shape(params, True)) == 4


@pytest.mark.parametrize("name", INSTALLED)
def test_a_run_stopped_in_the_middle_goes_on_bit_for_bit(name: str, tmp_path: Any) -> None:
    settings = OPTIMIZERS[name]()
    whole = parameters(dtype=torch.float32)
    straight = make(settings, whole)
    descend(straight, whole, range(4), torch.float32)
    torch.save({"weights": [param.detach() for param in whole], "state": straight.state_dict()}, tmp_path / "x.pt")
    descend(straight, whole, range(4, 8), torch.float32)

    saved = torch.load(tmp_path / "x.pt", weights_only=True)
    halves = [weights.requires_grad_() for weights in saved["weights"]]
    resumed = make(settings, halves)
    resumed.load_state_dict(saved["state"])
    descend(resumed, halves, range(4, 8), torch.float32)
    assert all(torch.equal(one, two) for one, two in zip(whole, halves, strict=True))
    other = parameters(dtype=torch.float32)
    descend(make(settings, other), other, range(4), torch.float32)
    fresh = make(settings, other)
    descend(fresh, other, range(4, 8), torch.float32)
    assert not all(torch.equal(one, two) for one, two in zip(whole, other, strict=True)), "nothing was remembered"


@pytest.mark.parametrize("name", INSTALLED)
def test_the_learning_rate_of_the_groups_holds_and_closures_are_called(name: str) -> None:
    ours = parameters()
    optimizer = make(OPTIMIZERS[name](), ours, lr=1.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [param.detach().clone() for param in ours]
    called = []

    def closure() -> Tensor:
        called.append(1)
        optimizer.zero_grad()
        loss = torch.stack([(param**2).sum() for param in ours]).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) is not None
    assert called
    for one, two in zip(ours, before, strict=True):
        torch.testing.assert_close(one.detach(), two, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", INSTALLED)
def test_several_groups_with_learning_rates_of_their_own(name: str) -> None:
    ours = parameters(dtype=torch.float32)
    kwargs = OPTIMIZERS[name]().policy_kwargs()
    groups = [{"params": ours[:2], "lr": 0.0}, {"params": ours[2:], "lr": 0.1}]
    optimizer = kwargs["optimizer_class"](groups, **kwargs["optimizer_kwargs"])
    before = [param.detach().clone() for param in ours]
    descend(optimizer, ours, range(6), torch.float32)
    assert all(torch.equal(one, two) for one, two in zip(ours[:2], before[:2], strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(ours[2:], before[2:], strict=True)) or name == "trac"


def test_kron_is_the_packages_own(capsys: pytest.CaptureFixture[str]) -> None:
    package = pytest.importorskip("kron_torch.kron")
    ours, theirs = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    torch.manual_seed(3)
    optimizer = make(OPTIMIZERS["kron"](), ours)
    with plain_functions(package):
        inner = package.Kron(theirs, lr=1e-2, preconditioner_update_probability=1.0)
        torch.manual_seed(3)
        descend(inner, theirs, range(5), torch.float32)
    capsys.readouterr()
    torch.manual_seed(3)
    stream = torch.get_rng_state()
    descend(optimizer, ours, range(5), torch.float32)
    assert torch.equal(torch.get_rng_state(), stream), "the noise came from the agent's random stream"
    assert not capsys.readouterr().out
    for one, two, start in zip(ours, theirs, parameters(dtype=torch.float32), strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, start)


Check = Callable[[], object]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: UnitAdam(betas=(0.9,)), "betas must be two numbers, not 1"),
        (lambda: UnitAdam(betas=(0.9, 1.0)), "betas must be at least 0 and below 1, not 1"),
        (lambda: TRAC(start=0.0), "start must be above 0, not 0"),
        (lambda: UPGD(base="sgd", betas=(0.5, 0.5)), "betas must be left alone while base is sgd"),
        (lambda: OPTIMIZERS["adam_rel"](betas=(0.99, 0.99)), "0.99 and 0.99, .* 10 times the learning rate"),  # type: ignore[call-arg]
    ],
)
def test_wrong_settings_are_refused(wrong: Check, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
