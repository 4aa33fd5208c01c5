"""Detailed recording: gradients, optimizer states, the outputs of every module and operator."""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._guards import CompileContext
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import Optimizer
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    _pop_mode,
    _push_mode,
)
from torch.utils.weak import WeakIdKeyDictionary

from .fingerprint import NotRecorded, dense_parts
from .identity import bare, parameters_of, storage_of
from .masking import masked
from .walk import tensors
from .weights import states_of

if TYPE_CHECKING:
    from .listen import Listener
    from .weights import Weight

HERE = os.path.dirname(os.path.abspath(__file__))
TORCH = os.path.dirname(os.path.abspath(torch.__file__))
STANDARD = sysconfig.get_paths()["stdlib"]
SITE = os.sep + "site-packages" + os.sep


class UnseenMode(TorchDispatchMode):
    """A dispatch mode that does not prevent compilation: compiled code runs as without it."""

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """From PyTorch 2.9 on."""
        return True


def is_tracing() -> bool:
    """Whether a compiler is tracing: the operators are not those of the program."""
    return CompileContext.try_get() is not None


def enter(mode: TorchDispatchMode) -> None:
    """Enter a dispatch mode below the active ones, whose exits remove the innermost mode."""
    with _disable_current_modes():
        _push_mode(mode)


def leave(mode: TorchDispatchMode) -> None:
    """Leave a dispatch mode; those above it stay."""
    modes = [_pop_mode() for _ in range(torch._C._len_torch_dispatch_stack())]
    for other in reversed(modes):
        if other is not mode:
            _push_mode(other)


