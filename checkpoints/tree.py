"""Trees: nested states, as a text of JSON for their structure and a safetensors file for all their tensors.

What JSON cannot say is an object with one key that begins with `$`:

    {"$tuple": [1, 2]}                   a tuple
    {"$dict": [[[0, true], "a"], ...]}   a dict whose keys are not all text, or begin with `$`: pairs of key and value
    {"$float": "nan"}                    nan, inf or -inf
    {"$int": "0x1fffffffffffffffff"}     a whole number beyond 64 bits
    {"$bytes": "AAEC"}                   bytes, in base 64
    {"$tensor": "policy/weight"}         a torch.Tensor, under that name in the safetensors file
    {"$array": "probe/observations"}     an np.ndarray, likewise
    {"$scalar": "return"}                an np.generic, likewise

Nothing is executed on reading, and whatever is not exactly this is refused.
"""

import base64
import json
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch

from checkpoints import tensors
from checkpoints.errors import CheckpointError

Tree = Any
"""A nested dict, list or tuple of None, bool, int, float, str, bytes, np.ndarray, np.generic and torch.Tensor.

Keys of a dict are str, int, float, bool or tuples of these. Numbers and booleans are what arrays and tensors may hold.
`encode` checks this where a tree is written; whoever reads one from a file has to check its shape.
"""

LIMIT = 64 * 2**20
"""Bytes that the JSON of one tree may have."""

DEPTH = 64
"""How deeply a tree may be nested."""

INT64 = range(-(2**63), 2**63)


def encode(tree: Tree, name: str) -> tuple[bytes, bytes | None]:
    """A tree as the content of two files.

    Tensors are read from wherever they are, and come back on the CPU, contiguous, without gradients and in memory of
    their own. An OrderedDict comes back as a dict.

    Args:
        tree: what to write.
        name: what errors call it, and what the names of its tensors begin with.

    Returns:
        The JSON, and the safetensors file where there is any tensor.

    Raises:
        TypeError: something in the tree is of another type; names its place.
        ValueError: the tree is larger or deeper than what can be read again.
    """
    encoder = _Encoder()
    text = json.dumps(encoder.encode(tree, name, DEPTH), allow_nan=False).encode()
    if len(text) > LIMIT:
        raise ValueError(f"{name} has {len(text)} bytes of JSON; at most {LIMIT} are allowed")
    return text, tensors.encode(encoder.tensors) if encoder.tensors else None


def decode(text: bytes, content: bytes | None, name: str) -> Tree:
    """The tree that was encoded.

    Args:
        text: the JSON.
        content: the safetensors file, if there is one.
        name: what errors call the tree.

    Raises:
        CheckpointError: these are not the two files of a tree.
    """
    found = tensors.decode(content, f"{name}.safetensors") if content is not None else {}
    decoder = _Decoder(name, found)
    tree = decoder.decode(parse_json(text, f"{name}.json", LIMIT), DEPTH)
    if decoder.tensors:
        raise CheckpointError(f"{name}.safetensors holds {next(iter(decoder.tensors))!r}, which {name}.json lacks.")
    return tree


