"""Trace one training step as ATen operators bound to fixed tensors.

`make_fx` traces the operators of the loader engine's step: loss, gradients, the optimizer's `step`.
Each is then bound to the tensors that it reads and writes. The result is a list of calls without
arguments, autograd, views or allocation. Values that depend only on shapes are computed once,
unused values are removed, and no operator is replaced.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from xorbench.xor.training.engines import private
from xorbench.xor.training.engines.private import Operator
from xorbench.xor.training.engines.spec import TrainingSpec, UnsupportedCase, loss_function
from xorbench.xor.training.seeding import restored_random_states

ATEN: Final = torch.ops.aten
SHAPES_ONLY: Final = {
    ATEN.ones_like, ATEN.zeros_like, ATEN.full_like, ATEN.full, ATEN.scalar_tensor,
}  # fmt: skip
"""Operators whose values do not depend on the numbers of their inputs, except fill values."""

Call = Callable[[], object]


# The step and its state


def parameters(spec: TrainingSpec) -> list[Tensor]:
    """The parameters that the optimizer updates."""
    groups = spec.optimizer.param_groups
    return [p for group in groups for p in group["params"] if p.requires_grad]


@contextmanager
def restored(spec: TrainingSpec) -> Iterator[None]:
    """Restore parameters, buffers, gradients and random states on exit."""
    state = {key: value.detach().clone() for key, value in spec.model.state_dict().items()}
    random_states = restored_random_states(spec.device)
    with random_states, torch.enable_grad(), private.without_step_hooks(spec.optimizer):
        try:
            yield
        finally:
            with torch.no_grad():
                for key, value in spec.model.state_dict().items():
                    value.copy_(state[key])
            spec.optimizer.zero_grad()


def eager_step(spec: TrainingSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """The loader engine's step on a batch, which returns the loss."""
    loss_of, optimizer, updated = loss_function(spec), spec.optimizer, parameters(spec)

    def step(points: Tensor, labels: Tensor) -> Tensor:
        loss = loss_of(points, labels)
        grads = torch.autograd.grad(loss, updated, allow_unused=True)
        for parameter, grad in zip(updated, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
        return loss

    return step


def require_unhooked(spec: TrainingSpec, engine: str) -> None:
    """Raise `UnsupportedCase` for a model with hooks, which a trace would silently skip."""
    if any(map(private.is_hooked, spec.model.modules())):
        raise UnsupportedCase(
            f"the {engine} engine captures a step, so it does not support hooks of a model"
        )


def require_traceable(spec: TrainingSpec) -> None:
    """Raise `UnsupportedCase` for a step with parts that a trace would silently skip."""
    require_unhooked(spec, "replay")
    optimizer = spec.optimizer
    replaced = {"step", "zero_grad"} & vars(optimizer).keys()
    before, _ = private.step_hooks(optimizer)
    if replaced or before or optimizer.state:
        raise UnsupportedCase(
            "the replay engine supports only optimizers without state and pre-step hooks"
        )


def traced(spec: TrainingSpec, batch: Sequence[Tensor]) -> GraphModule:
    """The step on batches of this shape as a graph of ATen operators on the model's tensors.

    Raises `UnsupportedCase` if the optimizer has state, or a step uses random numbers.
    """
    spec.model.train()
    with restored(spec):
        module = private.traced(eager_step(spec), *batch)
    if spec.optimizer.state:
        raise UnsupportedCase("the replay engine supports only SGD without momentum")
    for node in module.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise UnsupportedCase(
                f"the replay engine does not support random operators, such as {node.target}"
            )
    return module


# From the graph to calls


@dataclass(frozen=True, slots=True)
class Kernel:
    """One operator call: its function and arguments, with nodes for parts of the batch."""

    run: Callable[..., object]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call: Call | None  # the bound call, if it does not depend on the batch


@dataclass(frozen=True, slots=True)
class Program:
    """A traced step, bound to tensors.

    `sources` are the parts of a batch that it reads, with their dtypes. `loss` is the tensor of the
    loss, which is NaN for a program without loss.
    """

    sources: list[tuple[int, torch.dtype]]
    inputs: list[Node]
    views: list[Node]
    kernels: list[Kernel]
    loss: Tensor

    def calls(self, batch: Sequence[Tensor]) -> list[Call]:
        """The calls of the step on a batch whose tensors are the `sources`."""
        known = dict(zip(self.inputs, batch, strict=True))
        for node in self.views:
            known[node] = _call_node(node, known)
        return [kernel.call or _bound(kernel, known) for kernel in self.kernels]

    def calls_on(self, batch: Sequence[Tensor]) -> list[Call]:
        """The calls of the step on an unconverted batch."""
        return self.calls([batch[index].to(dtype) for index, dtype in self.sources])


def program(module: GraphModule, batch: Sequence[Tensor], *, with_loss: bool) -> Program:
    """Bind the graph to tensors; `batch` is an example of its inputs. This changes the weights."""
    graph = module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    needed = _needed(module, with_loss)
    sources: dict[Node, tuple[int, torch.dtype]] = {}
    for node in graph.nodes:  # a conversion of the batch is applied once to all data
        if node in needed and (converted := _conversion(node)):
            sources[node] = (placeholders.index(node.all_input_nodes[0]), converted)
    for index, node in enumerate(placeholders):
        if any(user in needed and user not in sources for user in node.users):
            sources[node] = (index, batch[index].dtype)
    binder = _Binder(module, needed)
    for node, (index, dtype) in sources.items():
        binder.take(node, batch[index].to(dtype))
    with torch.inference_mode():
        for node in graph.nodes:
            binder.bind(node)
    loss = binder.values[_output(module)] if with_loss else torch.tensor(torch.nan)
    return Program(list(sources.values()), list(sources), binder.views, binder.kernels, loss)


def _output(module: GraphModule) -> Node:
    result = next(iter(reversed(module.graph.nodes))).args[0]
    assert isinstance(result, Node)
    return result


def _needed(module: GraphModule, with_loss: bool) -> set[Node]:
    """The nodes that change a weight or give the loss, and their dependencies."""
    needed = {_output(module)} if with_loss else set()
    for node in reversed(module.graph.nodes):
        if node in needed or _mutates(node):
            needed |= {node, *node.all_input_nodes}
    return needed


def _mutates(node: Node) -> bool:
    return private.is_operator(node.target) and private.schema(node.target).is_mutable


def _is_view(target: Operator) -> bool:
    returns = private.schema(target).returns
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _returns_new(target: Operator) -> bool:
    """Whether a result is a new tensor; PyTorch 2.6's batch norm mutates and returns three."""
    return any(result.alias_info is None for result in private.schema(target).returns)


def _conversion(node: Node) -> torch.dtype | None:
    """The dtype if the node only converts a part of the batch to it, or None."""
    if node.target is not ATEN._to_copy.default or set(node.kwargs) != {"dtype"}:
        return None
    argument, dtype = node.args[0], node.kwargs["dtype"]
    is_part = isinstance(argument, Node) and argument.op == "placeholder"
    return dtype if is_part and isinstance(dtype, torch.dtype) else None


class _Binder:
    """Runs a graph once; each node's result becomes the fixed tensor of its later results."""

    def __init__(self, module: GraphModule, needed: set[Node]) -> None:
        self._module = module
        self._needed = needed
        self._written = {
            argument for node in module.graph.nodes if _mutates(node)
            for argument in node.all_input_nodes
        }  # fmt: skip
        self._batch_nodes: set[Node] = set()
        self.values: dict[Node, Any] = {}
        self.views: list[Node] = []
        self.kernels: list[Kernel] = []

    def take(self, node: Node, value: Tensor) -> None:
        """Register the node as a part of the batch."""
        self.values[node] = value
        self._batch_nodes.add(node)

    def bind(self, node: Node) -> None:
        """Assign the node its tensor, and a kernel if it must run in each step."""
        if node in self.values or node not in self._needed or node.op == "placeholder":
            return
        if node.op == "get_attr":
            value = getattr(self._module, str(node.target))
            self.values[node] = value.detach() if isinstance(value, Tensor) else value
        elif node.op == "call_function":
            self._bind_function(node)

    def _bind_function(self, node: Node) -> None:
        self.values[node] = _call_node(node, self.values)
        target: Any = node.target
        if not private.is_operator(target):  # such as getitem of a tuple
            return
        fed_by_batch = any(argument in self._batch_nodes for argument in node.all_input_nodes)
        if _is_view(target):
            if fed_by_batch:
                self.views.append(node)
                self._batch_nodes.add(node)
        elif target.overloadpacket not in SHAPES_ONLY or node in self._written:
            self.kernels.append(self._kernel(node, target))

    def _kernel(self, node: Node, target: Operator) -> Kernel:
        known = {n: v for n, v in self.values.items() if n not in self._batch_nodes}
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: known.get(n, n))
        mutable = private.schema(target).is_mutable
        out = {} if mutable else _out_arguments(target, self.values[node])
        example = map_arg((node.args, node.kwargs), self.values.__getitem__)
        bindable = not _returns_new(target) if mutable else bool(out)
        run = _fastest(target, example, out) if bindable else None
        if run is None:
            run = _copying_call(target, self.values[node])
            out = {}
        kernel = Kernel(run, tuple(args), {**kwargs, **out}, None)
        if any(n in self._batch_nodes for n in node.all_input_nodes):
            return kernel
        return replace(kernel, call=_bound(kernel, {}))


