"""State of a training in plain variables, and the lines that save and load, from the source.

A checkpoint easily misses such state: a counter, the best metric, a replay buffer, a generator.
"""

from __future__ import annotations

import ast

from .sources import Finder, Source, path_of

LOADS = ("torch.load", "load_file", "safe_open", "load_checkpoint", "pickle.load")
SAVES = ("torch.save", "save_file", "save_checkpoint", "pickle.dump")
GROWS = ("append", "appendleft", "extend", "add", "update", "insert", "put")
RESTORES = ("load_state_dict", "set_state", "setstate", "extend", "update", "clear")
GENERATORS = ("Generator", "Random", "default_rng", "RandomState")


class StateFinder(Finder):
    """Collects variables that change in loops and methods, and are not restored."""

    def __init__(self) -> None:
        super().__init__()
        self._changed: dict[str, int] = {}
        self._objects: dict[str, tuple[str, int]] = {}  # kind and line, by name
        self._reset: set[str] = set()  # assigned within a loop, whatever they were
        self._restored: set[str] = set()
        self._saved: set[str] = set()  # passed to a save as they are
        self._calls: list[Source] = []

    def kept(self) -> list[Source]:
        """The state that is not restored, and the calls that save and load."""
        state = [
            Source("state", name, line)
            for name, line in self._changed.items()
            if name not in self._restored | self._reset | self._saved and name != "_"
        ]
        objects = [
            Source(kind, name, line)
            for name, (kind, line) in self._objects.items()
            if name not in self._restored
        ]
        return [*state, *objects, *self._calls]

    def visit_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802 - the name that `ast` calls
        """`count += 1`."""
        self._change(path_of(node.target), node)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:  # noqa: N802 - the name that `ast` calls
        """A variable that is restored, reset in a loop, or changed under a condition."""
        for target in node.targets:
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                self._assign(path_of(part), node)
        super().visit_Assign(node)

    def visit_Call(self, node: ast.Call) -> None:  # noqa: N802 - the name that `ast` calls
        """A call that saves, loads, restores, or adds to a collection."""
        name = self.name_of(node.func)
        last = name.rpartition(".")[2]
        owner = path_of(getattr(node.func, "value", node))
        if _is_any(name, LOADS):
            self._calls.append(Source("load", name, node.lineno))
        elif _is_any(name, SAVES):
            self._calls.append(Source("save", name, node.lineno))
            self._saved.update(filter(None, map(path_of, _parts(node))))
        if last in RESTORES and any(_reads_key(argument) for argument in node.args):
            self._restored.add(owner)
        elif last in GROWS and isinstance(self.parent(), ast.Expr):
            self._change(owner, node)
        super().visit_Call(node)

    def _assign(self, name: str, node: ast.Assign) -> None:
        value = node.value
        if not name:
            return
        if _reads_key(value):
            self._restored.add(name)
        elif isinstance(value, ast.Call) and (kind := self._kind_of(value)):
            self._objects[name] = kind, node.lineno
        elif self._conditional() and self._looped():
            self._change(name, node)
        elif self._looped() and "." not in name:
            self._reset.add(name)

    def _kind_of(self, call: ast.Call) -> str:
        """The kind of an object with state that a checkpoint needs."""
        while isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call):
            call = call.func.value  # `torch.Generator().manual_seed(1)`
        name = self.name_of(call.func).rpartition(".")[2]
        if name in GENERATORS:
            return "generator"
        if name == "GradScaler":
            return "loss scaler"
        return "scheduler" if name.endswith(("LR", "Restarts", "Plateau", "cheduler")) else ""

    def _change(self, name: str, node: ast.AST) -> None:
        if name and self._looped():
            self._changed.setdefault(name, getattr(node, "lineno", 0))

    def _looped(self) -> bool:
        """Whether the code runs repeatedly: in a loop, or in a method."""
        return any(isinstance(p, (ast.For, ast.While, ast.FunctionDef)) for p in self.parents)

    def _conditional(self) -> bool:
        return any(isinstance(parent, ast.If) for parent in self.parents)


def _reads_key(node: ast.AST) -> bool:
    """Whether an expression reads `state["name"]` or `state.get("name")`."""
    return any(
        (isinstance(part, ast.Subscript) and _is_text(part.slice))
        or (
            isinstance(part, ast.Call)
            and isinstance(part.func, ast.Attribute)
            and part.func.attr in ("get", "pop")
            and any(_is_text(argument) for argument in part.args[:1])
        )
        for part in ast.walk(node)
    )


def _parts(call: ast.Call) -> list[ast.expr]:
    """The arguments of a save, and the dictionaries that an argument is made of."""
    unpacked = [
        value
        for argument in call.args
        if isinstance(argument, ast.Dict)
        for key, value in zip(argument.keys, argument.values)  # noqa: B905 - Python 3.9
        if key is None
    ]
    return [*call.args, *unpacked]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_any(name: str, names: tuple[str, ...]) -> bool:
    return any(name == known or name.endswith(f".{known}") for known in names)


def kept_state_of(text: str) -> list[Source]:
    """The state of a file that is not restored, and the calls that save and load."""
    finder = StateFinder()
    finder.visit(ast.parse(text))
    return finder.kept()
