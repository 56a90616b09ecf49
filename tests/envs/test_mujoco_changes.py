"""Changes of MuJoCo physics, against models compiled with the changed numbers and forces worked out by hand."""

import copy
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from configs.settings import SettingError
from envs import NonStationary, Tasks, make_plain_env
from envs.changes import CHANGES, Change, ChangeError
from envs.changes.mujoco import (
    MujocoActuatorFailure,
    MujocoArmature,
    MujocoChange,
    MujocoDamping,
    MujocoDensity,
    MujocoFriction,
    MujocoGear,
    MujocoGravity,
    MujocoJointRange,
    MujocoMass,
    MujocoViscosity,
    MujocoWind,
)
from envs.changes.mujoco.base import CONSTANTS
from envs.schedules import Periodic
from envs.verify import VerificationError, verify

FAMILIES = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Walker2d",
    "Humanoid",
    "HumanoidStandup",
    "Swimmer",
    "Reacher",
    "Pusher",
    "InvertedPendulum",
    "InvertedDoublePendulum",
)
KINDS = {name: kind for name, kind in CHANGES.items() if name.startswith("mujoco_")}

Snapshot = dict[str, np.ndarray]


def snapshot(model: mujoco.MjModel) -> Snapshot:
    """All numbers of a model, its options and its statistics."""
    found = {}
    for prefix, part in {"": model, "opt.": model.opt, "stat.": model.stat}.items():
        for name in dir(part):
            if name.startswith("_") or name in ("opt", "vis", "stat"):
                continue
            value = getattr(part, name)
            if isinstance(value, (np.ndarray, int, float)):
                found[prefix + name] = np.array(value)
    return found


def differing(before: Snapshot, after: Snapshot) -> set[str]:
    """The fields that are not the same to the last bit."""
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def bound(change: MujocoChange, env_id: str) -> tuple[MujocoChange, Any]:
    env = make_plain_env(env_id)
    change.bind(env)
    return change, env.unwrapped


def another(change: MujocoChange) -> Any:
    """A value that is not the original one."""
    return change.sample(np.random.default_rng(3))


def applicable(env: gym.Env) -> dict[str, MujocoChange]:
    """All changes that fit an environment, bound to it."""
    found = {}
    for name, kind in KINDS.items():
        change = kind()
        try:
            change.bind(env)
        except ChangeError:
            continue
        found[name] = change
    return found


def motion(env: Any) -> np.ndarray:
    """States under full actions to one side and then to the other, whether or not an episode has ended."""
    env.reset(seed=0)
    low, high = env.action_space.low, env.action_space.high
    states = []
    for action in [high] * 20 + [low] * 20:
        env.step(action)
        states.append(np.append(env.data.qpos, env.data.qvel))
    return np.array(states)


# --- against the compiler ---------------------------------------------------------------------------------------------


def denser(spec: Any, factor: float, bodies: tuple[str, ...] = ()) -> None:
    """Masses and inertias by way of the geoms' densities (and the total mass, where the model asks for one)."""
    for geom in spec.geoms:
        if not bodies or geom.parent.name in bodies:
            geom.density *= factor
            geom.mass *= factor
    if spec.compiler.settotalmass > 0:
        spec.compiler.settotalmass *= factor


def scale(spec: Any, parts: str, attribute: str, factor: float, names: tuple[str, ...] = ()) -> None:
    for part in getattr(spec, parts):
        if not names or part.name in names:
            setattr(part, attribute, np.array(getattr(part, attribute)) * factor)


def set_gear(spec: Any, gears: dict[str, float]) -> None:
    """The gears of actuators, by the joints that they drive."""
    for actuator in spec.actuators:
        if actuator.target in gears:
            actuator.gear = [gears[actuator.target], 0, 0, 0, 0, 0]


def set_option(spec: Any, **options: Any) -> None:
    for name, value in options.items():
        setattr(spec.option, name, value)


def set_ranges(spec: Any, ranges: dict[str, tuple[float, float]]) -> None:
    for joint in spec.joints:
        if joint.name in ranges:
            joint.range = ranges[joint.name]


