"""Judges the graphs that Inductor compiles. The reference of a graph is the graph itself."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils.weak import WeakIdKeyDictionary

from ..entry import after_import
from .execution import is_float, wide
from .references import Bound, Operator, Reference, operator


class Graph(Operator):
    """A compiled graph as an operator, which counts as many calls as it has operators."""

    space, full, name, tags, lists, writes_alias = "inductor", "graph", "graph", (), False, False
    schema = SimpleNamespace(name="inductor::graph", overload_name="", arguments=(), is_mutable=0)
    _schema = schema  # as a function

    def __init__(self, module: GraphModule) -> None:
        self.eager = GraphModule(module, copy.deepcopy(module.graph))  # compilation changes it
        graph = copy.deepcopy(module.graph)
        steps = [node for node in graph.nodes if node.op == "call_function"]
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        changed = [node.args[0] for node in steps if _writes(node)]
        self._written = [i for i, node in enumerate(inputs) if node in changed]
        for node in steps:  # types below float64 and devices are constants of the graph
            node.args, node.kwargs = wide((node.args, node.kwargs))
        self._module = GraphModule(module, graph)
        self._empty, self.size = not steps, len(steps) or 1
        kind = Bound.RANDOM if any(_is_random(node.target) for node in steps) else Bound.STEPS
        self.row = Reference(kind, self._formula, low=True, low_sums=True)
        self.compiled: Any = None
        self.func = self

    def __str__(self) -> str:
        return "inductor.graph"

    def __call__(self, *inputs: Any) -> Any:
        """Run the compiled code, which clears the list of its inputs."""
        return self.compiled(list(inputs))

    def written(self, args: Any, kwargs: Any) -> list[int]:
        """The positions of the inputs that the graph writes to."""
        return self._written

    def _formula(self, *inputs: Any) -> list[Any]:
        """The outputs. If some are rounded, comparisons and indices may depend on the rounding."""
        if self._empty:
            raise NotImplementedError("an unknown graph")
        outputs = list(self._module(*inputs))
        if any(map(is_float, outputs)):
            outputs = [value if is_float(value) else None for value in outputs]
        return outputs


def _is_random(target: Any) -> bool:
    if not isinstance(target, torch._ops.OpOverload):
        return False
    own = operator(target)
    return own.name.startswith(("inductor_seed", "inductor_rand")) or own.row.bound == Bound.RANDOM


def _writes(node: Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def follow_compilation(run: Callable[[Graph, Callable[[Any], Any], Any], Any]) -> None:
    """Call compiled graphs by `run`; a graph from a cache or that cannot be read is empty."""

    def install() -> None:
        from torch._functorch import config
        from torch._inductor import compile_fx, output_code

        inductor: Any = compile_fx
        config.enable_autograd_cache = False  # type: ignore[attr-defined] # its graphs have no source
        graphs, kind = WeakIdKeyDictionary(), output_code.CompiledFxGraph
        compile_graph, call = inductor._compile_fx_inner, kind.__call__

        @functools.wraps(compile_graph)
        def keep_graph(module: GraphModule, *args: Any, **kwargs: Any) -> Any:
            graph = None
            with contextlib.suppress(Exception):
                graph = Graph(module)
            compiled = compile_graph(module, *args, **kwargs)
            graphs[compiled] = graph or empty()
            return compiled

        def judged(self: Any, inputs: Any) -> Any:
            if self not in graphs:
                graphs[self] = empty()
            return run(graphs[self], functools.partial(call, self), inputs)

        inductor._compile_fx_inner, kind.__call__ = keep_graph, judged  # type: ignore[method-assign]

    def empty() -> Graph:
        return Graph(GraphModule(torch.nn.Module(), torch.fx.Graph()))

    def guarded() -> None:
        with contextlib.suppress(ImportError, AttributeError):  # other names in other releases
            install()

    after_import("torch._inductor.compile_fx", guarded)
