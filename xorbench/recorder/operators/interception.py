"""Intercepts the operators of the chosen steps and records a verdict per kind of call."""

from __future__ import annotations

import functools
import json
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ..detail import Detail, UnseenMode, enter, leave, line_of
from ..identity import storage_of
from .compiled import Graph, follow_compilation
from .judge import CORRECT, NOT_JUDGED, Call, Verdict, judge, outputs, unreadable
from .references import ADDED, Bound, Operator, operator

if TYPE_CHECKING:
    from ..listen import Listener

JUDGED_SPACES = ("aten", "torchvision", "mkldnn", "prims", "inductor")
IGNORED_SPACES = ("profiler",)
COMMUNICATION = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "symm_mem", "fsdp")
FAKE = torch._C._TorchDispatchModeKey.FAKE
EXECUTIONS = 2  # further executions, for identical bits
Fault = Any  # called with operator, arguments and output; stands for a broken kernel in tests


class JudgedSteps(Detail):
    """Judges the operators of the chosen steps, instead of recording details."""

    def __init__(self, listener: Listener, folder: str) -> None:
        super().__init__(listener)
        self._chosen = listener.options.judge
        self.operators = JudgedOperators(listener.options, folder)
        self.operators.shielded = listener.shielded
        self.operators.on, self._pushed = False, False
        _follow_threads(self.operators)
        follow_compilation(self.operators.run_graph)

    def begin(self, step: int) -> None:
        """Begin a step; its operators are judged if it is chosen."""
        self.operators.write_calls()
        self.operators.on, self.operators.step = step in self._chosen, step

    def after_step(self, optimizer: Any, index: int) -> None:
        """Record the numbers of calls, since the process may end with this step."""
        self.operators.write_calls()

    def push_operators(self) -> None:
        """Push the mode, outside `Listener.shielded`."""
        if self.operators.on and not self._pushed:
            self._pushed = True
            enter(self.operators)

    def pop_operators(self) -> None:
        """Pop the mode at the end of a step."""
        if self._listener.steps() <= self.operators.step:
            return
        self.operators.on = False
        if self._pushed:
            leave(self.operators)
        self._pushed = False


def _follow_threads(operators: JudgedOperators) -> None:
    """Judge the operators of threads that start from now on."""
    original = threading.Thread.start

    @functools.wraps(original)
    def start(thread: threading.Thread) -> None:
        if not thread.name.startswith(WORKER):
            run = thread.run

            def judged() -> None:
                with operators:
                    run()

            thread.run = judged  # type: ignore[method-assign]
        original(thread)

    threading.Thread.start = start  # type: ignore[method-assign, assignment]


WORKER = "xorbench-references"


class JudgedOperators(UnseenMode):
    """Judges each kind of call once: operator, types, shapes, strides and whole-number scalars."""

    def __init__(self, options: Any, folder: str, fault: Fault = None) -> None:
        super().__init__()
        self.on, self.step, self.fault = True, 0, fault
        self.shielded: Callable[[Callable[[], None]], None] = lambda work: work()
        self.kinds: dict[Any, dict[str, Any]] = {}
        self._calls: dict[Any, int] = {}
        self._options, self._folder = options, folder
        self._file: Any = None
        self._lock, self._own = threading.Lock(), threading.local()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        # loader processes are not judged; a training process turns it on again
        self.on, self._file = False, None
        self._lock, self._own = threading.Lock(), threading.local()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator; a tensor subclass first maps it to operators of plain tensors."""
        if any(hasattr(kind, "__tensor_flatten__") for kind in types):
            return NotImplemented
        if torch._C._get_dispatch_mode(FAKE) is not None:  # only shapes are computed
            return func(*args, **(kwargs or {}))
        return self.run(operator(func), args, kwargs or {})

    def run_graph(self, graph: Graph, compiled: Any, inputs: Any) -> Any:
        """Run a compiled graph as an operator."""
        if not self.on:
            return compiled(inputs)
        graph.compiled, own = compiled, list(inputs)
        inputs.clear()
        return self.run(graph, own, {})

    def run(self, own: Operator, args: Any, kwargs: Any) -> Any:
        """Run an operator, and judge it if it is the first call of its kind."""
        if not self.on or own.space in IGNORED_SPACES:
            return own.func(*args, **kwargs)
        key = _kind(own.func, args, kwargs)
        with self._lock:
            count = self._calls[key] = self._calls.get(key, 0) + own.size
        if count > own.size:
            return own.func(*args, **kwargs)
        began = time.process_time()
        unkept: Any = (args, kwargs), [], "its arguments cannot be copied"
        before, written, problem = self._hidden(_kept, unkept, own, args, kwargs)
        spent = time.process_time() - began
        result = own.func(*args, **kwargs)
        if self.fault is not None:
            result = self.fault(own.func, args, result)
        began = time.process_time()
        call = Call(own, before, result, (args, kwargs), written)
        failed = Verdict(NOT_JUDGED, text="the reference failed"), True
        verdict, identical = self._hidden(self._judge, failed, call, problem or _unknown(own))
        spent += time.process_time() - began
        self._record(key, call, verdict, identical, spent)
        return result

    def _hidden(self, work: Any, failed: Any, *arguments: Any) -> Any:
        """The result of the recorder's own work, hidden from its hooks and from modes."""
        results: list[Any] = []
        self.shielded(lambda: results.append(work(*arguments)))
        return results[0] if results else failed

    def _judge(self, call: Call, problem: str) -> tuple[Verdict, bool]:
        """The verdict, and whether further executions return identical bits."""
        try:
            with torch.no_grad(), _disable_current_modes():  # also without a recorder
                problem = problem or unreadable(tree_flatten((call.before, call.result))[0])
                if problem:
                    return Verdict(NOT_JUDGED, text=problem), True
                verdict = self._worker().submit(judge, call).result()
                again = verdict.state == CORRECT and _repeatable(call)
                return verdict, not again or _identical(call)
        except Exception as error:
            return Verdict(NOT_JUDGED, text=f"{type(error).__name__}: {error}"[:160]), True

    def _worker(self) -> ThreadPoolExecutor:
        """A thread in which autograd records; each thread has its own and so waits for no other."""
        if not hasattr(self._own, "worker"):
            self._own.worker = ThreadPoolExecutor(1, WORKER)
        worker: ThreadPoolExecutor = self._own.worker
        return worker

    def _record(
        self, key: Any, call: Call, verdict: Verdict, identical: bool, spent: float
    ) -> None:
        row = {
            "operator": str(call.operator),
            "signature": _signature(call),
            "where": line_of(self._options),
            "step": self.step,
            "state": verdict.state,
            "ratio": verdict.ratio if math.isfinite(verdict.ratio) else 1e300,
            "text": verdict.text,
            "identical": identical,
            "seconds": round(spent, 4),
        }
        with self._lock:
            row["kind"] = len(self.kinds)
            self.kinds[key] = row
            self._write(row)

    def write_calls(self) -> None:
        """Record the number of calls of each kind so far."""
        with self._lock:
            counts = [self._calls[key] for key in self.kinds]
            self._write({"calls": counts})

    def _write(self, row: dict[str, Any]) -> None:
        if not self._folder:
            return
        if self._file is None:
            path = os.path.join(self._folder, f"operators-{os.getpid()}.jsonl")
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - until the process ends
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def _kind(func: Any, args: Any, kwargs: Any) -> Any:
    def part(value: Any) -> Any:
        if isinstance(value, Tensor):
            return (value.dtype, *_layout(value), str(value.device))
        return "float" if type(value) is float else str(value)

    values, spec = tree_flatten((args, kwargs))
    return func, tuple(map(part, values)), str(spec)


