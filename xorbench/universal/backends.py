"""The table of backends. A backend is loaded when it is asked for, and says why if it cannot be."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from xorbench.universal.trained import Train


class Loaded(Protocol):
    """What a backend's module offers."""

    train: Train
    """Train one model a seed; torch takes a ``device`` besides, numba ``threads``."""
    evaluate: Callable[..., object]
    """(operation, a, b, c) on float32 bit patterns, for the probe; torch takes a ``device``."""


@dataclass(frozen=True)
class Backend:
    """One implementation of the universal training, and the libraries beyond NumPy it needs."""

    name: str
    module: str
    needs: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Why the backend cannot be used here, or None if it can; imports what it needs."""
        for library in self.needs:
            try:
                importlib.import_module(library)
            except Exception as error:  # a library may refuse its surroundings in its own way
                return f"{library} cannot be imported: {type(error).__name__}: {error}"
        return None

    def load(self) -> Loaded:
        """Import the backend.

        Raises:
            ImportError: a library it needs is not there; ``missing`` tells beforehand.
        """
        return cast(Loaded, importlib.import_module(self.module))


BACKENDS: Final = {
    row.name: row
    for row in (
        Backend("numpy", "xorbench.universal.numpy_backend"),
        Backend("torch", "xorbench.universal.torch_backend", needs=("torch",)),
        Backend("numba", "xorbench.universal.numba_backend", needs=("numba",)),
    )
}
