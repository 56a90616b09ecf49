"""A member's callbacks when it goes on from a checkpoint."""

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from recording.member import Followers


class Counts(BaseCallback):
    """Counts the starts of rollouts, and remembers at which steps it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0
        self.steps: list[int] = []

    def _on_rollout_start(self) -> None:
        self.starts += 1

    def _on_step(self) -> bool:
        self.steps.append(self.num_timesteps)
        return True


@pytest.mark.parametrize("resumed", [False, True])
def test_the_rollout_that_a_member_goes_on_with_does_not_start_anew(resumed: bool) -> None:
    """A checkpoint is taken once a rollout has started: what is done at its start was done before it was written."""
    counts = Counts()
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    model.learn(48, callback=Followers([counts], resumed))
    assert counts.starts == (2 if resumed else 3)
    assert counts.steps == list(range(1, 49))


def test_callbacks_count_on_from_the_step_of_the_checkpoint() -> None:
    counts = Counts()
    followers = Followers([counts], resumed=True)
    followers.init_callback(PPO("MlpPolicy", "CartPole-v1", device="cpu"))
    followers.go_on_at(1234)
    assert counts.num_timesteps == 1234
