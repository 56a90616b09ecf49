"""How a model becomes networks of layers: its modules are followed from inputs to outputs.

`read_networks(model)` finds, in any SB3 or sb3-contrib model built of linear and convolutional layers, which layer
feeds which (through flattening, concatenation, shared extractors and several heads), the optimiser that owns each
parameter, its target copy and the initialiser it was born with.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor, nn

from agents.injection import learner, leaves
from agents.layers import Consumer, Initializer, Layer, Network, Param, Role, kaiming_uniform, zeros
from agents.modules import AdaptiveLinear, SpectralNorm


class UnreadableModelError(ValueError):
    """A model has a part that cannot be seen as layers and units; the message names it."""


def read_networks(model: BaseAlgorithm) -> list[Network]:
    """See a model as networks of layers.

    Args:
        model: any SB3 or sb3-contrib model whose policy is made of linear layers, convolutions, elementwise
            nonlinearities and normalisations.

    Returns:
        The trained networks (targets appear as `Param.target`), in a fixed order: a shared feature extractor first.

    Raises:
        UnreadableModelError: some trained parameter belongs to no layer that this function can see.
    """
    reader = _Reader(model)
    policy = model.policy
    if has_two_bodies(policy):
        networks = _read_actor_critic_policy(reader, policy)
    elif hasattr(policy, "critic"):
        networks = _read_off_policy(reader, policy)
    else:
        networks = _read_value_policy(reader, policy)
    temperature = getattr(model, "log_ent_coef", None)
    if isinstance(temperature, Tensor):
        start = _entropy_coefficient_start(model)
        networks.append(Network("temperature", "temperature", [], [reader.free("log_ent_coef", temperature, start)]))
    reader.check_complete()
    return networks


@dataclass
class _Feed:
    """A layer whose units have not been read yet, and where they stand in the vector that flows on.

    `block` None: the units spread evenly over all of the next layer's inputs (the flattened maps of a convolution).
    """

    layer: Layer
    start: int = 0
    block: int | None = 1


class _Reader:
    """Walks through a model's modules from inputs to outputs and makes layers of them."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self.owners: dict[Tensor, torch.optim.Optimizer] = {}
        for optimizer in optimizers_of(model):
            for group in optimizer.param_groups:
                self.owners.update(dict.fromkeys(group["params"], optimizer))
        self.targets = _targets(model.policy)
        self.twins = _twins(model.policy)
        self.gains = _orthogonal_gains(model.policy)
        self.seen: set[Tensor] = set()
        self.names: dict[Tensor, str] = {tensor: name for name, tensor in model.policy.named_parameters()}
        self.inputs: list[Param] = []  # normalisation of the inputs, before any layer

    def free(self, name: str, tensor: Tensor, start: float) -> Param:
        """A parameter that belongs to no unit and starts from a constant."""
        return self._param(name, tensor, lambda old, generator: torch.full_like(old, start))

    def head(self, name: str, module: nn.Module, feeds: list[_Feed]) -> list[Layer]:
        """The output layer in `module`, named `name`."""
        return self.chain(name, [module], feeds, numbered=False)[0]

    def chain(
        self, name: str, modules: Iterable[nn.Module], feeds: list[_Feed], numbered: bool = True
    ) -> tuple[list[Layer], list[_Feed]]:
        """Follow modules one after another; returns the layers met and the units that are open at the end."""
        layers: list[Layer] = []
        for module in (learner(leaf) for part in modules for leaf in leaves(part)):
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                layer = self._layer(f"{name}.{len(layers)}" if numbered else name, module)
                for feed in feeds:
                    feed.layer.consumers.append(_consumer(feed, layer))
                layers.append(layer)
                feeds = [_Feed(layer)]
            elif isinstance(module, nn.Flatten):
                for feed in feeds:
                    feed.block = None if isinstance(feed.layer.module, nn.Conv2d) else feed.block
            elif _is_normalization(module):
                # After a nonlinearity that makes two outputs of a unit, it has two entries a unit.
                block = layers[-1].expansion if layers else 1
                scale_and_offset = list(self._affine(f"{name}.{len(layers)}.norm", module, block))
                (layers[-1].norm if layers else self.inputs).extend(scale_and_offset)
                if layers and layers[-1].output is layers[-1].module:
                    layers[-1].output = module
            elif isinstance(module, AdaptiveLinear) and layers:
                layers[-1].slopes.append(self._param(f"{layers[-1].name}.slope", module.alpha, zeros))
                layers[-1].output = layers[-1].nonlinearity = module
            elif not list(module.parameters(recurse=False)) and layers:
                layers[-1].output = module
                if not isinstance(module, (nn.Dropout, nn.Identity)):
                    layers[-1].nonlinearity = module
                if (expansion := getattr(module, "expansion", 1)) > 1:
                    layers[-1].expansion = expansion
                    feeds = [_Feed(feed.layer, feed.start, feed.block and feed.block * expansion) for feed in feeds]
        return layers, feeds

    def extractor(self, name: str, module: Any) -> tuple[list[Layer], list[_Feed]]:
        """A feature extractor: one chain, or one for each key of a dictionary observation, concatenated."""
        parts = getattr(module, "extractors", None)
        if not isinstance(parts, nn.ModuleDict):
            return self.chain(name, [module], [])
        layers: list[Layer] = []
        feeds: list[_Feed] = []
        space, start = module._observation_space, 0
        for key, part in parts.items():
            found, opened = self.chain(f"{name}.{key}", [part], [])
            layers += found
            feeds += [_Feed(feed.layer, start + feed.start, feed.block) for feed in opened]
            start += int(getattr(part, "features_dim", 0)) or get_flattened_obs_dim(space[key])
        if start != module.features_dim:
            raise UnreadableModelError(f"{type(module).__name__} does not simply concatenate its observations' parts.")
        return layers, feeds

    def network(
        self,
        name: str,
        role: Role,
        layers: list[Layer],
        body: Iterable[nn.Module],
        heads: Iterable[nn.Module] = (),
        categories: Iterable[int] = (),
    ) -> Network:
        """A network of these layers, with the input normalisations met since the last one."""
        inputs, self.inputs = self.inputs, []
        return Network(
            name,
            role,
            layers,
            inputs=inputs,
            body=list(body),
            heads=list(heads),
            categories=list(categories),
            twins=self.twins,
        )

    def check_complete(self) -> None:
        """Every trained parameter must have been seen: one left out would silently escape resets and penalties."""
        for tensor in self.owners:
            if tensor not in self.seen:
                raise UnreadableModelError(
                    f"the parameter {self.names.get(tensor, 'outside the policy')!r} belongs to no linear or "
                    "convolutional layer that feeds the policy's outputs, so interventions could not reach it."
                )

    def _layer(self, name: str, module: nn.Linear | nn.Conv2d) -> Layer:
        gain = self.gains.get(module)
        weight = _orthogonal(gain) if gain is not None else kaiming_uniform
        bias = zeros if gain is not None else _uniform_bias(math.prod(module.weight.shape[1:]))
        layer = Layer(
            name,
            module,
            weight=self._param(f"{name}.weight", module.weight, weight, kernel=module.weight.dim() - 2),
            bias=None if module.bias is None else self._param(f"{name}.bias", module.bias, bias),
            output=module,
        )
        if isinstance(module, SpectralNorm) and (target := self.targets.get(module.running_u)) is not None:
            layer.weight.buffers.append((module.running_u, target))
        return layer

    def _affine(self, name: str, module: nn.Module, block: int) -> Iterator[Param]:
        for key, initializer in (("weight", _ones), ("scale", _ones), ("bias", zeros), ("offset", zeros)):
            if isinstance(tensor := getattr(module, key, None), Tensor):
                yield self._param(f"{name}.{key}", tensor, initializer, block=block)

    def _param(self, name: str, tensor: Tensor, initializer: Initializer, kernel: int = 0, block: int = 1) -> Param:
        self.seen.add(tensor)
        owner = self.owners.get(tensor)
        # SB3's copy of TensorFlow's RMSprop starts its mean square at one.
        start = {"square_avg": 1.0} if isinstance(owner, RMSpropTFLike) else {}
        return Param(name, tensor, initializer, owner, self.targets.get(tensor), start, kernel, block)