def _unknown(own: Operator) -> str:
    """The reason why an operator is not judged; empty if it is PyTorch's or has a reference."""
    if own.space in COMMUNICATION:
        return "communication"
    return "" if own.space in JUDGED_SPACES or own.schema.name in ADDED else "no reference"


def _layout(value: Tensor) -> tuple[Any, Any]:
    """The shape and the strides; a nested tensor has none, a sparse one no strides."""
    if value.is_nested:
        return (), ()
    return tuple(value.shape), value.stride() if value.layout == torch.strided else ()


def _signature(call: Call) -> str:
    """The types and shapes of the arguments, such as `bfloat16 [1024, 64]`."""
    parts = []
    for value in tree_flatten(call.before)[0]:
        if isinstance(value, Tensor):
            shape, strides = _layout(value)
            text = f"{str(value.dtype)[6:]} {list(shape)}"
            strided = strides and not value.is_contiguous()
            parts.append(f"{text} strides {list(strides)}" if strided else text)
    shown = list(dict.fromkeys(parts))
    return ", ".join(shown[:4]) + (" …" if len(shown) > 4 else "")


def _kept(own: Operator, args: Any, kwargs: Any) -> tuple[Any, list[int], str]:
    """The arguments with copies of those that are written, their positions, and a problem."""
    (flat, spec), written = tree_flatten((args, kwargs)), own.written(args, kwargs)
    copied = [i for i in _copied(own, flat, written) if isinstance(flat[i], Tensor)]
    if problem := unreadable([flat[i] for i in copied]):
        return (args, kwargs), [], problem
    with torch.no_grad(), _disable_current_modes():
        copies = {id(flat[i]): _copy(flat[i].detach()) for i in copied}
    return tree_unflatten([copies.get(id(v), v) for v in flat], spec), written, ""


def _copied(own: Operator, flat: list[Any], written: list[int]) -> Any:
    """The positions of the arguments that may change; compiled code uses any as scratch memory."""
    if own.eager is not None:
        return range(len(flat))
    memory = [storage_of(value) if isinstance(value, Tensor) else None for value in flat]
    changed = {memory[i] for i in written if memory[i]}  # also through another view
    return [i for i, part in enumerate(memory) if i in written or (part and part in changed)]


def _repeatable(call: Call) -> bool:
    """Whether further executions must return identical bits and change nothing."""
    own = call.operator
    random = own.row.bound in (Bound.RANDOM, Bound.UNINITIALIZED)
    seeded = torch.Tag.nondeterministic_seeded in own.tags
    changing = own.full.endswith(("set_", "resize_", "_out"))
    return not (random or seeded or changing or "out" in call.before[1])


def _identical(call: Call) -> bool:
    """Whether further executions on copies of the inputs return identical bits."""
    first, own = call.outputs(), call.operator
    copied = _copied(own, tree_flatten(call.before)[0], call.written)
    for _ in range(EXECUTIONS):
        args, kwargs = tree_map(lambda v: _copy(v) if copied else v, call.before)
        result = own.func(*args, **kwargs)
        again = outputs(result, tree_flatten((args, kwargs))[0], call.written)
        for i, (a, b) in enumerate(zip(first, again)):  # noqa: B905 - Python 3.9
            if isinstance(a, Tensor) and i not in own.row.private and not _same(a, b):
                return False
    return True


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _copy(value: Any) -> Any:
    """A copy with the strides of the original, which select the code of some kernels."""
    if not isinstance(value, Tensor):
        return value
    if torch._debug_has_internal_overlap(value) == 1:  # expanded
        return value.clone()
    same = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    return same.copy_(value)