Recompiled = tuple[MujocoChange, str, Any, Callable[[Any], None]]
RECOMPILED: dict[str, Recompiled] = {
    "mass": (MujocoMass(), "Ant-v5", 2.0, lambda spec: denser(spec, 2)),
    "mass, total": (MujocoMass(), "HalfCheetah-v5", 0.5, lambda spec: denser(spec, 0.5)),
    "mass of one": (
        MujocoMass(bodies=("torso",)),
        "Humanoid-v5",
        2.0,
        lambda spec: denser(spec, 2, ("torso",)),
    ),
    "mass in kg": (
        MujocoMass(bodies=("leg_left",), mode="absolute"),
        "Walker2d-v5",
        4 * 2.7813566959781637,
        lambda spec: denser(spec, 4, ("leg_left",)),
    ),
    "armature": (
        MujocoArmature(),
        "Ant-v5",
        0.25,
        lambda spec: scale(spec, "joints", "armature", 0.25),
    ),
    "armature of those without": (
        MujocoArmature(joints=("slider",), mode="absolute", values=(3.0,)),
        "InvertedPendulum-v5",
        3.0,
        lambda spec: setattr(spec.joint("slider"), "armature", 3.0),
    ),
    "damping": (MujocoDamping(), "HalfCheetah-v5", 2.0, lambda spec: scale(spec, "joints", "damping", 2)),
    "damping of one": (
        MujocoDamping(joints=("right_knee", "left_hip_y")),
        "Humanoid-v5",
        4.0,
        lambda spec: scale(spec, "joints", "damping", 4, ("right_knee", "left_hip_y")),
    ),
    "no damping": (MujocoDamping(), "Hopper-v5", 0.0, lambda spec: scale(spec, "joints", "damping", 0)),
    "gear": (MujocoGear(), "HalfCheetah-v5", -0.5, lambda spec: scale(spec, "actuators", "gear", -0.5)),
    "gear of two": (
        MujocoGear(actuators=("hip_1", "ankle_3"), mode="absolute"),
        "Ant-v5",
        40.0,
        lambda spec: set_gear(spec, {"hip_1": 40, "ankle_3": 40}),
    ),
    "failure": (
        MujocoActuatorFailure(failures=2),
        "Humanoid-v5",
        ["abdomen_x", "left_knee"],
        lambda spec: set_gear(spec, {"abdomen_x": 0, "left_knee": 0}),
    ),
    "joint range": (
        MujocoJointRange(),
        "Hopper-v5",
        0.125,
        lambda spec: set_ranges(
            spec, {"thigh_joint": (-18.75, 0), "leg_joint": (-18.75, 0), "foot_joint": (-5.625, 5.625)}
        ),
    ),
    "joint range of both sides": (
        MujocoJointRange(),
        "HalfCheetah-v5",
        0.25,
        lambda spec: scale(spec, "joints", "range", 0.25),
    ),
    "gravity": (MujocoGravity(), "Walker2d-v5", 4.905, lambda spec: set_option(spec, gravity=[0, 0, -4.905])),
    "wind": (
        MujocoWind(direction=(0, -2, 0)),
        "Ant-v5",
        8.0,
        lambda spec: set_option(spec, wind=[0, -8, 0], density=1.2),
    ),
    "wind in water": (MujocoWind(), "Swimmer-v5", 3.0, lambda spec: set_option(spec, wind=[3, 0, 0])),
    "density": (MujocoDensity(), "Humanoid-v5", 30.0, lambda spec: set_option(spec, density=30)),
    "viscosity": (MujocoViscosity(), "Swimmer-v5", 0.3, lambda spec: set_option(spec, viscosity=0.3)),
    "friction": (
        MujocoFriction(mode="factor"),
        "Hopper-v5",
        0.25,
        lambda spec: [setattr(geom, "friction", [geom.friction[0] / 4, *geom.friction[1:]]) for geom in spec.geoms],
    ),
}


def rollout(model: mujoco.MjModel, state: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Positions and velocities of 50 steps of the simulator."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = state[: model.nq], state[model.nq :]
    found = []
    for control in controls:
        data.ctrl[:] = control
        mujoco.mj_step(model, data)
        found.append(np.append(data.qpos, data.qvel))
    return np.array(found)


@pytest.mark.parametrize("case", RECOMPILED)
@pytest.mark.filterwarnings("ignore:compiler attribute 'settotalmass'")
def test_a_changed_model_is_that_compiled_with_the_changed_numbers(case: str) -> None:
    change, env = bound(*RECOMPILED[case][:2])
    _, _, value, edit = RECOMPILED[case]
    rng = np.random.default_rng(0)
    plain = env.model
    env.reset(seed=0)
    state = np.append(env.data.qpos, env.data.qvel)
    # Mostly one way: far enough to come to the ends of ranges.
    low, high = plain.actuator_ctrlrange.T
    controls = 0.8 * low + 0.2 * rng.uniform(low, high, size=(50, plain.nu))
    unchanged = rollout(plain, state, controls)

    spec = mujoco.MjSpec.from_file(env.fullpath)
    edit(spec)
    compiled = spec.compile()
    change.set(value)
    # The statistics of a model scale the tolerance of the solver; they stay as they were.
    compiled.stat.meaninertia = plain.stat.meaninertia
    before, after = snapshot(compiled), snapshot(plain)
    for name in differing(before, after) - {"stat.meanmass"}:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-13, atol=1e-15, err_msg=name)
    expected = rollout(compiled, state, controls)
    np.testing.assert_allclose(rollout(plain, state, controls), expected, rtol=1e-7, atol=1e-9)
    assert np.abs(unchanged - expected).max() > 1e-3


