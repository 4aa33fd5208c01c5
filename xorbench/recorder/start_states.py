"""The state at the start of each step: stored in one run, and loaded in others.

Each step of the others then begins with equal parameters, buffers and optimizer states, so that the
noise of rounding does not grow, and a decision that falls differently costs one step.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .fingerprint import dense_parts
from .head import process_rank

if TYPE_CHECKING:
    from .listen import Listener

LARGEST = 1 << 30  # bytes of one process


class StartStates:
    """Stores or loads the state at the start of every step after the first."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._room = LARGEST
        self._left: dict[str, str] = {}  # digests of the optimizer states that the last step left

    def begin_step(self, step: int) -> None:
        """Store or load the state; a step that has loaded it has a note."""
        options = self._listener.options
        if not step or not self._is_used():
            return
        if self._has_changed():
            self._listener.add("note", "changed", None)
        if options.keep_states:
            self._store(options.keep_states, step)
        elif self._load(options.start_from, step):
            self._listener.add("note", "reset", None)

    def end_step(self, events: list[Any]) -> None:
        """Note the optimizer states that a step leaves."""
        if self._is_used():
            self._left = {event[1]: event[2] for event in events if event[0] == "new state"}

    def _is_used(self) -> bool:
        return bool(self._listener.options.keep_states or self._listener.options.start_from)

    def _has_changed(self) -> bool:
        """Whether the program changed optimizer states after the step, which a load would hide."""
        states = self._listener.weights.optimizer_states()
        digests = self._listener.digester.digest_all([tensor for _, _, tensor in states])
        now = zip((identity for _, identity, _ in states), digests)  # noqa: B905 - Python 3.9
        return any(self._left.get(identity, digest) != digest for identity, digest in now)

    def _store(self, folder: str, step: int) -> None:
        state = {name: _of_own(tensor) for name, tensor in self._state().items()}
        self._room -= sum(tensor.nbytes for tensor in state.values())
        if self._room >= 0:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            path = _path(folder, step)
            torch.save(state, f"{path}.part")
            os.replace(f"{path}.part", path)

    def _load(self, folder: str, step: int) -> bool:
        """Load the state if its tensors have the names and shapes of this training."""
        paths = _path(folder, step), _path(folder, step, "0")
        path = next(filter(os.path.exists, paths), None)
        state = {} if path is None else torch.load(path, weights_only=True, mmap=True)
        own = self._state()
        if not own or {n: t.shape for n, t in state.items()} != {
            n: t.shape for n, t in own.items()
        }:
            return False
        for name, tensor in own.items():
            tensor.data.copy_(state[name])  # a graph of an earlier step may need the tensor
        return True

    def _state(self) -> dict[str, Tensor]:
        """The local tensors by kind and name, or identity if several have the name."""
        weights = self._listener.weights
        held = [weight for weight in weights.held if weight[0] in ("parameter", "buffer")]
        names = {identity: weights.name_of(tensor) for _, identity, tensor in held}
        counts = Counter(names.values())
        names = {i: name if name and counts[name] == 1 else i for i, name in names.items()}
        state = {f"{kind} {names[identity]}": tensor for kind, identity, tensor in held}
        for _, identity, tensor in weights.optimizer_states():
            parameter = ".".join(identity.split(".")[:3])
            rest = identity[len(parameter) :]
            state[f"state {names.get(parameter, parameter)}{rest}"] = tensor
        return {name: dense_parts(tensor)[0] for name, tensor in state.items()}


def _of_own(tensor: Tensor) -> Tensor:
    """The tensor, as a copy if it is a part of a larger storage, all of which would be stored."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _path(folder: str, step: int, rank: str | None = None) -> str:
    return os.path.join(folder, f"{rank or process_rank() or 0}-{step}.pt")
