"""The listener: it receives the calls of the hooks and records the events of each training step.

Steps count from 0. A step begins with a training call, a backward pass or an optimizer's step,
whichever comes first, and ends when the outermost optimizer's step has returned.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import Optimizer
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakIdKeyDictionary

from . import stopping
from .detail import Detail
from .fingerprint import Digester, DigestPart, NotRecorded
from .generators import short, states
from .graph import graph_of
from .identity import class_name, is_silent, storage_of
from .options import Options
from .replicas import Replicas
from .rounding import Rounding
from .sink import MemorySink, Sink
from .sketch import Sketches
from .start_states import StartStates
from .turns import Turns
from .untrained import UntrainedModels
from .unused_calls import FirstCalls, renumbered
from .updates import Leaf, Updates
from .walk import Unknown, tensors, values
from .weights import RecordedWeights, Weight

if TYPE_CHECKING:
    from .origins import Origins

MOST_EVENTS = 200_000  # per step
MOST_CONTEXT = 200  # recorded calls per step that are not training calls
MOST_ERRORS = 10  # per step
SAMPLED = ("output", "new state")  # of large ones, gradients and parameters show all elements
WEIGHTS = ("parameter", "buffer", "generator")
MOST_MAKERS = 10_000  # tracked call outputs beyond which entries of freed tensors are dropped

EventLine = list[Any]  # kind, identity, digest, details


class Pending(NamedTuple):
    """An event and its unfinished digest; None for an event without a digest."""

    event: EventLine
    parts: list[DigestPart] | None


class Listener:
    """Turns the calls of the hooks into lines of a record. It never raises an error of its own."""

    def __init__(self, options: Options, open_record: Callable[[], Sink | MemorySink]) -> None:
        self.options = options
        self.others_stop: Callable[[], None] = lambda: None  # waits for the other threads
        self._open_record = open_record
        self.digester = Digester()
        self.detail = Detail(self)
        self.rounding = Rounding(self)
        self.start_states = StartStates(self)
        self._sketches = Sketches()
        self.origins: Origins | None = None  # in runs with detailed recording
        self.reset()

    def reset(self) -> None:
        """Clear the state, for a process that has just been forked."""
        self.pid = os.getpid()
        self.thread: int | None = None
        self.calls: list[int] = []  # ids of the active modules, outermost first
        self.busy: int | None = None  # the thread in which the recorder is running
        self.modes = 0  # dispatch modes that are active around the recorder
        self._sink: Sink | MemorySink | None = None
        self.weights = RecordedWeights(self._weights_died)
        self.untrained = UntrainedModels(self.digester, self._weights_died)
        self.replicas = Replicas(self)
        self._finals: dict[tuple[str, str], Pending] = {}
        self._closed = self._stopped = False
        self._owners: set[int | None] = set()  # threads that trained before the current one
        self._overlaps = 0
        self._trainer: weakref.ref[threading.Thread] | None = None  # the thread of the last step
        self._followers = 0  # threads that began a training after the end of the one before
        self._evaluations = 0
        self._leaves = WeakIdKeyDictionary()  # with a gradient, outside modules and optimizers
        self._free_leaves = 0  # total number of them
        self._reached: list[Tensor] = []  # leaves that received gradients in this step
        self.updates = Updates()
        self._first_calls = FirstCalls()
        self._deferred = False  # whether the step ends with the current backward pass
        self._batches = WeakIdKeyDictionary()  # inputs with requires_grad
        self._step = 0
        self._open = False
        self._origin = time.perf_counter()
        self._began = self._ended = 0.0
        self._interval = 0.0  # between the beginnings of the last two steps (s)
        self._spent = 0.0
        self._entered = 0.0  # when the training last entered the recorder
        self._turns = Turns(self.options)
        self._events: list[Pending] = []
        self._errors: list[str] = []
        self._events_not_recorded = 0
        self._call: tuple[str, bool] | None = None
        self._data_ranks = ""  # that share the batch of the current call
        self._count = {"c": 0, "x": 0, "l": 0}
        self._makers: dict[int, tuple[StorageWeakRef, str]] = {}
        self._most_makers = MOST_MAKERS
        self._stepping: list[int] = []
        self._hyper: dict[str, str] = {}
        self._changed: dict[str, Any] = {}

    # Hooks

    def listens(self) -> bool:
        """Whether the current thread is the training thread.

        That is the thread that began a step, or any thread once that thread has ended.
        """
        if self.busy is not None or self.pid != os.getpid() or self._closed:
            return False
        alive = threading._active  # type: ignore[attr-defined]  # threads by id
        return self.thread in (None, threading.get_ident()) or self.thread not in alive

    def takes_over(self) -> bool:
        """Make the current thread the training thread, if the recorded one is in no call.

        A hook calls this before a module call, a backward pass or an optimizer's step. If the
        replaced thread trains again while this one is alive, the two train at the same time and
        their order is arbitrary.
        """
        thread = threading.get_ident()
        if not self.listens():
            if self.busy is not None or self.pid != os.getpid() or self._closed or self.calls:
                return False
            self._overlaps += thread in self._owners
            self._owners.add(self.thread)
            self.thread = thread
        return True

    def note_overlap(self) -> None:
        """Count an optimizer step in a thread that is not recorded."""
        if self.pid == os.getpid() and self.busy != threading.get_ident():
            self._overlaps += 1

    def shielded(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run the recorder's own work: hidden from modes and autograd, and without exceptions."""
        began = self._entered = time.perf_counter()
        self.busy = threading.get_ident()
        stopped = False
        compiling = None
        try:
            compiling = torch._C._dynamo.eval_frame.set_eval_frame(None)
            stopped = True
            self.modes = torch._C._len_torch_dispatch_stack()
            with torch.no_grad(), torch._C.DisableTorchFunction():
                if self.modes:
                    with _disable_current_modes():
                        self._work(work, arguments)
                else:
                    self._work(work, arguments)
        except BaseException as error:
            self._failed(error)
            if not isinstance(error, Exception) or raised_by_signal(error):
                raise  # the program's exception, which interrupted the recorder
        finally:
            if stopped:
                torch._C._dynamo.eval_frame.set_eval_frame(compiling)
            self.busy = None
            self._spent += time.perf_counter() - began

    def _work(self, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        work(*arguments)
        if self.weights.dead or self.untrained.dead:
            self._read_dead()

    def _failed(self, error: BaseException) -> str:
        """Record an error of the recorder and return its text."""
        reason = error.strerror if isinstance(error, OSError) else error  # without the file name
        text = f"{type(error).__name__}: {reason}".splitlines()[0][:200]
        if len(self._errors) < MOST_ERRORS:
            self._errors.append(text)
        return text

    def enter_call(self, module: nn.Module, args: Any, *, gradients: bool) -> None:
        """Record the start of an outermost module call; `args` are its positional inputs."""
        self._call = None
        if is_silent(_first(args)):
            return
        training = module.training and gradients
        training = training and any(weight.requires_grad for weight in module.parameters())
        if training:
            self.thread = threading.get_ident()
            if self.updates.possible and self._weights_changed():
                self._end_updated()
            begins = not self._open
            self.begin()
            self.track(module)
            if begins:
                self.start_states.begin_step(self._step)
        name = f"{'c' if training else 'x'}{self._count['c' if training else 'x']}"
        self._count[name[0]] += 1
        self._call = (name, training)
        if training or (self._open and self._count["x"] <= MOST_CONTEXT):
            kind = "call" if training else "context"
            self.add(kind, name, None, name=class_name(module))
        if training:
            if not self._step:
                self._first_calls.enter(len(self._events) - 1)
            if self.options.samples:
                self._data_ranks = self.replicas.data_ranks(module)
            self._add_inputs(name, args)
        elif self.options.level != "clock":
            self._note_untrained(module)

    def note_average(self, module: nn.Module) -> None:
        """An average of the weights is updated; it may never be called."""
        if not self._follows(module):
            self.weights.note_untrained(module, class_name(module))

    def _note_untrained(self, module: nn.Module) -> None:
        """Note a call outside training: a loss, an evaluation, an average of the weights."""
        if not ((self._open or self._step) and self._follows(module)):
            self.weights.note_untrained(module, class_name(module))
        self._evaluations += next(module.parameters(), None) is not None
        if self.options.state:
            self.weights.add_other_model(module)

    def _follows(self, module: nn.Module) -> bool:
        """Begin to follow the state of a model that is not trained; whether it has any."""
        follows = self.untrained.follow(module, self.weights.knows)
        if follows:
            self.weights.note_followed(module)
        return follows

    def leave_call(
        self, module: nn.Module, kwargs: dict[str, Any], output: Any, *, outermost: bool
    ) -> None:
        """Record the end of a module call; `kwargs` are its keyword inputs."""
        self.detail.leave_module(module, output)
        if not outermost or self._call is None:
            return
        name, training = self._call
        self._call = None
        if training and kwargs:
            self._add_inputs(name, kwargs)
        if training and not self._step:
            model = self.weights.number_of(module)
            self._first_calls.leave(int(name[1:]), module, model, len(self._events))
        for _, tensor in tensors(output):
            storage = storage_of(tensor)
            if storage is not None:
                self._makers[storage.cdata] = (storage, name)
        if len(self._makers) > self._most_makers:  # many calls and no step
            makers = self._makers.items()
            self._makers = {key: maker for key, maker in makers if not maker[0].expired()}
            self._most_makers = max(MOST_MAKERS, 2 * len(self._makers))

    def backward(self, roots: Any, inputs: Any = None) -> None:
        """Record the start of a backward pass from these tensors, or for these inputs."""
        if is_silent(_first(roots)):
            return
        self.thread = threading.get_ident()
        if self.options.level == "clock":
            self._clock_pass()
            return
        reached = self._reach(roots)
        leaves = self._free_leaves_of(reached, inputs) if self.by_hand() else None
        if leaves is not None and self.updates.passes and self._updated(leaves):
            self._end_updated()
        self.begin()
        if leaves is not None:
            self._add_leaves(leaves)
        for path, loss in tensors(roots):
            finite = self.options.state and loss.numel() == 1 and loss.layout == torch.strided
            finite = finite and bool(loss.isfinite())  # JSON has only finite numbers
            details = {"value": loss.item()} if finite else {}
            self.tensor("loss", f"l{self._count['l']}{path}", loss, **details)
        self._count["l"] += 1
        self._reached += reached
        self.detail.backward()

    def _reach(self, roots: Any) -> list[Tensor]:
        """The leaf tensors that a backward pass reaches, in the steps in which they are needed."""
        if self._step & (self._step - 1) and not self.by_hand():  # else 0, 1, 2, 4, 8 …
            return []
        leaves, numbers = graph_of(roots)
        if not self._step:
            self._first_calls.passes += 1
            self._first_calls.reached |= numbers
        return leaves

    def by_hand(self) -> bool:
        """Whether a step may end without an optimizer: none of `torch.optim` has stepped yet."""
        return not self.updates.by_optimizer

    def _clock_pass(self) -> None:
        """A backward pass where only time is recorded; it begins a step if none else does."""
        if self.options.step_by == "backward" and self.by_hand():
            if self._open:
                self._end_updated()
            self.begin()

    def _updated(self, leaves: list[Leaf]) -> bool:
        """Whether the open step was followed by an update before a pass with these leaves."""
        return self._open and (self.updates.rebound(leaves) or self._weights_changed())

    def _free_leaves_of(self, reached: list[Tensor], inputs: Any) -> list[Leaf]:
        """The leaf tensors of a backward pass that are in no module and no batch."""
        reached = reached + [t for _, t in tensors(inputs) if t.is_leaf]
        held = {id(tensor) for kind, name, tensor in self.weights.held if name[:1] != "u"}
        free = [
            tensor
            for tensor in dict.fromkeys(reached)
            if id(tensor) not in held
            and not self.weights.is_named(tensor)
            and tensor not in self._batches
        ]
        digests = self.digester.digest_all(free)
        return [Leaf(tensor, d) for tensor, d in zip(free, digests) if d]  # noqa: B905 - Python 3.9

    def _add_leaves(self, leaves: list[Leaf]) -> None:
        """Record the leaf tensors that no module has, once in each step."""
        updates = self.updates
        if not updates.passes:
            updates.leaves = leaves
            named = [("parameter", f"u{i}", leaf.tensor) for i, leaf in enumerate(leaves)]
            for _, name, tensor in named:
                self.weights.describe(name, tensor)
            self.weights.held += named
            self._add_tensors(named)
        updates.passes += 1
        updates.compared = False

    def _weights_changed(self) -> bool:
        """Whether a weight is not as it was where the step began."""
        self.updates.compared = True
        now = self.weights.taking_part(self._step)
        now += [("parameter", f"u{i}", leaf.tensor) for i, leaf in enumerate(self.updates.leaves)]
        named = {name: tensor for kind, name, tensor in now if kind == "parameter"}
        digests = self.digester.digest_all(list(named.values()))
        return self._differ(dict(zip(named, digests)))  # noqa: B905 - Python 3.9

    def _differ(self, now: dict[str, str]) -> bool:
        """Whether a parameter has another digest than where the step began."""
        pending = {
            event[1]: parts
            for event, parts in self._events
            if event[0] == "parameter" and parts is not None and event[1] in now
        }
        began = self.digester.finish(list(pending.values()))
        return any(now[name] not in ("", digest) for name, digest in zip(pending, began))  # noqa: B905

    def _end_updated(self) -> None:
        """End the step whose weights were updated without an optimizer."""
        self.updates.ended += 1
        self._end_step()

    def begin_pass(self) -> bool:
        """A backward pass begins; whether it is within no other."""
        self.updates.depth += 1
        return self.updates.depth == 1

    def end_pass(self) -> None:
        """A backward pass ends, and with it a step of optimizers that stepped within it."""
        self.updates.depth -= 1
        if self.updates.depth:
            return
        if self._deferred:
            self._deferred = False
            self.shielded(self._end_step)
        elif (
            self._open
            and self.by_hand()
            and (self.detail.on or self.options.state or self.options.sketches)
        ):
            self.shielded(self._gradients)

    def _gradients(self) -> None:
        """Record the gradients of a pass that no optimizer will be asked for."""
        for kind, name, tensor in self.weights.held:
            if kind == "parameter" and tensor.grad is not None:
                self.tensor("gradient", name, tensor.grad)

    def before_step(self, optimizer: Optimizer, closure: bool = False) -> None:
        """Record the start of an optimizer's step; a nested optimizer does not count."""
        if id(optimizer) in self._stepping:  # its previous step raised
            del self._stepping[self._stepping.index(id(optimizer)) :]
        self._stepping.append(id(optimizer))
        if len(self._stepping) > 1:
            return
        self.thread = threading.get_ident()
        self.updates.stepped()
        index = self.weights.stepping(optimizer, self._step)
        self._note_trainer(f"o{index}" not in self._hyper)
        begins = not self._open  # with a closure, or after the step of another optimizer
        self.begin()
        if begins:
            self.start_states.begin_step(self._step)
        if self.options.level == "clock":
            self.add("clock", f"o{index}", None)
            return
        self._add_tensors(self.weights.new_parameters(optimizer, index))
        self.replicas.take(optimizer, index)
        self._hyperparameters(optimizer, index)
        self.detail.before_step(optimizer, index, closure=closure)

    def _note_trainer(self, is_new: bool) -> None:
        """Note the thread of a step, and whether it begins a separate training."""
        last = self._trainer() if self._trainer is not None else None
        has_ended = self._trainer is not None and (last is None or not last.is_alive())
        self._followers += is_new and has_ended
        self._trainer = weakref.ref(threading.current_thread())

    def after_step(self, optimizer: Optimizer) -> None:
        """Record the end of an optimizer's step."""
        if id(optimizer) not in self._stepping:
            return
        del self._stepping[self._stepping.index(id(optimizer)) :]
        if self._stepping:
            return
        self.detail.after_step(optimizer, self.weights.stepping(optimizer, self._step))
        if self.updates.depth:  # an optimizer of one parameter, in the hook of its gradient
            self._deferred = True
        else:
            self._end_step()

    def finish(self, intact: Callable[[], bool] = lambda: True) -> None:
        """Write the unfinished step and the final weights, when the program ends.

        `intact` returns whether the hooks of the recorder are still in place.
        """
        if self.pid != os.getpid() or self._closed or (self._sink is None and not self._open):
            return
        self._closed = True
        self.detail.on = self.detail.outputs = False
        evaluations = self._evaluations
        if self.options.level != "clock":
            self._read_dead()
            leaves = enumerate(self.updates.leaves)
            free = [("parameter", f"u{i}", leaf.tensor) for i, leaf in leaves]
            self._take_finals(self.weights.finals() + free + self.untrained.changed(dead=False))
            if self._open and self.updates.passes and self._differ(self._final_digests()):
                self._end_updated()
        complete, self._evaluations = not self._open, evaluations
        if not self._step:
            self._drop_unused_calls()
        events = self._with_digests(self._events) if not complete else []
        ends = self._with_digests(list(self._finals.values()))
        self._write(
            {
                "end": True,
                "steps": self._step,
                "complete": complete,
                "events": [] if complete else events,
                "final": ends,
                "left_out": self._sink.not_recorded if self._sink else 0,
                **self._unseen(intact=intact()),
                **self.rounding.end_line(),
                **_known(sources=self.origins.lines() if self.origins is not None else None),
            },
            always=True,
        )

    def _final_digests(self) -> dict[str, str]:
        finals = {
            name: final.parts
            for (kind, name), final in self._finals.items()
            if kind == "final parameter" and final.parts is not None
        }
        digests = self.digester.finish(list(finals.values()))
        return dict(zip(finals, digests))  # noqa: B905 - Python 3.9

    def _unseen(self, *, intact: bool) -> dict[str, dict[str, Any]]:
        """Events of the program that the record does not contain, by kind."""
        unseen = {
            "thread_overlaps": self._overlaps,
            "thread_followers": self._followers,
            "hooks_removed": not intact,
            "evaluations": self._evaluations,
            "models": self.weights.names_of_untrained(),
            "tensors": self._free_leaves if self.updates.by_optimizer else 0,
            "updates": self.updates.ended,
        }
        known = {name: value for name, value in unseen.items() if value}
        return {"unseen": known} if known else {}

    def _weights_died(self) -> None:
        """Read the tensors of a freed module or optimizer now, or with the next event."""
        if self.listens() and not is_silent(None):
            self.shielded(self._read_dead)

    def _read_dead(self) -> None:
        weights = self.weights.finals_of_dead()
        if self.options.level != "clock":
            self._take_finals(weights + self.untrained.changed(dead=True))

    def _take_finals(self, weights: list[Weight]) -> None:
        """Begin the digests of final weights; a later digest of a weight replaces an earlier."""
        pending, self._events = self._events, []
        try:
            self._add_tensors([(f"final {kind}", name, tensor) for kind, name, tensor in weights])
            self._finals.update({(final.event[0], final.event[1]): final for final in self._events})
        finally:
            self._events = pending

    # Events

    def steps(self) -> int:
        """The number of steps that are complete."""
        return self._step

    def begin(self) -> None:
        """Begin a step unless one is open: record generators, parameters and buffers."""
        if self._open:
            return
        self._open = True
        began, self._began = self._began, time.perf_counter() - self._origin
        self._interval = self._began - began
        if self.options.level != "clock":
            self.detail.begin(self._step)
            for name, state in states() if self.options.generators else ():
                self.add("generator", name, state)
            self.weights.held = []
            self.updates.begin()
            self._weights_at_start()
        if self._step == self.options.stop_after:
            self.stop()

    def track(self, module: nn.Module) -> None:
        """Record a module's parameters and buffers, in this step and the following ones."""
        if not self.weights.track(module, self._step):
            return
        self.detail.name_modules(module)
        if self.options.level == "clock":
            return
        self.weights.name(module)
        self.replicas.note(module)
        self._weights_at_start()

    def _weights_at_start(self) -> None:
        self.detail.starting = self._step in self.options.keep
        self._add_tensors(self.weights.new_weights(self._step))
        self.detail.starting = False

    def _drop_unused_calls(self) -> None:
        """Take out of the first step the calls that are no part of the training."""
        trains = self._trains()
        unused = self._first_calls.unused(trains, resumed=self.options.state)
        models = {call.model for call in unused if not trains(call.module())}
        self._first_calls = FirstCalls()
        if not unused:
            return
        renamed = self.weights.forget(models)
        gone = {place for call in unused for place in range(*call.events)}
        kept = [p for i, p in enumerate(self._events) if i not in gone or p.event[0] in WEIGHTS]
        numbers = {call.number for call in unused}
        for event, _ in kept:
            event[1] = renumbered(renamed(event[1]), numbers)
            if len(event) > 3 and "of" in event[3]:
                event[3]["of"] = renumbered(event[3]["of"], numbers)
        self._events = [pending for pending in kept if pending.event[1]]
        for (_, name), final in list(self._finals.items()):
            final.event[1] = renamed(name)
        finals = self._finals.values()
        self._finals = {(f.event[0], f.event[1]): f for f in finals if f.event[1]}

    def _trains(self) -> Callable[[nn.Module | None], bool]:
        """Whether a gradient has reached a parameter of a module, or an optimizer has one."""
        trained = {id(tensor) for tensor in self._reached} | self.weights.optimized()
        return lambda module: any(
            parameter.grad is not None or id(parameter) in trained
            for parameter in (() if module is None else module.parameters())
        )

    def _end_step(self) -> None:
        self.detail.on = self.detail.outputs = False
        if not self._step:
            self._drop_unused_calls()
        line: dict[str, Any] = {"step": self._step, "at_s": round(self._began, 6)}
        line["took_s"] = round(time.perf_counter() - self._origin - self._began, 6)
        line["recorder_s"] = round(self._spent, 6)
        self._spent = 0.0
        try:
            self.replicas.describe(self.weights.held)
            line["events"] = self._with_digests(self._events)
            self.start_states.end_step(line["events"])
            self._write(line)
        finally:
            self._step += 1
            self._open = False
            self._ended = time.perf_counter() - self._origin
            self._events, self._events_not_recorded = [], 0
            self._count = {"c": 0, "x": 0, "l": 0}
            self._makers.clear()
            self._evaluations = 0
            self._track_leaves()
            self.weights.held = []
            if self._step == self.options.stop_after:
                self._watch()
        if self.options.turns:
            self._end_turn(line)

    def _end_turn(self, line: dict[str, Any]) -> None:
        """Wait if this step was the last of a turn."""
        names = [event[1] for event in line["events"] if event[0] == "clock"]
        self._turns.step_ended(names[0] if names else "", self._entered, line["recorder_s"])

    def _track_leaves(self) -> None:
        """Count the tensors with a gradient that are in no optimizer and no module."""
        if not self._reached:
            return
        knows = self.weights.knows()
        for tensor in self._reached:
            if not (tensor in self._batches or tensor in self._leaves or knows(tensor)):
                self._leaves[tensor] = True
                self._free_leaves += 1
        self._reached = []

    def record(self) -> Sink | MemorySink:
        """The file of the record, opened on first use."""
        if self._sink is None:
            self._sink = self._open_record()
        return self._sink

    def _write(self, line: dict[str, Any], *, always: bool = False) -> None:
        news = {
            "names": self.weights.news,
            "hyperparameters": self._changed,
            "replicated": self.replicas.news,
            "errors": self._errors,
            "events_left_out": self._events_not_recorded,
        }
        line |= {key: value for key, value in news.items() if value}
        self.record().write(line, always=always)
        self.weights.news, self._changed, self._errors = {}, {}, []
        self.replicas.news = {}

    def stop(self) -> None:
        """Write the record, then end this process or wait until the supervisor kills it."""
        try:
            self.finish()
        finally:
            self._stopped = True
        self.others_stop()
        if self._sink is not None and self._sink.path:
            kill = self.options.kill or bool(self.options.die_in_save)
            stopping.stop(self._sink.path, self._interval, kill=kill)

    def makes_steps(self) -> bool:
        """Whether its thread is likely to make further steps, or is writing its record."""
        alive = threading._active  # type: ignore[attr-defined]  # threads by id
        if self._closed or self._sink is None or self.thread not in alive:
            return self._closed and not self._stopped
        idle = time.perf_counter() - self._origin - max(self._began, self._ended)
        return idle < (stopping.LONGEST_S if self._open else stopping.wait_s(self._interval))

    def _watch(self) -> None:
        """Stop this rank after its last step if it waits for a rank that has stopped."""
        if not self.options.kill and self._sink is not None:
            stopping.watch(os.path.dirname(self._sink.path), self._blocked)

    def _blocked(self, interval: float) -> None:
        while self.busy is not None:
            time.sleep(stopping.POLL_S)
        self._interval = interval
        self.shielded(self.stop)

    def _with_digests(self, events: list[Pending]) -> list[EventLine]:
        started = [(event, parts) for event, parts in events if parts is not None]
        try:
            digests = self.digester.finish([parts for _, parts in started])
        except Exception as error:
            reason = {"not_recorded": self._failed(error)}
            for event, _ in started:
                event[3:] = [{**(event[3] if len(event) > 3 else {}), **reason}]
        else:
            for (event, _), digest in zip(started, digests):  # noqa: B905 - Python 3.9
                event[2] = digest
        return [event for event, _ in events]

    def add(self, kind: str, identity: str, digest: str | None, /, **details: Any) -> None:
        """Add an event: its kind, identity, digest and details."""
        self._add([kind, identity, digest, details], None)

    def _add(self, event: EventLine, parts: list[DigestPart] | None) -> None:
        if len(self._events) >= MOST_EVENTS:
            self._events_not_recorded += 1
            return
        if not event[3]:  # no details
            del event[3]
        self._events.append(Pending(event, parts))

    def tensor(self, kind: str, identity: str, tensor: Tensor, /, **details: Any) -> None:
        """Add the digest of a tensor, or the reason for a missing digest."""
        try:
            started: list[DigestPart] | Exception = self.digester.start(tensor)
        except Exception as error:
            started = error
        self._add_digest((kind, identity, tensor), started, details)

    def _add_tensors(self, weights: list[Weight]) -> None:
        """Add the digests of many tensors together."""
        digests = self.digester.start_all([tensor for _, _, tensor in weights])
        for weight, started in zip(weights, digests):  # noqa: B905 - Python 3.9
            self._add_digest(weight, started, {})

    def _add_digest(
        self, named: Weight, started: list[DigestPart] | Exception, details: dict[str, Any]
    ) -> None:
        """Add an unfinished digest, or its error."""
        kind, identity, tensor = named
        parts = None
        if len(self._events) < MOST_EVENTS:
            try:
                if isinstance(started, Exception):
                    raise started
                if self.options.sketches and not kind.startswith("replicated"):
                    sampled = kind in SAMPLED
                    details.update(self._sketches.details_of(tensor, started, sampled=sampled))
                details.update(self.detail.keep_values(tensor))
                if self.origins is not None and kind in WEIGHTS and self.detail.on:
                    details.update(self.origins.of_weight(tensor))
                parts = started
            except NotRecorded as error:
                details = {"not_recorded": str(error), **details}
            except Exception as error:
                details = {"not_recorded": self._failed(error), **details}
        self._add([kind, identity, None, details], parts)

    def _add_inputs(self, call: str, inputs: Any) -> None:
        for path, value in values(inputs):
            name = call + path
            if isinstance(value, Tensor):
                maker = self._maker_of(value)
                if maker is None and value.grad_fn is None:
                    details = {**self.detail.made_at(value), **self._rows(value)}
                    self.tensor("batch", name, value, **details)
                    if value.requires_grad:
                        self._batches[value] = True
                elif value.requires_grad:
                    self.add("input", name, None, of=maker)
                else:
                    self.tensor("input", name, value, of=maker)
            elif isinstance(value, Unknown):
                self.add("batch", name, None, not_recorded=value.reason)
            elif hasattr(value, "__array_interface__"):
                self._add_array(name, value)
            else:
                self.add("batch", name, short(repr(value).encode()))

    def _rows(self, batch: Tensor) -> dict[str, Any]:
        """A digest of each row of a batch, and the ranks that share it, if they are compared."""
        if not self.options.samples or not batch.dim():
            return {}
        rows = self.digester.digest_all(list(batch.detach()))
        return {"rows": rows, "of": self._data_ranks}

    def _add_array(self, name: str, value: Any) -> None:
        """Add the digest of a NumPy-like array; an array of objects holds only addresses."""
        interface = value.__array_interface__
        if "O" in str(interface["typestr"]) or not hasattr(value, "tobytes"):
            self.add("batch", name, None, not_recorded=f"{type(value).__name__} of objects")
            return
        text = f"{interface['typestr']} {interface['shape']}".encode()
        self.add("batch", name, short(text + value.tobytes()))

    def _maker_of(self, tensor: Tensor) -> str | None:
        """The call of this step that made the tensor or its memory; None if there is none."""
        storage = storage_of(tensor)
        maker = self._makers.get(storage.cdata) if storage is not None else None
        return None if maker is None or maker[0].expired() else maker[1]

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


def raised_by_signal(error: BaseException) -> bool:
    """Whether the exception comes from one of the program's signal handlers."""
    codes, trace = set(), error.__traceback__
    while trace is not None:
        codes.add(trace.tb_frame.f_code)
        trace = trace.tb_next
    handlers = (signal.getsignal(number) for number in signal.valid_signals())
    return any(_code_of(handler) in codes for handler in handlers if callable(handler))


def _code_of(function: Any) -> Any:
    """The code object of a function, method, partial or callable object; None if it has none."""
    function = getattr(function, "func", function)
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__code__"):
        function = type(function).__call__
    return getattr(function, "__code__", None)


def _known(**details: Any) -> dict[str, Any]:
    """The details that are known."""
    return {name: value for name, value in details.items() if value}


def _first(value: Any) -> Tensor | None:
    return next((tensor for _, tensor in tensors(value)), None)


def _plain(value: Any) -> Any:
    """A hyperparameter as a JSON value; a tensor by its values."""
    if isinstance(value, Tensor) or (hasattr(value, "dtype") and hasattr(value, "tolist")):
        return _plain(value.tolist())  # a number if it has no dimension
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has only finite numbers
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return type(value).__name__
