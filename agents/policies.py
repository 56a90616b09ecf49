"""SB3's policies with other nonlinearities, normalisations and spectrally normalised layers.

    model = PPO(variant(PPO, "MlpPolicy"), "CartPole-v1", policy_kwargs={"architecture": Architecture("crelu")})
    model = SAC(VariantSACPolicy, "Pendulum-v1", policy_kwargs={"architecture": Architecture(layer_norm="before")})

A variant is the algorithm's own policy class that rebuilds the hidden layers SB3 has made, before their optimiser is
made. Layers whose shape stays keep the weights that SB3 gave them; new ones are initialised as SB3 initialises layers
of this agent (PPO, A2C: orthogonal; others: torch's default), which for Fourier features is a choice. Models are saved
and loaded as any other: `PPO.load(path)` finds the class by its name.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import sb3_contrib.tqc.policies as tqc
from stable_baselines3.common import policies as on_policy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn import policies as dqn
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3
from torch import nn

from agents.modules import AdaptiveLinear, CReLU, Fourier, SmoothLeakyReLU, layer_norm, spectral_norm_
from configs.settings import Settings

STOCK: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "leaky_relu": nn.LeakyReLU}
ACTIVATIONS: dict[str, type[nn.Module]] = STOCK | {
    "smooth_leaky_relu": SmoothLeakyReLU,
    "crelu": CReLU,
    "fourier": Fourier,
}
BASES: dict[type[nn.Module], Literal["relu", "tanh"]] = {nn.ReLU: "relu", nn.Tanh: "tanh"}
Affine = nn.Linear | nn.Conv2d


@dataclass
class Architecture(Settings):
    """What hidden layers are made of; the defaults are the agent's own."""

    activation: Literal[
        "agent", "relu", "tanh", "elu", "leaky_relu", "smooth_leaky_relu", "crelu", "fourier", "adaptive_linear"
    ] = "agent"
    """Nonlinearity of the hidden layers; agent: the agent's own (SB3: tanh for PPO and A2C, ReLU for the others and in
    all convolutions). smooth_leaky_relu: Lillo and Cheney (2025). crelu: relu(z) and relu(-z) of each unit (Abbas et
    al. 2023). fourier: sin(z) and cos(z) of each unit (Lewandowski et al. 2025). adaptive_linear: the agent's own plus
    a learnt linear part where that is flat (Rohani et al. 2025)."""

    layer_norm: Literal["none", "before", "after"] = "none"
    """Layer normalisation of every hidden layer, before its nonlinearity (Lyle et al. 2024) or after it. In
    convolutions, channels and positions are normalised together, with one scale and offset a channel."""

    spectral_norm: Literal["none", "last_hidden", "hidden", "all"] = "none"
    """Layers whose weight matrix is divided by its largest singular value (Miyato et al. 2018; in RL Bjorck et al. 2021
    and Gogianu et al. 2021). last_hidden: only the last hidden layer of each network (Gogianu et al.: one layer is
    enough). hidden: all hidden layers. all: output layers as well, which undoes the small action head that SB3's PPO
    starts with."""

    halve: bool = True
    """For crelu and fourier, which make two outputs of a unit: halve the number of units, so that layers are as wide as
    asked for (Lewandowski et al. 2025) and a hidden weight matrix has half the weights. false: as many units as asked
    for, so that the next layer reads twice as many inputs (Abbas et al. 2023)."""

    @property
    def expansion(self) -> int:
        """Outputs of a unit."""
        return getattr(ACTIVATIONS.get(self.activation), "expansion", 1)

    @property
    def growth(self) -> int:
        """How many times wider than asked for the output of a hidden layer is."""
        return 1 if self.halve else self.expansion

    def nonlinearity(self, stock: nn.Module, units: int) -> nn.Module:
        """The nonlinearity for a layer whose own one SB3 has made."""
        if self.activation == "agent":
            return stock
        if self.activation == "adaptive_linear":
            if type(stock) not in BASES:
                raise ValueError(f"adaptive_linear knows the slopes of ReLU and Tanh, not of {type(stock).__name__}.")
            return AdaptiveLinear(BASES[type(stock)], units)
        return ACTIVATIONS[self.activation]()

    def rebuild(self, body: nn.Sequential, head: bool = False, growth: int = 1, first: bool = True) -> None:
        """Make the hidden layers of a body anew, in place.

        Args:
            body: linear layers or convolutions, each followed by its nonlinearity.
            head: whether the last of them is an output layer, which stays as it is.
            growth: how many times wider than now the output of each hidden layer is to be.
            first: whether nothing that the body reads has grown.
        """
        affine = [module for module in body if isinstance(module, Affine)]
        modules, stack = [], list(body)
        while stack:
            layer = stack.pop(0)
            if not isinstance(layer, Affine) or (head and layer is affine[-1]):
                modules.append(layer)
                continue
            outputs = _outputs(layer) * growth
            if outputs % self.expansion:
                raise ValueError(f"halving the units takes layers of even width, not of {outputs}.")
            inputs = _inputs(layer) * (1 if first and layer is affine[0] else growth)
            layer = _resized(layer, inputs, outputs // self.expansion)
            modules.append(layer)
            if self.layer_norm == "before":
                modules.append(layer_norm(layer, _outputs(layer)))
            modules.append(self.nonlinearity(stack.pop(0), _outputs(layer)))
            if self.layer_norm == "after":
                modules.append(layer_norm(layer, outputs))
        device = next((parameter.device for parameter in body.parameters()), None)
        del body[:]
        body.extend(module.to(device) for module in modules)

    def rebuild_extractor(self, extractor: BaseFeaturesExtractor) -> None:
        """Make the layers of a feature extractor anew, in place."""
        if isinstance(extractor, NatureCNN):
            self.rebuild(extractor.cnn, growth=self.growth)
            self.rebuild(extractor.linear, growth=self.growth, first=False)
            extractor._features_dim *= self.growth
        elif isinstance(extractor, CombinedExtractor):
            for part in extractor.extractors.values():
                if isinstance(part, NatureCNN):
                    extractor._features_dim += part.features_dim * (self.growth - 1)
                    self.rebuild_extractor(part)
        elif next(extractor.parameters(), None) is not None:
            raise ValueError(
                f"network variants can rebuild the feature extractors NatureCNN and CombinedExtractor, not "
                f"{type(extractor).__name__}."
            )

    def widened(self, arch: Any) -> Any:
        """`net_arch` with the widths that the outputs of layers will have, of which SB3 then makes heads that fit."""
        if isinstance(arch, dict):
            return {name: self.widened(widths) for name, widths in arch.items()}
        return [width * self.growth for width in arch]

    def normalize(self, bodies: list["_Body"], everything: nn.Module) -> None:
        """Normalise the weights of the chosen layers, in place; those shared by several bodies once."""
        chosen: list[nn.Module] = []
        if self.spectral_norm == "all":
            chosen = list(everything.modules())
        for extractor, body, head in bodies if self.spectral_norm in ("hidden", "last_hidden") else []:
            own = [module for module in body if isinstance(module, Affine)]
            hidden = [*extractor.modules(), *(own[:-1] if head else own)]
            hidden = [module for module in hidden if isinstance(module, Affine)]
            chosen += hidden[-1:] if self.spectral_norm == "last_hidden" else hidden
        for module in dict.fromkeys(chosen):
            if isinstance(module, Affine):
                spectral_norm_(module)


class _Body(NamedTuple):
    """What leads from observations to a network's last hidden layer, or to its output layer where that is a `head`."""

    extractor: nn.Module
    layers: nn.Sequential
    head: bool


def variant(algorithm: type[BaseAlgorithm], alias: str) -> type[BasePolicy]:
    """The policy class that takes an `Architecture`, for an algorithm and the name of one of its policies.

    Raises:
        ValueError: there is none.
    """
    stock = algorithm.policy_aliases.get(alias)
    if stock in VARIANTS:
        return VARIANTS[stock]
    raise ValueError(f"there are no network variants for {algorithm.__name__}'s {alias}.")


class Variant(BasePolicy):
    """A policy that rebuilds its hidden layers.

    Args:
        *args: as for the policy it is a variant of.
        architecture: what they are made of.
        **kwargs: as for that policy.
    """

    def __init__(self, *args: Any, architecture: Architecture | None = None, **kwargs: Any) -> None:
        self.architecture = architecture or Architecture()
        super().__init__(*args, **kwargs)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """SB3's, rebuilt."""
        extractor = super().make_features_extractor()
        self.architecture.rebuild_extractor(extractor)
        return extractor

    @abstractmethod
    def _bodies(self) -> Iterator[_Body]:
        """What normalisations are put into."""

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]  # of the SB3 policy that this is mixed into
        # Now that weights have been initialised; no parameter is added, so that optimisers hold all of them.
        self.architecture.normalize(list(self._bodies()), self)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"architecture": self.architecture}

    @contextmanager
    def _widened(self, owner: str) -> Iterator[None]:
        """Let SB3 read widened layers where it keeps their widths: `net_arch`, or an entry of some dictionary."""
        stock: Any = getattr(self, owner)
        wide = self.architecture.widened(stock["net_arch"] if owner != "net_arch" else stock)
        setattr(self, owner, wide if owner == "net_arch" else {**stock, "net_arch": wide})
        try:
            yield
        finally:
            setattr(self, owner, stock)


