"""Many vectorised environments stepped at once, each one's own part of what happens left to itself.

>>> steps = Steps([make_vec_env("HalfCheetah-v5", tasks, 1, seed) for seed in range(8)])
>>> for observations, rewards, dones, infos in steps(actions): ...
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from envs.batch_mujoco import BatchMujoco
from envs.fleet import Fleet


class Steps:
    """Steps environments, each with wrappers of its own, as their own `step` would, to the last bit.

    Robots of the same kind are stepped by one fleet; environments in processes of their own run side by side; all
    others take their turns.

    Args:
        envs: the environments, each reset before its first step.
        nthread: threads that step the robots' physics. More than one save time where as many processors have nothing
            else to do, and cost some where they do.

    Raises:
        ValueError: nthread is below 1.
    """

    def __init__(self, envs: Sequence[VecEnv], nthread: int = 1) -> None:
        if nthread < 1:
            raise ValueError(f"nthread must be at least 1, not {nthread}")
        self._envs = list(envs)
        alike: dict[tuple[object, ...], list[BatchMujoco]] = {}
        for env in self._envs:
            inner = env.unwrapped
            if isinstance(inner, BatchMujoco):
                alike.setdefault(inner.kind, []).append(inner)
        self._teams = [_Team(members, nthread) for members in alike.values() if len(members) > 1]

    def __call__(self, actions: Sequence[NDArray[Any]]) -> list[VecEnvStepReturn]:
        """Take a step in every environment.

        Args:
            actions: for each environment, what its own `step` takes.

        Returns:
            What each environment's own `step` would return.
        """
        for env, own in zip(self._envs, actions, strict=True):
            env.step_async(own)
        for team in self._teams:
            team.step()
        return [env.step_wait() for env in self._envs]


class _Team:
    """Environments whose rows are one fleet's.

    Args:
        members: environments of the same kind.
        nthread: as for `Steps`.
    """

    def __init__(self, members: Sequence[BatchMujoco], nthread: int) -> None:
        self._members = members
        self._firsts = list(accumulate((member.num_envs for member in members[:-1]), initial=0))
        self._fleet = Fleet([env for member in members for env in member.envs], nthread)
        self._gather()

    def step(self) -> None:
        """Take the step for which the members have been given actions."""
        self._gather()
        given = [member.given() for member in self._members]
        alike = len({actions.dtype for actions in given}) == 1
        stepped = self._fleet.step(np.concatenate(given) if alike else [row for actions in given for row in actions])
        for member in self._members:
            member.take(stepped)

    def _gather(self) -> None:
        """Have all members in the fleet, which those that were stepped by themselves have left."""
        for member, first in zip(self._members, self._firsts, strict=True):
            if member.fleet is not self._fleet:
                member.move(self._fleet, first)
