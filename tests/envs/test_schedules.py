"""Schedules and tasks are pure functions of (seed, step)."""

import itertools
import pickle
import zlib

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.settings import SettingError
from envs import Tasks
from envs.changes import CHANGES
from envs.changes.observations import ObservationPermutation
from envs.changes.rewards import RewardScale
from envs.changes.sensors import ObservationGains, ObservationOffset
from envs.nonstationary import NonStationary
from envs.schedules import (
    SCHEDULES,
    Constant,
    Drift,
    Geometric,
    OrnsteinUhlenbeck,
    Periodic,
    RandomWalk,
    Schedule,
    Sequence,
    Sinusoid,
)

PERIODS = st.integers(1, 500)
STEPS = st.integers(0, 10_000)
CURVES = st.sampled_from(["linear", "exponential", "sigmoid"])
CARTPOLE = gym.make("CartPole-v1")


def bound(schedule: Schedule, seed: int = 0, **changes: object) -> Tasks:
    return Tasks(schedule, changes or {"reward": RewardScale()}, seed).bind(CARTPOLE)


@given(period=PERIODS, step=STEPS)
def test_steps_tasks_and_switches_agree(period: int, step: int) -> None:
    for schedule in (
        Periodic(period=period),
        Drift(period=period),
        Geometric(period=period, seed=period),
        Geometric(period=2 * period, shortest=period),
        Sequence(lengths=(period, 3, 2 * period)),
        RandomWalk(period=period),
    ):
        task = schedule.task(step)
        switch = schedule.next_switch(step)
        assert schedule.start(task) <= step < switch == schedule.start(task + 1)
        assert schedule.task(schedule.start(task)) == task == schedule.task(switch - 1)
        assert schedule.task(switch) == task + 1
        assert bound(schedule).n_tasks(step + 1) == task + 1


@given(align=st.integers(1, 300), extra=st.integers(0, 700), step=STEPS)
def test_aligned_switches_are_multiples_and_come_next(align: int, extra: int, step: int) -> None:
    least = align + extra
    for kind, lengths in [
        (Periodic, {"period": least}),
        (Drift, {"period": least}),
        (Geometric, {"period": 2 * least, "shortest": least}),
        (Sequence, {"lengths": (least, align, 2 * least)}),
    ]:
        raw, schedule = kind(**lengths), kind(**lengths, align=align)
        task = schedule.task(step)
        assert schedule.start(task) <= step < schedule.next_switch(step) == schedule.start(task + 1)
        assert schedule.start(task) % align == 0
        assert 0 <= schedule.start(task) - raw.start(task) < align
        assert raw.task(step) - task in (0, 1)


def test_tasks_shorter_than_what_they_are_aligned_to_are_refused() -> None:
    for make in (
        lambda: Periodic(period=5, align=8),
        lambda: Geometric(period=50, shortest=5, align=8),
        lambda: Sequence(lengths=(9, 5), align=8),
    ):
        with pytest.raises(SettingError, match=r"must be at least align \(8\), not 5"):
            make()


def test_sequences_by_hand() -> None:
    again = Sequence(lengths=(3, 5, 2))
    assert [again.task(step) for step in range(14)] == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 4]
    held = Sequence(lengths=(3, 5, 2), then="hold")
    assert [held.task(step) for step in (0, 3, 8, 10, 10**9)] == [0, 1, 2, 2, 2]
    assert (held.next_switch(7), held.next_switch(8), bound(held).n_tasks(100)) == (8, None, 3)
    tasks = bound(again, r=RewardScale(values=(1, -1, 3)))
    assert [tasks.values(step)["r"] for step in (0, 3, 8, 10, 13)] == [1, -1, 3, 1, -1]
    with pytest.raises(ValueError, match="r lists 2 values for the 3 lengths of the sequence; list one for each"):
        bound(again, r=RewardScale(values=(1, -1)))
    with pytest.raises(ValueError, match="this schedule has tasks 0 to 2, not 3"):
        held.start(3)


def test_geometric_lengths_have_no_memory() -> None:
    lengths = []
    for seed in range(20):
        schedule = Geometric(period=100, shortest=20, seed=seed)
        lengths += list(np.diff([schedule.start(task) for task in range(200)]))
    rest = np.array(lengths) - 20
    assert np.mean(lengths) == pytest.approx(100, rel=0.05)
    assert min(lengths) == 20
    # Whoever has waited for 50 steps waits as long as anybody else, on average, and half of all wait ln 2 of the mean.
    assert np.mean(rest[rest >= 50] - 50) == pytest.approx(80, rel=0.08)
    assert np.median(rest) == pytest.approx(80 * np.log(2), rel=0.08)
    far = Geometric(period=100, shortest=20, seed=3)
    assert far.start(far.task(10**6)) <= 10**6 < far.next_switch(10**6)
    assert Geometric(period=7, seed=1).start(5) != Geometric(period=7, seed=2).start(5)