class _OnPolicy(Variant, ActorCriticPolicy):
    """PPO's and A2C's."""

    def _build_mlp_extractor(self) -> None:
        with self._widened("net_arch"):
            super()._build_mlp_extractor()
        for body in (self.mlp_extractor.policy_net, self.mlp_extractor.value_net):
            self.architecture.rebuild(body)

    def _bodies(self) -> Iterator[_Body]:
        yield _Body(self.pi_features_extractor, self.mlp_extractor.policy_net, head=False)
        yield _Body(self.vf_features_extractor, self.mlp_extractor.value_net, head=False)


class _OffPolicy(Variant):
    """SAC's, TD3's and TQC's."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """SB3's, rebuilt."""
        with self._widened("actor_kwargs"):
            actor = super().make_actor(features_extractor)  # type: ignore[misc]  # as in `_build`
        self._rebuild(_actor_body(actor))
        return actor

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """SB3's, rebuilt; the target network too."""
        with self._widened("critic_kwargs"):
            critic = super().make_critic(features_extractor)  # type: ignore[misc]  # as in `_build`
        for body in _critic_bodies(critic):
            self._rebuild(body)
        return critic

    def _rebuild(self, body: _Body) -> None:
        self.architecture.rebuild(body.layers, body.head)

    def _bodies(self) -> Iterator[_Body]:
        for name in ("actor", "actor_target"):
            if hasattr(self, name):
                yield _actor_body(getattr(self, name))
        for name in ("critic", "critic_target"):
            yield from _critic_bodies(getattr(self, name))


