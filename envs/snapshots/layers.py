"""One environment as a tree: its wrappers from the outermost to the environment proper, each with its attributes.

Some layers are more than their attributes. What `NonStationary` has applied to the environment is applied again. An
`EnvSequence` has several environments, each a row of layers of its own. A layer that has a `state_dict`, as `Replay`
has, says itself what is in it. The world of an environment of Box2D cannot be read: `Replay` alone can do without it.
"""

import copy
from typing import Any

import gymnasium as gym

from envs.course import Course
from envs.nonstationary import NonStationary
from envs.sequence import EnvSequence
from envs.snapshots.objects import Reader, Tree, Unsupported, Writer

FIXED = frozenset({"env", "spec", "metadata", "_metadata", "_cached_spec", "_saved_kwargs"}) | {
    *("_ezpickle_args", "_ezpickle_kwargs", "t_start"),
    *("checked_reset", "checked_step", "checked_render", "checked_data_reuse", "_previous_data"),
}
"""Attributes of layers that are no part of the state: how they were made; since when SB3's `Monitor` takes the time;
and of what Gymnasium's `PassiveEnvChecker` has not warned yet."""
BOUND = frozenset({"tasks", "applied", "_observers", "_actors", "_rewarders", "_beginners"})
"""Attributes of a `Course` that say whom it belongs to."""
MADE = frozenset(
    {"_made", "_spaces", "_texts", "aliases", "own", "current", "started", "_fit_observation", "_fit_action"}
)
"""Attributes of an `EnvSequence` that follow from which environment is current."""
BOX2D = "gymnasium.envs.box2d."
Env = gym.Env[Any, Any]


def read(env: Env, replayed: bool = False) -> Tree:
    """What an environment, and all that it is wrapped in, holds.

    Args:
        env: the environment, from the outermost layer on.
        replayed: whether the worlds of Box2D may be left out, since the episode will be replayed.

    Raises:
        Unsupported: something in it cannot be read.
    """
    return _read(Reader(), env, replayed)


def write(env: Env, tree: Tree) -> None:
    """Bring what `read` gave into an environment that was made in the same way, and was reset.

    Raises:
        ValueError: it was made in another way.
    """
    _write(Writer(), env, tree)


def read_course(env: Env) -> Tree | None:
    """Where an environment is in its tasks, which can be read of all; None where it has none."""
    layer = _nonstationary(env)
    return None if layer is None else _read_course(Reader(), layer.course)


def write_course(env: Env, tree: Tree) -> None:
    """Bring an environment to where `read_course` found another one; a reset must follow."""
    layer = _nonstationary(env)
    if layer is None:
        raise ValueError("the snapshot is of an environment that changes, and this one does not")
    _write_course(Writer(), layer.course, tree)


def is_box2d(env: Any) -> bool:
    """Whether it is one of Gymnasium's environments with a world of Box2D."""
    return any(kind.__module__.startswith(BOX2D) for kind in type(env).__mro__)


def _layers(env: Env) -> list[Any]:
    """An environment's layers from the outermost, up to one that says itself what is in it."""
    layers = [env]
    while isinstance(env, gym.Wrapper) and not isinstance(env, EnvSequence) and not _says(env):
        env = env.env
        layers.append(env)
    return layers


def _says(layer: Any) -> bool:
    return hasattr(layer, "state_dict") and hasattr(layer, "load_state_dict")


def _nonstationary(env: Env) -> NonStationary | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, NonStationary):
            return env
        env = env.env
    return None


def _read(reader: Reader, env: Env, replayed: bool) -> Tree:
    layers = _layers(env)
    for layer in layers:
        reader.meet(layer)
    return [_read_layer(reader, layer, replayed) for layer in layers]


def _write(writer: Writer, env: Env, tree: Tree) -> None:
    layers = _layers(env)
    names = [type(layer).__qualname__ for layer in layers]
    if not isinstance(tree, list) or [layer["layer"] for layer in tree] != names:
        raise ValueError(f"the snapshot is not of {' in '.join(reversed(names))}")
    for layer in layers:
        writer.meet(layer)
    for layer, own in zip(layers, tree, strict=True):
        _write_layer(writer, layer, own)


def _read_layer(reader: Reader, layer: Any, replayed: bool) -> dict[str, Tree]:
    tree: dict[str, Tree] = {"layer": type(layer).__qualname__}
    if _says(layer):
        return tree | {"state": layer.state_dict()}
    if is_box2d(layer):
        if not replayed:
            raise Unsupported("its world is in Box2D's memory, and there is no Replay around it")
        return tree | {"attributes": reader.numbers(layer, FIXED)}
    if isinstance(layer, NonStationary):
        tree["course"] = _read_course(reader, layer.course)
        return tree | {"attributes": reader.attributes(layer, FIXED | {"course"})}
    if isinstance(layer, EnvSequence):
        attributes = reader.attributes(layer, FIXED | MADE)
        made = {name: _read(reader, env, replayed) for name, env in layer._made.items()}
        return tree | {"current": layer.current, "attributes": attributes, "made": made}
    return tree | {"attributes": reader.attributes(layer, FIXED)}


def _write_layer(writer: Writer, layer: Any, tree: dict[str, Tree]) -> None:
    if _says(layer):
        layer.load_state_dict(tree["state"])
    elif is_box2d(layer):
        writer.numbers(layer, tree["attributes"])
    elif isinstance(layer, NonStationary):
        _write_course(writer, layer.course, tree["course"])
        writer.attributes(layer, tree["attributes"], FIXED | {"course"})
    elif isinstance(layer, EnvSequence):
        for name in tree["made"]:
            layer.select(name)
            if name not in layer.started:
                layer.reset()
        layer.select(tree["current"])
        writer.attributes(layer, tree["attributes"], FIXED | MADE)
        for name, env in tree["made"].items():
            _write(writer, layer._made[name], env)
    else:
        writer.attributes(layer, tree["attributes"], FIXED)


def _read_course(reader: Reader, course: Course) -> dict[str, Tree]:
    changes = course.tasks.changes.items()
    return {
        "values": copy.deepcopy(course.values),
        "course": reader.attributes(course, BOUND | {"values"}),
        "changes": {label: reader.attributes(change, change.live | {"env"}) for label, change in changes},
    }


def _write_course(writer: Writer, course: Course, tree: dict[str, Tree]) -> None:
    changes = course.tasks.changes
    if list(tree["changes"]) != list(changes):
        raise ValueError(f"the snapshot has the changes {', '.join(tree['changes'])}, not {', '.join(changes)}")
    course.put(copy.deepcopy(tree["values"]))
    writer.attributes(course, tree["course"], BOUND | {"values"})
    for label, change in changes.items():
        writer.attributes(change, tree["changes"][label], change.live | {"env"})