def has_two_bodies(policy: nn.Module) -> bool:
    """Whether this is a policy like PPO's: an actor and a critic in one module (MaskablePPO's is no subclass of it)."""
    return hasattr(policy, "mlp_extractor") and hasattr(policy, "action_net")


def _read_actor_critic_policy(reader: _Reader, policy: Any) -> list[Network]:
    """PPO, A2C, TRPO and their like: two bodies, two heads, perhaps one extractor for both."""
    networks: list[Network] = []
    shared_feeds: list[_Feed] = []
    if policy.share_features_extractor:
        layers, shared_feeds = reader.extractor("shared", policy.features_extractor)
        networks += [reader.network("shared", "shared", layers, [policy.features_extractor])] if layers else []
    parts: list[tuple[Role, nn.Module, nn.Module, nn.Module]] = [
        ("actor", policy.pi_features_extractor, policy.mlp_extractor.policy_net, policy.action_net),
        ("critic", policy.vf_features_extractor, policy.mlp_extractor.value_net, policy.value_net),
    ]
    for role, extractor, body, head in parts:
        own, feeds = ([], shared_feeds) if shared_feeds else reader.extractor(f"{role}.features", extractor)
        hidden, opened = reader.chain(role, [body], feeds)
        layers = own + hidden + reader.head(f"{role}.head", head, opened)
        categories = _categories(policy.action_space) if role == "actor" else []
        networks.append(reader.network(role, role, layers, [extractor, body], [head], categories))
        if role == "actor" and isinstance(log_std := getattr(policy, "log_std", None), nn.Parameter):
            networks[-1].free.append(reader.free("actor.log_std", log_std, policy.log_std_init))
    return networks