@given(seed=st.integers(0, 500), draw=st.sampled_from(["uniform", "log_uniform", "normal"]))
@settings(max_examples=30)
def test_neighbours_keep_their_distance(seed: int, draw: str) -> None:
    schedule = Periodic(period=10, first="drawn", distance=0.7)
    tasks = bound(schedule, seed, r=RewardScale(low=0.1, high=2.0, draw=draw))
    values = [tasks.values(step)["r"] for step in range(0, 300, 10)]
    assert np.abs(np.diff(values)).min() >= 0.7
    assert 0.1 <= min(values) <= max(values) <= 2.0
    assert bound(schedule, seed, r=RewardScale(low=0.1, high=2.0, draw=draw)).values(290)["r"] == values[-1]


def test_the_distance_is_the_sum_over_all_numbers() -> None:
    schedule = Periodic(period=10, first="drawn", distance=0.6)
    changes = {"a": RewardScale(low=0.2, high=1.5), "b": RewardScale(values=(-2, 0, 2), draw="choice")}
    tasks = bound(schedule, 1, **changes, o=ObservationPermutation())
    found = [tasks.values(step) for step in range(0, 400, 10)]
    apart = [abs(x["a"] - y["a"]) + abs(x["b"] - y["b"]) for x, y in itertools.pairwise(found)]
    assert min(apart) >= 0.6
    assert any(x["b"] == y["b"] for x, y in itertools.pairwise(found))
    with pytest.raises(ValueError, match=r"distance must be at most 0\.52 for the ranges of these changes, not 0\.6"):
        bound(schedule, 1, a=RewardScale(low=0.2, high=1.5))
    with pytest.raises(ValueError, match=r"distance 0\.6: there is no change whose values are numbers and drawn"):
        bound(schedule, 1, a=RewardScale(values=(1, 2)), o=ObservationPermutation())


def test_lists_can_be_held_at_their_end() -> None:
    tasks = bound(Periodic(period=10), r=RewardScale(values=(1, -1, 3), then="hold"))
    assert [tasks.values(10 * task)["r"] for task in range(6)] == [1, -1, 3, 3, 3, 3]


def test_a_constant_schedule_never_switches() -> None:
    schedule = Constant()
    assert (schedule.task(10**9), schedule.next_switch(5), bound(schedule).n_tasks(10)) == (0, None, 1)
    assert schedule.start(0) == 0
    assert bound(Periodic(period=5)).n_tasks(0) == bound(schedule).n_tasks(0) == 0
    with pytest.raises(ValueError, match="tasks 0 to 0, not 1"):
        schedule.start(1)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**40), period=PERIODS, steps=st.lists(STEPS, min_size=2, max_size=30), data=st.data())
def test_values_do_not_depend_on_the_order_of_questions(seed: int, period: int, steps: list[int], data) -> None:
    kinds: list[Schedule] = [
        Periodic(period=period, first="drawn"),
        Periodic(period=period, distance=0.3),
        Drift(period=period),
        Geometric(period=period),
        Sequence(lengths=(period, 7)),
        RandomWalk(period=period, every=3),
        OrnsteinUhlenbeck(period=period, every=2, first="drawn"),
        Sinusoid(period=period),
    ]
    schedule = data.draw(st.sampled_from(kinds))
    tasks = bound(schedule, seed)
    forwards = [tasks.values(step) for step in steps]
    assert [tasks.values(step) for step in reversed(steps)] == forwards[::-1]
    assert [pickle.loads(pickle.dumps(tasks)).values(step) for step in steps] == forwards
    assert [bound(schedule, seed).values(step) for step in steps] == forwards


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    low=st.floats(0.01, 10),
    width=st.floats(0.01, 10),
    draw=st.sampled_from(["uniform", "log_uniform", "normal"]),
    curve=CURVES,
)
def test_values_stay_within_their_bounds(seed: int, low: float, width: float, draw: str, curve: str) -> None:
    change = RewardScale(low=low, high=low + width, draw=draw)
    slack = 1e-12 * (low + width)
    for schedule in (
        Periodic(period=10, first="drawn"),
        Drift(period=10, first="drawn", curve=curve),
        Geometric(period=10, first="drawn"),
        RandomWalk(period=10, every=1, first="drawn"),
        OrnsteinUhlenbeck(period=10, every=1, deviation=0.8, first="drawn"),
        Sinusoid(period=17, first="drawn"),
    ):
        tasks = bound(schedule, seed, r=change)
        values = [tasks.values(step)["r"] for step in range(0, 100, 3)]
        assert low - slack <= min(values) <= max(values) <= low + width + slack


