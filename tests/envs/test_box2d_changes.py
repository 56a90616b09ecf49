"""The constants of the Box2D environments, measured as physics: what falls, what is pushed, what slides."""

import copy
import importlib.util
import math
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from configs.settings import SettingError
from envs import NonStationary, Tasks, make_plain_env
from envs.changes import box2d
from envs.changes.base import ChangeError
from envs.changes.box2d import BipedalWalker, Box2dConstant, CarRacing, LunarLander
from envs.changes.rewards import RewardScale
from envs.schedules import Periodic
from envs.verify import VerificationError, verify

pytest.importorskip("Box2D")

LANDER, WALKER, RACING = "LunarLander-v3", "BipedalWalker-v3", "CarRacing-v3"
SECONDS = 1 / 50
LANDER_PARAMETERS = [
    *["gravity", "gravity_x", "wind_power", "turbulence_power", "main_engine_power", "side_engine_power"],
    "initial_random",
]
WALKER_PARAMETERS = ["gravity", "gravity_x", "friction", "motors_torque", "speed_hip", "speed_knee"]
ALL = [
    *[(LunarLander, LANDER, name) for name in LANDER_PARAMETERS],
    *[(BipedalWalker, WALKER, name) for name in WALKER_PARAMETERS],
]


def bind(change: Box2dConstant, env_id: str, **arguments: object) -> tuple[Box2dConstant, gym.Env]:
    env = make_plain_env(env_id, arguments)
    change.bind(env)
    return change, env


def another(change: Box2dConstant) -> float:
    """A value that is not the environment's own."""
    low, high = change.bounds()
    return low + 0.8 * (high - low)


def bodies(env: gym.Env) -> list:
    unwrapped = env.unwrapped
    return [getattr(unwrapped, "lander", None) or unwrapped.hull, *unwrapped.legs]


def velocity(env: gym.Env) -> np.ndarray:
    """That of the centre of mass, which nothing between the bodies changes."""
    masses = [body.mass for body in bodies(env)]
    return np.average([tuple(body.linearVelocity) for body in bodies(env)], axis=0, weights=masses)


def mass(env: gym.Env) -> float:
    return sum(body.mass for body in bodies(env))


def spin(env: gym.Env) -> float:
    """Angular momentum about the centre of mass."""
    parts = bodies(env)
    centre = np.average([tuple(body.worldCenter) for body in parts], axis=0, weights=[body.mass for body in parts])
    total = 0.0
    for body in parts:
        arm = np.array(tuple(body.worldCenter)) - centre
        speed = np.array(tuple(body.linearVelocity)) - velocity(env)
        inertia = body.inertia - body.mass * body.localCenter.lengthSquared
        total += inertia * body.angularVelocity + body.mass * (arm[0] * speed[1] - arm[1] * speed[0])
    return total


def idle(env: gym.Env) -> object:
    return 0 if isinstance(env.action_space, gym.spaces.Discrete) else np.zeros(env.action_space.shape, np.float32)


@pytest.mark.parametrize(("kind", "env_id"), [(LunarLander, LANDER), (BipedalWalker, WALKER)])
@pytest.mark.parametrize(("parameter", "value", "down", "right"), [("gravity", 4, 4, 0), ("gravity_x", -2, 10, -2)])
def test_bodies_fall_as_gravity_says(
    kind: type[Box2dConstant], env_id: str, parameter: str, value: float, down: float, right: float
) -> None:
    change, env = bind(kind(parameter=parameter), env_id)

    def falls(expected: tuple[float, float]) -> None:
        for body in bodies(env):
            body.position += (0, 5)
        before, steps = velocity(env), 4
        for _ in range(steps):
            env.step(idle(env))
        np.testing.assert_allclose((velocity(env) - before) / (steps * SECONDS), expected, atol=2e-3)

    env.reset(seed=0)
    begun = velocity(env)
    falls((0, -10))
    env.reset(seed=0)
    change.set(value)
    falls((right, -down))
    # A reset steps once, with the same force at the start; the walker stands on the ground then.
    for number, expected in ((value, (right, -down)), (change.original, (0, -10))):
        change.set(number)
        env.reset(seed=0)
        if env_id == LANDER:
            np.testing.assert_allclose((velocity(env) - begun) / SECONDS, np.subtract(expected, (0, -10)), atol=2e-3)
        falls(expected)
    change.set(value)
    change.set(change.original)
    falls((0, -10))


