"""The names that docs/stability.md promises are those of the stored list."""

import json
from typing import Any

import pytest
from stable_interface import STORED, interface

WRITE = (
    "run `python tests/stable_interface.py`, and read docs/stability.md before a name is removed"
)
PARTS = ("python", "exit codes", "options", "csv")


@pytest.fixture(scope="module")
def present() -> dict[str, Any]:
    """The interface of the program as it is."""
    return interface()


def changes(stored: dict[str, Any], present: dict[str, Any]) -> list[str]:
    """Each name that was added or removed, and its place."""
    lines = []
    for place in sorted(stored.keys() | present.keys()):
        before, after = (_names(side.get(place, [])) for side in (stored, present))
        lines += [f"{place}: {name} was removed" for name in before if name not in after]
        lines += [f"{place}: {name} was added" for name in after if name not in before]
    return lines


def _names(value: Any) -> list[str]:
    return value if isinstance(value, list) else [str(value)]


@pytest.mark.parametrize("part", PARTS)
def test_the_interface_is_the_stored_one(part: str, present: dict[str, Any]) -> None:
    """A change of a public name, an option, an exit code or a column changes the file as well."""
    stored = json.loads(STORED.read_text())
    assert stored.keys() == {*PARTS, "json"}
    assert changes(stored[part], present[part]) == [], WRITE


def test_a_removed_option_is_seen(present: dict[str, Any]) -> None:
    """The comparison itself can fail, in both directions."""
    options = present["options"]
    fewer = {**options, "xorbench check": options["xorbench check"][1:]}
    assert changes(options, fewer) == ["xorbench check: --against VALUE was removed"]
    assert changes(fewer, options) == ["xorbench check: --against VALUE was added"]
