"""The table of backends. A backend is loaded when it is asked for, and says why if it cannot be."""

import importlib
import os
from dataclasses import dataclass
from functools import partial
from typing import Final

from xorbench.errors import BadOption
from xorbench.machine.universal.trained import Evaluate, Train


@dataclass(frozen=True)
class LoadedBackend:
    """A backend that is ready, on one device."""

    train: Train
    evaluate: Evaluate


@dataclass(frozen=True)
class Backend:
    """One implementation of the universal training, and the libraries beyond NumPy it needs."""

    name: str
    module: str
    needs: tuple[str, ...] = ()
    takes_device: bool = False
    takes_threads: bool = False

    def missing(self) -> str | None:
        """Why the backend cannot be used here, or None if it can; imports it.

        A module may have a function ``lacks`` that gives a reason of its own.
        """
        for library in self.needs:
            try:
                importlib.import_module(library)
            except Exception as error:  # a library may refuse its surroundings in its own way
                return f"{library} cannot be imported: {type(error).__name__}: {error}"
        lacks = getattr(importlib.import_module(self.module), "lacks", None)
        return lacks() if lacks else None

    def load(self, device: str = "cpu", threads: int | None = None) -> LoadedBackend:
        """Import the backend, for a device as ``torch.device`` names it.

        ``threads`` are for the backend that starts threads of its own; others leave it aside.

        Raises:
            BadOption: the backend knows the CPU alone and another device was asked for.
            ImportError: a library it needs is not there; ``missing`` says so beforehand.
        """
        if device != "cpu" and not self.takes_device:
            raise BadOption(f"--device: the {self.name} backend knows cpu alone, got {device}")
        module = importlib.import_module(self.module)
        place = {"device": device} if self.takes_device else {}
        cores = {"threads": threads} if self.takes_threads else {}
        return LoadedBackend(
            partial(module.train, **place, **cores), partial(module.evaluate, **place)
        )


def available_cores() -> int:
    """Cores this process may use."""
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
"""By name; the order is the order of a report."""
