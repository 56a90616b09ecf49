"""Diagnostics on inputs whose answers are known."""

import math

import pytest
import torch

from agents.hooks import OptimizerHooks
from metrics.gradients import GradientNorm
from metrics.ranks import effective_rank
from metrics.tasks import TaskReturns
from metrics.units import dormancy_score, dormant_fraction
from metrics.weights import weight_norm


def test_dormancy_score_by_hand() -> None:
    activations = torch.tensor([[0.0, 1.0, -3.0, 0.2], [0.0, -1.0, 1.0, 0.0]])
    # mean absolute activations 0, 1, 2, 0.1; their mean 0.775
    torch.testing.assert_close(dormancy_score(activations), torch.tensor([0.0, 1.0, 2.0, 0.1]) / 0.775)


def test_dormant_fraction_counts_units_of_all_layers_together() -> None:
    first = torch.tensor([[0.0, 1.0, 2.0, 0.1]])  # scores 0, 1.29, 2.58, 0.129
    second = torch.tensor([[1.0, 1.0]])
    assert dormant_fraction([first, second], tau=0.1) == pytest.approx(1 / 6)
    assert dormant_fraction([first, second], tau=0.13) == pytest.approx(2 / 6)
    assert dormant_fraction([torch.zeros(5, 3)], tau=0.0) == 1.0
    assert math.isnan(dormant_fraction([]))


def test_scores_of_stacked_members_are_those_of_each_alone() -> None:
    stack = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(dormancy_score(stack), torch.stack([dormancy_score(member) for member in stack]))


def test_effective_rank_of_known_matrices() -> None:
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    assert effective_rank(torch.ones(9, 4)) == pytest.approx(1)
    assert effective_rank(torch.zeros(9, 4)) == 0.0
    # singular values 3 and 1: p = 3/4, 1/4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(math.exp(entropy))
    low = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) @ torch.randn(5, 40)
    assert effective_rank(low) <= 5 + 1e-6


def test_weight_norm_is_that_of_the_concatenation() -> None:
    assert weight_norm([torch.tensor([[3.0]]), torch.tensor([4.0, 12.0])]) == pytest.approx(13)


def test_gradient_norm_is_measured_before_clipping_and_only_in_its_window() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    norm = GradientNorm([weight])
    hooks = OptimizerHooks(optimizer, lambda _: norm.start(), lambda _: norm.stop())
    optimizer.zero_grad()
    (weight * torch.tensor([3.0, 4.0])).sum().backward()
    torch.nn.utils.clip_grad_norm_([weight], 0.5)
    optimizer.step()
    (weight * 100).sum().backward()  # another loss, outside of the window
    hooks.remove()
    assert norm.take() == pytest.approx(5)
    assert math.isnan(norm.take())


def test_returns_over_a_task_and_at_its_end() -> None:
    returns = TaskReturns()
    assert math.isnan(returns.mean)
    for value in range(30):
        returns.add(value)
    assert returns.mean == pytest.approx(14.5)
    assert returns.at_end == pytest.approx(19.5)  # of 10 to 29
