"""The hooks that PyTorch calls; they pass the calls on to the listener.

While a compiler traces a hook, the hook returns immediately. A hook that changed Python state would
cause a recompilation at every step, and a hook that the compiler cannot trace would break its
graph. Both can change the result of the training.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.process import parent_process
from typing import Any, cast

import torch
from torch.compiler import is_compiling
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers
from torch.optim.swa_utils import AveragedModel
from torch.utils.hooks import RemovableHandle

from . import interrupted_save
from .entry import Presence, after_import, named
from .generators import states
from .head import head
from .interrupted_save import InterruptedSave
from .listen import Listener
from .options import read
from .origins import Origins
from .sink import Sink
from .threads import ThreadListeners

LAST_FINALIZER = -100  # priority in `multiprocessing`: after the finalizers of the program
HOOK_TABLE = re.compile(r"_global_(for|back)ward(_pre)?_hooks(_\w+)?")


def install(presence: Presence) -> Listener:
    """Register every hook in this process and return their listener."""
    options = read()
    at_start = dict(states())

    def open_record(thread: str) -> Sink:
        sink = Sink(presence.folder, options.max_bytes)
        sink.write(head(options, at_start, thread), always=True)
        return sink

    def make(thread: str) -> Listener:
        listener = Listener(options, functools.partial(open_record, thread))
        listener.origins = origins
        if options.judge:
            from .operators.interception import JudgedSteps

            listener.detail = JudgedSteps(listener, presence.folder)
        return listener

    origins = Origins(options) if options.detail or options.state else None
    listener = cast("Listener", ThreadListeners(make)) if options.threads else make("")
    hooks = _listen_to_optimizers(listener)
    _listen_to_backward(listener)
    if options.level != "clock":
        hooks += _listen_to_modules(listener)
        _listen_to_averages(listener)
    _report_saving(presence)
    if options.sketches:
        listener.rounding.quiet_while_loading()
    if options.die_in_save:
        _die_in_save(listener, presence)
    if origins is not None:
        origins.install(listener.steps)
    _finish_at_exit(listener, hooks)
    presence.report("torch", version=torch.__version__)
    return listener


def _finish_at_exit(listener: Listener, hooks: list[RemovableHandle]) -> None:
    """Close the record at exit, of a main process or of one started by `multiprocessing`."""

    def intact() -> bool:
        return all(hook.id in (hook.hooks_dict_ref() or ()) for hook in hooks)

    def finish(_listener: object = None) -> None:
        listener.shielded(listener.finish, intact)

    def finish_child(_listener: object = None) -> None:
        # a forked child ends by os._exit, which does not call the atexit functions
        util.Finalize(None, finish, exitpriority=LAST_FINALIZER)

    atexit.register(finish)  # after the program's, before PyTorch's, which shut down the devices
    os.register_at_fork(after_in_child=listener.reset)
    util.register_after_fork(listener, finish_child)
    if parent_process() is not None:
        finish_child()


def _listen_to_averages(listener: Listener) -> None:
    """Note models of averaged weights, which may never be called."""
    original = AveragedModel.update_parameters

    @functools.wraps(original)
    def update(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_compiling() and listener.listens():
            listener.shielded(listener.note_average, self)
        return original(self, *args, **kwargs)

    AveragedModel.update_parameters = update  # type: ignore[method-assign]


def _listen_to_optimizers(listener: Listener) -> list[RemovableHandle]:
    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        if is_compiling():
            return
        if listener.takes_over():
            closure = (*args[1:], kwargs.get("closure"))[0]  # the first argument is the optimizer
            listener.shielded(listener.before_step, optimizer, closure is not None)
            listener.detail.push_operators()
            if closure is None:
                listener.rounding.pause()
        else:
            listener.note_overlap()

    def after(optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if is_compiling():
            return
        if listener.listens():
            listener.shielded(listener.after_step, optimizer)
            listener.detail.pop_operators()

    hooks = [
        optimizers.register_optimizer_step_pre_hook(before),
        optimizers.register_optimizer_step_post_hook(after),
    ]
    original = torch.optim.Optimizer.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if not is_compiling() and listener.listens():
            listener.shielded(listener.weights.built, self)

    torch.optim.Optimizer.__init__ = init  # type: ignore[method-assign]
    return hooks


def _listen_to_modules(listener: Listener) -> list[RemovableHandle]:
    def before(module: Any, args: Any) -> None:
        if is_compiling():
            return
        _enter(listener, module, args)

    def after(module: Any, _args: Any, *rest: Any) -> None:
        if is_compiling():
            return
        # a call that raised is recorded without its keyword inputs
        _leave(listener, module, rest[0] if len(rest) == 2 else {}, rest[-1])

    hooks = [
        modules.register_module_forward_pre_hook(before),
        modules.register_module_forward_hook(after, with_kwargs=True, always_call=True),
    ]
    _keep_quiet({hook.id for hook in hooks})
    original = torch.nn.Module.compile

    @functools.wraps(original)
    def compile_(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        # the compiled call bypasses the hooks of modules
        self._compiled_call_impl = _reported(listener, self, self._compiled_call_impl)
        return result

    torch.nn.Module.compile = compile_  # type: ignore[method-assign]
    return hooks


def _keep_quiet(own: set[int]) -> None:
    """Make PyTorch warn of global module hooks only if the program has some of its own."""
    tables = [table for name, table in vars(modules).items() if HOOK_TABLE.fullmatch(name)]

    def any_of_program() -> bool:
        return not is_compiling() and any(key not in own for table in tables for key in table)

    if hasattr(modules, "_has_any_global_hook"):
        modules._has_any_global_hook = any_of_program


def _reported(listener: Listener, module: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def called(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return call(*args, **kwargs)
        _enter(listener, module, args)
        output = None
        try:
            output = call(*args, **kwargs)
        finally:
            _leave(listener, module, kwargs, output)
        return output

    return called


def _enter(listener: Listener, module: Any, args: Any) -> None:
    trains = module.training and torch.is_grad_enabled()
    if trains and listener.options.samples and listener.replicas.passes_on(module):
        return  # its modules are called as on a single rank, where nothing wraps them
    if listener.takes_over() if trains else listener.listens():
        calls = listener.calls
        calls.append(id(module))
        if len(calls) == 1:
            enter = functools.partial(listener.enter_call, gradients=torch.is_grad_enabled())
            listener.shielded(enter, module, args)
            listener.detail.push_operators()
        if trains and id(module) in listener.replicas.inner:
            listener.shielded(listener.replicas.read_buffers, module)


def _leave(listener: Listener, module: Any, kwargs: Any, output: Any) -> None:
    calls = listener.calls
    if not listener.listens() or id(module) not in calls:
        return
    outermost = calls[0] == id(module)
    while calls.pop() != id(module):
        pass
    if outermost:
        calls.clear()
    if outermost or listener.detail.outputs:
        leave = functools.partial(listener.leave_call, outermost=outermost)
        listener.shielded(leave, module, kwargs, output)


def _listen_to_backward(listener: Listener) -> None:
    """Hear of each backward pass: of a loss, of `autograd.grad`, of a function's gradient."""
    torch.autograd.backward = _heard(listener, torch.autograd.backward, _roots)
    torch.autograd.grad = _heard(listener, torch.autograd.grad, _roots, counts=listener.by_hand)
    for name in ("grad", "grad_and_value"):
        transform = getattr(torch.func, name)
        setattr(torch.func, name, _heard_transform(listener, transform))