def test_both_directions_of_gravity_go_together() -> None:
    for kind, env_id in ((LunarLander, LANDER), (BipedalWalker, WALKER)):
        env = make_plain_env(env_id)
        down, right = kind(parameter="gravity"), kind(parameter="gravity_x")
        down.bind(env)
        right.bind(env)
        env.reset(seed=0)
        for first, second in ((down, right), (right, down)):
            first.set(3.0)
            second.set(1.5)
            vector = (3.0, -1.5) if first is right else (1.5, -3.0)
            assert tuple(env.unwrapped.world.gravity) == vector
            env.reset()
            assert tuple(env.unwrapped.world.gravity) == vector
            first.set(first.original)
            second.set(second.original)
            assert tuple(env.unwrapped.world.gravity) == (0, -10)
            env.reset()
            assert tuple(env.unwrapped.world.gravity) == (0, -10)


def thrust(env: gym.Env, action: int, main: float, side: float) -> np.ndarray:
    """The impulse of an engine, from the next two draws of the environment's generator."""
    rng = copy.deepcopy(env.unwrapped.np_random)
    across, along = (rng.uniform(-1, 1) / 30 for _ in range(2))
    angle = env.unwrapped.lander.angle
    up, left = np.array([math.sin(angle), -math.cos(angle)]), np.array([-math.cos(angle), -math.sin(angle)])
    if action == 2:
        return -main * (up * (4 / 30 + 2 * across) + left * along)
    return -side * (up * across + left * (3 * along + (action - 2) * 12 / 30))


@pytest.mark.parametrize(
    ("parameter", "value", "main", "side"),
    [("main_engine_power", 26.0, 26.0, 0.6), ("side_engine_power", 0.2, 13.0, 0.2), ("main_engine_power", 0.0, 0, 0.6)],
)
def test_engines_push_with_their_power(parameter: str, value: float, main: float, side: float) -> None:
    change, env = bind(LunarLander(parameter=parameter), LANDER)
    env.reset(seed=1)
    for number, strengths in ((value, (main, side)), (change.original, (13.0, 0.6)), (value, (main, side))):
        change.set(number)
        for action in (1, 2, 3):
            before, impulse = velocity(env), thrust(env, action, *strengths)
            env.step(action)
            expected = before + impulse / mass(env) + [0, -10 * SECONDS]
            np.testing.assert_allclose(velocity(env), expected, atol=1e-5)
        env.reset(seed=2)


def test_half_throttle_is_half_the_changed_power() -> None:
    pushes = []
    for power in (13.0, 26.0):
        change, env = bind(LunarLander(parameter="main_engine_power"), LANDER, continuous=True)
        change.set(power)
        env.reset(seed=0)
        before = velocity(env)
        env.step(np.array([0.5, 0.0], np.float32))
        pushes.append(velocity(env) - before + [0, 10 * SECONDS])
    np.testing.assert_allclose(pushes[1], 2 * pushes[0], atol=1e-5)
    assert np.abs(pushes[0]).max() > 0.01


@pytest.mark.parametrize("largest", [400.0, 1500.0])
def test_episodes_begin_with_the_initial_force(largest: float) -> None:
    change, env = bind(LunarLander(parameter="initial_random"), LANDER)
    for number in (largest, 1000.0):
        change.set(number)
        env.reset(seed=5)
        rng, _ = seeding.np_random(5)
        # Twelve heights of the moon come first.
        rng.uniform(size=12)
        force = rng.uniform(-number, number), rng.uniform(-number, number)
        expected = np.multiply(force, SECONDS / mass(env)) + np.array([0, -10 * SECONDS])
        np.testing.assert_allclose(velocity(env), expected, rtol=1e-5)


