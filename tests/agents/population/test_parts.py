"""What populations are made of: rows of parameters, Adam on rows, bodies with gradients of their own, distributions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from torch import Tensor, nn

from agents.population.actions import actions_of
from agents.population.perceptron import Perceptrons, hidden_layers
from agents.population.rows import Rows, RowsAdam, plain_adam
from agents.population.streams import Streams


def bodies(seed: int) -> list[nn.Sequential]:
    torch.manual_seed(seed)
    return [nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU()) for _ in range(2)]


def members(count: int) -> list[list[nn.Parameter]]:
    return [[param for body in bodies(seed) for param in body.parameters()] for seed in range(count)]


def test_rows_are_the_parameters_themselves() -> None:
    own = members(3)
    before = [[param.detach().clone() for param in tensors] for tensors in own]
    rows = Rows(own, [4, 4])
    for number, (tensors, values) in enumerate(zip(own, before, strict=True)):
        for index, (param, value) in enumerate(zip(tensors, values, strict=True)):
            assert torch.equal(param, value)
            assert torch.equal(rows.stacked[index][number], value)
            assert param.data_ptr() % 64 == 0
    with torch.no_grad():
        own[1][2].fill_(7.0)
    assert (rows.stacked[2][1] == 7).all()
    assert not (rows.stacked[2][0] == 7).any()
    own[2][0].data = torch.ones(5, 3)
    rows.adopt()
    assert (rows.stacked[0][2] == 1).all()
    rows.release()
    rows.flat.zero_()
    assert (own[1][2] == 7).all()


def test_what_comes_first_in_each_block_is_one_tensor() -> None:
    own = members(2)
    rows = Rows(own, [4, 4])
    for index in range(4):
        expected = torch.stack([tensors[index + block] for tensors in own for block in (0, 4)])
        assert torch.equal(rows.joint(rows.flat, index), expected)


@pytest.mark.parametrize("same", [True, False])
def test_adam_on_rows_is_adam(same: bool) -> None:
    """Also where members, or single parameters, are at different steps and learning rates."""
    own, others = members(3), members(3)
    made = [torch.optim.Adam(tensors, 3e-3, eps=1e-5) for tensors in own]
    plain = [torch.optim.Adam(tensors, 3e-3, eps=1e-5) for tensors in others]
    rows = Rows(own)
    adam = RowsAdam(rows, made)
    gradient = torch.zeros_like(rows.flat)
    adam.link()
    for step in range(7):
        torch.manual_seed(step)
        values = [[torch.randn_like(param) for param in tensors] for tensors in own]
        for view, parts in zip(rows.views(gradient), zip(*values, strict=True), strict=True):
            view.copy_(torch.stack(parts))
        if step == 3 and not same:
            for optimizers, tensors in ((made, own), (plain, others)):
                optimizers[1].state[tensors[1][2]]["step"].zero_()  # as `zero_and_step` does
                optimizers[2].param_groups[0]["lr"] = 1e-2
                del optimizers[0].state[tensors[0][0]]  # as `Param.forget` does
            adam.link()
            assert adam.same_steps is None
        adam.step(gradient)
        for optimizer, theirs, parts in zip(plain, others, values, strict=True):
            for param, part in zip(theirs, parts, strict=True):
                param.grad = part.clone()
            optimizer.step()
    for ours, stock, one, other in zip(made, plain, own, others, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
            for name, value in stock.state[b].items():
                torch.testing.assert_close(ours.state[a][name], value, rtol=1e-5, atol=1e-8)


def test_only_plain_adam_is_stepped_at_once() -> None:
    params = [nn.Parameter(torch.zeros(2))]
    assert plain_adam(torch.optim.Adam(params))
    for odd in (
        torch.optim.AdamW(params),
        torch.optim.Adam(params, weight_decay=0.1),
        torch.optim.Adam(params, amsgrad=True),
        torch.optim.Adam([{"params": params}, {"params": [nn.Parameter(torch.zeros(2))]}]),
    ):
        assert not plain_adam(odd)


def test_bodies_give_what_autograd_gives() -> None:
    own = [bodies(seed) for seed in range(3)]
    shape = hidden_layers(own[0][0])
    assert shape == ((3, 5, nn.Tanh), (5, 4, nn.ReLU))
    rows = Rows([[param for body in pair for param in body.parameters()] for pair in own], [4, 4])
    gradient = torch.zeros_like(rows.flat)
    perceptrons = Perceptrons(rows, gradient, shape, range(4))
    x = torch.randn(6, 11, 3)
    found = perceptrons.run(x, keep=True)
    backward = torch.randn_like(found)
    perceptrons.learn(backward.clone())
    for number, pair in enumerate(own):
        for block, body in enumerate(pair):
            place = 2 * number + block
            output = body(x[place])
            torch.testing.assert_close(found[place], output)
            expected = torch.autograd.grad(output, list(body.parameters()), backward[place])
            views = rows.views(gradient)[4 * block : 4 * block + 4]
            for view, value in zip(views, expected, strict=True):
                torch.testing.assert_close(view[number], value)


@pytest.mark.parametrize(
    "body",
    [
        nn.Sequential(),
        nn.Sequential(nn.Linear(2, 2)),
        nn.Sequential(nn.Linear(2, 2), nn.ELU()),
        nn.Sequential(nn.Linear(2, 2, bias=False), nn.Tanh()),
        nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Tanh()),
    ],
)
def test_bodies_of_another_make_are_left_to_autograd(body: nn.Module) -> None:
    assert hidden_layers(body) is None


Case = tuple[Callable[[], Any], int, Callable[[], Tensor]]
DISTRIBUTIONS: dict[str, Case] = {
    "choice": (lambda: CategoricalDistribution(5), 5, lambda: torch.randint(5, (3, 7, 1)).float()),
    "choices": (lambda: MultiCategoricalDistribution([2, 4]), 6, lambda: torch.randint(2, (3, 7, 2)).float()),
    "gaussian": (lambda: DiagGaussianDistribution(4), 4, lambda: torch.randn(3, 7, 4)),
    "bits": (lambda: BernoulliDistribution(3), 3, lambda: torch.randint(2, (3, 7, 3)).float()),
}


def proba(made: Any, outputs: Tensor, log_std: Tensor) -> Any:
    """SB3's own distribution of one member."""
    return (
        made.proba_distribution(outputs, log_std)
        if isinstance(made, DiagGaussianDistribution)
        else made.proba_distribution(outputs)
    )


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_give_what_sb3_and_autograd_give(name: str) -> None:
    make, width, draw = DISTRIBUTIONS[name]
    torch.manual_seed(0)
    outputs, log_std = torch.randn(3, 7, width, requires_grad=True), torch.randn(3, width, requires_grad=True)
    actions, by_log_prob, by_entropy = draw(), torch.randn(3, 7), 0.3
    found = actions_of(make()).evaluate(outputs.detach(), log_std.detach(), actions)
    gradients = found.backward(by_log_prob, by_entropy)
    for member in range(3):
        made = proba(make(), outputs[member], log_std[member])
        own = actions[member].squeeze(-1) if name == "choice" else actions[member]
        log_prob, entropy = made.log_prob(own), made.entropy()
        torch.testing.assert_close(found.log_prob[member], log_prob)
        torch.testing.assert_close(found.entropy[member], entropy)
        (by_log_prob[member] @ log_prob + by_entropy * entropy.sum()).backward()
    assert outputs.grad is not None
    torch.testing.assert_close(gradients.outputs, outputs.grad)
    if name == "gaussian":
        torch.testing.assert_close(gradients.log_std, log_std.grad)
    else:
        assert gradients.log_std is None


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_each_member_draws_what_it_would_alone(name: str) -> None:
    make, width, _ = DISTRIBUTIONS[name]
    outputs, log_std = torch.randn(3, 2, width), torch.randn(3, width)
    streams, expected = [], []
    for member in range(3):
        torch.manual_seed(member)
        streams.append(Streams.capture())
        made = proba(make(), outputs[member], log_std[member])
        expected.append([made.sample().reshape(2, -1) for _ in range(5)])
    actions = actions_of(make())
    for step in range(5):
        found = actions.sample(outputs, actions.std(log_std), streams)
        assert torch.equal(found.float(), torch.stack([own[step] for own in expected]).float())


def test_streams_go_on_where_the_global_generators_were() -> None:
    torch.manual_seed(1)
    np.random.seed(2)  # noqa: NPY002
    streams = Streams.capture()
    expected = torch.rand(3), np.random.permutation(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3, generator=streams.torch), expected[0])
    assert (streams.numpy.permutation(5) == expected[1]).all()


def test_active_streams_are_the_global_generators() -> None:
    torch.manual_seed(1)
    streams = Streams.capture()
    expected = torch.rand(2), torch.rand(2)
    torch.manual_seed(7)
    outside = torch.rand(1)
    torch.manual_seed(7)
    with streams.active():
        assert torch.equal(torch.rand(2), expected[0])
    assert torch.equal(torch.rand(1), outside)
    assert torch.equal(torch.rand(2, generator=streams.torch), expected[1])