# --- by hand ----------------------------------------------------------------------------------------------------------


def drag_at_rest(model: mujoco.MjModel, data: mujoco.MjData, wind: np.ndarray, density: float) -> np.ndarray:
    """Generalised force of a wind on a model at rest: each body as a box of its mass and inertia (MuJoCo's manual)."""
    force = np.zeros(model.nv)
    for body in range(1, model.nbody):
        mass, inertia = model.body_mass[body], model.body_inertia[body]
        if mass == 0:
            continue
        x, y, z = np.sqrt(6 / mass * (inertia.sum() - 2 * inertia))
        axes = data.ximat[body].reshape(3, 3)
        speed = axes.T @ wind
        local = 0.5 * density * np.array([y * z, x * z, x * y]) * np.abs(speed) * speed
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jacBodyCom(model, data, jacobian, None, body)
        force += jacobian.T @ (axes @ local)
    return force


def test_wind_pushes_as_worked_out_by_hand() -> None:
    change, env = bound(MujocoWind(direction=(3, 0, 4), density=0.9), "HalfCheetah-v5")
    assert (change.original, change.bounds()) == (0.0, (-5.0, 5.0))
    env.reset(seed=0)
    env.set_state(env.data.qpos, np.zeros(env.model.nv))
    assert not env.data.qfrc_fluid.any()
    for value in (5.0, -2.5):
        change.set(value)
        mujoco.mj_forward(env.model, env.data)
        by_hand = drag_at_rest(env.model, env.data, value * np.array([0.6, 0, 0.8]), 0.9)
        np.testing.assert_allclose(env.data.qfrc_fluid, by_hand, rtol=1e-9, atol=1e-12)
        assert abs(by_hand[0]) > 0.1
    change.set(0.0)
    assert env.model.opt.density == 0


def test_wind_is_added_to_the_wind_there_is_and_fills_only_what_is_empty() -> None:
    env = make_plain_env("Swimmer-v5")
    model = env.unwrapped.model
    model.opt.wind[:] = [1, 2, 3]
    change = MujocoWind(direction=(0, 1, 0))
    change.bind(env)
    change.set(0.5)
    assert (model.opt.wind.tolist(), model.opt.density) == ([1, 2.5, 3], 4000)
    assert change.writes() == {"opt.wind[y]"}
    change.set(0.0)
    assert model.opt.wind.tolist() == [1, 2, 3]


def test_winds_of_two_directions_blow_in_a_medium_of_their_own() -> None:
    changes = {
        "along": MujocoWind(density=None, values=(4.0,)),
        "across": MujocoWind(density=None, direction=(0, 1, 0), values=(3.0,)),
        "medium": MujocoDensity(values=(1.2,)),
    }
    env = NonStationary(make_plain_env("Ant-v5"), Tasks(Periodic(period=100), changes))
    env.reset(seed=0)
    options = env.unwrapped.model.opt
    assert (options.wind.tolist(), options.density) == ([4, 3, 0], 1.2)
    with pytest.raises(ChangeError, match=r"along and medium both change opt\.density"):
        Tasks(Periodic(period=100), changes | {"along": MujocoWind()}).bind(make_plain_env("Ant-v5"))
    vacuum, env = bound(MujocoWind(density=None), "Ant-v5")
    still = motion(env)
    vacuum.set(4.0)
    np.testing.assert_array_equal(motion(env), still)


def test_joint_damping_is_written_to_the_joint_and_not_to_the_number_of_the_joint() -> None:
    change, env = bound(MujocoDamping(joints=("right_knee",), mode="absolute"), "Humanoid-v5")
    before = env.model.dof_damping.copy()
    change.set(7.5)
    assert env.model.joint("right_knee").damping == [7.5]
    assert np.flatnonzero(env.model.dof_damping != before).tolist() == [12]
    assert change.writes() == {"dof_damping[right_knee]"}


def test_all_six_degrees_of_freedom_of_a_free_joint() -> None:
    change, env = bound(MujocoDamping(joints=("root",), mode="absolute", low=0.1, high=1.0), "Ant-v5")
    change.set(0.5)
    assert env.model.dof_damping.tolist() == [0.5] * 6 + [1.0] * 8
    change.set(change.original)
    assert env.model.dof_damping.tolist() == [0.0] * 6 + [1.0] * 8