def parse_json(text: bytes, source: str, limit: int) -> Any:
    """Strict JSON: no key twice, neither NaN nor Infinity.

    Raises:
        CheckpointError: it is not JSON, or has more than `limit` bytes.
    """
    if len(text) > limit:
        raise CheckpointError(f"{source} has {len(text)} bytes; at most {limit} are read.")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{source} is not valid JSON ({error}).") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has one key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _Encoder:
    """Turns trees into JSON and collects their tensors by name."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}

    def encode(self, value: Tree, path: str, depth: int) -> Any:
        """The JSON of a value; `path` is its place in the tree, `depth` how many levels may follow."""
        if depth == 0:
            raise ValueError(f"{path} is nested deeper than the {DEPTH} levels that are allowed")
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if value in INT64 else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if kind is bytes:
            return {"$bytes": base64.b64encode(value).decode()}
        if kind is list:
            return self._items(value, path, depth)
        if kind is tuple:
            return {"$tuple": self._items(value, path, depth)}
        if kind in (dict, OrderedDict):
            return self._dict(value, path, depth)
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._add(_plain_tensor(value, path), path)}
        if kind is np.ndarray:
            return {"$array": self._add(_as_tensor(value, path), path)}
        if isinstance(value, np.generic):
            return {"$scalar": self._add(_as_tensor(np.asarray(value), path), path)}
        raise TypeError(f"{path} is of type {kind.__module__}.{kind.__qualname__}, which no checkpoint can hold")

    def _items(self, values: list[Tree] | tuple[Tree, ...], path: str, depth: int) -> list[Any]:
        return [self.encode(value, f"{path}/{index}", depth - 1) for index, value in enumerate(values)]

    def _dict(self, value: dict[Any, Tree], path: str, depth: int) -> dict[str, Any]:
        for key in value:
            _check_key(key, path)
        items = [(key, self.encode(item, f"{path}/{key}", depth - 1)) for key, item in value.items()]
        if all(type(key) is str and not key.startswith("$") for key in value):
            return dict(items)
        return {"$dict": [[self.encode(key, path, depth - 1), item] for key, item in items]}

    def _add(self, tensor: torch.Tensor, path: str) -> str:
        """Keep a tensor under the name of its place, made plain, and numbered where two places would have one name."""
        plain = name = re.sub(r"[^A-Za-z0-9_./-]", "_", path)
        number = 1
        while name in self.tensors:
            number += 1
            name = f"{plain}#{number}"
        self.tensors[name] = tensor
        return name


def _check_key(key: Any, path: str) -> None:
    if type(key) is tuple:
        for item in key:
            _check_key(item, path)
    elif type(key) not in (str, int, float, bool):
        raise TypeError(f"{path} has a key of type {type(key).__name__}; str, int, float, bool and tuple are allowed")


def _plain_tensor(tensor: torch.Tensor, path: str) -> torch.Tensor:
    """A copy on the CPU, contiguous and with memory of its own."""
    if tensor.layout != torch.strided or tensor.dtype not in tensors.DTYPES:
        raise TypeError(f"{path} is a tensor of {tensor.layout}, {tensor.dtype}, which no checkpoint can hold")
    plain = tensor.detach().resolve_conj().resolve_neg()
    return plain.to("cpu", copy=True, memory_format=torch.contiguous_format)


def _as_tensor(array: np.ndarray[Any, Any], path: str) -> torch.Tensor:
    """A copy of an array as a tensor of the same type."""
    if not array.dtype.isnative:
        raise TypeError(f"{path} is an array of {array.dtype.str}; only the machine's own byte order can be kept")
    try:
        # By its text, since NumPy has two names of some types and PyTorch knows only one of them.
        tensor = torch.from_numpy(array.astype(array.dtype.str, order="C"))
    except TypeError:
        tensor = None
    if tensor is None or tensor.dtype not in tensors.DTYPES:
        raise TypeError(f"{path} is an array of {array.dtype}, which no checkpoint can hold")
    return tensor


class _Decoder:
    """Turns JSON into the tree, taking each tensor exactly once."""

    def __init__(self, name: str, found: dict[str, torch.Tensor]) -> None:
        self.name = name
        self.tensors = found
        self._markers: dict[str, Callable[[Any, int], Tree]] = {
            "$tuple": self._tuple,
            "$dict": self._dict,
            "$float": self._float,
            "$int": self._int,
            "$bytes": self._bytes,
            "$tensor": self._tensor,
            "$array": self._array,
            "$scalar": self._scalar,
        }

    def decode(self, value: Any, depth: int) -> Tree:
        """The tree of a piece of JSON; `depth` is how many levels may follow."""
        if depth == 0:
            raise self._error(f"is nested deeper than the {DEPTH} levels that are allowed")
        if isinstance(value, list):
            return self._items(value, depth)
        if not isinstance(value, dict):
            if type(value) is float and not math.isfinite(value):  # such as 1e999
                raise self._error("has a number that is too large")
            return value
        if not any(key.startswith("$") for key in value):
            return {key: self.decode(item, depth - 1) for key, item in value.items()}
        [marker, content], *others = value.items()
        if others or marker not in self._markers:
            raise self._error(f"has an object with the unknown keys {', '.join(map(repr, value))[:200]}")
        return self._markers[marker](content, depth)

    def _error(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.name}.json {problem}.")

    def _items(self, values: Any, depth: int) -> list[Tree]:
        if not isinstance(values, list):
            raise self._error("has a tuple or a dict that is not given by a list")
        return [self.decode(value, depth - 1) for value in values]

    def _tuple(self, content: Any, depth: int) -> tuple[Tree, ...]:
        return tuple(self._items(content, depth))

    def _dict(self, content: Any, depth: int) -> dict[Any, Tree]:
        found: dict[Any, Tree] = {}
        if not isinstance(content, list):
            raise self._error("has a dict that is not given by a list")
        for pair in content:
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._error("has a dict that is not given by pairs")
            key = self.decode(pair[0], depth - 1)
            try:
                _check_key(key, self.name)
            except TypeError as error:
                raise self._error(f"has a dict with a key that none can have ({error})") from error
            found[key] = self.decode(pair[1], depth - 1)
        if len(found) != len(content):
            raise self._error("has a dict with one key twice")
        return found

    def _float(self, content: Any, depth: int) -> float:
        if content not in ("nan", "inf", "-inf"):
            raise self._error(f"has the unknown number {content!r:.50}")
        return float(content)

    def _int(self, content: Any, depth: int) -> int:
        if not isinstance(content, str) or not re.fullmatch(r"-?0x[0-9a-f]+", content):
            raise self._error(f"has the unknown whole number {content!r:.50}")
        return int(content, 16)

    def _bytes(self, content: Any, depth: int) -> bytes:
        try:
            return base64.b64decode(content, validate=True)
        except (TypeError, ValueError) as error:
            raise self._error("has bytes that are not in base 64") from error

    def _tensor(self, content: Any, depth: int) -> torch.Tensor:
        if not isinstance(content, str) or content not in self.tensors:
            raise self._error(f"names the tensor {content!r:.200}, which {self.name}.safetensors does not hold (again)")
        return self.tensors.pop(content)

    def _array(self, content: Any, depth: int) -> np.ndarray[Any, Any]:
        tensor = self._tensor(content, depth)
        if tensor.dtype == torch.bfloat16:
            raise self._error(f"calls the bfloat16 tensor {content!r:.200} an array")
        return tensor.numpy()

    def _scalar(self, content: Any, depth: int) -> np.generic:
        array = self._array(content, depth)
        if array.ndim != 0:
            raise self._error(f"calls an array of {array.size} elements a scalar")
        scalar: np.generic = array[()]  # type: ignore[assignment]  # of an array without dimensions
        return scalar
