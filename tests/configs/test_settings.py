"""Settings check their own types, ranges and choices, and say in one sentence what is wrong."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st

from configs.settings import SettingError, Settings, UsageError, closest, did_you_mean, find_problem

Share = Annotated[float, Ge(0), Le(1)]


@dataclass
class Example(Settings):
    """One of everything."""

    share: Share = 0.5
    count: Annotated[int, Gt(0)] = 1
    mode: Literal["fast", "slow"] = "fast"
    sizes: tuple[Annotated[int, Gt(0)], ...] | None = None
    limit: Annotated[float, Gt(0)] | None = None
    flag: bool = False
    text: str = ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": 2.0}, ["share", "at least 0 and at most 1", "not 2"]),
        ({"share": float("nan")}, ["share", "finite", "nan"]),
        ({"share": float("inf")}, ["share", "finite", "inf"]),
        ({"share": "0.5"}, ["share", "number", "'0.5'"]),
        ({"share": True}, ["share", "number", "True"]),
        ({"count": 0}, ["count", "above 0", "not 0"]),
        ({"count": 1.5}, ["count", "whole number", "1.5"]),
        ({"count": True}, ["count", "whole number", "True"]),
        ({"mode": "fats"}, ["mode", "fast, slow", "'fats'", "did you mean 'fast'"]),
        ({"sizes": (64, -1)}, ["sizes", "above 0", "-1"]),
        ({"sizes": 64}, ["sizes", "list", "64"]),
        ({"limit": 0.0}, ["limit", "above 0"]),
        ({"flag": 1}, ["flag", "true or false", "1"]),
        ({"text": 3}, ["text", "3"]),
    ],
)
def test_what_is_not_allowed_is_named(settings: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingError) as error:
        Example(**settings)  # type: ignore[arg-type]
    message = str(error.value)
    assert all(word in message for word in ["Example", *words]), message
    assert "\n" not in message
    assert error.value.name == next(iter(settings))


def test_numbers_in_messages_are_not_rounded() -> None:
    assert find_problem(Annotated[int, Le(2**32 - 1)], 2**32) == "must be at most 4294967295, not 4294967296"
    assert find_problem(Annotated[int, Lt(3)], 10**18) == f"must be below 3, not {10**18}"


def test_whole_numbers_that_fit_nowhere_are_refused() -> None:
    for value, shown in ((2**63 + 1, str(2**63 + 1)), (-(10**5000), "one of thousands of digits")):
        assert find_problem(int, value) == f"must be a whole number of at most {2**63}, not {shown}"
    assert find_problem(int, 2**63) is find_problem(int, -(2**63)) is None


@pytest.mark.parametrize("value", [1.1e30, -1.1e30, 1e308, 10**400])
def test_numbers_that_would_be_infinite_in_single_precision_are_refused(value: float) -> None:
    assert find_problem(float, value) == f"must be a number of at most 1e+30, not {value!r}"
    assert find_problem(float, 1e30) is find_problem(float, -1e30) is None


@pytest.mark.parametrize("value", [9e-36, -9e-36, 1e-320])
def test_numbers_that_would_be_0_in_single_precision_are_refused(value: float) -> None:
    assert find_problem(float, value) == f"must be 0 or at least 1e-35 in size, not {value!r}"
    assert find_problem(float, 1e-35) is find_problem(float, -0.0) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines,\ttab", "two lines, tab"),
        ("bell\x07 nul\0 esc\x1b[31m", "bell\\x07 nul\\x00 esc\\x1b[31m"),
        ("right-to-left \u202e, half \ud800", "right-to-left \\u202e, half \\ud800"),
        ("plain: größer, 再学", "plain: größer, 再学"),
        ("a" * 10**6, f"{'a' * 1000} … {'a' * 1000}"),
    ],
)
def test_an_error_is_one_line_that_can_be_printed(text: str, line: str) -> None:
    assert str(UsageError(text)) == line


@given(
    share=st.just(0.0) | st.floats(1e-35, 1),
    count=st.integers(1, 2**63),
    sizes=st.none() | st.lists(st.integers(1, 2**63), max_size=3).map(tuple),
    limit=st.none() | st.floats(1e-35, 1e30),
)
def test_what_is_allowed_passes(share: float, count: int, sizes: tuple[int, ...] | None, limit: float | None) -> None:
    made = Example(share=share, count=count, sizes=sizes, limit=limit)
    assert (made.share, made.count, made.sizes, made.limit) == (share, count, sizes, limit)


@given(st.floats(-1e30, -1e-35) | st.just(0.0) | st.floats(1e-35, 1e30))
def test_bounds_hold_exactly_where_they_say(value: float) -> None:
    assert (find_problem(Share, value) is None) == (0 <= value <= 1)
    assert (find_problem(Annotated[float, Gt(0), Lt(1)], value) is None) == (0 < value < 1)


def test_the_nearest_name() -> None:
    assert closest("reod", ["full", "redo"]) == "redo"
    assert closest("zzz", ["full", "redo"]) is None
    assert did_you_mean("reod", ["full", "redo"]) == "; did you mean 'redo'?"
    assert did_you_mean("zzz", ["full", "redo"]) == ""