def test_ranges_grow_and_shrink_about_the_initial_place() -> None:
    change, env = bound(MujocoJointRange(), "Ant-v5")
    initial = env.model.jnt_range.copy()
    change.set(0.5)
    ranges = np.rad2deg(env.model.jnt_range)
    # Hips are in the middle; ankles start straight, outside of 30 to 70 and -70 to -30 degrees.
    np.testing.assert_allclose(ranges[[1, 2, 4]], [[-15, 15], [30, 50], [-50, -30]])
    change.set(1.5)
    np.testing.assert_allclose(np.rad2deg(env.model.jnt_range)[[1, 2, 4]], [[-45, 45], [30, 90], [-90, -30]])
    change.set(change.original)
    np.testing.assert_array_equal(env.model.jnt_range, initial)
    change, env = bound(MujocoJointRange(mode="absolute", joints=("hip_1", "ankle_1"), low=0.1, high=1), "Ant-v5")
    change.set(np.deg2rad(20))
    np.testing.assert_allclose(np.rad2deg(env.model.jnt_range)[1:4], [[-10, 10], [30, 50], [-30, 30]])
    assert not env.model.jnt_range[0].any()


def test_masses_in_kilograms() -> None:
    change, env = bound(MujocoMass(mode="absolute", low=1, high=3), "Hopper-v5")
    own_mass, own_inertia = env.model.body_mass.copy(), env.model.body_inertia.copy()
    change.set(2.0)
    assert env.model.body_mass.tolist() == [0, 2, 2, 2, 2]
    np.testing.assert_allclose(env.model.body_inertia[1:], own_inertia[1:] * (2 / own_mass[1:])[:, None], rtol=1e-15)
    assert env.model.body_subtreemass[0] == 8


def friction_at_the_foot(env: Any) -> set[float]:
    """Sliding friction at all contacts of Hopper's foot with the floor, met while falling over."""
    env.reset(seed=0)
    met = set()
    for _ in range(40):
        env.step(env.action_space.low)
        met |= {float(contact.friction[0]) for contact in env.data.contact if set(contact.geom) == {0, 4}}
    return met


def test_friction_of_some_geoms_counts_where_it_is_the_greater_one() -> None:
    change, env = bound(MujocoFriction(bodies=("foot",)), "Hopper-v5")
    own = env.model.geom_friction.copy()
    assert friction_at_the_foot(env) == {2.0}
    change.set(0.1)
    assert friction_at_the_foot(env) == {1.0}  # the floor's
    change.set(3.0)
    assert friction_at_the_foot(env) == {3.0}
    assert np.flatnonzero((env.model.geom_friction != own).any(1)).tolist() == [4]
    assert change.describe(3.0) == "foot friction 3"
    assert change.writes() == {"geom_friction[foot_geom]"}


def test_a_slippery_floor_does_nothing_and_verify_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.verify.TRANSITIONS", (200, 1000))
    floor, env = bound(MujocoFriction(geoms=("floor",)), "HalfCheetah-v5")
    before = motion(env)
    floor.set(0.1)
    np.testing.assert_array_equal(motion(env), before)
    floor.set(3.0)
    assert not np.array_equal(motion(env), before)
    tasks = Tasks(Periodic(period=100), {"floor": MujocoFriction(bodies=("world",), values=(0.1,))})
    with pytest.raises(
        VerificationError, match=r"floor does nothing in HalfCheetah-v5: in task 0 \(world friction 0\.1"
    ):
        verify("HalfCheetah-v5", tasks, 100)


# --- failing actuators ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0.0, 0.25])
def test_failed_actuators_give_no_force_or_a_part_of_it(left: float) -> None:
    change, env = bound(MujocoActuatorFailure(left=left), "Ant-v5")
    env.reset(seed=0)
    env.data.ctrl[:] = np.linspace(0.3, 1, 8)
    mujoco.mj_forward(env.model, env.data)
    full = env.data.qfrc_actuator.copy()
    change.set(["ankle_4", "hip_2"])
    mujoco.mj_forward(env.model, env.data)
    shares = np.ones(14)
    for joint in ("ankle_4", "hip_2"):
        shares[env.model.joint(joint).dofadr] = left
    np.testing.assert_allclose(env.data.qfrc_actuator, full * shares)
    assert (full != 0).sum() == 8