def blow(index: int, power: float) -> float:
    return power * math.tanh(math.sin(0.02 * index) + math.sin(math.pi * 0.01 * index))


@pytest.mark.parametrize("windy", [False, True])
@pytest.mark.parametrize("live", [False, True])
def test_wind_and_turbulence_blow_alone(windy: bool, live: bool) -> None:
    arguments = {"enable_wind": True, "wind_power": 5.0, "turbulence_power": 1.0} if windy else {}
    own = (5.0, 1.0) if windy else (0.0, 0.0)
    for parameter, value in (("wind_power", 12.0), ("turbulence_power", 1.8)):
        change, env = bind(LunarLander(parameter=parameter), LANDER, **arguments)
        assert change.original == own[parameter == "turbulence_power"]
        before = vars(env.unwrapped).copy()
        wind, torque = (value, own[1]) if parameter == "wind_power" else (own[0], value)
        if live:
            env.reset(seed=0)
        change.set(value)
        if not live:
            env.reset(seed=0)
        lander, still = env.unwrapped, make_plain_env(LANDER)
        for _ in range(4):
            still.reset(seed=0)
            for ours, other in zip(bodies(env), bodies(still), strict=True):
                for name in ("position", "angle", "linearVelocity", "angularVelocity"):
                    setattr(other, name, getattr(ours, name))
            push, twist = blow(lander.wind_idx, wind), blow(lander.torque_idx, torque)
            for each in (env, still):
                each.step(0)
            np.testing.assert_allclose(velocity(env) - velocity(still), [push * SECONDS / mass(env), 0], atol=2e-5)
            # The wind blows at the lander's own centre, which is not that of lander and legs.
            arm = np.average([body.worldCenter.y for body in bodies(env)], weights=[b.mass for b in bodies(env)])
            arm -= lander.lander.worldCenter.y
            expected = SECONDS * (twist + arm * push)
            assert spin(env) - spin(still) == pytest.approx(expected, rel=0.05, abs=2e-4)
        change.set(change.original)
        for name in ("enable_wind", "wind_power", "turbulence_power"):
            assert getattr(lander, name) is before[name]
        assert ("wind_idx" in vars(lander)) is windy


def test_wind_and_turbulence_go_together() -> None:
    env = make_plain_env(LANDER)
    lander, wind, turbulence = (
        env.unwrapped,
        LunarLander(parameter="wind_power"),
        LunarLander(parameter="turbulence_power"),
    )
    wind.bind(env)
    turbulence.bind(env)
    env.reset(seed=0)
    for first, second in ((wind, turbulence), (turbulence, wind)):
        first.set(3.0)
        second.set(1.0)
        assert getattr(lander, first.parameter) == 3.0
        assert getattr(lander, second.parameter) == 1.0
        env.reset()
        first.set(first.original)
        assert lander.enable_wind is True
        assert (getattr(lander, first.parameter), getattr(lander, second.parameter)) == (0.0, 1.0)
        env.step(0)
        second.set(second.original)
        assert (lander.enable_wind, lander.wind_power, lander.turbulence_power) == (False, 15.0, 1.5)
        assert not {"wind_idx", "torque_idx"} & set(vars(lander))
        env.step(0)


def test_wind_that_rises_in_mid_episode_is_seeded() -> None:
    places = []
    for seed in (3, 3, 4):
        change, env = bind(LunarLander(parameter="wind_power"), LANDER)
        change.seed(np.random.default_rng(seed))
        env.reset(seed=0)
        change.set(10.0)
        places.append((env.unwrapped.wind_idx, env.unwrapped.torque_idx))
    assert places[0] == places[1] != places[2]


