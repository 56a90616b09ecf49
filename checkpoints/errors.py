"""What can be wrong with a checkpoint, each in one sentence."""


class CheckpointError(Exception):
    """A checkpoint, or a part of one, is damaged or is not what it should be; the message is one sentence."""


class UnknownFormatError(CheckpointError):
    """A checkpoint is whole, but of a format that this version does not know."""