def _call_node(node: Node, values: dict[Node, Any]) -> Any:
    function: Any = node.target
    args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
    return function(*args, **kwargs)


def _bound(kernel: Kernel, values: dict[Node, Any]) -> Call:
    args, kwargs = map_arg((kernel.args, kernel.kwargs), values.__getitem__)
    return partial(kernel.run, *args, **kwargs)


def _out_arguments(target: Operator, result: Any) -> dict[str, Tensor]:
    """The result's tensors by the argument names of the operator's `out` overload."""
    out = _out_form(target)
    results = _as_sequence(result)
    if out is None or not all(isinstance(tensor, Tensor) for tensor in results):
        return {}
    names = [argument.name for argument in private.schema(out).arguments if argument.is_out]
    return dict(zip(names, results, strict=True)) if len(names) == len(results) else {}


def _out_form(target: Operator) -> Operator | None:
    """The `out` overload with the same inputs, or None."""
    inputs = [(a.name, str(a.type)) for a in private.schema(target).arguments]
    for name in target.overloadpacket.overloads():
        form: Operator = getattr(target.overloadpacket, name)
        arguments = private.schema(form).arguments
        form_inputs = [(a.name, str(a.type)) for a in arguments if not a.is_out]
        if form_inputs == inputs and len(inputs) < len(arguments):
            return form
    return None


def _fastest(
    target: Operator, example: tuple[Any, Any], out: dict[str, Tensor]
) -> Callable[..., object] | None:
    """The function that calls the operator with the least overhead, or None.

    PyTorch's own binding comes first: `torch.add` takes half the time of `torch.ops.aten.add`.
    """
    args, kwargs = example
    name = private.schema(target).name.removeprefix("aten::")
    form = (_out_form(target) or target) if out else target
    bindings: list[Callable[..., object]] = [*private.bindings(name), form]
    for binding in bindings:
        try:
            binding(*args, **{**kwargs, **out})
        except (TypeError, RuntimeError):
            continue
        return binding
    return None


def _copying_call(target: Operator, place: Any) -> Callable[..., object]:
    """A call for an operator without an `out` overload, which copies its result."""

    def run(*args: object, **kwargs: object) -> None:
        results = _as_sequence(target(*args, **kwargs))
        for destination, result in zip(_as_sequence(place), results, strict=True):
            if isinstance(destination, Tensor):
                destination.copy_(result)

    return run


def _as_sequence(result: Any) -> Sequence[Any]:
    return result if isinstance(result, (tuple, list)) else (result,)
