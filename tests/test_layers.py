"""Imports point one way: each room knows only those before it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xorbench

PACKAGE = Path(xorbench.__file__).parent

# What each room may import of the others; `worker.protocol` is the pipe's two ends.
MAY_IMPORT = {
    "errors": set(),
    "plan": {"errors"},
    "universal": {"errors", "plan"},
    "workload": {"errors", "plan"},
    "lessons": {"errors", "plan", "workload", "universal"},
    "worker": {"errors", "plan", "workload", "universal", "lessons"},
    "observe": {"errors", "plan"},
    "measure": {"errors", "plan", "observe", "worker.protocol"},
    "judge": {"errors", "plan", "observe"},
    "fleet": {"errors", "plan", "observe", "judge"},
    "fleet.meeting": {"errors", "fleet"},
    "report": {"errors", "plan", "observe", "judge", "fleet"},
    "verbs": {"errors", "plan", "observe", "measure", "judge", "fleet", "report"},
    "cli": {"errors", "plan", "observe", "report", "verbs"},
    "__main__": {"cli"},
}
STANDARD_ONLY = {"plan", "errors"}
WITH_TORCH = {"workload", "universal", "lessons", "worker", "fleet.meeting"}
ALONE = {("fleet", "meeting")}  # a module that is a room of its own: torch's store, nothing else


def modules() -> Iterator[tuple[str, Path]]:
    """Every module with the room it stands in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield ".".join(parts) if parts in ALONE else parts[0], path


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a module imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(room: str, names: Iterator[str]) -> list[str]:
    """The imports that a room may not have."""
    found = []
    for name in names:
        parts = name.split(".")
        if parts[0] == "torch" and room not in WITH_TORCH:
            found.append(name)
        if parts[0] != "xorbench" or len(parts) == 1 or parts[1] in ("__version__", room):
            continue
        allowed = MAY_IMPORT[room]
        if parts[1] not in allowed and ".".join(parts[1:3]) not in allowed:
            found.append(name)
    return found


@pytest.mark.parametrize(
    ("room", "path"), list(modules()), ids=lambda value: getattr(value, "name", None)
)
def test_a_module_imports_only_rooms_before_its_own(room: str, path: Path) -> None:
    """No module reaches forward, and torch stays in the rooms that train."""
    assert breaches(room, imports(path)) == []


def test_a_planted_breach_is_seen() -> None:
    """The walk itself can fail: forward imports and torch in the wrong room are found."""
    planted = ["xorbench.report.tables", "torch.nn", "xorbench.plan.case", "json"]
    assert breaches("observe", iter(planted)) == planted[:2]


def test_the_worker_needs_torch_numpy_and_the_standard_library_alone() -> None:
    """The rooms that any interpreter is given import no other third-party library."""
    import sys

    known = {*sys.stdlib_module_names, "torch", "numpy", "xorbench", "numba", "triton"}
    for room, path in modules():
        if room in {"plan", "errors", "workload", "worker", "universal", "lessons"}:
            roots = {name.split(".")[0] for name in imports(path)}
            assert roots <= known, path
            if room in STANDARD_ONLY:
                assert not roots & {"torch", "numpy", "numba"}, path