def test_which_actuators_fail() -> None:
    change, env = bound(MujocoActuatorFailure(failures=2), "HalfCheetah-v5")
    labels = ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]
    assert env.model.nu == len(labels)
    rng = np.random.default_rng(0)
    drawn = [change.sample(rng) for _ in range(1500)]
    for value in drawn:
        change.check(value)
        assert value == sorted(value, key=labels.index)
    pairs, counts = np.unique(["+".join(value) for value in drawn], return_counts=True)
    assert len(pairs) == 15
    assert counts.min() > 60
    assert change.describe(["bfoot", "fshin"]) == "actuators without bfoot, fshin"
    assert change.describe([]) == "actuators original"
    assert change.context(["bshin", "ffoot"]) == (1, 0, 1, 1, 1, 0)
    assert change.context([]) == (1,) * 6
    assert change.context_bounds() == (0, 1)
    half, _ = bound(MujocoActuatorFailure(left=0.5, actuators=("fshin", "bfoot")), "HalfCheetah-v5")
    assert {half.sample(rng)[0] for _ in range(50)} == {"bfoot", "fshin"}
    assert half.describe(["bfoot"]) == "actuators bfoot at 0.5"
    assert half.context(["fshin"]) == (1.0, 0.5)


def test_listed_failures_in_turn() -> None:
    values = ("original", "ankle_3", "ankle_1+hip_4")
    change, _ = bound(MujocoActuatorFailure(values=values), "Ant-v5")
    assert [change.listed(task) for task in range(4)] == [[], ["ankle_3"], ["hip_4", "ankle_1"], []]
    held, _ = bound(MujocoActuatorFailure(values=values, then="hold"), "Ant-v5")
    assert held.listed(9) == ["hip_4", "ankle_1"]
    tasks = Tasks(Periodic(period=10), {"failure": MujocoActuatorFailure(values=values)})
    wrapped = NonStationary(make_plain_env("Ant-v5"), tasks)
    wrapped.reset(seed=0)
    for _ in range(10):
        wrapped.step(wrapped.action_space.sample())
    wrapped.reset()
    assert (wrapped.unwrapped.model.actuator_gear[:, 0] == 0).sum() == 1
    assert [row.value for row in verify("Ant-v5", tasks, 30)] == [
        "actuators without ankle_3",
        "actuators without hip_4, ankle_1",
    ]


# --- leaving no trace -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env_id",
    # Pusher-v4 is for older versions of MuJoCo.
    [f"{family}-{version}" for family in FAMILIES for version in ("v5", "v4") if (family, version) != ("Pusher", "v4")],
)
def test_away_and_back_leaves_no_trace(env_id: str) -> None:
    env = make_plain_env(env_id)
    env.reset(seed=0)
    model, data = env.unwrapped.model, env.unwrapped.data
    before, at = snapshot(model), np.concatenate([data.qpos, data.qvel, data.qacc, data.qfrc_bias])
    changes = applicable(env)
    del changes["mujoco_actuator_failure"]  # writes to the same as mujoco_gear
    rng = np.random.default_rng(5)
    for order in (list(changes), list(changes)[::-1]):
        for name in order:
            for _ in range(2):
                changes[name].set(changes[name].sample(rng))
        assert differing(before, snapshot(model)) >= {"body_mass", "actuator_gear", "dof_invweight0", "opt.wind"}
        for name in order:
            changes[name].set(changes[name].original)
        assert differing(before, snapshot(model)) == set()
    np.testing.assert_array_equal(np.concatenate([data.qpos, data.qvel, data.qacc, data.qfrc_bias]), at)


def test_a_model_that_was_not_as_compiled_comes_back_as_it_was() -> None:
    env = make_plain_env("Walker2d-v5")
    model = env.unwrapped.model
    model.body_mass[1] *= 1.3  # without what is derived from it
    before = snapshot(model)
    changes = [MujocoMass(), MujocoArmature()]
    for change in changes:
        change.bind(env)
    for change in changes:
        change.set(1.5)
    changes[0].set(1.0)
    assert {"dof_M0", "dof_armature"} <= differing(before, snapshot(model))
    changes[1].set(1.0)
    assert differing(before, snapshot(model)) == set()


@pytest.mark.parametrize("name", KINDS)
def test_changes_write_the_fields_that_they_say(name: str) -> None:
    change, env = bound(KINDS[name](), "HalfCheetah-v5")
    model = env.model
    before = snapshot(model)
    change.set(another(change))
    after = snapshot(model)
    assert change.fields == tuple(field for field in change.fields if field in differing(before, after))
    assert differing(before, after) <= {*change.fields, *(CONSTANTS if change.derived else ())}
    assert {place.split("[")[0] for place in change.writes()} == set(change.fields)
    # Nothing is left for MuJoCo to derive anew.
    mujoco.mj_setConst(model, mujoco.MjData(model))
    assert differing(after, snapshot(model)) == set()


