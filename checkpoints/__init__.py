"""Checkpoints: the whole state of a run on disk, as JSON and safetensors, safe against crashes and hostile files."""