@pytest.mark.parametrize(
    ("parameter", "value", "constants"),
    [("motors_torque", 30.0, (30, 4, 6)), ("speed_hip", 7.0, (80, 7, 6)), ("speed_knee", 2.0, (80, 4, 2))],
)
def test_motors_turn_with_their_torque_and_speed(
    parameter: str, value: float, constants: tuple[float, float, float]
) -> None:
    change, env = bind(BipedalWalker(parameter=parameter), WALKER)
    # So little that the motors cannot reach their speeds, and turn with all their torque.
    action = np.array([0.01, -0.02, -0.005, 0.015], np.float32)
    for number, (torque, hip, knee) in ((value, constants), (change.original, (80, 4, 6)), (value, constants)):
        change.set(number)
        env.reset(seed=0)
        observation, *_ = env.step(action)
        joints = env.unwrapped.joints
        np.testing.assert_allclose([joint.GetMotorTorque(50) for joint in joints], torque * action, rtol=1e-5)
        assert [joint.motorSpeed for joint in joints] == [hip, -knee, -hip, knee]
        speeds = [joint.speed for joint in joints]
        np.testing.assert_allclose(observation[[5, 7, 10, 12]], np.divide(speeds, [hip, knee, hip, knee]), rtol=1e-5)
        position, angle = env.unwrapped.hull.position.x, env.unwrapped.hull.angle
        _, reward, *_ = env.step(action)
        moved = 130 / 30 * (env.unwrapped.hull.position.x - position)
        tilted = 5 * (abs(env.unwrapped.hull.angle) - abs(angle))
        assert reward == pytest.approx(moved - tilted - 0.00035 * torque * np.abs(action).sum(), abs=1e-5)


@pytest.mark.parametrize("hardcore", [False, True])
def test_the_ground_has_friction(hardcore: bool) -> None:
    change, env = bind(BipedalWalker(parameter="friction"), WALKER, hardcore=hardcore)

    def contacts() -> set[float]:
        for _ in range(40):
            env.step(idle(env))
            if touching := [contact for contact in env.unwrapped.world.contacts if contact.touching]:
                return {round(contact.friction, 5) for contact in touching}
        raise AssertionError("the walker never touches the ground")

    def ground() -> set[float]:
        return {fixture.friction for body in env.unwrapped.terrain for fixture in body.fixtures}

    env.reset(seed=0)
    # Box2D mixes the ground's friction and a leg's 0.2 to the root of their product.
    assert contacts() == {round(math.sqrt(2.5 * 0.2), 5)}
    change.set(0.05)
    assert contacts() == {0.1}
    assert ground() == {np.float32(0.05)}
    env.reset(seed=1)
    assert ground() == {np.float32(0.05)}
    assert contacts() == {0.1}
    change.set(change.original)
    assert contacts() == {round(math.sqrt(0.5), 5)}
    assert ground() == {2.5}
    env.reset(seed=1)
    assert ground() == {2.5}


def spun(env: gym.Env) -> float:
    """How fast a rear wheel turns after one step of full gas from standing, and from no gas at all."""
    car = env.unwrapped.car
    for wheel in car.wheels:
        wheel.gas, wheel.omega, wheel.linearVelocity = 0.0, 0.0, (0, 0)
    car.gas(1.0)
    car.step(SECONDS)
    return car.wheels[2].omega


def test_cars_have_engines_and_wheels_of_their_own() -> None:
    env, plain = make_plain_env(RACING), make_plain_env(RACING)
    engine, friction = CarRacing(parameter="engine_power"), CarRacing()
    engine.bind(env)
    friction.bind(env)
    assert (engine.original, friction.original) == (40000.0, 400.0)
    plain.reset(seed=0)

    def check(power: float, grip: float) -> None:
        for each, strength, limit in ((env, power, grip), (plain, 40000, 400)):
            # In one step the gas goes up to a tenth; a wheel's inertia is 1.6, its radius 0.54.
            turned = SECONDS * strength * 0.1 / 1.6 / 5
            force = min(turned * 0.54 * 82, limit)
            assert spun(each) == pytest.approx(turned - SECONDS * force * 0.54 / 1.6)

    friction.set(200.0)
    env.reset(seed=0)
    check(40000, 200)
    engine.set(80000.0)
    check(80000, 200)
    friction.set(friction.original)
    check(80000, 400)
    env.reset(seed=1)
    check(80000, 400)
    engine.set(engine.original)
    assert "step" not in vars(env.unwrapped.car)
    assert "reset" not in vars(env.unwrapped)
    check(40000, 400)
    env.reset(seed=2)
    check(40000, 400)


