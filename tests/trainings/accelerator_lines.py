"""The lines that ask for a device's type or use PyTorch's accelerator, where torch is imported.

Elsewhere a device is a name: what the orchestrator makes of it is tested on records. The recorder
runs in the programs of users: test_recorder*.py has its tests.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import xorbench

PACKAGE = Path(xorbench.__file__).parent
PACKAGES = ("process/", "machine/universal/", "xor/training/")
ORCHESTRATED = "machine/universal/sweep_plan.py"  # the plan of a sweep, in which a device is a name
MODULES = {"accelerator", "cuda", "mps", "xpu"}


def asks(node: ast.AST) -> bool:
    """Whether the node is `torch.accelerator`, a device's `type`, or a function that gives one."""
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
    """Every statement that is none of many: of a block, what stands at its head."""
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            yield node


def heads(node: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement, without the statements in it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return
    waiting: list[ast.AST] = [c for c in ast.iter_child_nodes(node) if not isinstance(c, ast.stmt)]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [c for c in ast.iter_child_nodes(one) if not isinstance(c, ast.stmt)]


def lines_of(source: str) -> set[int]:
    """The line of each node that asks."""
    return {
        node.lineno
        for statement in statements(ast.parse(source))
        for node in heads(statement)
        if asks(node) and isinstance(node, ast.expr)
    }


def wanted() -> dict[str, set[int]]:
    """Those lines, by file below the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(PACKAGES) and name != ORCHESTRATED:
            found[name] = lines_of(path.read_text())
    return {name: lines for name, lines in found.items() if lines}
