"""Which figures show a study: what each is called, what it says, and why one is missing where it is."""

from collections.abc import Iterator

from reporting.figures import Looks
from reporting.illustrations.base import Illustration, slug
from reporting.illustrations.comparisons import aggregates, improvements, parts
from reporting.illustrations.diagnostics import diagnostics, first_batches
from reporting.illustrations.returns import gaps, learning, returns, visits
from reporting.summary import Summary

__all__ = ["Illustration", "illustrate", "slug"]


def illustrate(summary: Summary, looks: Looks) -> Iterator[Illustration]:
    """All figures of a study, in the order of the page."""
    yield returns(summary, looks)
    yield gaps(summary, looks)
    yield aggregates(summary, looks)
    yield improvements(summary, looks)
    yield parts(summary, looks)
    yield from diagnostics(summary, looks)
    yield first_batches(summary, looks)
    yield learning(summary, looks)
    yield visits(summary, looks)
