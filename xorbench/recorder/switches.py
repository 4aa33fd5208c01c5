"""Settings applied in a program's process before its own code runs, to find their effect.

`SWITCHES` has the actions of each at the start of Python, after the import of NumPy, and after the
import of PyTorch. The program cannot undo a setting later.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import random
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .entry import Presence


def _nothing() -> None:
    pass


class RecorderSwitch(NamedTuple):
    """The actions of a switch at three moments."""

    at_start: Callable[[], None] = _nothing
    after_numpy: Callable[[], None] = _nothing
    after_torch: Callable[[], None] = _nothing


def _numbers() -> Callable[[], int]:
    """Seeds 0, 1, 2 … for generators without a seed."""
    return itertools.count().__next__


def _seed_python() -> None:
    original, following = random.Random.seed, _numbers()

    @functools.wraps(original)
    def seed(self: Any, a: Any = None, *args: Any, **kwargs: Any) -> None:
        original(self, following() if a is None else a, *args, **kwargs)

    random.Random.seed = seed  # type: ignore[method-assign]
    random.seed = random._inst.seed  # type: ignore[attr-defined]
    random.seed()


def _seed_numpy() -> None:
    numpy: Any = sys.modules["numpy"]
    following = _numbers()
    for name in ("seed", "default_rng"):
        setattr(numpy.random, name, _seeded(getattr(numpy.random, name), following))
    numpy.random.seed()


def _seeded(original: Callable[..., Any], following: Callable[[], int]) -> Callable[..., Any]:
    @functools.wraps(original)
    def seeded(seed: Any = None) -> Any:
        return original(following() if seed is None else seed)

    return seeded


def _seed_torch() -> None:
    torch: Any = sys.modules["torch"]
    original, following = torch.Generator, _numbers()

    class Kind(type(original)):  # type: ignore[misc]
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, original)

    class Generator(original, metaclass=Kind):  # type: ignore[misc,valid-type]
        def seed(self) -> int:
            """Seed with the next number instead of the operating system's."""
            number = following()
            self.manual_seed(number)
            return number

    def seed() -> int:
        number = following()
        torch.manual_seed(number)
        return number

    torch.Generator = Generator
    torch.seed = torch.random.seed = seed
    seed()


def _held(owner: Any, name: str) -> None:
    """Disable later calls of a function that changes a setting."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def hold(*_args: Any, **_kwargs: Any) -> None:
        return None

    setattr(owner, name, hold)


def _deterministic() -> None:
    torch: Any = sys.modules["torch"]
    # An operator without a deterministic implementation is unchanged. Uninitialized memory is not
    # filled, since NaN would hide the fault.
    importlib.import_module("torch.utils.deterministic").fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    _held(torch, "use_deterministic_algorithms")


def _no_benchmark() -> None:
    cudnn: Any = importlib.import_module("torch.backends.cudnn")
    cudnn.benchmark = False
    kind = type(cudnn)
    kind.benchmark = property(lambda _self: False, lambda _self, _value: None)


def _one_thread() -> None:
    torch: Any = sys.modules["torch"]
    torch.set_num_threads(1)
    _held(torch, "set_num_threads")


def _no_loader_processes() -> None:
    data: Any = importlib.import_module("torch.utils.data")
    original = data.DataLoader.__init__
    signature = inspect.signature(original)
    dependent = ("prefetch_factor", "persistent_workers", "timeout", "multiprocessing_context")

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        for name in dependent:
            bound.arguments.pop(name, None)
        bound.arguments["num_workers"] = 0
        original(*bound.args, **bound.kwargs)

    data.DataLoader.__init__ = init


SWITCHES: dict[str, RecorderSwitch] = {
    "python-seed": RecorderSwitch(at_start=_seed_python),
    "numpy-seed": RecorderSwitch(after_numpy=_seed_numpy),
    "torch-seed": RecorderSwitch(after_torch=_seed_torch),
    "deterministic": RecorderSwitch(after_torch=_deterministic),
    "no-benchmark": RecorderSwitch(after_torch=_no_benchmark),
    "one-thread": RecorderSwitch(after_torch=_one_thread),
    "no-loader-processes": RecorderSwitch(after_torch=_no_loader_processes),
}


def notice(presence: Presence) -> None:
    """Report whether the program uses loader processes or compiles; after the import of torch."""
    torch: Any = sys.modules["torch"]
    data: Any = importlib.import_module("torch.utils.data")
    original = data.DataLoader.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.num_workers:
            presence.report("used", why="loader processes")

    data.DataLoader.__init__ = init
    _report_calls(torch, "compile", presence)
    _report_calls(torch.nn.Module, "compile", presence)


def _report_calls(owner: Any, name: str, presence: Presence) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        presence.report("used", why="compilation")
        return original(*args, **kwargs)

    setattr(owner, name, called)


def start(names: Sequence[str], after: Callable[[str, Callable[[], None]], None]) -> None:
    """Apply the actions at the start of Python; `after` applies NumPy's after its import."""
    for name in names:
        SWITCHES[name].at_start()
        if SWITCHES[name].after_numpy is not _nothing:
            after("numpy", SWITCHES[name].after_numpy)


def after_torch(names: Sequence[str]) -> None:
    """Apply the actions after the import of PyTorch."""
    for name in names:
        SWITCHES[name].after_torch()
