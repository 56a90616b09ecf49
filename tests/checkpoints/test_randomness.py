"""All global random number generators go on exactly where they were, or nothing is touched."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import tree
from checkpoints.errors import CheckpointError
from checkpoints.randomness import global_state, set_global_state


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    before = global_state()
    yield
    set_global_state(before)


def draw() -> list[Any]:
    legacy = np.random.mtrand._rand
    return [
        *(random.random(), random.gauss(0, 1), random.getrandbits(40)),
        *(legacy.standard_normal(), legacy.randint(1000), legacy.standard_normal()),
        *(torch.randn(()).item(), torch.rand(3).tolist(), torch.randperm(5).tolist(), torch.randn(20).tolist()),
    ]


@pytest.mark.parametrize("advance", [0, 1, 2, 3, 700])
def test_every_generator_goes_on(advance: int) -> None:
    """After an odd number of normal ones, the next one of Python, NumPy and PyTorch is already there."""
    for _ in range(advance):
        random.gauss(0, 1)
        np.random.mtrand._rand.standard_normal()
        torch.randn(1)
    files = tree.encode(global_state(), "random")
    expected = draw(), draw()
    random.seed(1)
    np.random.mtrand._rand.seed(1)
    torch.manual_seed(1)
    assert draw() != expected[0]
    set_global_state(tree.decode(*files, "random"))
    assert (draw(), draw()) == expected


def test_a_state_is_a_copy() -> None:
    state = global_state()
    expected = draw()
    set_global_state(state)
    assert draw() == expected
    set_global_state(state)
    assert draw() == expected


def python(state: Any) -> Any:
    return state["python"]


def numpy(state: Any) -> Any:
    return state["numpy"]


CHANGES: list[Callable[[Any], Any]] = [
    lambda state: state.clear(),
    lambda state: state.pop("cuda"),
    lambda state: state.update(cuda=None),
    lambda state: state.update(cuda=[torch.zeros(16, dtype=torch.uint8)] * 99),
    lambda state: state.update(torch=None),
    lambda state: state.update(torch=state["torch"][:-1]),
    lambda state: state.update(torch=torch.zeros_like(state["torch"])),
    lambda state: state.update(torch=state["torch"].float()),
    lambda state: state.update(python=[]),
    lambda state: python(state).update(version=1),
    lambda state: python(state).update(words=python(state)["words"][:-1]),
    lambda state: python(state).update(words=python(state)["words"].astype(np.float64)),
    lambda state: python(state).update(words=python(state)["words"].tolist()),
    lambda state: python(state).update(gauss="0"),
    lambda state: python(state)["words"].__setitem__(-1, 625),
    lambda state: numpy(state).update(bit_generator="PCG64"),
    lambda state: numpy(state).pop("gauss"),
    lambda state: numpy(state).update(gauss="a"),
    lambda state: numpy(state).update(state=None),
    lambda state: numpy(state)["state"].update(key=numpy(state)["state"]["key"][:-1]),
    lambda state: numpy(state)["state"].update(key=numpy(state)["state"]["key"].astype(np.int64)),
    lambda state: numpy(state)["state"].update(pos=10**6),
    lambda state: numpy(state)["state"].update(pos=-1),
    lambda state: numpy(state)["state"].update(pos=True),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_a_malformed_state_changes_nothing(change: Callable[[Any], Any]) -> None:
    state = global_state()
    expected = draw()
    set_global_state(state)
    malformed = tree.decode(*tree.encode(state, "random"), "random")
    change(malformed)
    random.random()
    with pytest.raises(CheckpointError, match=r"^The .*\.$"):
        set_global_state(malformed)
    set_global_state({**state, "python": global_state()["python"]})
    assert draw()[3:] == expected[3:]


@pytest.mark.parametrize("state", [None, [], 3, "a"])
def test_something_else_is_refused(state: Any) -> None:
    with pytest.raises(CheckpointError, match="malformed"):
        set_global_state(state)
