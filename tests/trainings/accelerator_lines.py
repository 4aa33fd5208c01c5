"""Finds the lines that use a device's type or PyTorch's accelerator, in packages with torch.

In other packages a device is a name, and tests on records cover these. The recorder runs in users'
programs and has its own tests, test_recorder*.py.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import xorbench

PACKAGE = Path(xorbench.__file__).parent
PACKAGES = ("process/", "machine/universal/", "xor/training/")
ORCHESTRATED = "machine/universal/sweep_plan.py"  # the plan of a sweep, in which a device is a name
MODULES = {"accelerator", "cuda", "mps", "xpu"}


def uses_device(node: ast.AST) -> bool:
    """Whether the node is `torch.accelerator`, a device's `type`, or a function that returns it."""
    if isinstance(node, ast.Attribute):
        of_torch = isinstance(node.value, ast.Name) and node.value.id == "torch"
        if of_torch and node.attr in {*MODULES, "get_device_module"}:
            return True
        return node.attr == "type" and ast.unparse(node.value).rpartition(".")[2] in {
            "device", "_device", "place",
        }  # fmt: skip
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"device_type", "with_index"}
    )


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Every statement of the module, including nested ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            yield node


def heads(node: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement, without nested statements."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return
    waiting: list[ast.AST] = [c for c in ast.iter_child_nodes(node) if not isinstance(c, ast.stmt)]
    while waiting:
        child = waiting.pop()
        yield child
        waiting += [c for c in ast.iter_child_nodes(child) if not isinstance(c, ast.stmt)]


def lines_of(source: str) -> set[int]:
    """The line of each node that uses a device."""
    return {
        node.lineno
        for statement in statements(ast.parse(source))
        for node in heads(statement)
        if uses_device(node) and isinstance(node, ast.expr)
    }


def wanted() -> dict[str, set[int]]:
    """The lines that use a device, by file in the package."""
    by_file = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(PACKAGES) and name != ORCHESTRATED:
            by_file[name] = lines_of(path.read_text())
    return {name: lines for name, lines in by_file.items() if lines}
