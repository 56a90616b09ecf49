"""Numbers that are no numbers, found where they arise: the SB3 callback that watches a run for nan and infinity.

    model.learn(100_000, callback=[FiniteGuard(), Plasticity(ReDo())])

| moment | what is looked at |
|---|---|
| each step of the environment | observations and rewards, also the raw ones where they are normalised |
| before each `optimizer.step()` | the gradients as the optimiser will use them |
| rollout start | the weights after the last updates, and the losses that SB3 has logged |

A loss that is not finite shows in its gradients; what is logged is for those who move weights without an optimiser.

It goes before all other callbacks, so that nothing is recorded, saved or changed after what it finds. It reads only: a
run in which everything is finite is, bit for bit, the run without it.

One sum says whether all of its terms can be finite; only where it says no is each of them looked at. A sum may overflow
though no term is infinite, which is no finding.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from agents.hooks import OptimizerHooks, Unneeded
from agents.layers import Param
from agents.sb3 import read_networks

Response = Literal["stop", "skip", "warn"]
Kind = Literal["observations", "rewards", "gradients", "weights", "losses"]
LOSSES = ("loss", "objective")
"""What is in the names of logged values that must be finite; an explained variance, for one, need not be."""


class NonFiniteError(ArithmeticError):
    """Something is nan or infinite that training depends on; the message is one sentence that says what and where."""


class FiniteGuard(BaseCallback):
    """Stops a run, leaves out gradient steps, or warns, once something is nan or infinite.

    Args:
        on: what follows. stop: a NonFiniteError, before any weight is touched. skip: a gradient step with such
            gradients is not taken, and no intervention hears of it; weights that are not finite stop the run all the
            same, since no step can mend them. warn: training goes on. What an environment gave is warned of in both.
        tell: given a sentence at the first finding of a kind, at the tenth, the hundredth and so on.
        name: whose numbers these are, where there are others beside; sentences begin with it.

    Attributes:
        counts: how many findings there were of each kind.
    """

    def __init__(self, on: Response = "stop", tell: Callable[[str], None] = warnings.warn, name: str = "") -> None:
        super().__init__()
        self.on = on
        self.tell = tell
        self.name = name
        self.counts: Counter[Kind] = Counter()
        self._gradient_steps: list[int] = []
        self._counted: BaseAlgorithm | None = None
        self._hooks: list[OptimizerHooks] = []

    def _on_training_start(self) -> None:
        self.close()
        optimizers = list(dict.fromkeys(net.optimizer for net in read_networks(self.model) if net.optimizer))
        if not self._gradient_steps or self._counted not in (None, self.model):  # another model's
            self._gradient_steps = [0] * len(optimizers)
        self._counted = self.model
        self._hooks = [
            OptimizerHooks(
                optimizer,
                allow_step=partial(self._may_step, index),
                idleness=Unneeded(partial(self._skipped, index)),
                asks_if_finite=True,
            )
            for index, optimizer in enumerate(optimizers)
        ]
        self._normalizer: Any = self.model.get_vec_normalize_env()
        self._has_trained = True  # or whoever made the model has
        self._findings_before = self.counts.total()

    def _on_step(self) -> bool:
        if self._normalizer is not None:  # first what it was given: it spreads nan, and clips what is infinite
            self._look("an observation", self._normalizer.old_obs)
            self._look("a reward", self._normalizer.old_reward)
        self._look("an observation", self.locals["new_obs"])
        self._look("a reward", self.locals["rewards"])
        for env, info in enumerate(self.locals["infos"]):
            if "terminal_observation" in info:
                self._look("a last observation", info["terminal_observation"], env)
        return True

    def _look(self, what: str, values: Any, env: int | None = None, part: str = "") -> None:
        """Look at what all environments gave, or the one that `env` says."""
        if isinstance(values, dict):
            for part, array in values.items():
                self._look(what, array, env, part)
            return
        values = np.asarray(values)
        if values.dtype.kind == "f" and not math.isfinite(np.vdot(values, values)) and not np.isfinite(values).all():
            self._found(
                "rewards" if what == "a reward" else "observations", partial(self._given, what, part, values, env)
            )

    def _given(self, what: str, part: str, array: Any, env: int | None) -> str:
        actions = self.locals.get("clipped_actions", self.locals["actions"])
        place = tuple(np.argwhere(~np.isfinite(array))[0])
        env, inner = (place[0], place[1:]) if env is None else (env, place)
        which = f"environment {env}" if len(actions) > 1 else "the environment"
        component = f", {part}[{', '.join(map(str, inner))}]" if inner else ""
        cause = "" if np.isfinite(actions[env]).all() else f", after the action {actions[env]}"
        return f"{which} gave {what} that is not finite ({array[place]}{component}){cause}"

    def _skipped(self, index: int, steps: int) -> None:
        """Steps whose gradients somebody else has found finite."""
        self._gradient_steps[index] += steps
        self._has_trained = True

    def _may_step(self, index: int, optimizer: torch.optim.Optimizer) -> bool:
        """Look at the gradients that an optimiser is about to use; returns whether it is to use them."""
        self._gradient_steps[index] += 1
        self._has_trained = True
        params = (param for group in optimizer.param_groups for param in group["params"])
        gradients = [gradient for param in params if (gradient := param.grad) is not None]
        if may_be_finite(gradients) or all(bool(gradient.isfinite().all()) for gradient in gradients):
            return True
        self._found("gradients", partial(self._gradients, index, optimizer))
        return self.on != "skip"

    def _gradients(self, index: int, optimizer: torch.optim.Optimizer) -> str:
        networks = read_networks(self.model)
        own = [network for network in networks if network.optimizer is optimizer]
        where = f"gradient step {self._gradient_steps[index]:,} of {' and '.join(net.name for net in own)}: "
        advice = ", and the step is left out" if self.on == "skip" else "; a smaller learning rate may help"
        if broken := _not_finite((param, param.tensor) for network in networks for param in network.params()):
            return f"{where}before it, {_listed('the parameter', broken)}{advice}"
        params = [param for network in own for param in network.params()]
        gradients = [(param, param.tensor.grad) for param in params if param.tensor.grad is not None]
        broken = _not_finite(gradients)
        if len(broken) == len(gradients) > 1 and all(math.isnan(value) for _, value in broken):
            # Clipping a norm that is nan makes every gradient nan.
            return f"{where}all gradients are nan, so that nothing can be said of where it began{advice}"
        return f"{where}{_listed('the gradient of', broken)}{advice}"

    def _on_rollout_start(self) -> None:
        if not self._has_trained:
            return
        self._has_trained = False
        if broken := self.broken_weights():
            self._found("weights", lambda: broken, fatal=self.on == "skip")
        if self.counts.total() == self._findings_before:  # what has been told of shows in the losses as well
            logged = self.logger.name_to_value.items()
            losses = {name: value for name, value in logged if any(word in name for word in LOSSES)}
            if odd := [f"{name} ({value})" for name, value in losses.items() if not math.isfinite(value)]:
                self._found("losses", lambda: f"the last update's {odd[0]} is not finite")
        self._findings_before = self.counts.total()

    def broken_weights(self) -> str | None:
        """What of the weights is not finite now, as a part of a sentence; None where all of it is."""
        groups = [group for hooks in self._hooks for group in hooks.optimizer.param_groups]
        with torch.no_grad():
            if may_be_finite([param for group in groups for param in group["params"]]):
                return None
        params = [param for network in read_networks(self.model) for param in network.params()]
        broken = _not_finite((param, param.tensor) for param in params)
        return f"{_listed('the parameter', broken)}; a smaller learning rate may help" if broken else None

    def _found(self, kind: Kind, sentence: Callable[[], str], fatal: bool = False) -> None:
        self.counts[kind] += 1
        count = self.counts[kind]
        if self.on == "stop" or fatal:
            raise NonFiniteError(f"{self._where()}: {sentence()}.")
        if count == 10 ** (len(str(count)) - 1):
            again = "" if count == 1 else f" ({kind} were not finite {count:,} times so far)"
            self.tell(f"{self._where()}: {sentence()}{again}.")

    def _where(self) -> str:
        tasks = [info["task"] for info in self.locals.get("infos", []) if "task" in info]
        where = f"step {self.num_timesteps:,}" + (f" (task {max(tasks)})" if tasks else "")
        return f"{self.name}, {where}" if self.name else where

    def _on_training_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Take all hooks off the model; also after an exception."""
        for hooks in self._hooks:
            hooks.remove()
        self._hooks = []

    def state_dict(self) -> dict[str, Any]:
        """The counts, so that a run that goes on tells what the uninterrupted one would."""
        return {"counts": dict(self.counts), "gradient_steps": list(self._gradient_steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, also while learning goes on."""
        self.counts = Counter(state["counts"])
        self._gradient_steps = list(state["gradient_steps"])
        self._counted = None


def may_be_finite(tensors: list[Tensor]) -> bool:
    """False where an element is nan or infinite; also where numbers are so large that their sum overflows.

    One sum of all elements, and one wait for the device.
    """
    # PyTorch has no types for the function.
    return not tensors or math.isfinite(_flatten_dense_tensors(tensors).sum().item())  # type: ignore[no-untyped-call]


def _not_finite(tensors: Iterable[tuple[Param, Tensor]]) -> list[tuple[Param, float]]:
    """The parameters of whose tensors an element is not finite, each with the first such element."""
    broken = ((param, tensor.detach()[~tensor.isfinite()]) for param, tensor in tensors)
    return [(param, float(values[0])) for param, values in broken if values.numel()]


def _listed(what: str, broken: list[tuple[Param, float]]) -> str:
    (first, value), *others = broken
    more = f", nor are {len(others)} more" if others else ""
    return f"{what} {first.name} is not finite ({value:g}){more}"
