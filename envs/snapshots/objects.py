"""What Python objects hold, as a tree of plain values, and objects made to hold it again.

A `Reader` walks from an object to all that it refers to. What it gives is a tree of None, numbers, texts, arrays,
lists and dictionaries; everything else is a tuple that begins with the name of its form, such as
`("deque", items, maxlen)`. What is met a second time is `("again", number)`, where numbers count lists, arrays,
dictionaries and other objects in the order in which they are met: what was shared is shared again.

A `Writer` brings a tree into objects that were built anew. Lists, dictionaries and arrays are made from the tree; any
other object must already stand at the same place, of the same class, and is filled in place. So no tree, whoever wrote
it, can have a class made or code run.

Code (functions, methods, classes) and other constants must be there already, and of the same name. What is there for
pictures and sound only (pygame) is left as it is. Whatever holds its state outside of Python is refused, unless this
module knows it: random generators, spaces, and MuJoCo's simulations.
"""

import enum
import functools
import logging
import pathlib
import random
import re
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from envs.snapshots import simulations

Array = NDArray[Any]
Tree = Any
"""Nested dict, list and tuple of None, bool, int, float, str, bytes, np.ndarray and np.generic of numbers or bools."""

LONG = 32
"""From how many items on a list of numbers is written as an array."""
NUMBERS = "biuf"
"""Kinds of arrays that trees hold, up to 64 bits; all others are written as bytes."""
HEAP_TYPE = 1 << 9
"""Python's flag of classes that are made by a class statement."""
CODE = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, functools.partial, type,
    property, np.ufunc,
)  # fmt: skip
CONSTANTS = (*CODE, np.dtype, re.Pattern)
LEFT = (EnvSpec, MujocoRenderer, pathlib.PurePath, logging.Logger)
"""What says how and where an environment was made, or draws it."""
SIMPLE = (type(None), bool, int, float, str, bytes, np.generic, np.ndarray, np.random.Generator, gym.Space)
BIT_GENERATORS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}


class Unsupported(Exception):  # noqa: N818 (an answer rather than an error)
    """Something holds a state that cannot be read; one clause says what."""


class _Plain:
    """An instance of a class without anything special, to compare others with."""


