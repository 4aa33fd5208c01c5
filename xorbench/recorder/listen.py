"""What happens in a training, step by step, as events: this is where hooks report to.

Steps count from 0. A step begins with a training call, a backward pass or an optimizer's step,
whichever comes first, and ends when the outermost optimizer's step has returned.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import Optimizer
from torch.utils._python_dispatch import _disable_current_modes

from .detail import Detail
from .digest import Digester, DigestPart, NotRecorded
from .generators import short, states
from .identity import class_name, is_silent, storage_of
from .options import Options
from .sink import MemorySink, Sink
from .walk import Unknown, values
from .weights import RecordedWeights, Weight

MOST_EVENTS = 200_000  # of one step
MOST_CONTEXT = 200  # calls of one step that are recorded though they are not training calls
MOST_ERRORS = 10  # of one step
MOST_MADE = 10_000  # outputs of calls from which on those are forgotten that are no more

EventLine = list[Any]  # kind, identity, digest, and what else is known


class Listener:
    """Turns what hooks report into lines of a record. Nothing of it raises."""

    def __init__(self, options: Options, open_record: Callable[[], Sink | MemorySink]) -> None:
        self.options = options
        self._open_record = open_record
        self.digester = Digester()
        self.detail = Detail(self)
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a process that has just been forked must."""
        self.pid = os.getpid()
        self.thread: int | None = None
        self.calls: list[int] = []  # the modules that are being called, outermost first
        self.busy = False
        self.modes = False
        self._sink: Sink | MemorySink | None = None
        self.weights = RecordedWeights()
        self._step = 0
        self._open = False
        self._origin = time.perf_counter()
        self._began = 0.0
        self._spent = 0.0
        self._events: list[tuple[EventLine, list[DigestPart] | None]] = []
        self._errors: list[str] = []
        self._left_out = 0
        self._call: tuple[str, bool] | None = None
        self._count = {"c": 0, "x": 0, "l": 0}
        self._made: dict[int, tuple[StorageWeakRef, str]] = {}
        self._most_made = MOST_MADE
        self._stepping: list[int] = []
        self._hyper: dict[str, str] = {}
        self._changed: dict[str, Any] = {}

    # Hooks

    def listens(self) -> bool:
        """Whether what this thread of this process does now belongs to the training.

        It belongs to the thread that has begun a step, and after that thread's end to another.
        """
        if self.busy or self.pid != os.getpid():
            return False
        return self.thread in (None, threading.get_ident()) or self.thread not in _threads()

    def shielded(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do the recorder's own work: unseen by modes and autograd, and without an exception."""
        began = time.perf_counter()
        self.busy = True
        stopped = False
        compiling = None
        try:
            compiling = torch._C._dynamo.eval_frame.set_eval_frame(None)
            stopped = True
            self.modes = torch._C._len_torch_dispatch_stack() > 0
            with torch.no_grad(), torch._C.DisableTorchFunction():
                if self.modes:
                    with _disable_current_modes():
                        work(*arguments)
                else:
                    work(*arguments)
        except Exception as error:
            self._failed(error)
        finally:
            if stopped:
                torch._C._dynamo.eval_frame.set_eval_frame(compiling)
            self.busy = False
            self._spent += time.perf_counter() - began

    def _failed(self, error: Exception) -> str:
        """Count what went wrong in the recorder; the answer is what to say of it."""
        why = error.strerror if isinstance(error, OSError) else error  # names no file
        text = f"{type(error).__name__}: {why}".splitlines()[0][:200]
        if len(self._errors) < MOST_ERRORS:
            self._errors.append(text)
        return text

    def enter_call(self, module: nn.Module, args: Any, *, gradients: bool) -> None:
        """An outermost module is about to be called; `args` are its positional inputs."""
        self._call = None
        if is_silent(_first(args)):
            return
        training = module.training and gradients and _learns(module)
        if training:
            self.thread = threading.get_ident()
            self.begin()
            self.watch(module)
        name = f"{'c' if training else 'x'}{self._count['c' if training else 'x']}"
        self._count[name[0]] += 1
        self._call = (name, training)
        if training or (self._open and self._count["x"] <= MOST_CONTEXT):
            kind = "call" if training else "context"
            self.add(kind, name, None, name=class_name(module))
        if training:
            self._inputs(name, args)
        elif self.options.state:
            self.weights.other(module)

    def leave_call(
        self, module: nn.Module, kwargs: dict[str, Any], output: Any, *, outermost: bool
    ) -> None:
        """A module has been called; `kwargs` are its keyword inputs."""
        self.detail.leave_module(module, output)
        if not outermost or self._call is None:
            return
        name, training = self._call
        self._call = None
        if training and kwargs:
            self._inputs(name, kwargs)
        for _, value in values(output):
            if isinstance(value, Tensor):
                made = storage_of(value)
                if made is not None:
                    self._made[made.cdata] = (made, name)
        if len(self._made) > self._most_made:  # many calls and no step
            self._made = {k: one for k, one in self._made.items() if not one[0].expired()}
            self._most_made = max(MOST_MADE, 2 * len(self._made))

    def backward(self, roots: Any) -> None:
        """Gradients are about to be computed from these tensors."""
        if is_silent(_first(roots)):
            return
        self.thread = threading.get_ident()
        self.begin()
        for path, value in values(roots):
            if isinstance(value, Tensor):
                more = {"value": value.item()} if self._tells_value(value) else {}
                self.tensor("loss", f"l{self._count['l']}{path}", value, **more)
        self._count["l"] += 1
        self.detail.backward()

    def _tells_value(self, loss: Tensor) -> bool:
        single = loss.numel() == 1 and loss.layout == torch.strided
        return self.options.state and single and bool(loss.isfinite())  # JSON has finite numbers

    def before_step(self, optimizer: Optimizer, closure: bool = False) -> None:
        """An optimizer is about to step; one within another does not count."""
        if id(optimizer) in self._stepping:  # it raised the last time
            del self._stepping[self._stepping.index(id(optimizer)) :]
        self._stepping.append(id(optimizer))
        if len(self._stepping) > 1:
            return
        self.thread = threading.get_ident()
        index = self.weights.stepping(optimizer, self._step)
        self.begin()
        if self.options.level == "clock":
            self.add("clock", f"o{index}", None)
            return
        self._tensors(self.weights.missing(optimizer, index))
        self._hyperparameters(optimizer, index)
        self.detail.before_step(optimizer, index, closure=closure)

    def after_step(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""
        if id(optimizer) not in self._stepping:
            return
        del self._stepping[self._stepping.index(id(optimizer)) :]
        if self._stepping:
            return
        self.detail.after_step(optimizer, self.weights.stepping(optimizer, self._step))
        self._end()

    def finish(self) -> None:
        """The program ends: write what is pending, and the parameters as they are now."""
        if self.pid != os.getpid() or (self._sink is None and not self._open):
            return
        self.detail.leave()
        complete = not self._open
        if self.options.level != "clock":
            pending, self._events = self._events, []
            self.weights.more(self._step)
            held = self.weights.held
            self._tensors([(f"final {kind}", name, tensor) for kind, name, tensor in held])
            finals, self._events = self._events, pending
            events, ends = self._finished(pending), self._finished(finals)
        else:
            events, ends = [], []
        self._write(
            {
                "end": True,
                "steps": self._step,
                "complete": complete,
                "events": [] if complete else events,
                "final": ends,
                "left_out": self._sink.left_out if self._sink else 0,
            },
            always=True,
        )

    # Events

    def begin(self) -> None:
        """Begin a step, unless one is open: generators, parameters and buffers as they are now."""
        if self._open:
            return
        self._open = True
        self._began = time.perf_counter() - self._origin
        if self.options.level != "clock":
            self.detail.begin(self._step)
            self.detail.starting = self._step in self.options.keep
            for name, state in states() if self.options.generators else ():
                self.add("generator", name, state)
            self.weights.held = []
            self._tensors(self.weights.more(self._step))
            self.detail.starting = False
        if self._step == self.options.stop_after:
            self._stop()

    def watch(self, module: nn.Module) -> None:
        """Record a module's parameters and buffers, this step and the next ones."""
        if not self.weights.watch(module, self._step):
            return
        self.detail.name_modules(module)
        if self.options.level == "clock":
            return
        self.weights.name(module)
        self.detail.starting = self._step in self.options.keep
        self._tensors(self.weights.more(self._step))
        self.detail.starting = False

    def _end(self) -> None:
        self.detail.leave()
        line: dict[str, Any] = {"step": self._step, "at_s": round(self._began, 6)}
        line["took_s"] = round(time.perf_counter() - self._origin - self._began, 6)
        line["recorder_s"] = round(self._spent, 6)
        self._spent = 0.0
        try:
            line["events"] = self._finished(self._events)
            self._write(line)
        finally:
            self._step += 1
            self._open = False
            self._events, self._left_out = [], 0
            self._count = {"c": 0, "x": 0, "l": 0}
            self._made.clear()

    def record(self) -> Sink | MemorySink:
        """The file of the record, opened by the first that needs it."""
        if self._sink is None:
            self._sink = self._open_record()
        return self._sink

    def _write(self, line: dict[str, Any], *, always: bool = False) -> None:
        news = {
            "names": self.weights.news,
            "hyperparameters": self._changed,
            "errors": self._errors,
            "events_left_out": self._left_out,
        }
        line |= {key: value for key, value in news.items() if value}
        self.record().write(line, always=always)
        self.weights.news, self._changed, self._errors = {}, {}, []

    def _stop(self) -> None:
        """Write what there is, say so, and wait for the end that the supervisor makes."""
        self.finish()
        if self._sink is not None:
            with open(f"{self._sink.path}.stopped", "wb"):
                pass
        while True:
            time.sleep(3600)

    def _finished(self, events: list[tuple[EventLine, list[DigestPart] | None]]) -> list[EventLine]:
        started = [(event, parts) for event, parts in events if parts is not None]
        try:
            digests = self.digester.finish([parts for _, parts in started])
        except Exception as error:
            why = {"not_recorded": self._failed(error)}
            for event, _ in started:
                event[3:] = [{**(event[3] if len(event) > 3 else {}), **why}]
        else:
            for (event, _), digest in zip(started, digests):  # noqa: B905 - Python 3.9
                event[2] = digest
        return [event for event, _ in events]

    def add(self, kind: str, identity: str, digest: str | None, /, **more: Any) -> None:
        """Add an event: its kind, which one, its digest, and what else is known."""
        if len(self._events) >= MOST_EVENTS:
            self._left_out += 1
            return
        event: EventLine = [kind, identity, digest, more] if more else [kind, identity, digest]
        self._events.append((event, None))

    def tensor(self, kind: str, identity: str, tensor: Tensor, /, **more: Any) -> None:
        """Add the digest of a tensor, or why it has none."""
        try:
            started: list[DigestPart] | Exception = self.digester.start(tensor)
        except Exception as error:
            started = error
        self._started(kind, identity, tensor, started, more)

    def _tensors(self, some: list[Weight]) -> None:
        """As `tensor`, of many at once: kind, identity and tensor of each."""
        every = self.digester.start_all([tensor for _, _, tensor in some])
        for (kind, identity, tensor), started in zip(some, every):  # noqa: B905 - Python 3.9
            self._started(kind, identity, tensor, started, {})

    def _started(
        self,
        kind: str,
        identity: str,
        tensor: Tensor,
        started: list[DigestPart] | Exception,
        more: dict[str, Any],
    ) -> None:
        """Add a digest under way, or what went wrong with it."""
        if len(self._events) >= MOST_EVENTS:
            self._left_out += 1
            return
        try:
            if isinstance(started, Exception):
                raise started
            more.update(self.detail.kept(tensor))
        except NotRecorded as error:
            self.add(kind, identity, None, not_recorded=str(error), **more)
            return
        except Exception as error:
            self.add(kind, identity, None, not_recorded=self._failed(error), **more)
            return
        event: EventLine = [kind, identity, None, more] if more else [kind, identity, None]
        self._events.append((event, started))

    def _inputs(self, call: str, inputs: Any) -> None:
        for path, value in values(inputs):
            name = call + path
            if isinstance(value, Tensor):
                made = self._origin_of(value)
                if made is None and value.grad_fn is None:
                    self.tensor("batch", name, value)
                elif value.requires_grad:
                    self.add("input", name, None, of=made)
                else:
                    self.tensor("input", name, value, of=made)
            elif isinstance(value, Unknown):
                self.add("batch", name, None, not_recorded=value.reason)
            elif hasattr(value, "__array_interface__"):
                self._array(name, value)
            else:
                self.add("batch", name, short(repr(value).encode()))

    def _array(self, name: str, value: Any) -> None:
        """Add the digest of an array of NumPy's kind; one of objects has only their addresses."""
        interface = value.__array_interface__
        if "O" in str(interface["typestr"]) or not hasattr(value, "tobytes"):
            self.add("batch", name, None, not_recorded=f"{type(value).__name__} of objects")
            return
        text = f"{interface['typestr']} {interface['shape']}".encode()
        self.add("batch", name, short(text + value.tobytes()))

    def _origin_of(self, tensor: Tensor) -> str | None:
        """The call of this step whose output the tensor is, or shares memory with."""
        storage = storage_of(tensor)
        made = self._made.get(storage.cdata) if storage is not None else None
        return None if made is None or made[0].expired() else made[1]

    def _hyperparameters(self, optimizer: Optimizer, index: int) -> None:
        groups = [
            {name: _plain(value) for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        digest = short(repr(groups).encode())
        name = f"o{index}"
        if self._hyper.get(name) != digest:
            self._hyper[name] = digest
            self._changed[name] = groups
        self.add("hyperparameters", name, digest, name=type(optimizer).__name__)


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _first(value: Any) -> Tensor | None:
    return next((item for _, item in values(value) if isinstance(item, Tensor)), None)


def _plain(value: Any) -> Any:
    """A hyperparameter as JSON has it; one that is a tensor by its value."""
    if isinstance(value, Tensor) or (hasattr(value, "dtype") and hasattr(value, "tolist")):
        return _plain(value.tolist())  # of one that has no dimension it is a number
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has finite numbers
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return type(value).__name__


def _threads() -> Any:
    """The threads that are alive, by their numbers."""
    return threading._active  # type: ignore[attr-defined]