@pytest.mark.parametrize(("kind", "env_id", "parameter"), ALL)
def test_the_original_restores_everything_and_others_stay_as_they_are(
    kind: type[Box2dConstant], env_id: str, parameter: str
) -> None:
    env, other, alone, plain = (make_plain_env(env_id) for _ in range(4))
    for each in (env, other, alone, plain):
        each.reset(seed=7)
    change = kind(parameter=parameter)
    change.bind(env)
    assert change.writes() == {parameter}
    module = sys.modules[type(env.unwrapped).__module__]
    names, attributes = vars(module).copy(), vars(env.unwrapped).copy()
    change.set(another(change))
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(60)]

    def same(one: gym.Env, two: gym.Env) -> None:
        for action in actions:
            ours, theirs = one.step(action), two.step(action)
            np.testing.assert_array_equal(ours[0], theirs[0])
            assert ours[1:4] == theirs[1:4]
            if theirs[2]:
                one.reset()
                two.reset()

    # The walker's world outlives its resets: what is reset to depends on the steps before, in the plain one, too.
    if kind is LunarLander:
        env.reset(seed=1)
        env.step(actions[0])
    # Another environment of the process, while this one is changed.
    for each in (other, alone):
        each.reset(seed=3)
    same(other, alone)
    assert vars(module) == names
    change.set(change.original)
    assert set(vars(env.unwrapped)) == set(attributes)
    for name in ("gravity", "enable_wind", "wind_power", "turbulence_power", "fd_edge", "fd_polygon"):
        assert vars(env.unwrapped).get(name) is attributes.get(name)
    for each in (env, plain):
        each.reset(seed=11)
    same(env, plain)


def test_engines_change_side_by_side() -> None:
    env = make_plain_env(LANDER)
    changes = [LunarLander(parameter=name) for name in ("main_engine_power", "side_engine_power", "gravity_x")]
    for change in changes:
        change.bind(env)
        change.set(another(change))
    changes[0].set(changes[0].original)
    names = env.unwrapped.step.__func__.__globals__
    assert (names["MAIN_ENGINE_POWER"], names["SIDE_ENGINE_POWER"]) == (13.0, another(changes[1]))
    assert {"step", "reset"} <= set(vars(env.unwrapped))
    for change in changes[1:]:
        change.set(change.original)
    assert not {"step", "reset"} & set(vars(env.unwrapped))


@pytest.mark.parametrize(("kind", "env_id", "parameter"), ALL)
def test_every_constant_has_an_effect(kind: type[Box2dConstant], env_id: str, parameter: str) -> None:
    rows = verify(env_id, Tasks(Periodic(period=100), {"change": kind(parameter=parameter)}, seed=1), 200)
    assert [row.task for row in rows] == [1]
    assert rows[0].effect > 0


