"""Registries: what there is of a kind, by name. Other packages add theirs by entry points.

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
    """What a registry holds: an object that says its own name."""

    @property
    def name(self) -> str:
        """Its name on the command line and in files."""
        ...


Registered = TypeVar("Registered", bound=Named)


class Registry(Mapping[str, Registered]):
    """Entries by name: the package's own, then those of other packages, by name.

    `kind` is the plural that names the group of entry points, as `checks` does `xorbench.checks`.
    The entry points are read when the registry is first asked for anything. Raises `BadFile`, which
    names the package, for one that cannot be imported, is another kind of object, or takes a name.
    """

    def __init__(self, kind: str, entry_type: type[Registered], own: Iterable[Registered]) -> None:
        self.kind, self._type = kind, entry_type
        self._own = {entry.name: entry for entry in own}

    def __getitem__(self, name: str) -> Registered:
        """The entry of a name."""
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
                raise self._bad(point, "the name is taken")
            entries[point.name] = self._loaded(point)
        return entries

    def _loaded(self, point: EntryPoint) -> Registered:
        try:
            entry = point.load()
        except Exception as error:
            raise self._bad(point, f"{type(error).__name__}: {error}") from error
        if not isinstance(entry, self._type):
            raise self._bad(point, f"{point.value} is no {self._type.__name__}")
        if entry.name != point.name:
            raise self._bad(point, f"{point.value} is named {entry.name!r}")
        return entry

    def _bad(self, point: EntryPoint, why: str) -> BadFile:
        place = f"entry point {point.name!r} of {PREFIX}.{self.kind} in {_source(point)}"
        return BadFile(f"{place}: {why}", f"mend or uninstall {_source(point).split()[0]}")


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def implementation(path: str) -> Any:
    """The object that a row names as `package.module:object`: imported when it is used.

    So the orchestrator knows the row without torch, and only a process imports what it does.
    """
    return resolve_name(path)
