"""Schedules of parts: side by side, and one after another."""

import pickle
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import NonStationary, Tasks, make_plain_env, make_vec_env
from envs.changes.classic import Pendulum
from envs.changes.rewards import RewardScale
from envs.compositions import Composition
from envs.reading import read_tasks, scaled
from envs.schedules import Constant, Drift, Geometric, Periodic, Sequence, Sinusoid, Stages, Together

PENDULUM = make_plain_env("Pendulum-v1")


def together(a: int, b: int, seed: int = 0, **settings: Any) -> Composition:
    parts = {
        "slow": Tasks(Periodic(period=a), {"mass": Pendulum()}),
        "fast": Tasks(Periodic(period=b), {"reward": RewardScale(values=(1, -1))}),
    }
    return Composition(Together(**settings), parts, seed)


def test_side_by_side_by_hand() -> None:
    tasks = together(6, 4).bind(PENDULUM)
    assert [tasks.task(step) for step in range(13)] == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 4]
    assert [tasks.start(task) for task in range(6)] == [0, 4, 6, 8, 12, 16]
    assert [tasks.next_switch(step) for step in (0, 4, 7, 8, 12)] == [4, 6, 8, 12, 16]
    assert [tasks.values(step)["reward"] for step in (0, 4, 8, 12)] == [1, -1, 1, -1]
    alone = Tasks(Periodic(period=6), {"mass": Pendulum()}).bind(PENDULUM)
    assert [tasks.values(step)["mass"] for step in range(30)] == [alone.values(step)["mass"] for step in range(30)]


@given(a=st.integers(1, 60), b=st.integers(1, 60), mean=st.integers(1, 80), steps=st.lists(st.integers(0, 900)))
@settings(max_examples=30)
def test_tasks_and_switches_of_parts_agree(a: int, b: int, mean: int, steps: list[int]) -> None:
    parts = {
        "a": Tasks(Periodic(period=a), {"m": Pendulum()}),
        "b": Tasks(Sequence(lengths=(b, 5), then="hold"), {"g": Pendulum(parameter="g")}),
        "c": Tasks(Geometric(period=mean), {"r": RewardScale()}),
    }
    tasks = Composition(Together(), parts, seed=a)
    switches = sorted(
        {step for part in tasks.parts.values() for step in range(1, 901) if part.task(step - 1) != part.task(step)}
    )
    for step in steps:
        assert tasks.task(step) == sum(switch <= step for switch in switches)
        assert tasks.start(tasks.task(step)) == max([0, *(switch for switch in switches if switch <= step)])
    staged = Composition(Stages(lengths=(b, 2 * a)), parts, seed=a)
    found = [staged.task(step) for step in range(300)]
    assert set(np.diff(found)) <= {0, 1}
    for step in range(300):
        assert staged.start(found[step]) <= step < (staged.next_switch(step) or 10**9)
        if step and found[step] != found[step - 1]:
            assert staged.next_switch(step - 1) == staged.start(found[step]) == step


def test_one_after_another_by_hand() -> None:
    parts = {
        "calm": Tasks(Constant(), {}),
        "first": Tasks(Periodic(period=5, first="drawn"), {"mass": Pendulum()}),
        "again": Tasks(Drift(period=10, first="drawn"), {"mass": Pendulum()}),
    }
    tasks = Composition(Stages(lengths=(20, 12)), parts, seed=2).bind(PENDULUM)
    assert [tasks.task(step) for step in (0, 19, 20, 25, 30, 31, 32, 41, 42)] == [0, 0, 1, 2, 3, 3, 4, 4, 5]
    assert (tasks.next_switch(0), tasks.next_switch(30), tasks.next_switch(32)) == (20, 32, 42)
    assert tasks.values(5) == {"mass": 1.0, "mass_again": 1.0}
    assert tasks.values(20)["mass"] != 1.0
    assert tasks.values(20)["mass_again"] == 1.0
    assert tasks.values(40) | {"mass_again": 0} == {"mass": 1.0, "mass_again": 0}
    # A label that returns does not return with the same draws.
    assert tasks.values(32)["mass_again"] != tasks.values(20)["mass"]
    assert tasks.gradual
    assert tasks.describe(0) == "original"
    assert tasks.describe(4).startswith("m ")


def test_a_change_that_another_stage_takes_over_is_applied() -> None:
    parts = {
        "one": Tasks(Periodic(period=5, first="drawn"), {"mass": Pendulum(values=(3.0,))}),
        "two": Tasks(Periodic(period=5, first="drawn"), {"mass": Pendulum(values=(7.0,))}),
    }
    env = NonStationary(gym.make("Pendulum-v1"), Composition(Stages(lengths=(10,), boundary="immediate"), parts))
    env.reset(seed=0)
    met = []
    for _ in range(15):
        met.append(env.unwrapped.m)
        env.step(np.zeros(1, np.float32))
    assert met == [3.0] * 10 + [7.0] * 5
    env.set_clock(4)
    env.reset()
    assert env.unwrapped.m == 3.0


def test_clocks_of_parts_are_their_own() -> None:
    parts = {name: Tasks(Geometric(period=50), {name: Pendulum(parameter=name)}) for name in ("m", "l")}
    tasks = Composition(Together(), parts, seed=1)
    starts = [[part.start(task) for task in range(1, 6)] for part in tasks.parts.values()]
    assert not set(starts[0]) & set(starts[1])
    assert starts != [
        [part.start(task) for task in range(1, 6)] for part in Composition(Together(), parts, 2).parts.values()
    ]


