"""Runs for `check --up-to-rounding`: decisions of every step, and noise in runs that have it.

The dispatch mode is entered in the training thread when a step begins and left when it ends, so
that it does not run while data are loaded, and never in loader processes.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parameter import Parameter
from torch.utils.data import dataloader

from .decisions import decision_before, is_observed, observed
from .detail import UnseenMode, enter, is_tracing, leave
from .head import process_rank
from .noise import Noise, base_name

if TYPE_CHECKING:
    from .listen import Listener

PLAIN = frozenset({Tensor, Parameter})


class Rounding:
    """The dispatch mode of a listener; without sketches it is never entered."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.noise: Noise | None = None
        self.mode: StepMode | None = None
        self.loading = 0  # depth of calls that load data
        self._counts: dict[tuple[str, str], int] = {}

    def push(self) -> None:
        """Enter the mode, outside `Listener.shielded`, when a step has begun."""
        if self._listener.options.sketches and self.mode is None:
            self._counts = {}
            if self.noise is None:  # not before a fork: it uses threads
                self._listener.shielded(self._make_noise)
            self.mode = StepMode(self)
            enter(self.mode)

    def _make_noise(self) -> None:
        seed = self._listener.options.noise
        if seed is not None:
            self.noise = Noise(seed + 1_000 * int(process_rank() or 0))

    def pop(self) -> None:
        """Leave the mode when a step has ended."""
        mode, self.mode = self.mode, None
        if mode is not None:
            leave(mode)

    def pause(self) -> None:
        """Leave the mode while an optimizer steps, unless its results get noise."""
        if self._listener.options.noise is None:
            self.pop()

    def is_on(self, mode: StepMode) -> bool:
        """Whether an operator belongs to the training: not to the recorder, nor to loading."""
        is_forked = mode.pid != os.getpid()  # a loader process inherits the mode
        free = not self.loading and self._listener.busy is None and not is_tracing()
        return mode is self.mode and free and not is_forked

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operator and record its decisions."""
        notes = is_observed(func) and torch._C._current_autograd_node() is None
        before = decision_before(func, args) if notes else None
        out = self.noise.run(func, args, kwargs) if self.noise else func(*args, **kwargs)
        if notes:
            self._listener.shielded(self._record, func, args, out, before)
        return out

    def _record(self, func: Any, args: Any, out: Any, before: Tensor | None) -> None:
        for kind, value in observed(func, args, out, before):
            key = kind, base_name(func)
            nth = self._counts[key] = self._counts.get(key, -1) + 1
            self._listener.tensor(kind, f"{key[1]}#{nth}", value)

    def end_line(self) -> dict[str, Any]:
        """The operators whose rounding is unknown, for the last line of a record."""
        unknown = sorted(self.noise.unknown) if self.noise else []
        return {"unknown_rounding": unknown} if unknown else {}

    def quiet_while_loading(self) -> None:
        """Let a data loader work without noise, also within a step."""
        kind = dataloader._BaseDataLoaderIter
        original = kind.__next__

        @functools.wraps(original)
        def following(iterator: Any) -> Any:
            self.loading += 1
            try:
                return original(iterator)
            finally:
                self.loading -= 1

        kind.__next__ = following  # type: ignore[assignment,method-assign]


class StepMode(UnseenMode):
    """Passes the operators of one step to `Rounding`."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()
        self._rounding = rounding
        self.pid = os.getpid()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator; a tensor subclass first maps it to operators of plain tensors."""
        kwargs = kwargs or {}
        is_plain = PLAIN.issuperset(types)
        if is_plain and self._rounding.is_on(self):
            return self._rounding.run(func, args, kwargs)
        if not is_plain and any(hasattr(kind, "__tensor_flatten__") for kind in types):
            return NotImplemented
        return func(*args, **kwargs)