def _heard(
    listener: Listener,
    original: Callable[..., Any],
    arguments: Callable[..., tuple[Any, Any]],
    counts: Callable[[], bool] = lambda: True,
) -> Callable[..., Any]:
    """A function that computes gradients, reported before it runs and when it has returned."""

    @functools.wraps(original)
    def backward(*args: Any, **kwargs: Any) -> Any:
        if is_compiling() or not counts() or not listener.takes_over():
            return original(*args, **kwargs)
        if listener.begin_pass():
            listener.shielded(listener.backward, *arguments(*args, **kwargs))
            listener.detail.push_operators()
        try:
            return original(*args, **kwargs)
        finally:
            listener.end_pass()

    return backward


def _roots(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The tensors that gradients start from, the first argument of `backward` and `grad`."""
    return (args[0] if args else kwargs.get("tensors", kwargs.get("outputs"))), None


def _heard_transform(listener: Listener, transform: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.func.grad`, whose functions compute gradients of some of their arguments."""

    @functools.wraps(transform)
    def transformed(func: Any, argnums: Any = 0, *rest: Any, **kwargs: Any) -> Any:
        places = argnums if isinstance(argnums, tuple) else (argnums,)

        def inputs(*args: Any, **_: Any) -> tuple[Any, Any]:
            return None, [args[place] for place in places if place < len(args)]

        gradient = transform(func, argnums, *rest, **kwargs)
        return _heard(listener, gradient, inputs, counts=listener.by_hand)

    return transformed


def _die_in_save(listener: Listener, presence: Presence) -> None:
    """End the process within a save, and report the file that it ends at."""

    def die(path: str) -> None:
        presence.report("died_in_save", **named(path), **interrupted.state)
        listener.shielded(listener.stop)

    interrupted = InterruptedSave(listener.options.die_in_save, listener.steps, die)
    interrupted_save.install(interrupted, after_import)


def _report_saving(presence: Presence) -> None:
    """Report `torch.save` to a path like any written file; audit hooks do not see it."""
    original = torch.save

    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(f, (str, os.PathLike)):
            for hook in presence.hooks:
                hook("open", (f, "wb", 0))
        return original(obj, f, *args, **kwargs)

    torch.save = save
    torch.serialization.save = save