class Detail:
    """Records the details of the requested steps; in other steps it does nothing."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._steps = listener.options.detail
        self.on = False
        self.outputs = False  # whether outputs of modules are recorded
        self._mode: Operators | None = None
        self._paths = WeakIdKeyDictionary()
        self._outputs: dict[str, int] = {}
        self.backward_line = ""
        self._late = False
        self.keeping = True
        self.starting = False
        self._room = listener.options.values_bytes
        self._made: dict[int, tuple[StorageWeakRef, str]] = {}  # between steps

    def begin(self, step: int) -> None:
        """Begin a step: record every operator from now on, unless another mode is active."""
        first, last = self._steps or (1, 0)
        self.on = first <= step <= last
        self.outputs = self.on or self._listener.options.sketches
        if self.outputs:
            self._outputs = {}
        if not self.on:
            return
        self._made = {key: made for key, made in self._made.items() if not made[0].expired()}
        if not self._listener.options.operators:
            return
        mode = self._mode
        if mode is not None and mode.pushed:
            if self._listener.modes == 1:
                mode.restart()
                return
            self._mode = None
        if self._listener.modes:
            self._listener.add("note", "operators", None, not_recorded="another mode is active")
            return
        self._mode = Operators(self._listener)

    def push_operators(self) -> None:
        """Push the modes, outside `Listener.shielded`; that of rounding below that of operators."""
        mode = self._mode
        if mode is not None and not mode.begun:
            mode.begun = True
            self._listener.shielded(mode.add_weights, self._listener.weights.held)
            if not mode.pushed:
                mode.pushed = True
                enter(mode)
        self._listener.rounding.push()

    def pop_operators(self) -> None:
        """Pop the modes."""
        self._pop_operators()
        self._listener.rounding.pop()

    def _pop_operators(self) -> None:
        mode = self._mode
        if mode is None or self.on or not mode.pushed:
            return
        first, last = self._steps or (1, 0)
        if first <= self._listener.steps() <= last:
            return  # it notes the lines that make the next batch
        leave(mode)
        self._mode = None

    def note_maker(self, tensor: Tensor, line: str) -> None:
        """Store the line that made a tensor between two steps."""
        reference = storage_of(tensor)
        if reference is not None:
            self._made[reference.cdata] = reference, line

    def made_at(self, tensor: Tensor) -> dict[str, str]:
        """The line that made a tensor before the step; empty if unknown."""
        reference = storage_of(tensor) if self._made else None
        known, line = self._made.get(reference.cdata if reference else 0, (None, ""))
        return {"made": line} if line and known is not None and not known.expired() else {}

    def name_modules(self, module: nn.Module) -> None:
        """Store the names of a training module's parts."""
        if self._steps is None and not self._listener.options.sketches:
            return
        for name, part in module.named_modules():
            if part not in self._paths:
                self._paths[part] = bare(name)

    def leave_module(self, module: nn.Module, output: Any) -> None:
        """Record the output of a module call."""
        if not self.outputs or torch._C._current_graph_task_id() != -1:
            return
        path = self._paths.get(module, "")
        name = f"{path or '(whole)'} {type(module).__name__}"
        nth = self._outputs[path] = self._outputs.get(path, -1) + 1  # two models may share a path
        for place, tensor in tensors(output):
            self._listener.tensor("output", f"{path}#{nth}{place}", tensor, name=name)

    def backward(self) -> None:
        """Store the line of the program that starts a backward pass."""
        if self.on:
            self.backward_line = line_of(self._listener.options)

    def before_step(self, optimizer: Optimizer, index: int, *, closure: bool) -> None:
        """Record gradients and state before an optimizer's step.

        An optimizer with a closure computes its gradients during the step. The gradients before it
        belong to the previous step, so they are recorded afterwards.
        """
        self._late = closure
        options = self._listener.options
        if (self.on or options.state or options.sketches) and not closure:
            self._gradients(optimizer, index)
        if self.on or options.state:
            self._state("state", optimizer, index)

    def after_step(self, optimizer: Optimizer, index: int) -> None:
        """Record state and parameters after an optimizer's step."""
        options = self._listener.options
        if self._late and (self.on or options.state or options.sketches):
            self._gradients(optimizer, index)
        if self.on or options.sketches:
            self._state("new state", optimizer, index)
        if self.on:
            for name, parameter in parameters_of(optimizer.param_groups, index):
                self._listener.tensor("new parameter", name, parameter)

    def _gradients(self, optimizer: Optimizer, index: int) -> None:
        scale = getattr(optimizer, "grad_scale", None)  # of a GradScaler; a fused kernel divides
        divisor = None if scale is None else float(scale)
        for name, parameter in self._listener.weights.optimized_by(optimizer, index):
            if parameter.grad is not None:
                gradient = parameter.grad if divisor is None else parameter.grad / divisor
                self._listener.tensor("gradient", name, gradient)

    def _state(self, kind: str, optimizer: Optimizer, index: int) -> None:
        for _, identity, tensor in states_of(optimizer.param_groups, optimizer.state, index):
            self._listener.tensor(kind, identity, tensor)

    def keep_values(self, tensor: Tensor) -> dict[str, Any]:
        """Keep the bytes of a tensor; return type, shape and the position of the bytes."""
        if not self.on and not self.starting:
            return {}
        details: dict[str, Any] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype)[6:]}
        sink = self._listener.record()
        try:
            dense = dense_parts(tensor)
        except NotRecorded:
            return details
        if len(dense) > 1 or tensor.is_complex():
            return details
        shard = dense[0]  # the local part of a sharded tensor
        details["shape"] = list(shard.shape)
        size = shard.numel() * shard.element_size()
        if size > self._room or not self.keeping:
            return details
        plain = shard.resolve_neg().contiguous().cpu()
        try:
            details.update(sink.keep(ctypes.string_at(plain.data_ptr(), size)))
            self._room -= size
        except OSError:  # a full disk
            self._room = 0
        return details