def run(tasks: Tasks, stepping: str) -> list[Any]:
    vec_env = make_vec_env("Pendulum-v1?max_episode_steps=10", tasks, n_envs=2, seed=0, stepping=stepping)
    rng = np.random.default_rng(0)
    found: list[Any] = [vec_env.reset()]
    for _ in range(30):
        observations, rewards, dones, infos = vec_env.step(rng.uniform(-2, 2, (2, 1)).astype(np.float32))
        found += [observations, rewards.astype(np.float32), dones, [info.get("switch") for info in infos]]
    vec_env.close()
    return found


@pytest.mark.parametrize("boundary", ["immediate", "next_reset", "truncate"])
def test_dummy_and_subprocesses_agree_on_compositions(boundary: str) -> None:
    parts = {
        "walk": Tasks(Sinusoid(period=25), {"mass": Pendulum(low=0.5, high=2.0)}),
        "jump": Tasks(Geometric(period=14), {"reward": RewardScale()}),
    }
    tasks = Composition(Together(boundary=boundary), parts, seed=3)
    runs = [run(tasks, stepping) for stepping in ("dummy", "subproc")]
    for mine, theirs in zip(*runs, strict=True):
        np.testing.assert_equal(mine, theirs)
    assert any(switch for step in runs[0] if isinstance(step, list) for switch in step)


def test_compositions_travel() -> None:
    tasks = together(6, 4, seed=5).bind(PENDULUM)
    copy = pickle.loads(pickle.dumps(tasks))
    assert [copy.values(step) for step in range(20)] == [tasks.values(step) for step in range(20)]
    assert copy.changes["mass"].env is None
    assert [copy.bind(PENDULUM).values(step) for step in range(20)] == [tasks.values(step) for step in range(20)]


EVERY = [
    Tasks(Periodic(period=6, boundary="immediate", distance=0.2), {"m": Pendulum(low=0.5, high=3.0)}, seed=3),
    together(6, 4, seed=5, boundary="next_reset", signal="info"),
    Composition(Stages(lengths=(7,)), {"a": Tasks(Constant(), {}), "b": Tasks(Drift(period=3), {"m": Pendulum()})}, 9),
]


@pytest.mark.parametrize("tasks", EVERY, ids=["leaf", "together", "stages"])
def test_plain_settings_are_read_as_the_same_tasks(tasks: Tasks) -> None:
    again = read_tasks(tasks.as_dict())
    assert again.as_dict() == tasks.as_dict()
    assert [again.bind(PENDULUM).values(s) for s in range(30)] == [tasks.bind(PENDULUM).values(s) for s in range(30)]
    assert (again.boundary, again.signal, again.seed) == (tasks.boundary, tasks.signal, tasks.seed)


def test_scaling_shrinks_every_number_of_steps() -> None:
    tree = {
        "kind": "stages",
        "lengths": [100, 7],
        "parts": {"a": {"kind": "geometric", "period": 40, "shortest": 4, "changes": {"m": {"low": 3, "high": 50}}}},
    }
    found = scaled(tree, 0.1)
    assert found["lengths"] == [10, 1]
    assert found["parts"]["a"] == {
        "kind": "geometric",
        "period": 4,
        "shortest": 1,
        "changes": {"m": {"low": 3, "high": 50}},
    }


NO_TEXT: list[Any] = [["pendulum"], {"pendulum": 1}, 3, 1.5, True, None]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"kind": "periodical"}, "kind must be one of .*, not 'periodical'; did you mean 'periodic'?"),
        ({"kind": "periodic", "perid": 5}, "periodic: 'perid' is not a setting here; did you mean 'period'?"),
        ({"kind": "constant", "changes": {"pendulm": {}}}, "there is no change 'pendulm'; did you mean 'pendulum'?"),
        (
            {"kind": "constant", "changes": {"pendulum": {"lo": 1}}},
            "pendulum: 'lo' is not a setting here; did you mean 'low'?",
        ),
        *(({"kind": kind}, "kind must be one of .*, not ") for kind in NO_TEXT),
        *(({"kind": "constant", "changes": {"x": {"change": name}}}, "there is no change ") for name in NO_TEXT),
        ({"kind": "together"}, "a composition needs at least one part"),
        ({"kind": "stages", "lengths": [1, 2], "parts": {"a": {"kind": "constant"}}}, "1 stages need 0 lengths, not 2"),
    ],
)
def test_plain_settings_that_are_wrong(tree: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tasks(tree)


def test_parts_that_do_not_fit_together() -> None:
    part = Tasks(Periodic(period=6), {"m": Pendulum()})
    with pytest.raises(ValueError, match="two parts have a change labelled m; give one another label"):
        Composition(Together(), {"a": part, "b": part})
    with pytest.raises(ValueError, match="a composition cannot be part of another one"):
        Composition(Together(), {"a": together(5, 5)})
    with pytest.raises(ValueError, match="m and n both change m; one of them must leave it alone"):
        Composition(Together(), {"a": part, "b": Tasks(Periodic(period=6), {"n": Pendulum()})}).bind(PENDULUM)


def test_parts_that_are_bound_anew_forget_the_environment_that_they_were_bound_to() -> None:
    heavy = make_plain_env("Pendulum-v1")
    heavy.unwrapped.m = 4.0  # type: ignore[attr-defined]  # the pendulum's
    tasks = together(6, 4).bind(PENDULUM)
    light = tasks.values(6)["mass"]
    assert tasks.bind(heavy).values(6)["mass"] == pytest.approx(4 * light)
