"""PyTorch's compiler is not loaded by populations, and works as ever once somebody has loaded it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

LOADED_LATER = """
import torch
from agents.compiler import leave_unloaded

leave_unloaded()
leave_unloaded()
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight])
weight.grad = torch.ones(3)
optimizer.zero_grad()
assert weight.grad is None
known = torch.optim.Optimizer.zero_grad.__wrapped__
assert known.__dynamo_disable is not None
import sys
assert "torch._dynamo" not in sys.modules
import torch._dynamo
weight.grad = torch.ones(3)
optimizer.zero_grad(set_to_none=False)
assert weight.grad.tolist() == [0, 0, 0]
# What PyTorch arranges by itself, and nothing of ours.
assert known.__dynamo_disable._torchdynamo_disable
assert known.__dynamo_disable.__module__.startswith("torch._dynamo"), known.__dynamo_disable.__module__
"""

POPULATION = """
import sys
import train

words = "--agent ppo --agent.n-steps 16 --agent.batch-size 16 --schedule.period 64 --steps 128 --quiet --seeds 2"
assert train.main([*words.split(), "--reset", "redo", "--run-dir", sys.argv[1]]) == 0
assert "torch._dynamo" not in sys.modules, "something has loaded the compiler"
"""


def run(code: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_population_does_without(tmp_path: Path) -> None:
    run(POPULATION, str(tmp_path / "run"))


def test_loaded_later_it_works_as_ever() -> None:
    run(LOADED_LATER)
