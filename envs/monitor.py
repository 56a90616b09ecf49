"""SB3's monitor, which also tells what the environment within holds."""

from typing import Any

from stable_baselines3.common import monitor

from envs.snapshots import rows
from envs.snapshots.objects import Tree


class Monitor(monitor.Monitor[Any, Any]):
    """SB3's `Monitor`, with methods by which a `SubprocVecEnv` reaches what its environments hold.

    They answer with what went wrong instead of raising it, because an exception would end the subprocess.
    """

    def snapshot(self) -> dict[str, Tree]:
        """What this environment holds, from the monitor on: see `envs.snapshots.rows.read`."""
        return rows.read(self)

    def restore(self, tree: dict[str, Tree]) -> str | None:
        """Hold what `snapshot` gave: see `envs.snapshots.rows.write`."""
        return rows.write(self, tree)