class Reader:
    """Reads objects into one tree."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        # What is met must live as long as its number is used.
        self._met: list[Any] = []
        # Arrays with memory of their own, and views of others' memory.
        self._owners: list[Array] = []
        self._views: list[Array] = []

    def read(self, value: Any) -> Tree:
        """What `value` holds.

        Raises:
            Unsupported: it, or something that it refers to, cannot be read.
        """
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value
        if isinstance(value, enum.Enum):
            return "enum", value.name
        if isinstance(value, np.generic):
            return self._scalar(value)
        if isinstance(value, tuple):
            return self._tuple(value)
        if isinstance(value, CONSTANTS):
            return "constant", _name(value)
        if id(value) in self._numbers:
            return "again", self._numbers[id(value)]
        self.meet(value)
        return self._object(value)

    def meet(self, value: Any) -> None:
        """Give an object its number, so that it is read only once."""
        self._numbers[id(value)] = len(self._met)
        self._met.append(value)

    def attributes(self, owner: Any, without: Collection[str] = ()) -> dict[str, Tree]:
        """What the attributes of an object hold, but for some."""
        return {
            name: self.read(value)
            for name, value in sorted(vars(owner).items())
            if name not in without and not _is_left(value)
        }

    def numbers(self, owner: Any, without: Collection[str] = ()) -> dict[str, Tree]:
        """What those attributes of an object hold that are numbers, texts, arrays, spaces and generators."""
        own = sorted(vars(owner).items())
        return {name: self.read(value) for name, value in own if name not in without and isinstance(value, SIMPLE)}

    def _scalar(self, value: np.generic) -> Tree:
        if _are_numbers(value.dtype):
            return value
        if isinstance(value, (np.str_, np.bytes_)):
            return value.item()
        raise _unknown(value)

    def _tuple(self, value: tuple[Any, ...]) -> Tree:
        if type(value) is tuple:
            return "tuple", [self._item(item) for item in value]
        if hasattr(value, "_fields"):
            return "named tuple", type(value).__qualname__, [self._item(item) for item in value]
        raise _unknown(value)

    def _object(self, value: Any) -> Tree:
        if type(value) is np.ndarray:
            return self._array(value)
        if type(value) is list:
            return _packed(value) or [self._item(item) for item in value]
        if type(value) in (dict, OrderedDict):
            if all(type(key) in (str, int) for key in value):
                return {key: self._item(item) for key, item in value.items()}
            return "dict", [[self.read(key), self._item(item)] for key, item in value.items()]
        if type(value) is deque:
            return "deque", [self._item(item) for item in value], value.maxlen
        if type(value) in (set, frozenset):
            return type(value).__name__, [self.read(item) for item in sorted(value, key=repr)]
        if isinstance(value, np.random.Generator):
            return _read_generator(value)
        if isinstance(value, np.random.RandomState):
            return "random state", dict(value.get_state(legacy=False))
        if isinstance(value, random.Random):
            version, words, gauss = value.getstate()
            return "random", version, np.array(words), gauss
        if isinstance(value, gym.Space):
            return self._space(value)
        if isinstance(value, mujoco.MjModel):
            if obstacle := simulations.obstacle(value):
                raise Unsupported(obstacle)
            return "model", simulations.checksum(value)
        if isinstance(value, mujoco.MjData):
            return "data", simulations.read(value)
        if _is_plain(value):
            return "object", type(value).__qualname__, self.attributes(value)
        raise _unknown(value)

    def _item(self, value: Any) -> Tree:
        """What an item of a collection holds: no object that would have to stand there already."""
        if _is_plain(value) and id(value) not in self._numbers:
            # Another run may have more or fewer of them by now, and they cannot be made from a tree.
            raise Unsupported(f"it keeps objects in lists or dictionaries ({_full_name(value)})")
        return self.read(value)

    def _array(self, array: Array) -> Tree:
        others = self._views if array.base is None else self._views + self._owners
        if any(np.shares_memory(array, other) for other in others):
            raise Unsupported("it holds two arrays of which one shows a part of the other")
        (self._owners if array.base is None else self._views).append(array)
        if not _are_numbers(array.dtype):
            if array.dtype.hasobject or array.dtype.names:
                raise _unknown(array)
            return "bytes", array.dtype.str, list(array.shape), array.tobytes()
        # The order in memory is the order in which numbers are summed up.
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            return "fortran", array.T.copy()
        return array.copy()

    def _space(self, space: gym.Space[Any]) -> Tree:
        parts = [self.read(part) for part in _parts(space)]
        return "space", self.read(space._np_random), parts


class Writer:
    """Brings what one tree holds into objects."""

    def __init__(self) -> None:
        self._met: list[Any] = []
        self._filled: set[int] = set()

    def write(self, tree: Tree, old: Any) -> Any:
        """The value that `tree` stands for.

        Args:
            tree: from `Reader.read`.
            old: what stands at the value's place now. Where it is an object that the tree says what it is to hold, it
                is filled, and returned.

        Raises:
            ValueError: it is no tree of a `Reader`, or `old` is something else than what was read.
        """
        if tree is None or isinstance(tree, (bool, int, float, str, bytes, np.generic)):
            return tree
        if isinstance(tree, np.ndarray):
            return self._add(tree.copy())
        if isinstance(tree, list):
            new: list[Any] = self._add([])
            return self._fill_list(new, tree, old if isinstance(old, list) else [])
        if isinstance(tree, dict):
            return self._mapping(tree, old)
        if isinstance(tree, tuple) and tree and tree[0] in FORMS:
            return FORMS[tree[0]](self, old, *tree[1:])
        raise ValueError(f"a snapshot holds no {type(tree).__name__} of this kind")

    def meet(self, value: Any) -> None:
        """Give an object its number; it is the one that the tree's reader met at this point."""
        self._add(value)
        self._filled.add(id(value))

    def attributes(self, owner: Any, tree: Mapping[str, Tree], without: Collection[str] = ()) -> None:
        """Give an object the attributes that the tree says, and no others but for some."""
        own = vars(owner)
        for name in [name for name in own if name not in tree and name not in without and not _is_left(own[name])]:
            del own[name]
        for name, item in tree.items():
            own[name] = self.write(item, own.get(name))

    def numbers(self, owner: Any, tree: Mapping[str, Tree]) -> None:
        """Give an object the attributes that `Reader.numbers` found, where it has not others of another kind there."""
        own = vars(owner)
        for name, item in tree.items():
            value = self.write(item, own.get(name))
            if isinstance(own.get(name), SIMPLE):
                own[name] = value

    def _add(self, value: Any) -> Any:
        self._met.append(value)
        return value

    def _claim(self, old: Any, kind: type | tuple[type, ...], name: str) -> Any:
        """The object at a place, which is about to be filled."""
        if not isinstance(old, kind):
            raise ValueError(f"the snapshot has {name} where there is {_article(old)} now")
        if id(old) in self._filled:
            raise ValueError(f"the snapshot has several objects where there is one {name} now")
        self.meet(old)
        return old

    def _fill_list(self, new: list[Any], tree: Iterable[Tree], old: Iterable[Any]) -> list[Any]:
        olds = list(old)
        for place, item in enumerate(tree):
            new.append(self.write(item, olds[place] if place < len(olds) else None))
        return new

    def _mapping(self, tree: Mapping[Any, Tree], old: Any) -> dict[Any, Any]:
        new: dict[Any, Any] = self._add(OrderedDict() if isinstance(old, OrderedDict) else {})
        olds = old if isinstance(old, dict) else {}
        for key, item in tree.items():
            new[key] = self.write(item, olds.get(key))
        return new

    def _again(self, old: Any, number: int) -> Any:
        return self._met[number]

    def _enum(self, old: Any, name: str) -> Any:
        if not isinstance(old, enum.Enum):
            raise ValueError(f"the snapshot has {name} where there is {_article(old)} now")
        return type(old)[name]

    def _constant(self, old: Any, name: str) -> Any:
        if not isinstance(old, CONSTANTS) or _name(old) != name:
            raise ValueError(f"the snapshot has {name} where there is {_article(old)} now")
        return old

    def _tuple(self, old: Any, items: list[Tree]) -> tuple[Any, ...]:
        return tuple(self._fill_list([], items, old if isinstance(old, tuple) else ()))

    def _named_tuple(self, old: Any, name: str, items: list[Tree]) -> Any:
        if type(old).__qualname__ != name or not hasattr(old, "_fields"):
            raise ValueError(f"the snapshot has {name} where there is {_article(old)} now")
        return type(old)(*self._fill_list([], items, old))

    def _numbers(self, old: Any, array: Array) -> list[Any]:
        numbers: list[Any] = self._add(array.tolist())
        return numbers

    def _fortran(self, old: Any, transposed: Array) -> Any:
        return self._add(transposed.copy().T)

    def _bytes(self, old: Any, dtype: str, shape: list[int], text: bytes) -> Any:
        if np.dtype(dtype).hasobject:
            raise ValueError(f"a snapshot holds no arrays of {dtype}")
        return self._add(np.frombuffer(text, dtype).reshape(shape).copy())

    def _dict(self, old: Any, pairs: list[list[Tree]]) -> dict[Any, Any]:
        new: dict[Any, Any] = self._add(OrderedDict() if isinstance(old, OrderedDict) else {})
        olds = old if isinstance(old, dict) else {}
        for key_tree, item in pairs:
            key = self.write(key_tree, None)
            new[key] = self.write(item, olds.get(key))
        return new

    def _deque(self, old: Any, items: list[Tree], maxlen: int | None) -> deque[Any]:
        new: deque[Any] = self._add(deque(maxlen=maxlen))
        new.extend(self._fill_list([], items, old if isinstance(old, deque) else ()))
        return new

    def _set(self, old: Any, items: list[Tree]) -> set[Any]:
        new: set[Any] = self._add(set())
        new.update(self._fill_list([], items, ()))
        return new

    def _frozenset(self, old: Any, items: list[Tree]) -> frozenset[Any]:
        number = len(self._met)
        self._add(None)
        self._met[number] = frozenset(self._fill_list([], items, ()))
        return frozenset(self._met[number])

    def _generator(self, old: Any, kind: str, state: dict[str, Any]) -> Any:
        if not isinstance(old, np.random.Generator) or id(old) in self._filled or _kind(old) != kind:
            if kind not in BIT_GENERATORS:
                raise ValueError(f"the snapshot has a generator {kind}, which is none of {', '.join(BIT_GENERATORS)}")
            generator = type(old) if isinstance(old, np.random.Generator) else np.random.Generator
            old = generator(BIT_GENERATORS[kind]())
        self.meet(old)
        old.bit_generator.state = {"bit_generator": kind, **state}
        return old

    def _random_state(self, old: Any, state: dict[str, Any]) -> Any:
        self._claim(old, np.random.RandomState, "a random state").set_state(state)
        return old

    def _random(self, old: Any, version: int, words: Array, gauss: float | None) -> Any:
        self._claim(old, random.Random, "a random generator").setstate((version, tuple(words.tolist()), gauss))
        return old

    def _space(self, old: Any, generator: Tree, parts: list[Tree]) -> Any:
        self._claim(old, gym.Space, "a space")
        # The generators of the parts are met before the space's own.
        for part, own in zip(parts, _parts(old), strict=True):
            self.write(part, own)
        old._np_random = self.write(generator, old._np_random)
        return old

    def _model(self, old: Any, checksum: int) -> Any:
        model = self._claim(old, mujoco.MjModel, "a model")
        if simulations.checksum(model) != checksum:
            raise ValueError("the physics are not those of the snapshot: something else than the schedule changes them")
        return model

    def _data(self, old: Any, tree: dict[str, Any]) -> Any:
        simulations.write(self._claim(old, mujoco.MjData, "a simulation"), tree)
        return old

    def _plain_object(self, old: Any, name: str, attributes: dict[str, Tree]) -> Any:
        if not _is_plain(old) or type(old).__qualname__ != name:
            raise ValueError(f"the snapshot has a {name} where there is {_article(old)} now")
        self.attributes(self._claim(old, object, name), attributes)
        return old


