"""The table of backends, which are loaded on demand."""

import importlib
import os
from dataclasses import dataclass
from functools import partial
from typing import Final

from xorbench.errors import BadOption
from xorbench.machine.universal.trained import Evaluate, Train


@dataclass(frozen=True)
class LoadedBackend:
    """A loaded backend for one device."""

    train: Train
    evaluate: Evaluate


@dataclass(frozen=True)
class Backend:
    """An implementation of the universal training, and the libraries it needs apart from NumPy."""

    name: str
    module: str
    needs: tuple[str, ...] = ()
    takes_device: bool = False
    takes_threads: bool = False

    def missing(self) -> str | None:
        """Import the backend; the reason why it is unavailable, or None.

        A module may define a function ``lacks`` that returns its own reason.
        """
        for library in self.needs:
            try:
                importlib.import_module(library)
            except Exception as error:  # any exception may be raised by an import
                return f"{library} cannot be imported: {type(error).__name__}: {error}"
        lacks = getattr(importlib.import_module(self.module), "lacks", None)
        return lacks() if lacks else None

    def load(self, device: str = "cpu", threads: int | None = None) -> LoadedBackend:
        """Import the backend for a device, named as for ``torch.device``.

        ``threads`` applies to backends that start their own threads; the others ignore it.

        Raises:
            BadOption: the backend supports only the CPU, and the device is a different one.
            ImportError: a required library is missing; see ``missing``.
        """
        if device != "cpu" and not self.takes_device:
            raise BadOption(f"--device: the {self.name} backend supports only cpu, got {device}")
        module = importlib.import_module(self.module)
        place = {"device": device} if self.takes_device else {}
        cores = {"threads": threads} if self.takes_threads else {}
        return LoadedBackend(
            partial(module.train, **place, **cores), partial(module.evaluate, **place)
        )


def available_cores() -> int:
    """The number of cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


BACKENDS: Final = {
    row.name: row
    for row in (
        Backend("numpy", "xorbench.machine.universal.numpy_backend"),
        Backend(
            "torch", "xorbench.machine.universal.torch_backend", needs=("torch",), takes_device=True
        ),
        Backend(
            "numba",
            "xorbench.machine.universal.numba_backend",
            needs=("numba",),
            takes_threads=True,
        ),
        Backend(
            "triton",
            "xorbench.machine.universal.triton_backend",
            needs=("torch", "triton"),
            takes_device=True,
        ),
    )
}
"""Backends by name, in the order of reports."""