@pytest.mark.parametrize(
    ("change", "env_id"),
    [
        (LunarLander(), LANDER),
        (LunarLander(parameter="wind_power"), LANDER),
        (LunarLander(parameter="gravity_x"), LANDER),
        (BipedalWalker(), WALKER),
        (BipedalWalker(parameter="speed_hip"), WALKER),
        (CarRacing(), RACING),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_changed_environments_are_sound(change: Box2dConstant, env_id: str) -> None:
    tasks = Tasks(Periodic(period=10**6, first="drawn"), {"change": change}, seed=3)
    env = NonStationary(make_plain_env(env_id), tasks)
    gymnasium_check_env(env, skip_render_check=True)
    if env_id != WALKER:
        # BipedalWalker's own rewards are NumPy's numbers, which this one refuses.
        sb3_check_env(env)


def test_values_are_drawn_around_the_environments_own() -> None:
    expected = {"gravity": (5, 20), "gravity_x": (-2, 2), "wind_power": (0, 20), "turbulence_power": (0, 2)}
    for parameter, bounds in expected.items():
        assert bind(LunarLander(parameter=parameter), LANDER)[0].bounds() == bounds
    assert bind(LunarLander(parameter="wind_power"), LANDER, enable_wind=True)[0].bounds() == (7.5, 30)
    change, env = bind(LunarLander(mode="factor", low=0.2, high=1.5), LANDER)
    change.set(1.5)
    assert (env.unwrapped.gravity, change.describe(1.5)) == (-15.0, "gravity x1.5")


@pytest.mark.parametrize(
    ("kind", "env_id", "parameter"), [*ALL, (CarRacing, RACING, "friction"), (CarRacing, RACING, "engine_power")]
)
def test_copies_leave_the_environment_behind(kind: type[Box2dConstant], env_id: str, parameter: str) -> None:
    change, env = bind(kind(parameter=parameter), env_id)
    env.reset(seed=0)
    change.set(another(change))
    for copied in (copy.deepcopy(change), pickle.loads(pickle.dumps(change))):
        assert copied.env is None
        assert copied.bounds() == change.bounds()
        assert copied.describe(change.original) == f"{parameter} original"
        copied.bind(make_plain_env(env_id))
        assert copied.original == change.original


@pytest.mark.parametrize(
    ("change", "env_id", "message"),
    [
        (
            LunarLander(),
            "CartPole-v1",
            "lunar_lander does not fit CartPole-v1: it needs LunarLander, such as LunarLander",
        ),
        (
            BipedalWalker(),
            LANDER,
            "bipedal_walker does not fit LunarLander-v3: it needs BipedalWalker, such as Bipedal",
        ),
        (CarRacing(), LANDER, "car_racing does not fit LunarLander-v3: it needs CarRacing, such as CarRacing-v3"),
        (
            LunarLander(parameter="wind_power", mode="factor"),
            LANDER,
            "lunar_lander cannot multiply wind_power, because",
        ),
    ],
)
def test_constants_say_what_they_fit(change: Box2dConstant, env_id: str, message: str) -> None:
    with pytest.raises(ChangeError, match=message):
        bind(change, env_id)


def test_an_environment_with_a_step_of_its_own_is_refused() -> None:
    env = make_plain_env(LANDER)

    class Noisy(type(env.unwrapped)):
        def step(self, action: int) -> tuple:
            return super().step(action)

    with pytest.raises(ChangeError, match="a Noisy whose step reads MAIN_ENGINE_POWER to change main_engine_power"):
        LunarLander(parameter="main_engine_power").bind(Noisy())
    LunarLander(parameter="gravity_x").bind(Noisy())


def test_constants_say_what_they_can_be() -> None:
    with pytest.raises(SettingError, match="low must be at least 0 for wind_power, not -1"):
        LunarLander(parameter="wind_power", low=-1)
    with pytest.raises(SettingError, match="values must be above 0 for gravity, not -10"):
        LunarLander(values=(-10.0,))


def test_the_module_needs_no_box2d(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if "box2d" in name.lower()]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    spec = importlib.util.spec_from_file_location("without_box2d", Path(box2d.__file__))
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "without_box2d", module)
    spec.loader.exec_module(module)
    with pytest.raises(ChangeError, match="it needs LunarLander"):
        module.LunarLander().bind(make_plain_env("CartPole-v1"))


@dataclass(kw_only=True)
class Nothing(RewardScale):
    """Is told of values, and does nothing."""

    def reward(self, reward: SupportsFloat, info: Mapping[str, Any], ended: bool) -> SupportsFloat:
        return reward


def test_a_world_that_is_not_the_same_again_is_not_taken_for_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.verify.TRANSITIONS", (200,))
    tasks = Tasks(Periodic(period=100, first="drawn"), {"nothing": Nothing()}, seed=1)
    with pytest.raises(VerificationError, match="nothing does nothing in BipedalWalker-v3"):
        verify("BipedalWalker-v3", tasks, 100)