def test_parts_change_side_by_side() -> None:
    changes = {
        "torso": MujocoMass(bodies=("torso",), values=(2.0,)),
        "feet": MujocoMass(bodies=("foot", "foot_left"), values=(0.5,)),
        "knees": MujocoDamping(joints=("leg_joint", "leg_left_joint"), values=(3.0,)),
        "hips": MujocoDamping(joints=("thigh_joint",), values=(4.0,)),
        "motor": MujocoGear(actuators=("foot_joint",), values=(2.0,)),
        "failure": MujocoActuatorFailure(actuators=("leg_joint",), values=("leg_joint",)),
    }
    env = NonStationary(make_plain_env("Walker2d-v5"), Tasks(Periodic(period=100), changes))
    model = env.unwrapped.model
    own = snapshot(model)
    env.reset(seed=0)
    np.testing.assert_allclose(model.body_mass, own["body_mass"] * [1, 2, 1, 1, 0.5, 1, 1, 0.5])
    np.testing.assert_allclose(model.dof_damping, own["dof_damping"] * [1, 1, 1, 4, 3, 1, 1, 3, 1])
    np.testing.assert_allclose(model.actuator_gear[:, 0], [100, 0, 200, 100, 100, 100])
    for second, place in (
        (MujocoMass(), r"body_(mass|inertia)\[\w+\]"),
        (MujocoDamping(joints=("thigh_joint", "foot_joint")), r"dof_damping\[thigh_joint\]"),
        (MujocoGear(), r"actuator_gear\[(foot|leg)_joint\]"),
    ):
        with pytest.raises(ChangeError, match=f" and second both change {place}; one of them must leave it alone"):
            Tasks(Periodic(period=100), changes | {"second": second}).bind(make_plain_env("Walker2d-v5"))


@pytest.mark.parametrize("name", KINDS)
def test_copies_and_pickles_leave_the_model_behind(name: str) -> None:
    change, env = bound(KINDS[name](), "HalfCheetah-v5")
    value = another(change)
    for twin in (copy.deepcopy(change), pickle.loads(pickle.dumps(change))):
        assert twin.env is None
        assert not hasattr(twin, "_model")
        assert twin.describe(value) == change.describe(value)
        assert twin.original == change.original
        other = make_plain_env("HalfCheetah-v5")
        twin.bind(other)
        twin.set(value)
        assert differing(snapshot(env.model), snapshot(other.unwrapped.model))


# --- every family -----------------------------------------------------------------------------------------------------

