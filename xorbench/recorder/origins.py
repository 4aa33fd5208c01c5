"""Where values come from: seeds, generators without a seed, and the lines that make weights.

Only runs with detailed recording note them. A run of a check of a resume notes the state that the
program keeps in plain variables instead.
"""

from __future__ import annotations

import functools
import os
import random
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules import module as modules
from torch.utils.weak import WeakIdKeyDictionary

from .detail import SITE, STANDARD, TORCH, line_of, short_name
from .entry import after_import
from .generators import short
from .kept_state import kept_state_of
from .options import Options
from .sources import listed, main_file, program_files, sources_of

MOST_NOTES = 200  # of one process
MAKERS = ("secrets.py", "random.py")  # of the standard library


class Origins:
    """Notes of one process: seeds by digest, generators without a seed, the makers of weights."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._main = main_file()
        self._find = sources_of if options.detail is not None else kept_state_of
        self._notes: dict[str, dict[str, Any]] = {}
        self._weights = WeakIdKeyDictionary()

    def install(self, steps: Callable[[], int]) -> None:
        """Begin to note; `steps` returns the number of complete steps."""
        self._steps = steps
        if self._options.detail is None:
            return
        torch.manual_seed = self._noting_seed(torch.manual_seed, "torch cpu")
        torch.random.manual_seed = torch.manual_seed
        torch.seed = self._noting_seed(torch.seed, "torch cpu")
        random.seed = self._noting_seed(random.seed, "python")
        self._note_random_objects()
        after_import("numpy.random", self._install_numpy)
        modules.register_module_parameter_registration_hook(self._registered)
        modules.register_module_buffer_registration_hook(self._registered)

    def of_weight(self, tensor: torch.Tensor) -> dict[str, Any]:
        """The line that made a parameter or a buffer, and whether PyTorch was seeded before."""
        details: dict[str, Any] = self._weights.get(tensor, {})
        return details

    def lines(self) -> list[dict[str, Any]]:
        """All notes, and the sources in the files of the program."""
        places = [
            {
                "kind": source.kind,
                "name": source.name,
                "where": f"{short_name(path, self._options)}:{source.line}",
                "within": source.within,
                "generator": source.generator,
            }
            for path, source in listed(program_files(self._options.root, self._main), self._find)
        ]
        return [
            {key: value for key, value in note.items() if value not in ("", None)}
            for note in [*self._notes.values(), *places]
        ]

    def _registered(self, _module: Any, _name: str, tensor: Any) -> None:
        """A module gets a parameter or a buffer."""
        if isinstance(tensor, torch.Tensor) and not torch.compiler.is_compiling():
            details: dict[str, Any] = {"where": line_of(self._options)}
            if not any(note.get("name") == "torch cpu" for note in self._notes.values()):
                details["unseeded"] = True
            self._weights.setdefault(tensor, details)

    def _noting_seed(self, original: Callable[..., Any], generator: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def seed(*args: Any, **kwargs: Any) -> Any:
            if not torch.compiler.is_compiling():
                self._seeded(generator, args, kwargs)
            return original(*args, **kwargs)

        return seed

    def _seeded(self, generator: str, args: Any, kwargs: Any) -> None:
        """A global generator is seeded; a later seed before the same step replaces an earlier."""
        given = [value for value in (*args, *kwargs.values()) if value is not None]
        try:
            value = repr(given) if given else os.urandom(8).hex()  # of the operating system
        except Exception:
            return
        self._note(
            f"{generator} {self._steps()}",
            kind="seeded",
            name=generator,
            where=line_of(self._options),
            digest=short(value.encode()),
            step=self._steps(),
        )

    def _note_random_objects(self) -> None:
        original = random.Random.seed

        @functools.wraps(original)
        def seed(this: Any, a: Any = None, *args: Any, **kwargs: Any) -> Any:
            if a is None:
                self._unseeded("random.Random()")
            return original(this, a, *args, **kwargs)

        random.Random.seed = seed  # type: ignore[method-assign, assignment]

    def _install_numpy(self) -> None:
        """NumPy asks one function for the entropy of each generator without a seed."""
        numpy: Any = sys.modules["numpy"]
        numpy.random.seed = self._noting_seed(numpy.random.seed, "numpy")
        generators = numpy.random.bit_generator
        original = getattr(generators, "randbits", None)
        if original is None:
            return

        @functools.wraps(original)
        def randbits(*args: Any) -> Any:
            self._unseeded("a generator of numpy.random")
            return original(*args)

        generators.randbits = randbits

    def _unseeded(self, name: str) -> None:
        """A generator is made without a seed, by the program or by a library that it calls."""
        where = self._program_line(sys._getframe(2))
        if where:
            self._note(f"{name} {where}", kind="unseeded", name=name, where=where)

    def _program_line(self, frame: Any) -> str:
        """The line of the program, unless Python makes the generator, or the import of a library.

        A library that is imported makes generators for itself.
        """
        while frame is not None and (
            os.path.basename(frame.f_code.co_filename) in MAKERS
            or frame.f_code.co_filename == __file__  # a noted seed function
        ):
            frame = frame.f_back
        maker = True
        while frame is not None:
            name = frame.f_code.co_filename
            if SITE not in name and not name.startswith((STANDARD, "<", TORCH)):
                return f"{short_name(name, self._options)}:{frame.f_lineno}"
            if name.startswith("<frozen importlib") or (maker and SITE not in name):
                return ""
            maker, frame = False, frame.f_back
        return ""

    def _note(self, key: str, **note: Any) -> None:
        if len(self._notes) < MOST_NOTES or key in self._notes:
            self._notes[key] = note
