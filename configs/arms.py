"""What an arm is called: its interventions in plain words, with every setting that is not the default.

`none` is the plain agent, `fresh` the one whose networks all start anew at every switch; a reset at switches that makes
a part alone new is called after that part, such as `actor's head renewed`. Whatever else an arm adds to the agent is
named as on the command line: `redo tau=0.05+spectral`.
"""

import functools
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from configs.values import as_written

NONE, FRESH, RENEWED = "none", "fresh", " renewed"
STOCK_ACTIVATIONS = ("agent", "relu", "tanh", "elu", "leaky_relu")
"""Nonlinearities that make no arm of their own, as in `Config.arm`."""
LONGEST = 60
"""Characters of a setting's value that are shown."""
UNUSED_AT_SWITCHES = ("every", "unit")
PARTS = {
    ("all", "all"): "everything",
    ("all", "head"): "heads",
    ("all", "body"): "bodies",
    ("all", "moments"): "moments",
    ("all", "actor"): "actor",
    ("all", "critic"): "critic",
    ("actor", "all"): "actor",
    ("actor", "actor"): "actor",
    ("critic", "all"): "critic",
    ("critic", "critic"): "critic",
}
"""What (networks, parts) of a full reset make new."""


def interventions(config: Mapping[str, Any]) -> list[str]:
    """Resets and regularisers of a run, each in words."""
    resets, regularizers = _blocks(config.get("reset")), _blocks(config.get("regularizer"))
    words = [_reset(name, settings) for name, settings in resets.items()]
    return words + [_word("regularizer", name, settings) for name, settings in regularizers.items()]


def variants(config: Mapping[str, Any]) -> list[str]:
    """What a run's networks, optimiser and normalisation add to the plain agent's, each in words."""
    words = []
    network, normalize = _block(config.get("network")), _block(config.get("normalize"))
    if (activation := network.get("activation", "agent")) not in STOCK_ACTIVATIONS:
        words.append(f"{_shown(activation)}{'' if network.get('halve', True) else ' halve=false'}")
    for name in ("layer_norm", "spectral_norm"):
        if network.get(name, "none") != "none":
            words.append(f"{name}={_shown(network[name])}")
    optimizer = _block(config.get("optimizer"))
    name = str(optimizer.get("name", "agent"))
    own = _word("optimizer", name, {key: value for key, value in optimizer.items() if key != "name"})
    # Adam with another eps is still the plain agent's optimiser.
    if name != "agent" and [word for word in own.split() if not word.startswith("eps=")] != ["adam"]:
        words.append(own)
    if (policy := normalize.get("policy", "off")) not in ("off", False):  # YAML may read `off` as false
        rest = {key: value for key, value in normalize.items() if key != "policy"}
        words.append(_word("normalize", f"norm_{_shown(policy)}", rest))
    return words


def join(interventions: list[str], variants: list[str]) -> str:
    """The label of an arm."""
    if interventions == [PARTS["all", "all"] + RENEWED] and not variants:
        return FRESH
    return "+".join([*interventions, *variants]) or NONE


def arm(config: Mapping[str, Any]) -> str:
    """The arm in a word, without settings, as the run's directory is named: `none`, `fresh`, `redo+spectral`."""
    if join(interventions(config), variants(config)) == FRESH:
        return FRESH
    names = [*_blocks(config.get("reset")), *_blocks(config.get("regularizer"))]
    return "+".join([*names, *(word.split()[0].split("=")[0] for word in variants(config))]) or NONE


def part(label: str) -> str | None:
    """The part of the agent that the arm of a label makes new at switches and nothing else; None for other arms."""
    return label.removesuffix(RENEWED) if label.endswith(RENEWED) and "+" not in label else None


def _reset(name: str, settings: Mapping[str, Any]) -> str:
    defaults = _defaults("reset", name)
    found = {**defaults, **settings}
    if name not in ("full", "last_layers") or found.get("when") != "switch":
        return _word("reset", name, settings)
    networks = str(found.get("networks", "all"))
    if name == "last_layers":
        count = found.get("layers", 1)
        return _of(networks, "head" if count == 1 else f"last {_shown(count)} layers", "heads") + RENEWED
    key = networks, str(found.get("parts", "all"))
    return PARTS.get(key, _of(*key)) + RENEWED


def _of(networks: str, what: str, of_all: str = "") -> str:
    return (of_all if what == "head" and of_all else what) if networks == "all" else f"{networks}'s {what}"


def _word(group: str, name: str, settings: Mapping[str, Any]) -> str:
    defaults = _defaults(group, name)
    own = {key: value for key, value in settings.items() if key not in defaults or not _same(value, defaults[key])}
    if settings.get("when", defaults.get("when")) == "switch":
        own = {key: value for key, value in own.items() if key not in UNUSED_AT_SWITCHES}
    return " ".join([_shown(name), *(f"{_shown(key)}={_shown(value)}" for key, value in own.items())])


@functools.cache
def _defaults(group: str, name: str) -> dict[str, Any]:
    """Settings of a method as they are unless chosen; empty for a method that this version does not know."""
    # Methods bring PyTorch along, which is not needed before.
    from envs.normalize import Normalization
    from optimizers import OPTIMIZERS
    from regularizers import REGULARIZERS
    from resets import RESETS

    known: dict[str, Mapping[str, type[Any]]] = {
        "reset": RESETS,
        "regularizer": REGULARIZERS,
        "optimizer": OPTIMIZERS,
        "normalize": {name: Normalization},
    }
    kind = known[group].get(name)
    return {} if kind is None else {entry.name: entry.default for entry in fields(kind) if entry.default is not MISSING}


def _blocks(content: Any) -> dict[str, dict[str, Any]]:
    """Methods by name with their settings; a resolved configuration says "none" where there is none."""
    if not isinstance(content, dict):
        return {}
    return {str(name): _block(settings) for name, settings in content.items()}


def _block(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}


def _same(value: Any, default: Any) -> bool:
    return bool(value == (list(default) if isinstance(default, tuple) else default))


def _shown(value: Any) -> str:
    text = as_written(value[:LONGEST] if isinstance(value, list) else value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
