"""Selective weight reinitialisation against loops over single weights."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from agents.interventions import Intervention, ResetEvent
from agents.layers import Network, Param
from agents.sb3 import read_networks
from agents.stacking import Generators
from configs.settings import SettingError
from resets import SWR
from tests.models import make, plain_weights, step_of, train, weights


def networks_of(kind: str) -> list[Network]:
    """The networks of a fresh model that have layers, with made-up gradients."""
    networks = [network for network in read_networks(make(kind)) if network.layers]
    generator = torch.Generator().manual_seed(3)
    for param in (param for network in networks for param in network.params()):
        param.tensor.grad = torch.randn(param.tensor.shape, generator=generator)
        if param.tensor.dim() == 1:  # biases and norms of PPO are born as constants, whose draws would show nothing
            param.tensor.data.add_(torch.randn(param.tensor.shape, generator=generator))
    return networks


def copies(networks: list[Network]) -> dict[Param, Tensor]:
    return {param: param.tensor.detach().clone() for network in networks for param in network.params()}


def act(swr: SWR, networks: list[Network], seed: int = 0, number: int = 0) -> list[ResetEvent]:
    """One call as after a step of the optimiser."""
    return list(swr.after_step(networks, step_of(networks[0], number=number), torch.Generator().manual_seed(seed)))


def expected(swr: SWR, param: Param, is_norm: bool, old: Tensor, generator: torch.Generator) -> Tensor:
    """One tensor after the update, weight by weight."""
    utility = [
        abs(w * g) if swr.utility == "gradient" else abs(w)
        for w, g in zip(old.flatten().tolist(), param.tensor.grad.flatten().tolist(), strict=True)  # type: ignore[union-attr]
    ]
    if swr.rule == "threshold":
        limit = swr.factor * sum(utility) / len(utility)
        chosen = [i for i, u in enumerate(utility) if u <= limit]
    else:
        amount = len(utility) * swr.factor
        count = int(amount) + int(torch.rand(1, generator=generator) < amount - int(amount))
        chosen = sorted(range(len(utility)), key=lambda i: utility[i])[:count]
    fresh = param.fresh(generator).flatten() if swr.reinit == "resample" or is_norm else torch.zeros(old.numel())
    new = old.flatten().clone()
    new[chosen] = fresh[chosen]
    return new.view_as(old)


@pytest.mark.parametrize("kind", ["ppo", "ppo-norm", "ppo-cnn", "sac"])
@pytest.mark.parametrize("utility", ["gradient", "magnitude"])
@pytest.mark.parametrize(
    ("rule", "factor", "reinit"),
    [("threshold", 0.3, "resample"), ("proportional", 0.23, "resample"), ("proportional", 0.5, "mean")],
)
def test_against_a_loop_over_weights(kind: str, utility: Any, rule: Any, factor: float, reinit: Any) -> None:
    networks = networks_of(kind)[:2]
    old = copies(networks)
    swr = SWR(every=1, factor=factor, rule=rule, utility=utility, reinit=reinit)
    events = act(swr, networks, seed=5)
    generator = torch.Generator().manual_seed(5)
    changed = 0
    for network in networks:
        for layer in network.layers:
            for param in layer.params():
                new = expected(swr, param, param in layer.norm, old[param], generator)
                # A sum in another order can move the limit by a rounding error, no further.
                assert int((new != param.tensor.detach()).sum()) <= (1 if rule == "threshold" else 0), param.name
                changed += int((old[param] != param.tensor.detach()).sum())
        assert all(torch.equal(param.tensor, old[param]) for param in network.free)
    assert 0 < changed <= sum(event.count for event in events)
    assert {event.what for event in events} == {"weights"}


def test_proportional_counts_are_exact() -> None:
    """A quarter of 12 x 4, 12, 10 x 12, 10 and 2 x 10 weights, and of 2: exact, or with a coin for the remainder."""
    actor = networks_of("ppo")[0]
    for seed in range(5):
        old = copies([actor])
        events = act(SWR(every=1, factor=0.25, rule="proportional"), [actor], seed=seed)
        first, second, head = actor.layers
        counts = {param.name: int((param.tensor != old[param]).sum()) for param in actor.params()}
        assert [counts[param.name] for param in (first.weight, second.weight, head.weight)] == [12, 30, 5]
        assert events[0].count == 12 + 3
        assert events[1].count in (30 + 2, 30 + 3)
        assert events[2].count in (5, 6)


def test_the_remainder_is_a_coin_with_its_own_probability() -> None:
    swr = SWR(factor=0.14, rule="proportional")  # 10 weights: one, and a second with probability 0.4
    generator = torch.Generator().manual_seed(0)
    counts = [int(swr.least_useful(torch.rand(10, generator=generator), generator).sum()) for _ in range(2000)]
    assert set(counts) == {1, 2}
    assert sum(counts) / 2000 == pytest.approx(1.4, abs=0.04)


def test_leading_dimensions_are_members_of_their_own() -> None:
    utility = torch.tensor([[3.0, 1.0, 2.0, 9.0], [0.1, 0.4, 0.3, 0.2]])
    generator = Generators([torch.Generator(), torch.Generator()])
    lowest = SWR(factor=0.5, rule="proportional").least_useful(utility, generator)
    assert lowest.tolist() == [[False, True, True, False], [True, False, False, True]]
    below = SWR(factor=0.5, rule="threshold").least_useful(utility, generator)  # means 3.75 and 0.25
    assert below.tolist() == [[False, True, False, False], [True, False, False, False]]


def test_threshold_resets_all_weights_of_a_unit_without_gradient() -> None:
    actor = networks_of("ppo")[0]
    first, second, _ = actor.layers
    first.weight.tensor.grad[3] = 0.0  # type: ignore[index]
    first.bias.tensor.grad[3] = 0.0  # type: ignore[union-attr, index]
    second.weight.tensor.grad[:, 3] = 0.0  # type: ignore[index]
    old = copies([actor])
    act(SWR(every=1, factor=1e-9), [actor])
    where = (first.weight.tensor != old[first.weight]).nonzero()
    assert where.tolist() == [[3, column] for column in range(4)]
    assert (second.weight.tensor != old[second.weight]).nonzero()[:, 1].unique().tolist() == [3]
    assert float(first.bias.tensor[3].detach()) == 0.0  # type: ignore[union-attr]


@pytest.mark.parametrize("setting", ["heads", "biases", "norms"])
def test_parts_can_be_left_out(setting: str) -> None:
    def parts(network: Network) -> Iterator[tuple[str, Param]]:
        for layer in network.layers:
            for param in layer.params():
                kind = "norms" if param in layer.norm else "biases" if param is layer.bias else "weights"
                yield ("heads" if layer.is_head else kind), param

    for left_out in (False, True):
        actor = networks_of("ppo-norm")[0]
        old = copies([actor])
        act(SWR(every=1, factor=0.5, rule="proportional", **{setting: not left_out}), [actor])
        for part, param in parts(actor):
            is_bias_of_head = part == "heads" and param.tensor.dim() == 1
            if is_bias_of_head and setting == "biases":
                continue
            changed = not torch.equal(param.tensor, old[param])
            assert changed == (not (left_out and part == setting)), param.name


def test_log_std_temperature_and_targets_are_never_touched() -> None:
    for kind in ("ppo-box", "sac"):
        model = make(kind)
        model.learn(70)
        networks = read_networks(model)
        swr = SWR(every=1, factor=1.0, rule="proportional")
        free = {param: param.tensor.detach().clone() for network in networks for param in network.free}
        targets = {p: p.target.clone() for network in networks for p in network.params() if p.target is not None}
        assert [network.name for network in networks if not swr.acts_on(network)] == ["temperature"] * (kind == "sac")
        for network in (network for network in networks if swr.acts_on(network)):
            assert act(swr, [network])
        assert free
        assert all(torch.equal(param.tensor, value) for param, value in free.items())
        assert all(torch.equal(param.target, value) for param, value in targets.items())


def test_mean_is_zero_for_weights_and_one_for_scales() -> None:
    actor = networks_of("ppo-norm")[0]
    act(SWR(every=1, factor=1.0, rule="proportional", reinit="mean"), [actor])
    first = actor.layers[0]
    for param in (first.weight, first.bias, first.norm[1]):
        assert torch.all(param.tensor == 0)  # type: ignore[union-attr]
    assert torch.all(first.norm[0].tensor == 1)


def test_moving_average_of_the_utility() -> None:
    actor = networks_of("ppo")[0]
    param = actor.layers[0].weight
    w = param.tensor.detach().clone()
    swr = SWR(every=3, factor=0.5, rule="proportional", decay=0.75)
    gradients = [torch.full_like(w, value) for value in (1.0, 2.0, 4.0)]
    for number, gradient in enumerate(gradients[:2]):
        param.tensor.grad = gradient
        assert act(swr, [actor], number=number) == []
    average = 0.75 * 0.25 * w.abs() + 0.25 * 2 * w.abs()
    torch.testing.assert_close(swr.state[f"utility.{param.name}"], average)
    param.tensor.grad = torch.zeros_like(w)
    param.tensor.grad[0] = 100.0
    assert act(swr, [actor], number=2)
    average = 0.75 * average + 0.25 * (w * param.tensor.grad).abs()
    lowest = average.flatten().argsort()[: w.numel() // 2]
    changed = (param.tensor != w).flatten().nonzero().squeeze(-1)
    assert sorted(lowest.tolist()) == changed.tolist()
    assert torch.all(swr.state[f"utility.{param.name}"] == 0), "as in the authors' code the average starts anew"


@pytest.mark.parametrize("moments", ["keep", "zero", "zero_and_step"])
def test_moments(moments: Literal["keep", "zero", "zero_and_step"]) -> None:
    model = make("ppo")
    model.learn(128)
    actor = read_networks(model)[0]
    param = actor.layers[0].weight
    state = model.policy.optimizer.state[param.tensor]
    old, mean = param.tensor.detach().clone(), state["exp_avg"].clone()
    act(SWR(every=1, factor=0.25, rule="proportional", moments=moments), [actor])
    changed = param.tensor.detach() != old
    assert int(changed.sum()) == 12
    assert torch.equal(state["exp_avg"][~changed], mean[~changed])
    assert torch.all(state["exp_avg"][changed] == (mean[changed] if moments == "keep" else 0))
    assert (float(state["step"]) == 0) == (moments == "zero_and_step")


@pytest.mark.parametrize(("kind", "steps"), [("ppo", 192), ("sac", 80)])
def test_fires_at_every_fth_step_of_each_optimiser(kind: str, steps: int) -> None:
    calls: dict[int, list[int]] = {}

    class Watched(SWR):
        def after_step(self, networks: Any, step: Any, generator: Any) -> Iterator[ResetEvent]:
            found = list(super().after_step(networks, step, generator))
            calls.setdefault(id(step.optimizer), []).append(sum(event.count for event in found))
            return iter(found)

    model, _ = train(kind, Watched(every=4, factor=0.1, rule="proportional"), steps=steps)
    assert len(calls) == (1 if kind == "ppo" else 2), "the temperature's optimiser concerns nobody"
    for counts in calls.values():
        assert len(counts) > 4
        assert all((count > 0) == (number % 4 == 0) for number, count in enumerate(counts, start=1))
    assert not torch.equal(weights(model), plain_weights(kind))


def test_costs_nothing_between_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing is to be computed at this step")

    networks = networks_of("ppo")
    monkeypatch.setattr(SWR, "tensors", refuse)
    assert act(SWR(every=5), networks, number=2) == []
    with pytest.raises(AssertionError):
        act(SWR(every=5), networks, number=4)
    assert not SWR(factor=0.0).uses("after_step")


def test_weights_without_a_gradient_are_left_alone() -> None:
    actor = networks_of("ppo")[0]
    for param in actor.layers[0].params():
        param.tensor.grad = None
    old = copies([actor])
    events = act(SWR(every=1, factor=0.5), [actor])
    assert {event.part for event in events} == {"actor.1", "actor.head"}
    assert all(torch.equal(param.tensor, old[param]) for param in actor.layers[0].params())


def test_utility_is_of_the_weight_after_the_step_and_the_gradient_of_that_step() -> None:
    before: dict[str, tuple[Tensor, Tensor]] = {}
    seen: list[tuple[bool, bool]] = []

    class Watched(SWR):
        def before_step(self, networks: Any, step: Any, generator: Any) -> None:
            for param in (param for network in networks for param in network.params()):
                before[param.name] = (param.tensor.detach().clone(), param.tensor.grad.clone())

        def utilities(self, params: Any, generator: Any) -> Any:
            found = super().utilities(params, generator)
            for param, utility in zip(params, found, strict=True):
                old, gradient = before[param.name]
                after = torch.equal(utility, (param.tensor.detach() * gradient).abs())
                seen.append((after, torch.equal(utility, (old * gradient).abs())))
            return found

    for kind in ("ppo", "sac"):
        train(kind, Watched(every=1, factor=0.01))
        assert all(after for after, _ in seen)
        assert not all(earlier for _, earlier in seen)
        seen.clear()


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SettingError, match=r"factor must be at least 0 and at most 1, not 1\.5"):
        SWR(factor=1.5)
    with pytest.raises(SettingError, match=r"decay must be 0 while utility is random, not 0\.5"):
        SWR(utility="random", decay=0.5)
    with pytest.raises(SettingError, match="every must be above 0"):
        SWR(every=0)
    assert isinstance(SWR(utility="random"), Intervention)
    assert math.isclose(SWR().factor, 1e-4)


def test_a_lottery_draws_from_the_given_generator_alone() -> None:
    found = []
    for seed in (1, 1, 2):
        actor = networks_of("ppo")[0]
        old = copies([actor])
        before = torch.get_rng_state()
        act(SWR(every=1, factor=0.3, rule="proportional", utility="random"), [actor], seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        found.append((actor.layers[0].weight.tensor != old[actor.layers[0].weight]).flatten().tolist())
    assert found[0] == found[1] != found[2]