FORMS: dict[str, Callable[..., Any]] = {
    "again": Writer._again,
    "enum": Writer._enum,
    "constant": Writer._constant,
    "tuple": Writer._tuple,
    "named tuple": Writer._named_tuple,
    "numbers": Writer._numbers,
    "fortran": Writer._fortran,
    "bytes": Writer._bytes,
    "dict": Writer._dict,
    "deque": Writer._deque,
    "set": Writer._set,
    "frozenset": Writer._frozenset,
    "generator": Writer._generator,
    "random state": Writer._random_state,
    "random": Writer._random,
    "space": Writer._space,
    "model": Writer._model,
    "data": Writer._data,
    "object": Writer._plain_object,
}


def _are_numbers(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in NUMBERS and dtype.itemsize <= 8 and dtype.isnative


def _packed(values: list[Any]) -> Tree | None:
    """A long list of numbers as an array; None for others."""
    if len(values) < LONG:
        return None
    kinds = set(map(type, values))
    if kinds == {float}:
        return "numbers", np.array(values)
    if kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63:
        return "numbers", np.array(values, np.int64)
    return None


def _read_generator(generator: np.random.Generator) -> Tree:
    kind = _kind(generator)
    if kind not in BIT_GENERATORS:
        raise _unknown(generator.bit_generator)
    state = dict(generator.bit_generator.state)
    del state["bit_generator"]
    return "generator", kind, state


def _kind(generator: np.random.Generator) -> str:
    return type(generator.bit_generator).__name__


def _parts(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    """The spaces that a space consists of, each with a generator of its own."""
    parts = [value for value in vars(space).values() if isinstance(value, gym.Space)]
    inner = getattr(space, "spaces", ())
    return parts + list(inner.values() if isinstance(inner, Mapping) else inner)


def _is_plain(value: Any) -> bool:
    """Whether all that an object holds is in its attributes."""
    kinds = type(value).__mro__[:-1]
    if not hasattr(value, "__dict__") or isinstance(value, (enum.Enum, gym.Space)):
        return False
    return type(value) is types.SimpleNamespace or (
        all(kind.__flags__ & HEAP_TYPE for kind in kinds) and type(value).__basicsize__ <= _Plain.__basicsize__
    )


def _is_left(value: Any) -> bool:
    """Whether it is no part of the state: what draws, and what says how an environment was made."""
    return isinstance(value, LEFT) or type(value).__module__.partition(".")[0] == "pygame"


def _name(constant: Any) -> str:
    """What tells a constant from others."""
    if isinstance(constant, functools.partial):
        return _name(constant.func)
    return str(getattr(constant, "__qualname__", None) or getattr(constant, "__name__", None) or constant)


def _full_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _article(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _unknown(value: Any) -> Unsupported:
    what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else _full_name(value)
    return Unsupported(f"it holds {what}, whose state cannot be read")