NOTHING_TO_CHANGE = {
    ("Pusher", "mujoco_gravity"): "it needs an environment that has gravity",
    ("Swimmer", "mujoco_damping"): "it needs a joint with damping to multiply (mode absolute gives",
    ("InvertedPendulum", "mujoco_armature"): "it needs a joint with armature to multiply (mode absolute gives",
    ("InvertedDoublePendulum", "mujoco_armature"): "it needs a joint with armature to multiply (mode absolute gives",
}
NO_EFFECT = {
    # No contacts, or frictionless ones.
    ("Swimmer", "mujoco_friction"),
    ("Reacher", "mujoco_friction"),
    ("Pusher", "mujoco_friction"),
    ("InvertedPendulum", "mujoco_friction"),
    ("InvertedDoublePendulum", "mujoco_friction"),
    # Motion in a horizontal plane.
    ("Swimmer", "mujoco_gravity"),
    ("Reacher", "mujoco_gravity"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_changes_fit_every_family_or_say_why_not(family: str) -> None:
    env, own = make_plain_env(f"{family}-v5"), snapshot(make_plain_env(f"{family}-v5").unwrapped.model)
    plain = motion(env.unwrapped)
    for name, kind in KINDS.items():
        change = kind()
        if message := NOTHING_TO_CHANGE.get((family, name)):
            with pytest.raises(ChangeError) as error:
                change.bind(env)
            assert str(error.value).startswith(f"{name} does not fit {family}-v5: {message}")
            continue
        change.bind(env)
        change.set(change.lowest() if isinstance(change.original, float) else another(change))
        changed = motion(env.unwrapped)
        assert np.isfinite(changed).all()
        assert np.array_equal(changed, plain) == ((family, name) in NO_EFFECT), name
        change.set(change.original)
        assert not differing(snapshot(env.unwrapped.model), own)


# --- other models -----------------------------------------------------------------------------------------------------

ODD = """
<mujoco>
  <worldbody>
    <body name="arm">
      <joint name="shoulder" type="ball" range="0 40" damping="0.5"/>
      <geom size="0.1 0.2" type="capsule" mass="1"/>
      <body pos="0 0 0.4">
        <joint name="elbow" axis="0 1 0" range="-90 90" ref="20"/>
        <joint axis="1 0 0"/>
        <geom size="0.1" mass="0.5"/>
        <site name="hand"/>
      </body>
    </body>
    <body name="ghost" mocap="true"/>
  </worldbody>
  <tendon><fixed name="string"><joint joint="elbow" coef="1"/></fixed></tendon>
  <actuator>
    <motor joint="elbow" gear="3"/>
    <motor joint="elbow" gear="5"/>
    <position name="servo" joint="elbow" kp="2"/>
    <motor tendon="string" gear="2"/>
    <motor site="hand" gear="1 2 3 0 0 0"/>
    <muscle name="muscle" tendon="string" lengthrange="0 1"/>
  </actuator>
</mujoco>
"""


class Odd(gym.Env):
    """A model with whatever Gymnasium's own have not."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(ODD)


def odd(change: MujocoChange) -> Any:
    env = Odd()
    change.bind(env)
    return SimpleNamespace(change=change, model=env.model)


def test_parts_without_names_are_called_by_what_they_drive_or_by_number() -> None:
    gear = odd(MujocoGear()).change
    assert gear.labels("actuator") == ["0", "1", "servo", "string", "hand", "muscle"]
    assert gear.labels("joint") == ["shoulder", "elbow", "2"]
    assert gear.labels("body") == ["world", "arm", "2", "ghost"]
    assert gear.writes() == {f"actuator_gear[{label}]" for label in ("0", "1", "servo", "string", "hand")}


def test_gears_along_several_axes() -> None:
    many = odd(MujocoGear())
    many.change.set(0.5)
    np.testing.assert_array_equal(many.model.actuator_gear[:, 0], [1.5, 2.5, 0.5, 1, 0.5, 1])
    np.testing.assert_array_equal(many.model.actuator_gear[4], [0.5, 1, 1.5, 0, 0, 0])
    few = odd(MujocoGear(mode="absolute", actuators=("0", "string"), low=1, high=9))
    few.change.set(7.0)
    np.testing.assert_array_equal(few.model.actuator_gear[:, 0], [7, 5, 1, 7, 1, 1])
    with pytest.raises(ChangeError, match="it needs actuators that pull along one axis; choose mode factor"):
        odd(MujocoGear(mode="absolute", low=1, high=9))
    with pytest.raises(ChangeError, match="actuator 'muscle' has no gear; choose from 0, 1, servo, string, hand"):
        odd(MujocoActuatorFailure(actuators=("muscle",)))


def test_joints_of_several_kinds() -> None:
    limits = odd(MujocoJointRange())
    limits.change.set(0.5)
    # A ball joint from 0; a hinge about its reference of 20 degrees.
    np.testing.assert_allclose(np.rad2deg(limits.model.jnt_range[:2]), [[0, 20], [-35, 55]], atol=1e-12)
    damping = odd(MujocoDamping())
    damping.change.set(3.0)
    np.testing.assert_array_equal(damping.model.dof_damping, [1.5, 1.5, 1.5, 0, 0])
    assert odd(MujocoMass()).change.writes() >= {"body_mass[arm]", "body_inertia[2]"}


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "env_id", "message"),
    [
        (
            MujocoMass(bodies=("torzo",)),
            "Hopper-v5",
            "mujoco_mass: there is no body 'torzo'; choose from torso, thigh, leg, foot; did you mean 'torso'?",
        ),
        (MujocoMass(bodies=("world",)), "Hopper-v5", "mujoco_mass: body 'world' has no mass; choose from torso, "),
        (
            MujocoDamping(joints=("thigh_joint", "leg")),
            "Hopper-v5",
            "mujoco_damping: there is no joint 'leg'; choose from thigh_joint, leg_joint, foot_joint; did you mean",
        ),
        (
            MujocoDamping(joints=("rootx",)),
            "Hopper-v5",
            "mujoco_damping: joint 'rootx' has no damping to multiply (mode absolute gives damping to joints that are ",
        ),
        (MujocoJointRange(joints=("rootz",)), "Hopper-v5", "mujoco_joint_range: joint 'rootz' has no limits; choose"),
        (
            MujocoGear(actuators=("hip1",)),
            "Ant-v5",
            "mujoco_gear: there is no actuator 'hip1'; choose from hip_4, ankle_4, hip_1, ankle_1, hip_2, ankle_2, "
            "hip_3, ankle_3; did you mean 'hip_1'?",
        ),
        (
            MujocoFriction(geoms=("floor",), bodies=("torso",)),
            "Hopper-v5",
            "mujoco_friction: geom 'floor' has no place on torso; choose from torso_geom",
        ),
        (MujocoFriction(bodies=("feet",)), "Hopper-v5", "mujoco_friction: there is no body 'feet'; choose from world"),
        (MujocoMass(mode="absolute"), "Hopper-v5", "mujoco_mass needs low and high, because the environment has not"),
        (
            MujocoDensity(mode="factor"),
            "Ant-v5",
            "mujoco_density does not fit Ant-v5: it needs an environment with a density of its own to multiply;",
        ),
        (MujocoDensity(low=60.0), "Ant-v5", "mujoco_density needs other bounds than 60 to 50"),
        (
            MujocoActuatorFailure(failures=4),
            "Hopper-v5",
            "mujoco_actuator_failure does not fit Hopper-v5: it needs at least 4 actuators, as many as failures",
        ),
        (
            MujocoActuatorFailure(values=("thigh_joint", "thigh_joint+foot")),
            "Hopper-v5",
            "mujoco_actuator_failure: there is no actuator 'foot' that may fail; choose from thigh_joint, leg_joint, "
            "foot_joint; did you mean 'foot_joint'?",
        ),
        (
            MujocoActuatorFailure(values=("leg_joint+leg_joint",)),
            "Hopper-v5",
            "mujoco_actuator_failure: 'leg_joint' fails twice in ['leg_joint', 'leg_joint']",
        ),
        (MujocoWind(), "CartPole-v1", "mujoco_wind does not fit CartPole-v1: it needs a MuJoCo environment, such as "),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(change: Change, env_id: str, message: str) -> None:
    with pytest.raises(ChangeError) as error:
        change.bind(make_plain_env(env_id))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MujocoDamping(low=-1.0), "low must be at least 0 for damping, not -1"),
        (lambda: MujocoArmature(values=(1.0, -0.5)), "values must be at least 0 for armature, not -0.5"),
        (lambda: MujocoMass(bodies=("torso",), low=0.0), "low must be above 0 for torso mass, not 0"),
        (lambda: MujocoJointRange(high=-2.0), "high must be above 0 for joint range, not -2"),
        (lambda: MujocoWind(direction=(0, 0, 0)), "direction must be three numbers, not all 0, not [0, 0, 0]"),
        (lambda: MujocoWind(direction=(1, 0)), "direction must be three numbers, not all 0, not [1, 0]"),
        (lambda: MujocoWind(density=0.0), "density must be above 0, not 0"),
        (lambda: MujocoGear(actuators=()), "actuators must name at least one, or be all"),
        (lambda: MujocoActuatorFailure(actuators=()), "actuators must name at least one, or be all"),
        (lambda: MujocoActuatorFailure(values=()), "values must list at least one failure"),
        (lambda: MujocoActuatorFailure(left=1.0), "left must be at least 0 and below 1, not 1"),
    ],
)
def test_settings_that_make_no_sense(make: Callable[[], Change], message: str) -> None:
    with pytest.raises(SettingError) as error:
        make()
    assert str(error.value).endswith(message)


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        (MujocoDamping(), -0.1, "mujoco_damping: damping must be at least 0, not -0.1"),
        (MujocoMass(), 0.0, "mujoco_mass: mass must be above 0, not 0"),
        (MujocoWind(), float("inf"), "mujoco_wind takes finite numbers, not inf"),
        (MujocoActuatorFailure(), "bfoot", "mujoco_actuator_failure takes lists of names of actuators, not 'bfoot'"),
        (MujocoActuatorFailure(), ["bfoott"], "mujoco_actuator_failure: there is no actuator 'bfoott' that may fail; "),
    ],
)
def test_values_of_a_table_are_checked(change: MujocoChange, value: Any, message: str) -> None:
    bound(change, "HalfCheetah-v5")
    with pytest.raises(ChangeError) as error:
        change.check(value)
    assert str(error.value).startswith(message)


def test_media_have_bounds_of_their_own_where_there_is_none() -> None:
    assert bound(MujocoDensity(), "Ant-v5")[0].bounds() == (1, 50)
    assert bound(MujocoDensity(), "Swimmer-v5")[0].bounds() == (2000, 8000)
    assert bound(MujocoViscosity(high=3.0), "Ant-v5")[0].bounds() == (0.01, 3)
    scaled, env = bound(MujocoDensity(mode="factor"), "Swimmer-v5")
    scaled.set(0.25)
    assert env.model.opt.density == 1000
    for change in (MujocoDensity(), MujocoViscosity()):
        bound(change, "Ant-v5")
        drawn = [change.sample(np.random.default_rng(seed)) for seed in range(200)]
        low, high = change.bounds()
        assert low <= min(drawn) < low * 1.2
        assert high / 1.2 < max(drawn) <= high
