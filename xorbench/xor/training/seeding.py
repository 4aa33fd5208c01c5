"""Named random streams, and isolation of the global random state between trainings."""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import numpy as np
import torch


def stream(seed: int, name: str) -> int:
    """The 63-bit seed of one named random stream (workload.md §3)."""
    digest = hashlib.sha256(f"xorbench-1/{name}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator at the start of the named stream."""
    return torch.Generator().manual_seed(stream(seed, name))


@contextmanager
def forked(seed: int, name: str) -> Iterator[None]:
    """Set PyTorch's global CPU generator to the start of the named stream within the context."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, name).get_state())
        yield


@contextmanager
def current(device: torch.device) -> Iterator[None]:
    """Make the device its type's current one within the context; no effect for the CPU."""
    if device.type == "cpu" or device.index is None:
        yield
        return
    before = torch.accelerator.current_device_index()
    torch.accelerator.set_device_index(device.index)
    try:
        yield
    finally:
        torch.accelerator.set_device_index(before)


GetAndSet = tuple[Callable[[], Any], Callable[[Any], object]]  # getter and setter of a state


@contextmanager
def _restored(rows: Sequence[GetAndSet]) -> Iterator[None]:
    states = [get() for get, _ in rows]
    try:
        yield
    finally:
        for (_, put), state in zip(rows, states, strict=True):
            put(state)


def restored_random_states(device: torch.device) -> AbstractContextManager[None]:
    """Restore the generators of the CPU and of this device on exit."""
    return _restored([GLOBALS[0], *_device_rows(device)])


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed only the generators of the CPU and of this device."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        with current(device):
            getattr(module, "manual_seed", torch.manual_seed)(seed)


# All global state that a training could read or change.
GLOBALS: Final[tuple[GetAndSet, ...]] = (
    (torch.get_rng_state, torch.set_rng_state),
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
)


class GlobalState:
    """A training's own copy of the global random states and flags, active during its steps.

    The random states start from the stream `global`, so that they do not depend on earlier work of
    the process. `tf32` allows TF32 for an accelerator's float32 matrix products.
    """

    def __init__(self, device: torch.device, seed: int, *, tf32: bool = False) -> None:
        self._rows = [*GLOBALS, *_device_rows(device)]
        with _restored(self._rows):
            seed_generators(device, stream(seed, "global"))
            random.seed(stream(seed, "global"))
            np.random.seed(stream(seed, "global") % 2**32)
            if tf32 and device.type != "cpu":
                torch.set_float32_matmul_precision("high")
            self._own = self._read()

    def _read(self) -> list[Any]:
        return [get() for get, _ in self._rows]

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Activate this training's global state within the context."""
        with _restored(self._rows):
            for (_, put), state in zip(self._rows, self._own, strict=True):
                put(state)
            try:
                yield
            finally:
                self._own = self._read()


def _device_rows(device: torch.device) -> list[GetAndSet]:
    module = torch.get_device_module(device)
    if device.type == "cpu" or not hasattr(module, "get_rng_state"):
        return []
    if device.type == "mps":  # a single device, and functions without a device argument
        return [(module.get_rng_state, module.set_rng_state)]
    return [(lambda: module.get_rng_state(device), lambda s: module.set_rng_state(s, device))]
