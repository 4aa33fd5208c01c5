"""The entry point of the recorder: it reports its start and waits for `import torch`."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from .masking import encodable, masked, masked_words
from .options import FOLDER_VARIABLE, read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

AuditHook = Callable[[str, Any], None]  # takes an event and its arguments
LISTED = ("outside", "started")  # files written outside the folder, Python commands
LARGEST_LIST = 50  # of each
LONGEST_COMMAND = 200
# The audit events of a new process, and the index of the command in their arguments.
STARTS = {"subprocess.Popen": 1, "os.posix_spawn": 1, "os.system": 0}
PYTHON = re.compile(r"(^|[\s/'\"])python[\d.]*($|[\s'\"])")
NOT_REPORTED = ("/dev/", "/proc/", "/sys/")
GENERATED = "_remote_module_non_scriptable.py"  # by PyTorch 2.6, in a temporary folder


def enter() -> None:
    """Report that this interpreter runs, and install the recorder once torch is imported."""
    folder = os.environ[FOLDER_VARIABLE]
    presence = Presence(folder)
    words = getattr(sys, "orig_argv", None) or getattr(sys, "argv", [])
    shown = [encodable(word) for word in masked_words(words)]
    presence.report("python", argv=shown, parent=os.getppid())
    sys.addaudithook(started(presence))
    options = read()
    root = options.root
    if root:
        hook = written_outside(root, folder, presence)
        presence.hooks.append(hook)
        sys.addaudithook(hook)

    def later(name: str, work: Callable[[], None]) -> None:
        def shielded() -> None:
            try:
                work()
            except Exception as error:
                presence.failed(error)

        after_import(name, shielded)

    def start() -> None:
        from . import switches
        from .install import install

        switches.after_torch(options.switches)
        install(presence)
        if options.notice:
            switches.notice(presence)

    if options.switches:
        from . import switches

        switches.start(options.switches, later)
    later("torch", start)
    # Only to import it without garbage collection: the first step of an optimizer imports it, which
    # takes as long as the import of torch.
    after_import("torch._dynamo", lambda: None)


def after_import(name: str, start: Callable[[], None]) -> None:
    """Call `start` after the import of the module, or now if it is imported already."""
    if name in sys.modules:
        start()
    else:
        sys.meta_path.insert(0, AfterImport(name, start))


class Presence:
    """Writes the events of this interpreter to `presence.jsonl`; it never raises."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.hooks: list[AuditHook] = []
        self._written: set[str] = set()
        self._listed: dict[str, int] = {}

    def failed(self, error: Exception) -> None:
        """Append an error of the recorder."""
        self.report("failed", why=encodable(masked(f"{type(error).__name__}: {error}")))

    def report(self, event: str, **details: Any) -> None:
        """Append one event as a line."""
        line = json.dumps({"pid": os.getpid(), "event": event, **details}) + "\n"
        if line in self._written:
            return
        if event in LISTED:
            self._listed[event] = self._listed.get(event, 0) + 1
            if self._listed[event] > LARGEST_LIST:
                return
        self._written.add(line)
        path = os.path.join(self.folder, "presence.jsonl")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        with contextlib.suppress(OSError):
            descriptor = os.open(path, flags, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)


class AfterImport(MetaPathFinder):
    """Finds a module in the usual way, and calls `start` after its import."""

    def __init__(self, name: str, start: Callable[[], None]) -> None:
        self._name = name
        self._start = start
        self._looking = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The spec of the module with a loader that calls back; None for other modules.

        The finder stays until the import, since some programs look for torch long before it.
        """
        if fullname != self._name or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            _call_after(spec.loader, self._imported)
        return spec

    def _imported(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self._start()


def _call_after(loader: Loader, start: Callable[[], None]) -> None:
    """Import without garbage collection, since the imported objects stay, then call `start`."""
    original = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        collects = gc.isenabled()
        gc.disable()
        try:
            original(module)
        finally:
            if collects:
                gc.enable()
        start()

    loader.exec_module = exec_module  # type: ignore[method-assign]


def started(presence: Presence) -> AuditHook:
    """An audit hook that reports commands that start a Python interpreter."""

    def report(event: str, arguments: Any) -> None:
        words = arguments[STARTS[event]]
        if isinstance(words, (list, tuple)):
            names = [os.path.basename(os.fsdecode(word)) for word in words]
            text = " ".join(masked_words(names))
        else:
            text = masked(os.fsdecode(words))
        if PYTHON.search(text):
            presence.report("started", command=encodable(text[:LONGEST_COMMAND]))

    return _shielded_hook(tuple(STARTS), report)


def written_outside(root: str, folder: str, presence: Presence) -> AuditHook:
    """An audit hook that reports files opened for writing outside the working folder."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    inside = tuple(os.path.realpath(place) + os.sep for place in (root, folder))

    def report(_event: str, arguments: Any) -> None:
        path, mode, flags = arguments
        writes = any(c in mode for c in "wax+") if mode else flags & writing
        if writes and isinstance(path, (str, bytes, os.PathLike)):
            real = os.path.realpath(os.fsdecode(path))
            own = "__pycache__" in real or os.path.basename(real) == GENERATED
            if not own and not real.startswith((*inside, *NOT_REPORTED)):
                presence.report("outside", **named(real))

    return _shielded_hook(("open",), report)


def _shielded_hook(events: tuple[str, ...], report: AuditHook) -> AuditHook:
    """An audit hook that reports some events and never raises."""

    def hook(event: str, arguments: Any) -> None:
        if event in events:
            with contextlib.suppress(Exception):
                report(event, arguments)

    return hook


def named(path: str) -> dict[str, str]:
    """A path as text, and its bytes in hex if they are not UTF-8."""
    text = encodable(path)
    return {"path": text} if text == path else {"path": text, "raw": os.fsencode(path).hex()}
