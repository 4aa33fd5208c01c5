"""State of a training in plain variables, and the lines that save and load, from the source.

A checkpoint easily misses such state: a counter, the best metric, a replay buffer, a generator.
"""

from __future__ import annotations

import ast

from .sources import Finder, Source, path_of

LOADS = ("torch.load", "load_file", "safe_open", "load_checkpoint", "pickle.load")
SAVES = ("torch.save", "save_file", "save_checkpoint", "pickle.dump")
APPENDS = ("append", "appendleft", "extend", "insert", "put")
GROWS = (*APPENDS, "add", "update", "pop", "popleft")
COLLECTION = "collection"  # that grows: a buffer
GENERATOR_STATES = ("setstate", "set_state", "set_rng_state", "set_rng_state_all")
RESTORES = ("load_state_dict", "set_state", "setstate", "extend", "update", "clear")
GENERATORS = ("Generator", "Random", "default_rng", "RandomState")


class StateFinder(Finder):
    """Collects variables that change in loops and methods, and are not restored."""

    def __init__(self) -> None:
        super().__init__()
        self._defined: dict[str, int] = {}  # the line that first assigns a variable, outside loops
        self._changed: dict[str, Source] = {}
        self._objects: dict[str, tuple[str, int]] = {}  # kind and line, by name
        self._reset: set[str] = set()  # assigned within a loop, whatever they were
        self._restored: set[str] = set()
        self._saved: set[str] = set()  # passed to a save as they are
        self._loaders: set[str] = set()  # functions that load
        self._results: dict[str, str] = {}  # variables that are the result of a function
        self._calls: list[Source] = []

    def kept(self) -> list[Source]:
        """The state that is not restored, and the calls that save, load and restore."""
        gone = self._reset | self._saved | {"", "_"}
        gone |= {name for name, function in self._results.items() if function in self._loaders}
        attributes = {_last(name) for name in self._restored if "." in name}
        state = [
            source._replace(line=self._defined.get(name, source.line))
            for name, source in self._changed.items()
            if name not in self._restored | gone and _last(name, ".") not in attributes
        ]
        objects = [
            Source(kind, _shown(name), line)
            for name, (kind, line) in self._objects.items()
            if name not in self._restored
        ]
        return [*state, *objects, *self._calls]

    def visit_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802 - the name that `ast` calls
        """`count += 1`."""
        self._change(self._path(node.target), node)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:  # noqa: N802 - the name that `ast` calls
        """A variable that is restored, reset in a loop, or changed."""
        for target in node.targets:
            for part in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
                self._assign(part, node, node.value)
        super().visit_Assign(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802 - the name that `ast` calls
        """`best: float = 0.0`."""
        if node.value is not None:
            self._assign(node.target, node, node.value)
        super().visit_AnnAssign(node)

    def visit_For(self, node: ast.For) -> None:  # noqa: N802 - the name that `ast` calls
        """Each iteration sets the targets of a loop."""
        self._reset.update(self._path(part) for part in ast.walk(node.target))
        super().visit_For(node)

    def visit_Call(self, node: ast.Call) -> None:  # noqa: N802 - the name that `ast` calls
        """A call that saves, loads, restores, or changes an object in place."""
        name = self.name_of(node.func)
        last = _last(name)
        owner = self._path(getattr(node.func, "value", node))
        if _is_any(name, LOADS):
            self._calls.append(Source("load", name, node.lineno))
            self._loaders.update(p.name for p in self.parents if isinstance(p, ast.FunctionDef))
        elif _is_any(name, SAVES):
            self._calls.append(Source("save", name, node.lineno))
            self._saved.update(map(self._path, _parts(node)))
        elif last in GENERATOR_STATES:
            self._calls.append(Source("restore", name, node.lineno))
        if last in RESTORES and any(_reads_key(argument) for argument in node.args):
            self._restored.add(owner)
        elif last in GROWS and isinstance(self.parent(), ast.Expr):
            self._change(owner, node, COLLECTION if last in APPENDS else "")
        elif isinstance(node.func, ast.Attribute) and last.endswith("_") and last[:1] != "_":
            self._change(self._path(_base(node.func)), node)  # `average.mul_(0.9)`
        super().visit_Call(node)

    def _assign(self, target: ast.expr, node: ast.AST, value: ast.expr) -> None:
        name = self._path(target)
        if isinstance(target, ast.Subscript):
            self._change(self._path(_base(target)), node)
        if not name:
            return
        again = any(self._path(part) == name for part in ast.walk(value))
        if not self._in_loop():
            self._defined.setdefault(name, getattr(node, "lineno", 0))
        if _reads_key(value) or _is_load(self, value):
            self._restored.add(name)
        elif isinstance(value, ast.Call) and (kind := self._kind_of(value)):
            if "." in name or not self._in_method():
                self._objects[name] = kind, getattr(node, "lineno", 0)
        elif again or self._conditional():
            self._change(name, node)
        elif self._in_loop() and "." not in name:
            self._reset.add(name)
        self._results.update((name, _last(self.name_of(c.func))) for c in _calls(value))

    def _kind_of(self, call: ast.Call) -> str:
        """The kind of an object with state that a checkpoint needs."""
        if isinstance(call.func, ast.Attribute) and call.func.attr == "manual_seed":
            base = call.func.value  # `torch.Generator().manual_seed(1)`
            call = base if isinstance(base, ast.Call) else call
        name = _last(self.name_of(call.func))
        if name in GENERATORS:
            return "generator"
        if name == "GradScaler":
            return "loss scaler"
        return "scheduler" if name.endswith(("LR", "Restarts", "Plateau", "cheduler")) else ""

    def _change(self, name: str, node: ast.AST, within: str = "") -> None:
        if name and self._repeated(name):
            source = Source("state", _shown(name), getattr(node, "lineno", 0), within)
            self._changed.setdefault(name, source)

    def _path(self, node: ast.AST) -> str:
        """The path of a variable; an attribute of `self` with the name of its class."""
        path = path_of(node)
        if path.startswith("self."):
            owners = [p.name for p in self.parents if isinstance(p, ast.ClassDef)]
            return f"{owners[-1] if owners else ''}:{path}"
        return path

    def _in_loop(self) -> bool:
        return any(isinstance(parent, (ast.For, ast.While)) for parent in self.parents)

    def _in_method(self) -> bool:
        kinds = [type(parent) for parent in self.parents]
        return ast.ClassDef in kinds and ast.FunctionDef in kinds

    def _repeated(self, name: str) -> bool:
        """Whether code that changes a variable runs repeatedly: in a loop, or in a method."""
        functions = [p.name for p in self.parents if isinstance(p, ast.FunctionDef)]
        method = bool(functions) and "." in name and functions[-1] != "__init__"
        return self._in_loop() or method

    def _conditional(self) -> bool:
        return any(isinstance(parent, ast.If) for parent in self.parents)


def _last(name: str, default: str = "") -> str:
    """The last word of a path; of a path of one word, the default if there is one."""
    return name.rpartition(".")[2] if "." in name or not default else default


def _shown(name: str) -> str:
    """The name without that of the class."""
    return name.rpartition(":")[2]


def _base(node: ast.Subscript | ast.Attribute) -> ast.expr:
    """The object whose item, or whose item's method, an expression is."""
    base = node.value
    while isinstance(base, ast.Subscript) or (
        isinstance(base, ast.Call) and isinstance(base.func, ast.Attribute)
    ):
        base = base.value if isinstance(base, ast.Subscript) else base.func.value  # type: ignore[attr-defined]
    return base


def _calls(value: ast.expr) -> list[ast.Call]:
    return [part for part in ast.walk(value) if isinstance(part, ast.Call)]


def _is_load(finder: Finder, value: ast.expr) -> bool:
    """Whether an expression loads a file."""
    return any(_is_any(finder.name_of(call.func), LOADS) for call in _calls(value))


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
