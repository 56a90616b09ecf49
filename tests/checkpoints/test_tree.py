"""Trees come back exactly; whatever is not a tree is refused, on writing as on reading."""

import enum
import json
import math
import random
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from safetensors.torch import load, save

from checkpoints import tensors, tree
from checkpoints.errors import CheckpointError
from tests.trees import canonical

NUMBERS = "?bhilqBHILQefdF"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
)
ARRAYS = st.sampled_from(NUMBERS).flatmap(
    lambda dtype: st_numpy.arrays(dtype, st.sampled_from([(), (0, 2), (2, 1, 2)]))
)
LEAVES = st.one_of(
    SCALARS,
    ARRAYS,
    ARRAYS.map(lambda array: torch.from_numpy(array.astype(array.dtype.str))),
    st.sampled_from("?bhilBHILefdF").flatmap(lambda dtype: st_numpy.from_dtype(np.dtype(dtype))),
)
ATOMS = st.one_of(st.text(), st.sampled_from(["$tuple", "$", "a/b", "#2"]), st.integers(), st.floats(), st.booleans())
KEYS = st.one_of(ATOMS, st.tuples(ATOMS, ATOMS), st.tuples(st.tuples(ATOMS)))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(), inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=8,
)


def round_trip(value: Any) -> Any:
    return tree.decode(*tree.encode(value, "part"), "part")


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_whatever_a_tree_holds_comes_back(value: Any) -> None:
    assert canonical(round_trip(value)) == canonical(value)


@pytest.mark.parametrize("number", [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308, 0.1])
def test_every_float(number: float) -> None:
    found = round_trip([number])[0]
    assert type(found) is float
    assert (math.isnan(found) and math.isnan(number)) or (found, math.copysign(1, found)) == (
        number,
        math.copysign(1, number),
    )


def test_every_whole_number() -> None:
    numbers = [0, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**5000, -(10**5000), True]
    found = round_trip(numbers)
    assert found == numbers
    assert [type(number) for number in found] == [type(number) for number in numbers]


@pytest.mark.parametrize("dtype", sorted(tensors.DTYPES, key=str), ids=str)
def test_every_type_of_tensor(dtype: torch.dtype) -> None:
    size = torch.empty((), dtype=dtype).element_size()
    bits = torch.randint(0, 2 if dtype == torch.bool else 256, (6, size), dtype=torch.uint8)
    tensor = bits.view(dtype).reshape(2, 3)
    found = round_trip(tensor)
    assert found.dtype == dtype
    assert torch.equal(found.view(torch.uint8), tensor.view(torch.uint8))


def test_arrays_and_tensors_and_scalars_stay_apart() -> None:
    value = {"array": np.array(1.5), "tensor": torch.tensor(1.5), "scalar": np.float32(1.5), "flag": np.bool_(True)}
    found = round_trip(value)
    assert [type(item) for item in found.values()] == [np.ndarray, torch.Tensor, np.float32, np.bool_]
    assert all(item == value[name] for name, item in found.items())


def test_memory_in_any_layout() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    array = np.arange(12).reshape(3, 4)
    array.flags.writeable = False
    value = [base, base.T, base[:, ::2], base[1], base[:1].expand(3, 4), array, array.T, array[::-1, ::2]]
    expected = [item.tolist() for item in value]
    found = round_trip(value)
    assert [item.tolist() for item in found] == expected
    for number, item in enumerate(found):
        item[:] = -number
    assert all((item == -number).all() for number, item in enumerate(found)), "each has memory of its own"
    assert base[0].tolist() == [0, 1, 2, 3]


def test_what_tensors_lose() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    found = round_trip({"parameter": parameter, "conjugate": torch.tensor([1 + 2j]).conj()})
    assert type(found["parameter"]) is torch.Tensor
    assert not found["parameter"].requires_grad
    assert found["conjugate"].tolist() == [1 - 2j]