def test_draws_follow_their_distribution() -> None:
    rng = np.random.default_rng(0)
    change = RewardScale(low=0.02, high=2.0, draw="log_uniform")
    change.own = 1.0
    drawn = np.array([change.sample(rng) for _ in range(4000)])
    # As in the published table of SlipperyAnt: median 0.2, 85 % below 1.
    assert np.median(drawn) == pytest.approx(0.2, rel=0.1)
    assert np.mean(drawn < 1) == pytest.approx(0.85, abs=0.02)
    normal = RewardScale(low=-3.0, high=5.0, draw="normal")
    drawn = np.array([normal.sample(rng) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(1.0, abs=0.1)
    assert drawn.std() == pytest.approx(2.0, rel=0.1)
    choice = RewardScale(values=(1, -1), draw="choice")
    assert {choice.sample(rng) for _ in range(50)} == {1.0, -1.0}


@given(period=st.integers(2, 300), curve=CURVES, seed=st.integers(0, 100))
@settings(max_examples=60)
def test_drift_is_continuous_and_meets_the_tasks_at_their_starts(period: int, curve: str, seed: int) -> None:
    schedule = Drift(period=period, curve=curve)
    drifting = bound(schedule, seed)
    jumping = bound(Periodic(period=period), seed)
    path = np.array([drifting.values(step)["reward"] for step in range(3 * period + 1)])
    for task in range(4):
        assert path[task * period] == jumping.values(task * period)["reward"]
    mixes = np.array([schedule.mix(step) for step in range(period)])
    assert mixes[0] == 0
    assert np.all(np.diff(mixes) > 0)
    assert mixes[-1] < 1
    # The steepest of the curves is the sigmoid: 10/4 in the middle over logistic(5) - logistic(-5).
    steepest = 2.6 if curve == "sigmoid" else np.log(4) * 2 if curve == "exponential" else 1
    assert np.abs(np.diff(path)).max() <= 1.5 * steepest / period * 1.0001


def test_curves_by_hand() -> None:
    linear, exponential, sigmoid = (Drift(period=4, curve=c) for c in ("linear", "exponential", "sigmoid"))
    assert [linear.blend(1, 3, linear.mix(step)) for step in range(5, 8)] == [1.5, 2, 2.5]
    assert exponential.blend(1, 16, exponential.mix(2)) == pytest.approx(4)
    assert exponential.blend(1, 16, exponential.mix(1)) == pytest.approx(2)
    assert sigmoid.mix(2) == pytest.approx(0.5)
    assert sigmoid.mix(1) == pytest.approx((1 / (1 + np.exp(2.5)) - 1 / (1 + np.exp(5))) / np.tanh(2.5))


def test_each_label_draws_from_its_own_stream() -> None:
    schedule = Periodic(period=10)
    alone = bound(schedule, 3, a=RewardScale())
    both = bound(schedule, 3, b=RewardScale(), a=RewardScale())
    assert all(alone.values(step)["a"] == both.values(step)["a"] for step in range(0, 100, 10))
    assert both.values(50)["a"] != both.values(50)["b"]
    rng = np.random.default_rng(np.random.SeedSequence([3, zlib.crc32(b"a"), 5]))
    assert alone.values(50)["a"] == RewardScale().__class__(low=0.5, high=2.0).sample(rng)


def test_a_seed_of_the_schedule_takes_the_place_of_the_runs() -> None:
    fixed = [bound(Periodic(period=10, seed=7), seed).values(10) for seed in (1, 2)]
    assert fixed[0] == fixed[1] == bound(Periodic(period=10), 7).values(10) != bound(Periodic(period=10), 1).values(10)


def test_listed_values_go_round_from_the_first_task_on() -> None:
    tasks = bound(Periodic(period=10), r=RewardScale(values=[1, -1, 3]))
    assert [tasks.values(10 * task)["r"] for task in range(5)] == [1, -1, 3, 1, -1]
    assert bound(Constant(), r=RewardScale(values=[4, 5])).values(99)["r"] == 4


def test_original_and_drawn_first_tasks() -> None:
    assert bound(Periodic(period=10)).values(0) == {"reward": 1.0}
    assert bound(Constant()).values(0) == {"reward": 1.0}
    assert bound(Periodic(period=10, first="drawn")).values(0) != {"reward": 1.0}


def test_descriptions() -> None:
    tasks = bound(Periodic(period=10), 1, obs=CHANGES["observation_permutation"](), act=CHANGES["action_permutation"]())
    assert tasks.describe(0) == "original"
    place = [f"{'+' if p > 0 else '-'}{abs(p) - 1}" for p in tasks.values(10)["obs"]]
    assert tasks.describe(1) == f"obs {' '.join(place)}, actions swapped"
    assert bound(Periodic(period=10), r=RewardScale(values=[1, -1])).describe(1) == "reward x-1"
    assert bound(Drift(period=10), r=RewardScale(values=[1, 3])).describe(0) == "reward original to x3"
    assert bound(Constant()).describe(0) == "original"


def test_values_must_be_asked_of_bound_tasks() -> None:
    with pytest.raises(RuntimeError, match=r"tasks\.bind\(env\)"):
        Tasks(Periodic(period=3), {"obs": ObservationPermutation()}).values(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Periodic(period=0), "Periodic: period must be above 0, not 0"),
        (lambda: Periodic(period=2.5), "Periodic: period must be a whole number, not 2.5"),
        (lambda: Drift(period=5, curve="sigmoidal"), "did you mean 'sigmoid'"),
        (lambda: Constant(boundary="now"), "must be one of immediate, next_reset, truncate, not 'now'"),
        (lambda: RewardScale(low=2, high=1), r"low must be below high \(1\), not 2"),
        (
            lambda: RewardScale(draw="log_uniform", low=0, high=1),
            "low must be above 0 where draw is log_uniform, not 0",
        ),
        (lambda: RewardScale(draw="choice"), "values must be given where draw is choice"),
        (lambda: RewardScale(values=[]), "values must list at least one value"),
        (lambda: RewardScale(values=["a"]), "values must be a number, not 'a'"),
        (
            lambda: CHANGES["action_permutation"](probability=1.5),
            "probability must be at least 0 and at most 1, not 1.5",
        ),
        (lambda: CHANGES["mujoco_friction"](draw="uniform", low=-1), "low must be above 0 for friction, not -1"),
        (
            lambda: CHANGES["cartpole"](parameter="masspole", values=[0.1, 0]),
            "values must be above 0 for masspole, not 0",
        ),
    ],
)
def test_wrong_settings_end_in_one_sentence(make, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


def test_each_number_of_a_list_drifts_on_its_own_way() -> None:
    linear = bound(Drift(period=8, first="drawn"), offset=ObservationOffset())
    geometric = bound(Drift(period=8, curve="exponential"), gains=ObservationGains())
    for step in range(24):
        share, task = step % 8 / 8, step // 8
        before, after = (np.array(linear.values(8 * each)["offset"]) for each in (task, task + 1))
        assert linear.values(step)["offset"] == pytest.approx((1 - share) * before + share * after)
        before, after = (np.array(geometric.values(8 * each)["gains"]) for each in (task, task + 1))
        assert geometric.values(step)["gains"] == pytest.approx(before ** (1 - share) * after**share)
    assert geometric.values(0)["gains"] == [1.0] * 4


def test_an_agent_sees_a_list_drift() -> None:
    schedule = Drift(period=40, boundary="immediate")
    env = NonStationary(gym.make("CartPole-v1"), Tasks(schedule, {"offset": ObservationOffset()}))
    plain = gym.make("CartPole-v1")
    seen, world = [env.reset(seed=1)[0]], [plain.reset(seed=1)[0]]
    for _ in range(8):
        seen.append(env.step(0)[0])
        world.append(plain.step(0)[0])
    tasks = Tasks(schedule, {"offset": ObservationOffset()}).bind(CARTPOLE)
    goal = np.array(tasks.values(40)["offset"])
    # A step is taken in the world that its action met: what is seen after the first has not moved yet.
    moved = np.array(seen) - np.array(world)
    assert moved[0] == pytest.approx(np.zeros(4))
    assert np.diff(moved[1:], axis=0) == pytest.approx(np.tile(goal / 40, (7, 1)), abs=1e-5)


def test_what_cannot_drift_says_so() -> None:
    with pytest.raises(ValueError, match="obs cannot drift, because its values are not numbers"):
        Tasks(Drift(period=5), {"obs": ObservationPermutation()})
    with pytest.raises(ValueError, match="r cannot drift exponentially through -1: all its values must be above 0"):
        bound(Drift(period=5, curve="exponential"), r=RewardScale(values=[1, -1]))
    with pytest.raises(ValueError, match="o cannot drift exponentially through -inf"):
        bound(Drift(period=5, curve="exponential"), o=ObservationOffset())
    with pytest.raises(ValueError, match="seed of the tasks must be at least 0, not -1"):
        Tasks(Constant(), {}, seed=-1)


def test_registries_name_their_classes() -> None:
    assert {name: kind.__name__.lower() for name, kind in SCHEDULES.items()} == {
        name: name.replace("_", "") for name in SCHEDULES
    }
    assert [change.__new__(change).name for change in CHANGES.values()] == list(CHANGES)
