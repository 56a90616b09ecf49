"""Sweeps: many runs from one file, on this machine or on a Ray cluster, until all of them are there."""
