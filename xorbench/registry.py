"""Registries: entries of one kind, by name. Other packages add entries by entry points.

A package adds a check, an engine, a probe or a fault with one line in its `pyproject.toml`:

    [project.entry-points."xorbench.checks"]
    falling = "my_package.checks:FALLING"

The name on the left must be that of the object on the right. docs/extending.md is the guide.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, Final, Protocol, TypeVar

from xorbench.errors import BadFile

PREFIX: Final = "xorbench"


class Named(Protocol):
    """An object with a name, which a registry can hold."""

    @property
    def name(self) -> str:
        """Its name on the command line and in files."""
        ...


Registered = TypeVar("Registered", bound=Named)


class Registry(Mapping[str, Registered]):
    """Entries by name: the package's own, then the entries of other packages in order of name.

    `kind` is a plural that names the group of entry points: `checks` for `xorbench.checks`. Entry
    points are read on first use. Raises `BadFile`, which names the package, for an entry that
    cannot be imported, has the wrong type, or uses an existing name.
    """

    def __init__(self, kind: str, entry_type: type[Registered], own: Iterable[Registered]) -> None:
        self.kind, self._type = kind, entry_type
        self._own = {entry.name: entry for entry in own}

    def __getitem__(self, name: str) -> Registered:
        """The entry with this name."""
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def added_by(self, name: str) -> str:
        """The package that added an entry; empty for the package's own."""
        if name in self._own:
            return ""
        return next((_source(point) for point in self._points if point.name == name), "")

    @cached_property
    def _points(self) -> list[EntryPoint]:
        return sorted(entry_points(group=f"{PREFIX}.{self.kind}"), key=lambda point: point.name)

    @cached_property
    def _entries(self) -> dict[str, Registered]:
        entries = dict(self._own)
        for point in self._points:
            if point.name in entries:
                raise self._bad(point, "the name exists already")
            entries[point.name] = self._loaded(point)
        return entries

    def _loaded(self, point: EntryPoint) -> Registered:
        try:
            entry = point.load()
        except Exception as error:
            raise self._bad(point, f"{type(error).__name__}: {error}") from error
        if not isinstance(entry, self._type):
            raise self._bad(point, f"{point.value} is not of type {self._type.__name__}")
        if entry.name != point.name:
            raise self._bad(point, f"{point.value} is named {entry.name!r}")
        return entry

    def _bad(self, point: EntryPoint, why: str) -> BadFile:
        place = f"entry point {point.name!r} of {PREFIX}.{self.kind} in {_source(point)}"
        return BadFile(f"{place}: {why}", f"fix or uninstall {_source(point).split()[0]}")


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def implementation(path: str) -> Any:
    """Import the object that a row names as `package.module:object`.

    The orchestrator reads the row without torch; only the process that uses the object imports it.
    """
    return resolve_name(path)