def _read_off_policy(reader: _Reader, policy: Any) -> list[Network]:
    """SAC, TD3, TQC and their like: an actor and several critics that read observation and action."""
    actor, critic = policy.actor, policy.critic
    networks: list[Network] = []
    shared = actor.features_extractor is critic.features_extractor
    extractor, actor_feeds = reader.extractor("shared" if shared else "actor.features", actor.features_extractor)
    if shared:
        networks += [reader.network("shared", "shared", extractor, [actor.features_extractor])] if extractor else []
        extractor, critic_feeds = [], actor_feeds
    else:
        critic_extractor, critic_feeds = reader.extractor("critic.features", critic.features_extractor)
        if critic_extractor:
            networks.append(reader.network("critic", "critic", critic_extractor, [critic.features_extractor]))
    latent = [actor.latent_pi] if hasattr(actor, "latent_pi") else []
    body, opened = reader.chain("actor", latent, actor_feeds)
    log_std = getattr(actor, "log_std", None)
    heads = reader.head("actor.mu", actor.mu, opened) if body else reader.chain("actor", [actor.mu], opened)[0]
    heads += reader.head("actor.log_std", log_std, opened) if isinstance(log_std, nn.Module) else []
    modules = [module for module in (actor.mu, log_std) if isinstance(module, nn.Module)]
    networks.append(
        reader.network("actor", "actor", extractor + body + heads, [actor.features_extractor, *latent], modules)
    )
    if isinstance(log_std, nn.Parameter):
        networks[-1].free.append(reader.free("actor.log_std", log_std, actor.log_std_init))
    for index, q_network in enumerate(critic.q_networks):
        layers, _ = reader.chain(f"critic{index}", [q_network], critic_feeds)
        networks.append(reader.network(f"critic{index}", "critic", layers, [q_network]))
    return networks


