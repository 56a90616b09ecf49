"""Settings of all tests."""

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
import torch

# The same examples at every run, so that a failure is due to a change; HYPOTHESIS_PROFILE=default explores.
# No deadline: how long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("perennial", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "perennial"))

# A job in the background is started deaf to Ctrl-C, and so would be what the tests start to send it to.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Small networks are slower with more threads, and results depend on their number.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def sb3_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have SB3 make its log folders where pytest tidies up, not in the system's folder for temporary files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("sb3")))
        yield
