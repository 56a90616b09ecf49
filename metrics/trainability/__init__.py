"""Whether a network can still learn: how well copies of it fit random targets."""

from metrics.trainability.probe import TrainabilityProbe

__all__ = ["TrainabilityProbe"]
