"""Running normalisation of observations and rewards, and what it does with its past when the task changes.

SB3's `VecNormalize` counts every sample alike for ever, so that its mean follows a shift the more slowly the longer
the run already is: within a tenth of the shift after nine times the steps seen so far. What an agent is given after a
switch then depends on that memory, which is a choice of its own, to be named and to be varied (`Normalization.policy`).

A sample is one observation of one environment (for rewards: one discounted return), and counts for the task whose
action answers it (for rewards: the task in which it was earned): `info["next_task"]` of a step, `info["task"]` of a
reset (of a step). The last observation of an episode, `info["terminal_observation"]`, is normalised but not counted.
The n samples of one step of n environments are folded in together:

- `cumulative`: mean and variance of all samples so far.
- `moving`: first every earlier weight is multiplied by (1 - 1/horizon)^n, then the n samples come in with weight 1.
  Mean and variance are the weighted ones, divided by the sum of the weights, so that the start needs no correction.
- `freeze`: samples of task 0 alone count. Where environments switch at different steps (boundary `next_reset`), those
  that are still in task 0 go on counting. A run that starts in a later task needs statistics from elsewhere.
- `reset`: the first environment that enters a new task opens new statistics, in which from then on samples of that task
  alone count. Until these hold `warmup` samples, everything is normalised with the old ones, which stay as they were
  at the switch; then the new ones, which know nothing of earlier tasks, take their place at once. A task that is too
  short for its warm-up never gets statistics of its own. An environment's discounted return starts anew at its switch.

All statistics begin as SB3's do, as mean 0 and variance 1 that weigh a ten-thousandth of a sample. All policies but
`moving` give the same numbers as SB3, to the last bit, until the first switch.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecTransposeImage
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from configs.settings import SettingError, Settings

State = dict[str, Any]
NO_TASK = -1


@dataclass(kw_only=True)
class Normalization(Settings):
    """Whether observations and rewards are normalised by running statistics, and what a switch does to these."""

    policy: Literal["off", "cumulative", "moving", "freeze", "reset"] = "off"
    """How long the statistics remember. off: nothing is normalised. cumulative: for ever, as SB3 does. moving: about
    horizon steps. freeze: only task 0. reset: only the newest task. These last two are told of switches, as oracles."""

    observations: bool = True
    """Whether observations become (observation - mean) / deviation. Images are left to the agent, which scales them."""

    rewards: bool = False
    """Whether rewards are divided by the deviation of their discounted sum; no mean is taken off them."""

    horizon: Annotated[int, Ge(2)] = 10_000
    """For moving: environment steps, of all parallel environments together, after which a sample weighs 37 % of a new
    one. A shift is followed to within a tenth of it after 2.3 horizons. To be longer than the episodes that run side
    by side, and shorter than a task. An entry that does not move for many horizons counts as constant, and is clipped
    when it moves again."""

    warmup: Annotated[int, Ge(2)] = 1_000
    """For reset: samples of a new task that its statistics need before they take the place of the old ones."""

    clip_obs: Annotated[float, Gt(0)] = 10.0
    """Normalised observations are clipped to this size."""

    clip_reward: Annotated[float, Gt(0)] = 10.0
    """Normalised rewards are clipped to this size."""

    epsilon: Annotated[float, Gt(0)] = 1e-8
    """Added to the variance. An entry that never moved in task 0 has next to no other variance under freeze, so that
    it is clipped whenever it moves later: more epsilon softens that."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy != "off" and not self.observations and not self.rewards:
            raise SettingError(self, "policy", f"must be off, not {self.policy}, where nothing is normalised")


