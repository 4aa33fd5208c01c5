"""Places in the program's own files that may give different values in two runs.

They are read from the source: a call such as `time.time()`, a loop over a set, a generator without
a seed. Only expressions whose order or value can reach the result count: `sorted(set(x))` does not.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

MOST_SOURCES = 200  # of one process
LARGEST_FILE = 1 << 20  # bytes
SITE = os.sep + "site-packages" + os.sep

# Calls by the last words of their names, and the kind of source that each is.
CALLS = {
    "time.time": "time",
    "time.time_ns": "time",
    "time.monotonic": "time",
    "time.monotonic_ns": "time",
    "time.perf_counter": "time",
    "time.perf_counter_ns": "time",
    "time.process_time": "time",
    "time.process_time_ns": "time",
    "time.thread_time": "time",
    "os.times": "time",
    "os.getloadavg": "time",
    "resource.getrusage": "time",
    "datetime.now": "time",
    "datetime.utcnow": "time",
    "datetime.today": "time",
    "os.urandom": "unseeded",
    "os.getrandom": "unseeded",
    "uuid.uuid1": "unseeded",
    "uuid.uuid4": "unseeded",
    "secrets.randbits": "unseeded",
    "secrets.randbelow": "unseeded",
    "secrets.choice": "unseeded",
    "secrets.token_bytes": "unseeded",
    "secrets.token_hex": "unseeded",
    "random.SystemRandom": "unseeded",
    "torch.seed": "unseeded",
    "tempfile.mkdtemp": "file name",
    "tempfile.mkstemp": "file name",
    "tempfile.mktemp": "file name",
    "tempfile.NamedTemporaryFile": "file name",
    "tempfile.TemporaryDirectory": "file name",
    "os.getpid": "process id",
    "os.getppid": "process id",
    "threading.get_ident": "process id",
    "socket.gethostname": "process id",
    "os.listdir": "listing",
    "os.scandir": "listing",
    "os.walk": "listing",
    "glob.glob": "listing",
    "glob.iglob": "listing",
    "iterdir": "listing",
    "rglob": "listing",
    "imap_unordered": "completion",
    "as_completed": "completion",
    "threading.Thread": "completion",
    "concurrent.futures.wait": "completion",
    "torch.empty": "empty",
    "torch.empty_like": "empty",
    "torch.empty_strided": "empty",
    "new_empty": "empty",
    "to_empty": "empty",
    "torch.Tensor": "empty",
    "torch.FloatTensor": "empty",
    "numpy.empty": "empty",
    "numpy.empty_like": "empty",
}
BARE = {"hash": "hash", "id": "process id"}
# Generators that are seeded by the operating system if they get no seed.
CONSTRUCTORS = (
    *("random.Random", "numpy.random.default_rng", "numpy.random.RandomState"),
    *("numpy.random.SeedSequence", "numpy.random.PCG64", "numpy.random.Philox"),
)
SEEDS = {
    "random.seed": "python",
    "numpy.random.seed": "numpy",
    "torch.manual_seed": "torch cpu",
    "manual_seed": "torch cpu",
}
NO_DRAWS = ("seed", "getstate", "setstate", "get_state", "set_state", "default_rng")
TORCH_DRAWS = (
    *("rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal"),
    *("rand_like", "randn_like", "randint_like", "poisson"),
)
# Functions whose result does not depend on the order of their argument.
ORDERLESS = ("sorted", "len", "min", "max", "any", "all", "set", "frozenset", "Counter")
ORDERED = (
    *("list", "tuple", "enumerate", "iter", "zip", "map", "filter", "join", "fromkeys"),
    *("choice", "sample", "sum", "reversed", "stack", "cat", "array", "tensor"),
)
QUEUES = ("queue.Queue", "queue.SimpleQueue", "queue.LifoQueue", "multiprocessing.Queue")
SET_METHODS = ("union", "intersection", "difference", "symmetric_difference", "copy")
SETS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


class Source(NamedTuple):
    """A place whose value or order may differ between runs.

    Attributes:
        kind: `unseeded`, `seed`, `varying seed`, `draw`, `time`, `set`, `hash` and so on.
        name: the call, such as `random.Random()`.
        line: its line.
        within: `seed` or `condition` if its value is used as one.
        generator: the global generator of a seed or a draw.
    """

    kind: str
    name: str
    line: int
    within: str = ""
    generator: str = ""


Find = Callable[[str], "list[Source]"]  # finds the sources of a text


def main_file() -> str:
    """The absolute path of the main file while it runs; Python forgets it afterwards."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(path) if isinstance(path, str) else ""