class Operators(UnseenMode):
    """Records the outputs of every operator, and the inputs that no operator made."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener
        self.pushed = False
        self.restart()

    def restart(self) -> None:
        """Begin a step."""
        self.begun = False
        self._makers: dict[int, tuple[StorageWeakRef, str]] = {}
        self._inputs = ""
        self._unwritten: dict[int, tuple[StorageWeakRef, str]] = {}
        self._uninitialized = ""
        self._lines: dict[int, str] = {}
        self._number = 0
        self._line = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and record it."""
        kwargs = kwargs or {}
        listener = self._listener
        if not listener.listens() or _only_views(func) or is_tracing():
            return func(*args, **kwargs)
        if not listener.detail.on:
            output = func(*args, **kwargs)
            listener.shielded(self._note_makers, output)
            return output
        listener.shielded(self._before, func, args, kwargs)
        output = func(*args, **kwargs)
        listener.shielded(self._after, func, output)
        return output

    def _note_makers(self, output: Any) -> None:
        line = line_of(self._listener.options)
        for _, tensor in tensors(output):
            self._listener.detail.note_maker(tensor, line)

    def _before(self, func: Any, args: Any, kwargs: Any) -> None:
        line = line_of(self._listener.options)
        node = torch._C._current_autograd_node()
        if node is None:
            self._lines[torch.autograd._get_sequence_nr() - 1] = line  # type: ignore[attr-defined]
        elif line == self._listener.detail.backward_line:  # else the program's own backward pass
            line = self._lines.get(node._sequence_nr(), line)
        self._line, self._inputs = line, ""
        self._uninitialized = self._read_unwritten(func, args, kwargs)
        makers = []
        for place, tensor in tensors((args, kwargs)):
            maker = self._maker_of(tensor)
            makers.append(maker or "data")
            if not maker:
                self._make_known(tensor, "data")
                details = {**self._details(func), **self._listener.detail.made_at(tensor)}
                self._listener.tensor("data", f"{self._number}{place}", tensor, **details)
        self._inputs = " ".join(makers)

    def _after(self, func: Any, output: Any) -> None:
        empty = "empty" in str(func)  # uninitialized memory
        for place, tensor in tensors(output):
            self._make_known(tensor, str(self._number))
            reference = storage_of(tensor) if empty else None
            if reference is not None:
                self._unwritten[reference.cdata] = reference, self._line
            if not empty:
                identity = f"{self._number}{place}"
                self._listener.tensor("operator", identity, tensor, **self._details(func))
        self._number += 1

    def _read_unwritten(self, func: Any, args: Any, kwargs: Any) -> str:
        """The line that allocated memory that the operator reads before any is written."""
        if not self._unwritten:
            return ""
        read = ""
        for argument, value in zip(func._schema.arguments, args):  # noqa: B905 - Python 3.9
            writes = argument.alias_info is not None and argument.alias_info.is_write
            read = self._take_unwritten(value, writes=writes) or read
        for argument in func._schema.arguments:
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if argument.name in kwargs:
                read = self._take_unwritten(kwargs[argument.name], writes=writes) or read
        return read

    def _take_unwritten(self, value: Any, *, writes: bool) -> str:
        """The line that allocated an argument; a written argument is initialized from now on."""
        line = ""
        for _, tensor in tensors(value):
            reference = storage_of(tensor)
            key = None if reference is None else reference.cdata
            known, where = self._unwritten.get(key or 0, (None, ""))
            if known is None or known.expired():
                continue
            if writes:
                del self._unwritten[key or 0]
            else:
                line = where
        return line

    def _details(self, func: Any) -> dict[str, Any]:
        details: dict[str, Any] = {"name": str(func), "where": self._line}
        if self._inputs:
            details["inputs"] = self._inputs
        if self._uninitialized:
            details["uninitialized"] = self._uninitialized
        if torch._C._current_autograd_node() is not None:
            details["backward"] = True
        if torch.Tag.nondeterministic_seeded in func.tags:
            details["random"] = True
        return details

    def _maker_of(self, tensor: Tensor) -> str:
        """The origin of the tensor: an operator of this step, by number, or a weight; or empty."""
        reference = storage_of(tensor)
        if reference is None:
            return "view"
        known, maker = self._makers.get(reference.cdata, (None, ""))
        return maker if known is not None and not known.expired() else ""

    def add_weights(self, weights: list[Weight]) -> None:
        """Register weights, which are recorded on their own."""
        for position, (_, _, tensor) in enumerate(weights):
            self._make_known(tensor, f"w{position}")

    def _make_known(self, tensor: Tensor, maker: str) -> None:
        reference = storage_of(tensor)
        if reference is not None:
            self._makers[reference.cdata] = reference, maker


def _only_views(func: Any) -> bool:
    returns = func._schema.returns
    return all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def line_of(options: Any) -> str:
    """The running file and line of the program, outside PyTorch and the standard library."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        foreign = name.startswith((HERE, TORCH, "<"))
        if not foreign and (SITE in name or not name.startswith(STANDARD)):
            return _line_text(name, frame.f_lineno, options)
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def short_name(name: str, options: Any) -> str:
    """A file relative to the packages or the working folder, else without its folder."""
    short = name.rpartition(SITE)[2]
    root = options.root.rstrip(os.sep) + os.sep
    if short == name and options.root and name.startswith(root):
        short = name[len(root) :]
    elif short == name and os.path.isabs(name):
        short = os.path.basename(name)
    return short


def _line_text(name: str, number: int, options: Any) -> str:
    short = short_name(name, options)
    if not options.with_source:
        return f"{short}:{number}"
    import linecache

    return f"{short}:{number}: {masked(linecache.getline(name, number).strip())}"
