"""Hare and tortoise: the average by hand, the way back, and a look at the tortoise."""

import pytest
import torch
from torch import Tensor

from agents.layers import Network
from agents.sb3 import read_networks
from resets import HareTortoise, Moment
from tests.models import make, step_of, train, weights


def moment(network: Network, steps: int, switched: bool = False) -> Moment:
    """Between rollouts, after so many steps of the network's optimiser."""
    assert network.optimizer is not None
    return Moment(0, 0, {network.optimizer: steps}, switched=switched, activations=lambda _: {})


def values(network: Network) -> list[Tensor]:
    """All parameters of a network."""
    return [param.tensor.detach().clone() for param in network.params()]


def move(network: Network, generator: torch.Generator) -> None:
    """Something that looks like learning."""
    with torch.no_grad():
        for param in network.params():
            param.tensor += torch.randn(param.tensor.shape, generator=generator)


@pytest.mark.parametrize("kind", ["ppo-box", "sac", "ppo-norm", "sac-cnn", "td3"])
def test_the_tortoise_is_a_moving_average_that_starts_with_the_run(kind: str) -> None:
    networks = [network for network in read_networks(make(kind)) if network.layers]
    generator = torch.Generator().manual_seed(0)
    method = HareTortoise(momentum=0.9, every=3)
    slow = {network: values(network) for network in networks}
    for network in networks:
        assert not list(method.between_rollouts([network], moment(network, 0), generator))
    for _ in range(3):
        for network in networks:
            move(network, generator)
            slow[network] = [0.9 * a + 0.1 * b for a, b in zip(slow[network], values(network), strict=True)]
        for optimizer in dict.fromkeys(network.optimizer for network in networks):
            own = [network for network in networks if network.optimizer is optimizer]
            list(method.after_step(own, step_of(own[0]), generator))
    for network in networks:
        targets = [param.target.clone() for param in network.params() if param.target is not None]
        events = list(method.between_rollouts([network], moment(network, 3), generator))
        assert [(event.network, event.what, event.count) for event in events] == [(network.name, "networks", 1)]
        for mine, expected in zip(values(network), slow[network], strict=True):
            torch.testing.assert_close(mine, expected)
        kept = [param.target for param in network.params() if param.target is not None]
        assert all(torch.equal(old, new) for old, new in zip(targets, kept, strict=True)), (
            "targets follow by themselves"
        )


def test_a_policys_log_std_goes_back_and_the_temperature_does_not() -> None:
    method = HareTortoise()
    assert {network.name for network in read_networks(make("sac")) if method.acts_on(network)} == {
        "actor",
        "critic0",
        "critic1",
    }
    networks = read_networks(make("ppo-box"))
    list(method.between_rollouts(networks, moment(networks[0], 0), torch.Generator()))
    assert "tortoise.actor.log_std" in method.state


@pytest.mark.parametrize("moments", ["keep", "zero", "zero_and_step"])
def test_the_optimiser_goes_on_unless_told_otherwise(moments: str) -> None:
    model = make("sac")
    model.learn(24)
    network = read_networks(model)[0]
    before = [(value.clone(), float(value.abs().sum())) for p in network.params() for value, _ in p.moments()]
    method = HareTortoise(every=1, moments=moments)  # type: ignore[arg-type]
    list(method.between_rollouts([network], moment(network, 1), torch.Generator()))
    after = [value for param in network.params() for value, _ in param.moments()]
    steps = [network.optimizer.state[param.tensor]["step"] for param in network.params()]  # type: ignore[union-attr]
    assert any(size for _, size in before)
    for (old, _), new in zip(before, after, strict=True):
        assert torch.equal(new, old if moments == "keep" else torch.zeros_like(old))
    assert all((float(step) == 0) == (moments == "zero_and_step") for step in steps)


def test_it_is_set_back_at_switches_too() -> None:
    network = read_networks(make("ppo"))[0]
    method = HareTortoise(when="switch")
    start = values(network)
    list(method.between_rollouts([network], moment(network, 0), torch.Generator()))
    move(network, torch.Generator().manual_seed(1))
    assert not list(method.between_rollouts([network], moment(network, 10**6), torch.Generator()))
    assert list(method.between_rollouts([network], moment(network, 10**6, switched=True), torch.Generator()))
    assert all(torch.equal(old, new) for old, new in zip(start, values(network), strict=True))


def test_a_look_at_the_tortoise_leaves_the_hare_as_it_was() -> None:
    with (
        pytest.raises(ValueError, match="there is no tortoise yet"),
        HareTortoise().tortoise(read_networks(make("ppo"))),
    ):
        pass
    method = HareTortoise(momentum=0.5)
    model, plasticity = train("ppo", method)
    hare = weights(model)
    state = plasticity.state_dict()["interventions"][0]
    with method.tortoise(plasticity.networks):
        for network in plasticity.networks:
            for param in network.params():
                assert torch.equal(param.tensor, state[f"tortoise.{param.name}"])
        inside = weights(model)
        action, _ = model.predict(model.observation_space.sample())
        assert model.action_space.contains(int(action))
    assert not torch.equal(inside, hare)
    assert torch.equal(weights(model), hare)
    with pytest.raises(KeyError), method.tortoise(plasticity.networks):
        raise KeyError
    assert torch.equal(weights(model), hare)


def test_the_hare_learns_as_ever_between_two_resets() -> None:
    model, _ = train("sac", HareTortoise(momentum=0.0, every=1))
    plain, _ = train("sac", HareTortoise(every=10**9))
    assert torch.equal(weights(model), weights(plain)), "a tortoise without memory is the hare"
    slow, _ = train("sac", HareTortoise(momentum=0.999, every=1))
    start = weights(make("sac"))
    assert float((weights(slow) - start).norm()) < 0.5 * float((weights(plain) - start).norm())