def program_files(root: str, main: str) -> Iterator[str]:
    """The source files of the program: the main one, and the imported ones below `root`."""
    inside = os.path.realpath(root) + os.sep if root else ""
    files = dict.fromkeys([main] if main else [])
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and inside and os.path.realpath(path).startswith(inside):
            files[path] = None
    for path in files:
        if path.endswith(".py") and SITE not in path:
            yield path


def sources_of(text: str) -> list[Source]:
    """The sources of a file, from its text, in the order of their lines."""
    finder = Finder()
    finder.visit(ast.parse(text))
    return sorted(finder.sources, key=lambda source: source.line)


def read_sources(path: str, find: Find = sources_of) -> list[Source]:
    """The sources of a file; none if it cannot be read."""
    try:
        if os.path.getsize(path) > LARGEST_FILE:
            return []
        with open(path, "rb") as file:
            return find(file.read().decode(errors="replace"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []


class Finder(ast.NodeVisitor):
    """Walks a file and collects its sources."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._aliases: dict[str, str] = {}
        self._sets: set[str] = set()  # names and attributes that are assigned a set
        self._queues: set[str] = set()  # the same of a queue that threads or processes fill
        self.parents: list[ast.AST] = []

    def visit(self, node: ast.AST) -> Any:
        """Visit a node with its parents known."""
        self.parents.append(node)
        try:
            return super().visit(node)
        finally:
            self.parents.pop()

    def visit_Import(self, node: ast.Import) -> None:
        """Store the full name of a module."""
        for alias in node.names:
            self._aliases[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Store the full name of an imported function."""
        for alias in node.names:
            self._aliases[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"

    def visit_Assign(self, node: ast.Assign) -> None:
        """Store the names that are assigned a set or a queue."""
        names = filter(None, map(path_of, node.targets))
        if self._is_set(node.value):
            self._sets.update(names)
        elif isinstance(node.value, ast.Call) and self.name_of(node.value.func).endswith(QUEUES):
            self._queues.update(names)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Store a name that is assigned a set."""
        if node.value is not None and self._is_set(node.value):
            self._sets.add(path_of(node.target))
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        """A loop over a set takes its order."""
        self._loop(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """A comprehension over a set takes its order, unless the result has none."""
        owner = self.parents[-2]
        orderless = isinstance(owner, ast.SetComp) or self._called_by(-3) in ORDERLESS
        if not orderless:
            self._loop(node.iter)
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        """`[*names]` takes the order of a set."""
        if not isinstance(self.parents[-2], ast.Set):
            self._loop(node.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """A call that may return different values, or that takes the order of a set."""
        name = self.name_of(node.func)
        last = name.rpartition(".")[2]
        if not self._seeds(node, name) and not self._draws(node, name):
            self._other(node, name)
        if last in ORDERED and self._called_by(-2) not in ORDERLESS:
            for argument in node.args:
                self._loop(argument)
        for keyword in node.keywords:
            if keyword.arg == "key" and path_of(keyword.value) in BARE:
                self._add("hash", f"key={path_of(keyword.value)}", node)
        if last == "pop" and not node.args and self._is_set(getattr(node.func, "value", node)):
            self._add("set", "set.pop()", node)
        if last == "get" and path_of(getattr(node.func, "value", node)) in self._queues:
            self._add("completion", "Queue.get()", node)
        if last == "DataLoader" and _is_false(node, "in_order"):
            self._add("completion", "DataLoader(in_order=False)", node)
        self.generic_visit(node)

    def parent(self) -> ast.AST | None:
        """The parent of the node that is visited."""
        return self.parents[-2] if len(self.parents) > 1 else None

    def _seeds(self, node: ast.Call, name: str) -> bool:
        """A seed, a generator without a seed; whether the call is one of them."""
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        none = all(isinstance(value, ast.Constant) and value.value is None for value in given)
        last = name.rpartition(".")[2]
        if none and name in (*CONSTRUCTORS, "random.seed", "numpy.random.seed"):
            self._add("unseeded", f"{name}()", node)
        elif last == "seed" and not given and name not in CALLS:
            self._add("unseeded", f"{last}() of a generator", node)
        elif name in SEEDS:
            self._add("seed", name, node, generator=SEEDS[name])
        else:
            return False
        return True

    def _draws(self, node: ast.Call, name: str) -> bool:
        """A use of a global generator."""
        module, _, last = name.rpartition(".")
        generator = {"random": "python", "numpy.random": "numpy", "torch": "torch cpu"}.get(module)
        if generator == "torch cpu" and last not in TORCH_DRAWS:
            generator = None
        own = any(keyword.arg == "generator" for keyword in node.keywords)
        if generator is None or own or last in NO_DRAWS or last[:1].isupper():
            return False
        self._add("draw", f"{name}()", node, generator=generator)
        return True

    def _other(self, node: ast.Call, name: str) -> None:
        """A time, a listing, an order of completion, uninitialized memory."""
        last = name.rpartition(".")[2]
        kind = CALLS.get(name) or CALLS.get(".".join(name.split(".")[-2:])) or CALLS.get(last)
        if "." not in name:
            kind = BARE.get(name, kind)
        if kind == "listing" and self._called_by(-2) in ORDERLESS:
            return
        if kind == "empty" and last in ("Tensor", "FloatTensor") and not _sizes(node):
            return
        if kind is not None:
            self._add(kind, f"{name}()", node)

    def _loop(self, value: ast.expr) -> None:
        if self._is_set(value):
            self._add("set", f"the order of {path_of(value) or 'a set'}", value)

    def _is_set(self, value: ast.AST) -> bool:
        """Whether an expression is certainly a set."""
        if isinstance(value, (ast.Set, ast.SetComp)):
            return True
        if isinstance(value, ast.BinOp) and isinstance(value.op, SETS):
            return self._is_set(value.left) or self._is_set(value.right)
        if isinstance(value, ast.Call):
            name = self.name_of(value.func)
            method = name.rpartition(".")[2] in SET_METHODS
            return name in ("set", "frozenset") or (
                method and isinstance(value.func, ast.Attribute) and self._is_set(value.func.value)
            )
        return path_of(value) in self._sets and bool(path_of(value))

    def _called_by(self, place: int) -> str:
        """The name of the function that the parent at this place calls; empty if it calls none."""
        parents = self.parents
        if len(parents) < -place or not isinstance(parents[place], ast.Call):
            return ""
        return self.name_of(parents[place].func).rpartition(".")[2]  # type: ignore[attr-defined]

    def name_of(self, function: ast.expr) -> str:
        """The full name of a function, such as `numpy.random.rand`."""
        path = path_of(function)
        first, dot, rest = path.partition(".")
        if not path:  # a method of an expression
            return f".{function.attr}" if isinstance(function, ast.Attribute) else ""
        return f"{self._aliases.get(first, first)}{dot}{rest}"

    def _add(self, kind: str, name: str, node: ast.AST, *, generator: str = "") -> None:
        within = self._within()
        line = getattr(node, "lineno", 0)
        source = Source(kind, name.lstrip("."), line, within, generator)
        if source not in self.sources:
            self.sources.append(source)

    def _within(self) -> str:
        """Whether the value is used as a seed or as a condition."""
        parents = self.parents
        for child, parent in zip(reversed(parents), reversed(parents[:-1])):  # noqa: B905
            if isinstance(parent, ast.Call) and child is not parent.func:
                last = self.name_of(parent.func).rpartition(".")[2]
                if "seed" in last or self.name_of(parent.func) in CONSTRUCTORS:
                    return "seed"
            if isinstance(parent, ast.Assign) and any("seed" in path_of(t) for t in parent.targets):
                return "seed"
            if isinstance(parent, (ast.If, ast.While, ast.IfExp)) and child is parent.test:
                return "condition"
            if isinstance(parent, ast.stmt):
                return ""
        return ""


def path_of(node: ast.AST) -> str:
    """The dotted path of a name or an attribute; empty for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = path_of(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def _is_false(node: ast.Call, name: str) -> bool:
    return any(
        keyword.arg == name and isinstance(keyword.value, ast.Constant) and not keyword.value.value
        for keyword in node.keywords
    )


def _sizes(node: ast.Call) -> bool:
    """Whether a legacy constructor gets sizes, so that its memory is not initialized."""
    return bool(node.args) and all(
        isinstance(value, (ast.Name, ast.Attribute))
        or (isinstance(value, ast.Constant) and isinstance(value.value, int))
        for value in node.args
    )


def listed(files: Iterable[str], find: Find = sources_of) -> Iterator[tuple[str, Source]]:
    """Each source with its file, up to `MOST_SOURCES`."""
    left = MOST_SOURCES
    for path in files:
        for source in read_sources(path, find):
            if left:
                left -= 1
                yield path, source
