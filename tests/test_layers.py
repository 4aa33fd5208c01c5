"""Imports point one way: each package knows only those before it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import xorbench
from xorbench.runtime.staging import PACKAGES

PACKAGE = Path(xorbench.__file__).parent

# A layer may import those before it. A module that has other rights than its package is listed
# itself. "torch" layers run in processes that train; the others orchestrate, and import none of
# them; "standard" ones import the standard library alone, and may be imported by both.
LAYERS = {
    "errors": "standard",
    "recorder.masking": "standard",
    "recorder.environment": "standard",
    "recorder": "torch",
    "registry": "standard",
    "state_digest": "standard",
    "options": "standard",
    "extras": "standard",
    "xor.matrix": "standard",
    "machine.kernels": "standard",
    "machine.probes.table": "standard",
    "machine.universal.sweep_plan": "standard",
    "machine.universal": "torch",
    "machine.probes": "torch",
    "xor.training": "torch",
    "process.protocol": "standard",
    "process": "torch",
    "verdicts": "",
    "answers": "",
    "stats": "",
    "records": "",
    "runtime": "",
    "report": "",
    "machine": "",
    "programs": "",
    "programs.questions": "",
    "programs.check_questions": "",  # the list of them
    "xor.analysis": "",
    "xor.checks": "",
    "xor.compare": "",
    "xor.report": "",
    "xor.run": "",
    "xor.trace": "",
    "xor": "",
    "fleet.rendezvous": "torch",  # the store of torch.distributed
    "fleet": "",
    "api": "",
    "cli": "",
    "pytest_plugin": "",
    "__main__": "",
}
ORDER = list(LAYERS)


def layer_of(name: str) -> str:
    """The layer of a dotted name below `xorbench`; empty for the package itself."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in LAYERS), "")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module with its layer."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if layer_of(name):
            yield layer_of(name), path


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a module imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # the recorder also runs where no xorbench is installed, under a name of its own
            recorder = PACKAGE / "recorder"
            depth = len(path.relative_to(recorder).parts) if path.is_relative_to(recorder) else 0
            assert node.level <= depth, f"{path}: relative import"
            if node.level == 0:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(layer: str, names: Iterator[str]) -> list[str]:
    """The imports that a layer may not have."""
    return [name for name in names if not _is_allowed(layer, name)]


def _is_allowed(layer: str, name: str) -> bool:
    root, _, rest = name.partition(".")
    if root == "torch":
        return LAYERS[layer] == "torch"
    target = layer_of(rest)
    if root != "xorbench" or target in {"", layer}:
        return True
    if LAYERS[target] == "torch" and LAYERS[layer] != "torch" and (layer, target) != RENDEZVOUS:
        return False
    return ORDER.index(target) < ORDER.index(layer)


RENDEZVOUS = ("fleet", "fleet.rendezvous")


@pytest.mark.parametrize(
    ("layer", "path"), list(modules()), ids=lambda value: getattr(value, "name", None)
)
def test_a_module_imports_only_layers_before_its_own(layer: str, path: Path) -> None:
    """No module reaches forward, and torch stays in the packages that train."""
    assert breaches(layer, imports(path)) == []


def test_every_module_has_a_layer() -> None:
    """Each module of the package stands in a layer, and each layer has a module."""
    names = {layer for layer, _ in modules()}
    assert names == set(LAYERS)
    unplaced = {*PACKAGE.rglob("*.py")} - {path for _, path in modules()}
    assert unplaced == {PACKAGE / "__init__.py"}


def test_an_injected_breach_is_seen() -> None:
    """The walk itself can fail: forward imports, torch, and a package with torch are found."""
    injected = ["xorbench.report.text", "torch.nn", "xorbench.process.operations"]
    allowed = ["xorbench.xor.matrix.case", "xorbench.process.protocol", "json"]
    assert breaches("records", iter([*injected, *allowed])) == injected


def test_the_process_needs_torch_numpy_and_the_standard_library_alone() -> None:
    """The packages that any interpreter is given import no other third-party library."""
    known = {*sys.stdlib_module_names, "torch", "numpy", "xorbench", "numba", "triton"}
    for layer, path in modules():
        roots = {name.split(".")[0] for name in imports(path)}
        if LAYERS[layer] and layer != "fleet.rendezvous":
            assert roots <= known, path
        if LAYERS[layer] == "standard":
            assert not roots & {"torch", "numpy", "numba"}, path


def test_the_process_is_given_every_package_that_it_imports() -> None:
    """What is staged for a process imports nothing that is not staged."""
    staged = [
        file
        for place in PACKAGES
        for file in ((PACKAGE / place).rglob("*.py") if "." not in place else [PACKAGE / place])
    ]
    names = {
        ".".join(p for p in f.relative_to(PACKAGE).with_suffix("").parts if p != "__init__")
        for f in staged
    }
    for file in set(staged) - {PACKAGE / "__init__.py"}:  # it imports the API when that is used
        for name in imports(file):
            root, _, rest = name.partition(".")
            if root == "xorbench" and rest != "__version__":
                assert rest in names or rest.rpartition(".")[0] in names, (file, name)