class _Value(Variant):
    """DQN's."""

    def make_q_net(self) -> Any:
        """SB3's, rebuilt; the target network too."""
        with self._widened("net_args"):
            network = super().make_q_net()  # type: ignore[misc]  # as in `_build`
        self.architecture.rebuild(network.q_net, head=True)
        return network

    def _bodies(self) -> Iterator[_Body]:
        networks: list[Any] = [self.q_net, self.q_net_target]
        for network in networks:
            yield _Body(network.features_extractor, network.q_net, head=True)


class VariantActorCriticPolicy(_OnPolicy, ActorCriticPolicy):
    """PPO and A2C on flat observations."""


class VariantActorCriticCnnPolicy(_OnPolicy, on_policy.ActorCriticCnnPolicy):
    """PPO and A2C on images."""


class VariantMultiInputActorCriticPolicy(_OnPolicy, on_policy.MultiInputActorCriticPolicy):
    """PPO and A2C on dictionaries of observations."""


class VariantSACPolicy(_OffPolicy, sac.SACPolicy):
    """SAC on flat observations."""


class VariantSACCnnPolicy(_OffPolicy, sac.CnnPolicy):
    """SAC on images."""


class VariantSACMultiInputPolicy(_OffPolicy, sac.MultiInputPolicy):
    """SAC on dictionaries of observations."""


