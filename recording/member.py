"""One agent that is trained, and all that follows it: guard, recorder, interventions, its tables, curves and state.

A run has one member, a population many. Each has a directory of its own and knows nothing of the others.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv

from agents.finite import FiniteGuard
from agents.plasticity import Plasticity
from agents.sb3 import agent_state, begin_episodes, load_agent_state, load_replay_position, replay_rings
from checkpoints.randomness import global_state, set_global_state
from checkpoints.segments import Arrays, Ring
from checkpoints.tree import Tree
from configs import studies
from configs.command_line import Config
from envs import Tasks
from envs.normalize import Normalize
from envs.snapshots import restore, snapshot
from recording.directory import RunDirectory, State
from recording.measuring import Measurer
from recording.recorder import Recorder
from recording.tensorboard import Curves

LoadRing = Callable[[Arrays], int]
"""Fills the arrays of a replay buffer and says how many steps had been put there."""


class Member:
    """An agent, its environments and its interventions, in a directory.

    Args:
        config: everything it depends on.
        directory: where it is recorded.
        built: tasks, environments, agent and interventions, as `configs.building.build` makes them.
        name: what it is called among others; empty where it is the only one.
        streams: makes its random streams the process's global ones for a while; where it is alone they are that anyway.
    """

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        built: tuple[Tasks, VecEnv, BaseAlgorithm, Plasticity],
        name: str = "",
        streams: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.config = config
        self.directory = directory
        self.tasks, self.env, self.model, self.plasticity = built
        self.name = name
        self.streams = streams
        self.measurer = Measurer(config.metrics, config.run.seed, config.run.measure_samples, directory.probe)

    def start(self, resumed: bool, warn: Callable[[str], None]) -> None:
        """Open the files and make the callbacks, before it learns.

        Args:
            resumed: whether it goes on from a state, which is put in at the start of the first rollout.
            warn: told what the guard finds and does not stop for.
        """
        self.output = TensorBoardOutputFormat(str(self.directory.path))
        self.model.set_logger(Logger(str(self.directory.path), [self.output]))
        settings = {key: value for key, value in self.config.as_dict().items() if key != "metrics"}
        self.recorder = Recorder(
            self.directory,
            self.plasticity,
            describe=lambda task: str(self.env.env_method("describe_task", task, indices=[0])[0]),
            curves=Curves({"arm": self.config.arm, **settings}, self.config.run.histograms, resumed),
            measurer=self.measurer,
            measure_every=self.config.run.measure_every,
            costly_every=self.config.run.measure_costly_every,
        )
        self.guard = FiniteGuard(self.config.run.on_nonfinite, warn, f"member {self.name}" if self.name else "")
        self.callbacks = Followers([self.guard, self.recorder, self.plasticity], resumed)

    def state(self) -> dict[str, Tree]:
        """All that it remembers at the start of a rollout, in parts, its replay buffer apart."""
        with self.streams():
            random = global_state()
        return {
            "agent": agent_state(self.model),
            "environments": snapshot(self.env),
            "interventions": self.plasticity.state_dict(),
            "recording": {"recorder": self.recorder.state_dict(), "guard": self.guard.state_dict()},
            "random": random,
        }

    def replay(self) -> Ring | None:
        """Its replay buffer, if it has one."""
        rings = replay_rings(self.model)
        return Ring(*rings) if rings else None

    def load_state(self, state: Mapping[str, Any], load_replay: LoadRing) -> None:
        """Go on from what `state` gave, while it learns."""
        # Interventions first, which may have given the networks another form; generators last, since all may draw.
        self.plasticity.load_state_dict(state["interventions"])
        load_agent_state(self.model, state["agent"])
        self.recorder.load_state_dict(state["recording"]["recorder"])
        self.guard.load_state_dict(state["recording"]["guard"])
        if rings := replay_rings(self.model):
            load_replay_position(self.model, load_replay(rings[0]))
        first = restore(self.env, state["environments"])
        if first is not None:
            begin_episodes(self.model, first)
        with self.streams():
            set_global_state(state["random"])
        self.callbacks.go_on_at(self.model.num_timesteps)

    def export(self) -> None:
        """Leave the agent behind in SB3's own format, for others to load, and what its observations went through."""
        self.model.save(self.directory.model)
        if isinstance(self.env, Normalize):
            self.env.save(self.directory.normalizer)

    def close(self, state: State, seconds: float) -> None:
        """Take everything off the model, close the files and write down how it ended."""
        self.plasticity.close()
        self.guard.close()
        with suppress(OSError):  # where the disk is full, which is being told already
            self.recorder.close()
            self.output.close()
            self.set_status(state, seconds, is_trained=state == "finished")

    def set_status(self, state: State, seconds: float, is_trained: bool) -> None:
        """Write down how it stands and, once all its tasks are in the table, by what others find it."""
        pair = studies.pair(self.config.as_dict()) if is_trained else ""
        self.directory.set_status(state, self.model.num_timesteps, seconds, pair)


class Followers(CallbackList):
    """A member's callbacks, for which the first rollout of a member that goes on does not start anew.

    Args:
        callbacks: in their order.
        resumed: whether the member goes on.
    """

    def __init__(self, callbacks: list[BaseCallback], resumed: bool) -> None:
        super().__init__(callbacks)
        self.resumed = resumed

    def _on_rollout_start(self) -> None:
        if self.resumed:
            self.resumed = False
            return
        super()._on_rollout_start()

    def go_on_at(self, step: int) -> None:
        """Count on from an environment step."""
        for callback in self.callbacks:
            callback.num_timesteps = step
