"""Imports point one way: each package knows only those before it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xorbench

PACKAGE = Path(xorbench.__file__).parent

# What each package may import of the others; `process.protocol` is the pipe's two ends.
MAY_IMPORT = {
    "errors": set(),
    "recorder": set(),
    "plan": {"errors"},
    "universal": {"errors", "plan"},
    "probes": {"errors", "plan", "universal"},
    "workload": {"errors", "plan", "recorder"},
    "process": {"errors", "plan", "probes", "recorder", "workload", "universal"},
    "observe": {"errors", "plan", "recorder.masking"},
    "measure": {
        "errors",
        "plan",
        "observe",
        "process.protocol",
        "recorder.machine",
        "recorder.masking",
    },
    "judge": {"errors", "plan", "observe"},
    "fleet": {"errors", "plan", "observe", "judge", "recorder.machine"},
    "fleet.rendezvous": {"errors", "fleet"},
    "report": {"errors", "plan", "observe", "judge", "fleet", "recorder.machine"},
    "commands": {"errors", "plan", "observe", "measure", "judge", "fleet", "report"},
    "cli": {"errors", "plan", "observe", "report", "commands", "recorder.masking"},
    "__main__": {"cli"},
    "api": {"errors", "plan", "observe", "judge", "report", "commands"},
    "runs": {"errors", "plan", "observe", "judge", "report", "commands"},
    "pytest_plugin": {"errors", "api"},
}
STANDARD_ONLY = {"plan", "errors"}
WITH_TORCH = {
    "probes",
    "recorder",
    "workload",
    "universal",
    "process",
    "fleet.rendezvous",
}
ALONE = {
    ("fleet", "rendezvous")
}  # a module that is a package of its own: torch's store, nothing else


def modules() -> Iterator[tuple[str, Path]]:
    """Every module with the package it stands in."""
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
            # the recorder also runs where no xorbench is installed, under a name of its own
            alone = path.is_relative_to(PACKAGE / "recorder")
            assert node.level <= int(alone), f"{path}: relative import"
            if node.level == 0:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(layer: str, names: Iterator[str]) -> list[str]:
    """The imports that a package may not have."""
    found = []
    for name in names:
        parts = name.split(".")
        if parts[0] == "torch" and layer not in WITH_TORCH:
            found.append(name)
        if parts[0] != "xorbench" or len(parts) == 1 or parts[1] in ("__version__", layer):
            continue
        allowed = MAY_IMPORT[layer]
        if parts[1] not in allowed and ".".join(parts[1:3]) not in allowed:
            found.append(name)
    return found


@pytest.mark.parametrize(
    ("layer", "path"), list(modules()), ids=lambda value: getattr(value, "name", None)
)
def test_a_module_imports_only_layers_before_its_own(layer: str, path: Path) -> None:
    """No module reaches forward, and torch stays in the packages that train."""
    assert breaches(layer, imports(path)) == []


def test_a_injected_breach_is_seen() -> None:
    """The walk itself can fail: forward imports and torch in the wrong package are found."""
    injected = ["xorbench.report.tables", "torch.nn", "xorbench.plan.case", "json"]
    assert breaches("observe", iter(injected)) == injected[:2]


def test_the_process_needs_torch_numpy_and_the_standard_library_alone() -> None:
    """The packages that any interpreter is given import no other third-party library."""
    import sys

    known = {*sys.stdlib_module_names, "torch", "numpy", "xorbench", "numba", "triton"}
    for layer, path in modules():
        if layer in {"plan", "errors", "recorder", "workload", "process", "universal"}:
            roots = {name.split(".")[0] for name in imports(path)}
            assert roots <= known, path
            if layer in STANDARD_ONLY:
                assert not roots & {"torch", "numpy", "numba"}, path