class VariantTD3Policy(_OffPolicy, td3.TD3Policy):
    """TD3 on flat observations."""


class VariantTD3CnnPolicy(_OffPolicy, td3.CnnPolicy):
    """TD3 on images."""


class VariantTD3MultiInputPolicy(_OffPolicy, td3.MultiInputPolicy):
    """TD3 on dictionaries of observations."""


class VariantTQCPolicy(_OffPolicy, tqc.TQCPolicy):
    """TQC on flat observations."""


class VariantTQCCnnPolicy(_OffPolicy, tqc.CnnPolicy):
    """TQC on images."""


class VariantTQCMultiInputPolicy(_OffPolicy, tqc.MultiInputPolicy):
    """TQC on dictionaries of observations."""


class VariantDQNPolicy(_Value, dqn.DQNPolicy):
    """DQN on flat observations."""


class VariantDQNCnnPolicy(_Value, dqn.CnnPolicy):
    """DQN on images."""


class VariantDQNMultiInputPolicy(_Value, dqn.MultiInputPolicy):
    """DQN on dictionaries of observations."""


VARIANTS: dict[type[BasePolicy], type[Variant]] = {
    ActorCriticPolicy: VariantActorCriticPolicy,
    on_policy.ActorCriticCnnPolicy: VariantActorCriticCnnPolicy,
    on_policy.MultiInputActorCriticPolicy: VariantMultiInputActorCriticPolicy,
    sac.SACPolicy: VariantSACPolicy,
    sac.CnnPolicy: VariantSACCnnPolicy,
    sac.MultiInputPolicy: VariantSACMultiInputPolicy,
    td3.TD3Policy: VariantTD3Policy,
    td3.CnnPolicy: VariantTD3CnnPolicy,
    td3.MultiInputPolicy: VariantTD3MultiInputPolicy,
    tqc.TQCPolicy: VariantTQCPolicy,
    tqc.CnnPolicy: VariantTQCCnnPolicy,
    tqc.MultiInputPolicy: VariantTQCMultiInputPolicy,
    dqn.DQNPolicy: VariantDQNPolicy,
    dqn.CnnPolicy: VariantDQNCnnPolicy,
    dqn.MultiInputPolicy: VariantDQNMultiInputPolicy,
}


def _actor_body(actor: Any) -> _Body:
    # TD3's actor has its output layer and a tanh in one sequence with the hidden layers.
    has_head = not hasattr(actor, "latent_pi")
    return _Body(actor.features_extractor, actor.mu if has_head else actor.latent_pi, has_head)


def _critic_bodies(critic: Any) -> list[_Body]:
    return [_Body(critic.features_extractor, network, head=True) for network in critic.q_networks]


def _inputs(layer: Affine) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features


def _outputs(layer: Affine) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def _resized(layer: Affine, inputs: int, outputs: int) -> Affine:
    """A new layer of this size, or the layer itself, with its weights, where it has that size."""
    if (inputs, outputs) == (_inputs(layer), _outputs(layer)):
        return layer
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, bias=layer.bias is not None)
    assert isinstance(layer.padding, tuple)
    # Of two dimensions each, which PyTorch's types leave open.
    # A layer keeps its sizes as tuples of any length, which is all that their types say.
    return nn.Conv2d(inputs, outputs, layer.kernel_size, layer.stride, layer.padding)  # type: ignore[arg-type]
