"""The change of any number that an environment keeps, on one that keeps numbers in every way there is."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest

from configs.settings import SettingError
from envs import NonStationary, Tasks
from envs.changes import ChangeError
from envs.changes.attribute import Attribute
from envs.changes.classic import Pendulum
from envs.reading import read_tasks
from envs.schedules import Periodic


@dataclass
class Arm:
    length: float = 2.0


@dataclass(frozen=True)
class Fixed:
    weight: float = 1.0
    constant: ClassVar[float] = 2.0


class Level(IntEnum):
    LOW = 1


class Slots:
    __slots__ = ("depth",)
    width = 2.5

    def __init__(self) -> None:
        self.depth = 1.5


class World(gym.Env[Any, Any]):
    """Its reward is what it keeps."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)
    of_the_class = 0.5

    def __init__(self) -> None:
        self.goal, self.count, self.single, self.switch, self.name = 0.25, 3, np.float32(0.1), True, "world"
        self.arm, self.fixed, self.slots, self._hidden = Arm(), Fixed(), Slots(), 4.0
        self.level = Level.LOW

    @property
    def hidden(self) -> float:
        return self._hidden

    @hidden.setter
    def hidden(self, value: float) -> None:
        self._hidden = value

    @property
    def derived(self) -> float:
        return 2 * self._hidden

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), float(self.goal), False, False, {}


def bound(**settings: Any) -> tuple[Attribute, World]:
    env = World()
    change = Attribute(**settings)
    change.bind(env)
    return change, env


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("goal", 0.25),
        ("of_the_class", 0.5),
        ("hidden", 4.0),
        ("arm.length", 2.0),
        ("slots.depth", 1.5),
        ("single", 0.1),
    ],
)
def test_every_kind_of_attribute_is_written_and_put_back(path: str, own: float) -> None:
    change, env = bound(parameter=path)
    part: Any = env.arm if path.startswith("arm") else env.slots if path.startswith("slots") else env
    name = path.rpartition(".")[2]
    before, kept = getattr(part, name), set(vars(env))
    assert change.original == pytest.approx(own)
    change.set(0.75)
    assert getattr(part, name) == 0.75
    assert type(getattr(part, name)) is type(before)
    change.set(change.original)
    assert getattr(part, name) == before
    assert set(vars(env)) == kept, "nothing is left of a class's number that was covered"
    assert World.of_the_class == 0.5


def test_whole_numbers_stay_whole_where_the_value_is() -> None:
    change, env = bound(parameter="count")
    change.set(5.0)
    assert (env.count, type(env.count)) == (5, int)
    change.set(5.5)
    assert env.count == 5.5
    change, env = bound(parameter="goal", mode="factor")
    change.set(3.0)
    assert env.goal == 0.75


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("gaol", "it needs an attribute 'gaol' of World; did you mean 'goal'?"),
        ("q", "it needs an attribute 'q' of World; its numbers are count, goal, of_the_class, single"),
        ("arm.lenght", "it needs an attribute 'lenght' of Arm; did you mean 'length'?"),
        ("name", "it needs a number, and name is str"),
        ("switch", "it needs a number, and switch is bool"),
        ("arm", "it needs a number, and arm is Arm"),
        ("derived", "it needs an attribute that can be written, and derived cannot"),
        ("fixed.constant", "it needs an attribute that can be written, and fixed.constant cannot"),
        ("slots.width", "it needs an attribute that can be written, and slots.width cannot"),
        ("level", "it needs a number, and level is Level"),
        ("fixed.weight", "it needs an attribute that can be written, and fixed.weight cannot"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(path: str, sentence: str) -> None:
    with pytest.raises(ChangeError) as error:
        bound(parameter=path)
    assert str(error.value) == f"attribute does not fit World: {sentence}"


def test_a_path_that_is_none_is_refused() -> None:
    for path in ("", "a b", "a..b", "3", "f()"):
        with pytest.raises(SettingError, match="must be the name of an attribute"):
            Attribute(parameter=path)


def test_what_must_be_given_is_told_in_a_sentence() -> None:
    tree = {"kind": "periodic", "period": 5, "changes": {"goal": {"change": "attribute", "low": 1.0}}}
    with pytest.raises(ValueError, match=r"^goal: 'parameter' must be given\.$"):
        read_tasks(tree)


def test_the_agent_sees_it_and_two_that_write_the_same_are_refused() -> None:
    tasks = Tasks(
        Periodic(period=2, boundary="immediate"),
        {"goal": Attribute(parameter="goal", values=(0.25, -2.0, 1.0))},
        seed=0,
    )
    env = NonStationary(World(), tasks)
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(6)] == [0.25, 0.25, -2.0, -2.0, 1.0, 1.0]
    both = {"mine": Attribute(parameter="g", low=5.0, high=20.0), "theirs": Pendulum(parameter="g")}
    with pytest.raises(ChangeError, match="both"):
        NonStationary(gym.make("Pendulum-v1"), Tasks(Periodic(period=2), both, seed=0))