class Cumulative(RunningMeanStd):
    """Mean and variance of all samples.

    Args:
        settings: how to normalise.
        shape: the shape of a sample.
    """

    needs_tasks: ClassVar[bool] = False
    """Whether `fold` must be told the samples' tasks."""

    def __init__(self, settings: Normalization, shape: tuple[int, ...]) -> None:
        super().__init__(shape=shape)

    def fold(self, samples: NDArray[Any], tasks: NDArray[np.int64] | None) -> None:
        """Count the samples of one step, one for each environment, and the tasks that these are in."""
        self.update(samples)

    def state_dict(self) -> State:
        """Everything that is remembered, as arrays and numbers."""
        return {"mean": self.mean.copy(), "var": self.var.copy(), "count": float(self.count)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.mean = _as_computed(state["mean"])
        self.var = _as_computed(state["var"])
        self.count = float(state["count"])


class Moving(Cumulative):
    """Mean and variance in which a sample's weight halves in 0.69 horizons."""

    def __init__(self, settings: Normalization, shape: tuple[int, ...]) -> None:
        super().__init__(settings, shape)
        self.kept = 1.0 - 1.0 / settings.horizon

    def update(self, arr: NDArray[Any]) -> None:
        """Make all earlier samples weigh less, by as many steps as there are new ones, and count these."""
        self.count *= self.kept ** len(arr)
        super().update(arr)


class Frozen(Cumulative):
    """Mean and variance of the samples of task 0."""

    needs_tasks = True

    def fold(self, samples: NDArray[Any], tasks: NDArray[np.int64] | None) -> None:
        """Count those samples that are of task 0."""
        assert tasks is not None
        counted = samples[tasks == 0]
        if len(counted):
            self.update(counted)


class Renewed(Cumulative):
    """Mean and variance of the samples of the newest task; of those before it until there are enough of them."""

    needs_tasks = True

    def __init__(self, settings: Normalization, shape: tuple[int, ...]) -> None:
        super().__init__(settings, shape)
        self.warmup = settings.warmup
        self.task = NO_TASK
        self.gathered: RunningMeanStd | None = None

    def fold(self, samples: NDArray[Any], tasks: NDArray[np.int64] | None) -> None:
        """Count those samples that are of the newest task."""
        assert tasks is not None
        newest = int(tasks.max())
        if newest != self.task:
            # The first task of all has nothing before it that could stand in.
            self.gathered = None if self.task == NO_TASK else RunningMeanStd(shape=self.mean.shape)
            self.task = newest
        counted = samples[tasks == newest]
        if self.gathered is None:
            self.update(counted)
            return
        self.gathered.update(counted)
        if self.gathered.count >= self.warmup:
            self.mean, self.var, self.count = self.gathered.mean, self.gathered.var, self.gathered.count
            self.gathered = None

    def state_dict(self) -> State:
        """Everything that is remembered, as arrays and numbers; `gathered` only while a new task warms up."""
        state = super().state_dict() | {"task": self.task}
        if self.gathered is not None:
            new = self.gathered
            state |= {"gathered_mean": new.mean.copy(), "gathered_var": new.var.copy(), "gathered_count": new.count}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(state)
        self.task = int(state["task"])
        self.gathered = None
        if "gathered_count" in state:
            self.gathered = RunningMeanStd(shape=self.mean.shape)
            self.gathered.mean = _as_computed(state["gathered_mean"])
            self.gathered.var = _as_computed(state["gathered_var"])
            self.gathered.count = float(state["gathered_count"])


STATISTICS: dict[str, type[Cumulative]] = {
    "cumulative": Cumulative,
    "moving": Moving,
    "freeze": Frozen,
    "reset": Renewed,
}


def normalize(vec_env: VecEnv, settings: Normalization, gamma: float = 0.99, context: int = 0) -> VecEnv:
    """`vec_env` in a `Normalize`, or itself, untouched, where the policy is off."""
    return vec_env if settings.policy == "off" else Normalize(vec_env, settings, gamma, context)


class Normalize(VecNormalize):
    """SB3's `VecNormalize`, with a choice of how long its statistics remember.

    SB3's agents treat it as theirs: off-policy ones keep raw observations and rewards in their buffer and normalise
    them anew, with the statistics of the moment, when they are sampled. `info["episode"]` stays the environment's own.

    Args:
        venv: the environments. What they tell of their tasks is only needed by the policies freeze and reset.
        settings: how to normalise; the policy is not off.
        gamma: discount of the agent, for the returns by which rewards are normalised.
        context: how many numbers at the end of each observation are passed on as they are: the values of the changes,
            where an agent is shown these. They are constant within a task, so that statistics that follow the task
            would show them as 0.

    Raises:
        ValueError: observations are to be normalised that are neither arrays of numbers nor a dictionary with some,
            they are no vector longer than the context, or the policy is off.
    """

    def __init__(self, venv: VecEnv, settings: Normalization, gamma: float = 0.99, context: int = 0) -> None:
        if settings.policy == "off":
            raise ValueError("Normalize needs a policy other than off; normalize() returns its argument for that")
        venv = _channels_first(venv)
        space = venv.observation_space
        keys = _keys(space) if settings.observations else None
        if context and not (isinstance(space, spaces.Box) and len(space.shape) == 1 and 0 < context < space.shape[0]):
            raise ValueError(f"a context of {context} numbers cannot be at the end of observations that are {space}")
        super().__init__(
            venv,
            norm_obs=settings.observations,
            norm_reward=settings.rewards,
            clip_obs=settings.clip_obs,
            clip_reward=settings.clip_reward,
            gamma=gamma,
            epsilon=settings.epsilon,
            norm_obs_keys=keys,
        )
        self.settings = settings
        self.context = context
        kind = STATISTICS[settings.policy]
        self._needs_tasks = kind.needs_tasks
        if keys is not None:
            self.obs_rms = {key: kind(settings, rms.mean.shape) for key, rms in self.obs_rms.items()}
        elif settings.observations:
            self.obs_rms = kind(settings, space.shape or ())  # type: ignore[assignment]
        self.ret_rms: RunningMeanStd = kind(settings, ())

    @property
    def statistics(self) -> dict[str, Cumulative]:
        """What normalises what: "observations" ("observations.key" for each key of a dictionary) and "rewards"."""
        parts: dict[str, Any] = {}
        if self.norm_obs and self.norm_obs_keys is None:
            parts["observations"] = self.obs_rms
        elif self.norm_obs:
            parts |= {f"observations.{key}": self.obs_rms[key] for key in self.norm_obs_keys or ()}
        if self.norm_reward:
            parts["rewards"] = self.ret_rms
        return parts

    def reset(self) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """Start an episode in every environment, and count its first observation."""
        observations = self.venv.reset()
        assert isinstance(observations, (np.ndarray, dict))
        self.old_obs = observations
        self.returns = np.zeros(self.num_envs)
        if self.training and self.norm_obs:
            # A wrapper between here and the environments has infos of its own, which nobody writes to.
            self._fold_observations(observations, self._tasks(self.unwrapped.reset_infos, "task"))
        return self.normalize_obs(observations)

    def step_wait(self) -> VecEnvStepReturn:
        """Count what the environments return, and normalise it with the statistics that result."""
        observations, rewards, dones, infos = self.venv.step_wait()
        assert isinstance(observations, (np.ndarray, dict))
        self.old_obs, self.old_reward = observations, rewards
        if self.training and self.norm_obs:
            self._fold_observations(observations, self._tasks(infos, "next_task"))
        if self.training and self.norm_reward:
            self._fold_rewards(rewards, infos)
        for row in np.flatnonzero(dones):
            last = infos[row].get("terminal_observation")
            if last is not None:
                infos[row]["terminal_observation"] = self.normalize_obs(last)
        self.returns[dones] = 0
        return self.normalize_obs(observations), self.normalize_reward(rewards), dones, infos

    def _tasks(self, infos: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.int64] | None:
        """The task of each environment, where the policy needs to know."""
        if not self._needs_tasks:
            return None
        try:
            return np.array([info[name] for info in infos])
        except KeyError:
            raise ValueError(
                f"normalisation with policy {self.settings.policy} needs environments that tell their task in "
                f'info["{name}"], such as make_vec_env\'s; use cumulative or moving for others'
            ) from None

    def _fold_observations(
        self, observations: NDArray[Any] | dict[str, NDArray[Any]], tasks: NDArray[np.int64] | None
    ) -> None:
        """Count one observation of each environment."""
        if isinstance(observations, dict):
            for key, rms in self.obs_rms.items():
                rms.fold(observations[key], tasks)  # type: ignore[attr-defined]
        else:
            self.obs_rms.fold(observations, tasks)  # type: ignore[attr-defined]

    def _fold_rewards(self, rewards: NDArray[Any], infos: Sequence[Mapping[str, Any]]) -> None:
        """Count the discounted return that each environment has come to with this reward."""
        if self.settings.policy == "reset":
            # What was earned in the old task is no part of the new one's returns.
            self.returns[["switch" in info for info in infos]] = 0
        self.returns = self.returns * self.gamma + rewards
        self.ret_rms.fold(self.returns, self._tasks(infos, "task"))  # type: ignore[attr-defined]

    def _normalize_obs(self, obs: NDArray[Any], obs_rms: RunningMeanStd) -> NDArray[Any]:
        normalized = super()._normalize_obs(obs, obs_rms)
        if self.context:
            normalized[..., -self.context :] = obs[..., -self.context :]
        return normalized

    def _unnormalize_obs(self, obs: NDArray[Any], obs_rms: RunningMeanStd) -> NDArray[Any]:
        original = super()._unnormalize_obs(obs, obs_rms)
        if self.context:
            original[..., -self.context :] = obs[..., -self.context :]
        return original

    def state_dict(self) -> State:
        """Everything that is remembered: arrays, numbers, and the policy that they belong to."""
        state: State = {"policy": self.settings.policy}
        for part, statistics in self.statistics.items():
            state |= {f"{part}.{name}": value for name, value in statistics.state_dict().items()}
        if self.norm_reward:
            state["returns"] = self.returns.copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        The returns of the episodes under way are taken over where the number of environments is the same; otherwise,
        and in any case after the next reset, they start anew.

        Raises:
            ValueError: the statistics are another policy's, of something else, or of another shape.
        """
        if str(state["policy"]) != self.settings.policy:
            raise ValueError(
                f"statistics of policy {state['policy']} cannot be those of a normalisation with {self.settings.policy}"
            )
        loaded = []
        for part, statistics in self.statistics.items():
            own = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
            if "mean" not in own:
                raise ValueError(f"there are no statistics of {part} among those to load")
            if np.shape(own["mean"]) != statistics.mean.shape:
                shapes = f"{np.shape(own['mean'])}, not {statistics.mean.shape}"
                raise ValueError(f"the statistics of {part} to load are of shape {shapes}")
            loaded.append((statistics, own))
        for statistics, own in loaded:
            statistics.load_state_dict(own)
        returns = state.get("returns")
        self.returns = np.zeros(self.num_envs)
        if returns is not None and len(returns) == self.num_envs:
            self.returns[:] = returns

    def save(self, save_path: str | Path) -> None:
        """Write the statistics, and the settings, to a file of NumPy's format .npz."""
        made = {"settings": json.dumps(asdict(self.settings)), "gamma": self.gamma, "context": self.context}
        with Path(save_path).open("wb") as file:
            np.savez(file, **self.state_dict(), **made)  # type: ignore[arg-type]

    @staticmethod
    def load(load_path: str | Path, venv: VecEnv) -> "Normalize":
        """`venv` normalised with the settings and the statistics that `save` wrote.

        Raises:
            ValueError: as `load_state_dict`, or the file was not written by `save`.
        """
        state = _read(load_path)
        settings = Normalization(**json.loads(str(state["settings"])))
        normalized = Normalize(venv, settings, float(state["gamma"]), int(state["context"]))
        normalized.load_state_dict(state)
        return normalized


def _read(path: str | Path) -> State:
    """What `Normalize.save` wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no statistics of a normalisation") from error
    if "policy" not in state:
        raise ValueError(f"{path} holds no statistics of a normalisation")
    return state


def _as_computed(numbers: Any) -> NDArray[Any]:
    """A copy of an array, or of the scalar that NumPy's arithmetic makes of a single number."""
    copied: NDArray[Any] = np.array(numbers, np.float64)[()]
    return copied


def _keys(space: spaces.Space[Any]) -> list[str] | None:
    """Which parts of a dictionary of observations are normalised; None where they are one array."""
    if isinstance(space, spaces.Dict):
        keys = [key for key, part in space.spaces.items() if isinstance(part, spaces.Box) and not is_image_space(part)]
        if keys:
            return keys
    elif isinstance(space, spaces.Box) and not is_image_space(space):
        return None
    raise ValueError(
        f"observations can be normalised where they are arrays of numbers other than images, not {space}: "
        "set observations to false"
    )


def _channels_first(venv: VecEnv) -> VecEnv:
    """The environments, with their images as PyTorch wants them.

    SB3 would turn the images outside of the normalisation, whose raw observations off-policy agents then could not
    store.
    """
    space = venv.observation_space
    parts = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    images = [part for part in parts if isinstance(part, spaces.Box) and is_image_space(part)]
    return VecTransposeImage(venv) if any(not is_image_space_channels_first(image) for image in images) else venv