def test_places_with_one_name_stay_apart() -> None:
    value = {
        "a/b": torch.tensor(1),
        "a": {"b": torch.tensor(2), "b#2": torch.tensor(3)},
        "numbers": {0: torch.tensor(4), "0": torch.tensor(5), "ü": torch.tensor(6), "é": torch.tensor(7)},
    }
    assert canonical(round_trip(value)) == canonical(value)


def test_tensors_are_named_by_their_place() -> None:
    _, content = tree.encode({"policy": {"weight": torch.ones(1), "layers": [np.ones(2)]}}, "agent")
    assert content is not None
    assert set(load(content)) == {"agent/policy/weight", "agent/policy/layers/0"}


def test_plain_values_are_plain_json() -> None:
    value = {"step": 12, "name": "redo", "returns": [0.5, None, True], "empty": {}}
    text, content = tree.encode(value, "part")
    assert json.loads(text) == value
    assert content is None


def test_an_ordered_dict_comes_back_as_a_dict() -> None:
    found = round_trip(OrderedDict(b=1, a=2))
    assert type(found) is dict
    assert list(found.items()) == [("b", 1), ("a", 2)]


class Colour(enum.IntEnum):
    RED = 1


Point = namedtuple("Point", "x")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        Counter(a=1),
        Point(1),
        Colour.RED,
        1j,
        bytearray(b"a"),
        np.str_("a"),
        np.array(["a"]),
        np.array([None]),
        np.array(1, "datetime64[s]"),
        np.array(1, np.complex128),
        np.array(1, np.longdouble),
        np.array([1.0], ">f8"),
        np.zeros(1, [("a", "f4")]),
        np.ma.masked_array([1]),
        torch.Size([1]),
        torch.float32,
        torch.ones(2, dtype=torch.complex128),
        torch.eye(2).to_sparse(),
        {None: 1},
        {b"a": 1},
        {(1, None): 1},
        {np.int64(1): 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types_are_refused_by_their_place(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^part/callbacks/1/state "):
        tree.encode({"callbacks": [None, {"state": value}]}, "part")


def test_what_could_not_be_read_again_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="deeper than the 64 levels"):
        tree.encode(cycle, "part")
    monkeypatch.setattr(tree, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"part has 1002 bytes of JSON; at most 1000"):
        tree.encode("a" * 1000, "part")
    monkeypatch.setattr(tensors, "LIMIT", 1000)
    with pytest.raises(ValueError, match="tensors of 1000 bytes"):
        tree.encode(torch.zeros(250), "part")


@pytest.mark.parametrize("wrap", [lambda tree: (tree,), lambda tree: {(): tree}], ids=["tuple", "dict"])
def test_the_deepest_tree_can_be_read_again(wrap: Callable[[Any], Any]) -> None:
    deepest: Any = 0
    for _ in range(tree.DEPTH - 1):
        deepest = wrap(deepest)
    assert canonical(round_trip(deepest)) == canonical(deepest)
    with pytest.raises(ValueError, match="deeper"):
        tree.encode(wrap(deepest), "part")


TENSOR = save({"part": torch.ones(2)})
HALF = save({"part": torch.ones(2, dtype=torch.bfloat16)})


@pytest.mark.parametrize(
    ("text", "content", "problem"),
    [
        ("", None, "not valid JSON"),
        ("{", None, "not valid JSON"),
        ("NaN", None, "NaN is not JSON"),
        ("[-Infinity]", None, "-Infinity is not JSON"),
        ("1e999", None, "too large"),
        ("9" * 5000, None, "not valid JSON"),
        ("\xff", None, "not valid JSON"),
        ("[" * 100_000, None, "not valid JSON"),
        ("[" * 100_000 + "]" * 100_000, None, "not valid JSON"),
        ("[" * 65 + "]" * 65, None, "deeper than the 64"),
        ('{"$tuple": ' * 65 + "[]" + "}" * 65, None, "list"),
        ('{"a": 1, "a": 2}', None, "one key twice"),
        ('{"$pickle": "gASVKAAAAAAAAACMBXBvc2l4"}', None, r"unknown keys '\$pickle'"),
        ('{"$tuple": [], "b": 1}', None, "unknown keys"),
        ('{"a": 1, "$tuple": []}', None, "unknown keys"),
        ('{"$tuple": {"a": 1}}', None, "not given by a list"),
        ('{"$tuple": "ab"}', None, "not given by a list"),
        ('{"$dict": {"a": 1}}', None, "not given by a list"),
        ('{"$dict": [["a"]]}', None, "not given by pairs"),
        ('{"$dict": ["ab"]}', None, "not given by pairs"),
        ('{"$dict": [[[1], 2]]}', None, "key that none can have"),
        ('{"$dict": [[{"$tuple": [[1]]}, 2]]}', None, "key that none can have"),
        ('{"$dict": [[{}, 2]]}', None, "key that none can have"),
        ('{"$dict": [[1, 2], [true, 3]]}', None, "one key twice"),
        ('{"$float": "1"}', None, "unknown number"),
        ('{"$float": []}', None, "unknown number"),
        ('{"$int": 5}', None, "unknown whole number"),
        ('{"$int": "0x"}', None, "unknown whole number"),
        ('{"$int": "1_000"}', None, "unknown whole number"),
        ('{"$bytes": "a"}', None, "base 64"),
        ('{"$bytes": "a\\u00fc"}', None, "base 64"),
        ('{"$bytes": 3}', None, "base 64"),
        ('{"$tensor": "part"}', None, "does not hold"),
        ('{"$tensor": "other"}', TENSOR, "does not hold"),
        ('{"$tensor": ["part"]}', TENSOR, "does not hold"),
        ('[{"$tensor": "part"}, {"$tensor": "part"}]', TENSOR, "does not hold"),
        ("null", TENSOR, "holds 'part', which"),
        ('{"$scalar": "part"}', TENSOR, "2 elements a scalar"),
        ('{"$array": "part"}', HALF, "bfloat16"),
        ('{"$tensor": "part"}', b"", "not a safetensors file"),
        ('{"$tensor": "part"}', TENSOR[:-1], "not a safetensors file"),
        ('{"$tensor": "part"}', TENSOR + b"0", "not a safetensors file"),
        ('{"$tensor": "part"}', (2**62).to_bytes(8, "little") + TENSOR[8:], "not a safetensors file"),
        ('{"$tensor": "part"}', TENSOR.replace(b"F32", b"F64"), "not a safetensors file"),
        ('{"$tensor": "part"}', TENSOR.replace(b"F32", b"I128"), "not a safetensors file"),
        ('{"$tensor": "part"}', TENSOR.replace(b"F32", b"C64"), "not a safetensors file"),
        ('{"$tensor": "part"}', TENSOR.replace(b"[2]", b"[3]"), "not a safetensors file"),
        ('{"$tensor": "part"}', TENSOR.replace(b"[0,8]", b"[8,0]"), "not a safetensors file"),
        ('{"$tensor": "part"}', save({"part": torch.ones(2).to(torch.float8_e5m2)}), "float8"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_hostile_files_are_refused(text: str, content: bytes | None, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem) as caught:
        tree.decode(text.encode("latin-1"), content, "part")
    assert str(caught.value).startswith("part.")
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 400


def test_too_long_a_text_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "LIMIT", 10)
    with pytest.raises(CheckpointError, match="at most 10 are read"):
        tree.decode(b"[1, 2, 3, 4]", None, "part")


def test_files_with_changed_bytes_never_do_more_than_be_refused() -> None:
    value = {"a": [1.5, ("b", {2: b"c"})], "t": torch.arange(3), "n": np.float32(2), "i": 2**70, "x": math.nan}
    text, content = tree.encode(value, "part")
    assert content is not None
    generator = random.Random(0)
    refused = 0
    for _ in range(1500):
        files = [bytearray(text), bytearray(content)]
        for _ in range(generator.randint(1, 3)):
            file = generator.choice(files)
            file[generator.randrange(len(file))] = generator.choice(b'{}[]",:$0919aeE-. \x00\xff\x7f')
        try:
            tree.decode(bytes(files[0]), bytes(files[1]), "part")
        except CheckpointError:
            refused += 1
    assert 500 < refused < 1500
