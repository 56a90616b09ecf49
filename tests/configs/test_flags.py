"""Flags from the command line and from mappings become the same dataclass, or one sentence."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt
from hypothesis import given
from hypothesis import strategies as st

from configs.flags import build, from_command_line, from_mapping, nearest
from configs.settings import Settings, UsageError


@dataclass
class Inner(Settings):
    """Nested settings."""

    rate: Annotated[float, Gt(0)] = 0.1
    steps: int = 1
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] | None = None
    limit: float | None = None
    mode: Literal["fast", "slow"] = "fast"
    heads: bool = True


@dataclass
class Outer(Settings):
    """Settings with others in them."""

    inner: Inner = field(default_factory=Inner)
    seed: Annotated[int, Ge(0)] = 0
    quiet: bool = False
    path: Path | None = None


def parse(*words: str) -> Outer:
    return build(Outer, from_command_line(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seed", "3"], {"seed": 3}),
        (["--seed=3"], {"seed": 3}),
        (["--seed", "1e3"], {"seed": 1000}),
        (["--seed", "2048.0"], {"seed": 2048}),
        (["--seed", "1234567890123456789"], {"seed": 1234567890123456789}),
        (["--seed", "1", "--seed", "2"], {"seed": 2}),
        (["--quiet"], {"quiet": True}),
        (["--quiet", "True"], {"quiet": True}),
        (["--quiet", "--no-quiet"], {"quiet": False}),
        (["--no-quiet", "--quiet"], {"quiet": True}),
        (["--quiet", "false"], {"quiet": False}),
        (["--path", "a b"], {"path": Path("a b")}),
        (["--path", "none"], {"path": None}),
    ],
)
def test_top_level(words: list[str], expected: dict[str, Any]) -> None:
    assert parse(*words) == Outer(**expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--inner.rate", "3e-4"], {"rate": 3e-4}),
        (["--inner.steps", "1e6"], {"steps": 1_000_000}),
        (["--inner.steps", "-1"], {"steps": -1}),
        (["--inner.sizes", "64,32"], {"sizes": (64, 32)}),
        (["--inner.sizes", "64", "32"], {"sizes": (64, 32)}),
        (["--inner.sizes", "[64, 32]"], {"sizes": (64, 32)}),
        (["--inner.sizes", "none"], {"sizes": None}),
        (["--inner.limit", "-0.5"], {"limit": -0.5}),
        (["--inner.limit", "None"], {"limit": None}),
        (["--inner.no-heads"], {"heads": False}),
        (["--inner.heads=false"], {"heads": False}),
        (["--inner.mode", "slow"], {"mode": "slow"}),
    ],
)
def test_nested(words: list[str], expected: dict[str, Any]) -> None:
    assert parse(*words).inner == Inner(**expected)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sed", "3"], "--sed is not a setting here; did you mean '--seed'?"),
        (["--rate", "3"], "--rate is not a setting here; did you mean '--inner.rate'?"),
        (["--inner.rat", "3"], "--inner.rat is not a setting here; did you mean '--inner.rate'?"),
        (["--iner.rate", "3"], "--iner.rate is not a setting here; did you mean '--inner.rate'?"),
        (["--hlep"], "--hlep is not a setting here; did you mean '--help'?"),
        (["--"], "-- is not a setting here."),
        (["--seed"], "--seed takes one value, got none."),
        (["--seed", "1", "2"], "--seed takes one value, got 2: 1 2."),
        (["--seed", "x"], "--seed must be a whole number, not 'x'."),
        (["--seed", "2.5"], "--seed must be a whole number, not '2.5'."),
        (["--seed", "-1"], "--seed must be at least 0, not -1."),
        (["--quiet", "maybe"], "--quiet must be true or false, not 'maybe'."),
        (["--inner.rate", "fast"], "--inner.rate must be a number, not 'fast'."),
        (["--inner.rate", "nan"], "--inner.rate must be a finite number, not nan."),
        (["--inner.mode", "slwo"], "--inner.mode must be one of fast, slow, not 'slwo'; did you mean 'slow'?"),
        (["--inner.sizes", "1,x"], "--inner.sizes must be none or a list, each item a whole number, not '1,x'."),
        (["seed", "3"], "'seed' is no flag; flags begin with two dashes, such as --agent ppo."),
    ],
)
def test_mistakes_become_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        build(Outer, from_command_line(words), also=["help"])
    assert str(error.value) == sentence


def test_a_setting_without_default_is_asked_for() -> None:
    @dataclass
    class Needy(Settings):
        period: int

    with pytest.raises(UsageError, match=r"--period is missing"):
        build(Needy, {})


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"inner": {"rat": 1}}, "x.yaml: inner.rat is not a setting here; did you mean 'inner.rate'?"),
        ({"inner": {"rate": -1}}, "x.yaml: inner.rate must be above 0, not -1."),
        ({"seed": None}, "x.yaml: seed must be a whole number, not 'none'."),
        ({"seed": "--quiet"}, "x.yaml: seed must be a whole number, not '--quiet'."),
        ({"inner": {"sizes": [[64]]}}, "x.yaml: inner.sizes must be one value or a list of values, not [[64]]."),
        ({"inner": {"sizes": {"a": 1}}}, "x.yaml: inner.sizes.a is not a setting here; did you mean 'inner.sizes'?"),
    ],
)
def test_mistakes_in_files_name_the_file_and_the_key(tree: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        build(Outer, from_mapping(tree, "x.yaml"))
    assert str(error.value) == sentence


def test_the_nearest_flag_is_looked_for_in_its_own_group() -> None:
    known = ["agent.tau", "agent.gamma", "reset.redo.tau", "reset.redo.when", "steps", "agent"]
    assert nearest("reset.redo.tua", known) == "reset.redo.tau"
    assert nearest("reset.tua", known) == "reset.redo.tau"
    assert nearest("agnet", known) == "agent"
    assert nearest("agnet.gama", known) == "agent.gamma"
    assert nearest("agent.zzzzz", known) is None


FLOATS = st.floats(-1e30, -1e-35) | st.just(0.0) | st.floats(1e-35, 1e30)
INNERS = st.builds(
    Inner,
    rate=st.floats(1e-35, 1e30),
    steps=st.integers(-(2**63), 2**63),
    sizes=st.none() | st.lists(st.integers(-9, 9), min_size=1, max_size=4).map(tuple),
    limit=st.none() | FLOATS,
    mode=st.sampled_from(["fast", "slow"]),
    heads=st.booleans(),
)


@given(INNERS)
def test_settings_survive_being_written_as_flags(inner: Inner) -> None:
    tree = {key: value for key, value in asdict(inner).items() if key != "names"}
    assert build(Inner, from_mapping(tree, "x.yaml")) == inner