def _categories(space: Any) -> list[int]:
    """Sizes of the groups of logits that an action space takes; empty for real-valued actions."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(size) for size in space.nvec]
    return []


def value_network(policy: Any) -> Any:
    """The online network of a policy that is nothing but a value function: DQN's, QR-DQN's."""
    network = getattr(policy, "q_net", None) or getattr(policy, "quantile_net", None)
    if network is None:
        raise UnreadableModelError(f"{type(policy).__name__} has none of: critic, q_net, quantile_net.")
    return network


def _read_value_policy(reader: _Reader, policy: Any) -> list[Network]:
    """DQN and its like: one network from observation to a value for each action."""
    network = value_network(policy)
    extractor, feeds = reader.extractor("critic.features", network.features_extractor)
    body = getattr(network, "q_net", None) or network.quantile_net
    layers, _ = reader.chain("critic", [body], feeds)
    return [reader.network("critic", "critic", extractor + layers, [network.features_extractor, body])]


def optimizers_of(model: BaseAlgorithm) -> list[torch.optim.Optimizer]:
    """All optimisers of a model, each once."""
    policy: Any = model.policy
    holders = (policy, getattr(policy, "actor", None), getattr(policy, "critic", None))
    found = [getattr(holder, "optimizer", None) for holder in holders]
    found.append(getattr(model, "ent_coef_optimizer", None))
    return list(dict.fromkeys(optimizer for optimizer in found if optimizer is not None))


def _targets(policy: nn.Module) -> dict[Tensor, Tensor]:
    """For each trained tensor and each buffer its copy in a target network."""
    found: dict[Tensor, Tensor] = {}
    for name in ("critic", "actor", "q_net", "quantile_net"):
        online, target = getattr(policy, name, None), getattr(policy, f"{name}_target", None)
        if online is not None and target is not None:
            found.update(zip(online.parameters(), target.parameters(), strict=True))
            found.update(zip(online.buffers(), target.buffers(), strict=True))
    return found


def _twins(policy: nn.Module) -> dict[nn.Module, nn.Module]:
    """For each module of a trained network the one in its target network."""
    found: dict[nn.Module, nn.Module] = {}
    for name in ("critic", "actor", "q_net", "quantile_net"):
        online, target = getattr(policy, name, None), getattr(policy, f"{name}_target", None)
        if online is not None and target is not None:
            found.update(zip(online.modules(), target.modules(), strict=True))
    return found


def _orthogonal_gains(policy: Any) -> dict[nn.Module, float]:
    """The gain with which each layer was initialised orthogonally, for the policies that do so."""
    if not getattr(policy, "ortho_init", False):
        return {}
    gains = {policy.mlp_extractor: math.sqrt(2), policy.action_net: 0.01, policy.value_net: 1.0}
    if policy.share_features_extractor:
        gains[policy.features_extractor] = math.sqrt(2)
    else:
        gains |= {policy.pi_features_extractor: math.sqrt(2), policy.vf_features_extractor: math.sqrt(2)}
    return {module: gain for part, gain in gains.items() for module in part.modules()}


def _entropy_coefficient_start(model: Any) -> float:
    """SAC's initial log entropy coefficient: `auto` starts at 1, `auto_0.1` at 0.1."""
    return math.log(float(model.ent_coef.split("_")[1])) if "_" in str(model.ent_coef) else 0.0


def _is_normalization(module: nn.Module) -> bool:
    # By name, so that normalisations of other libraries count as well: sb3-contrib's BatchRenorm, RMSNorm …
    return "Norm" in type(module).__name__ or "Renorm" in type(module).__name__


def _consumer(feed: _Feed, layer: Layer) -> Consumer:
    kernel = math.prod(layer.module.kernel_size) if isinstance(layer.module, nn.Conv2d) else 1
    fan_in = layer.weight.matrix.shape[-1]
    block = fan_in // feed.layer.units if feed.block is None else feed.block * kernel
    return Consumer(layer, feed.start * kernel, block, feed.layer.units)


def _orthogonal(gain: float) -> Initializer:
    return lambda old, generator: nn.init.orthogonal_(torch.empty_like(old), gain, generator)


def _uniform_bias(fan_in: int) -> Initializer:
    bound = 1 / math.sqrt(fan_in)
    return lambda old, generator: nn.init.uniform_(torch.empty_like(old), -bound, bound, generator)


def _ones(old: Tensor, generator: torch.Generator) -> Tensor:
    return torch.ones_like(old)


def penalties_reach(model: BaseAlgorithm, network: Network) -> bool:
    """Whether gradients written into `.grad` at `zero_grad` move this network.

    TRPO moves its actor by a line search of its own and clears the actor's gradients first.
    """
    return not (type(model).__name__ == "TRPO" and network.role in ("actor", "shared"))
