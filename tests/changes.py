"""What tests of several families of changes assert."""

from typing import Any

import numpy as np
import pytest

from envs.changes import Change, ChangeError


def assert_checks(change: Change, good: Any, wrong: Any, message: str) -> None:
    """A bound change takes a good value and all its own draws from a table, and refuses a wrong one in a sentence."""
    change.check(good)
    change.set(good)
    rng = np.random.default_rng(0)
    for _ in range(20):
        change.check(change.sample(rng))
    with pytest.raises(ChangeError, match=message):
        change.check(wrong)
