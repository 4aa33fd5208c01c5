"""The parameters and buffers of a training: which ones a record has, and what it calls them."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from .identity import bare, parameters_of

RECENT = 20  # steps after which a module or an optimizer that was not used is no longer recorded
MOST_ALIVE = 4  # models that are called and not trained, kept to be recorded at the end

Weight = tuple[str, str, Tensor]  # kind, identity, and the parameter or buffer itself


class Watched:
    """A module or an optimizer that takes part, and the last step in which it did."""

    def __init__(self, thing: Any, step: int) -> None:
        self.ref = weakref.ref(thing)
        self.step = step


class RecordedWeights:
    """The modules and optimizers that take part, and their parameters and buffers.

    Attributes:
        held: what this step has recorded.
        news: name, shape and type by identity, of what no line has described yet.
    """

    def __init__(self) -> None:
        self.held: list[Weight] = []
        self.news: dict[str, list[Any]] = {}
        self._modules: list[Watched] = []
        self._others: list[weakref.ref[nn.Module]] = []
        self._alive: deque[nn.Module] = deque(maxlen=MOST_ALIVE)
        self._optimizers: list[Watched] = []
        self._names = WeakIdKeyDictionary()
        self._told: set[str] = set()
        self._named: dict[str, weakref.ref[Tensor]] = {}

    def watch(self, module: nn.Module, step: int) -> bool:
        """A module is trained in this step; gives whether it is a new one."""
        for watched in self._modules:
            if watched.ref() is module:
                watched.step = step
                return False
        self._modules.append(Watched(module, step))
        return True

    def name(self, module: nn.Module) -> None:
        """Learn the names of a module's parameters and buffers."""
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor not in self._names:
                self._names[tensor] = bare(name)

    def other(self, module: nn.Module) -> None:
        """Note a model that is called and not trained, such as an average of the weights."""
        if not _parts(module):
            return
        if not any(other() is module for other in self._others):
            self._others.append(weakref.ref(module))
        if not any(one is module for one in self._alive):
            self._alive.append(module)  # a model of `main` alone is gone when the program ends

    def built(self, optimizer: Optimizer) -> None:
        """An optimizer was made; it has not stepped."""
        self._optimizers.append(Watched(optimizer, -RECENT - 1))

    def stepping(self, optimizer: Optimizer, step: int) -> int:
        """The number of an optimizer that steps in this step."""
        for index, watched in enumerate(self._optimizers):
            if watched.ref() is optimizer:
                watched.step = step
                return index
        self._optimizers.append(Watched(optimizer, step))
        return len(self._optimizers) - 1

    def more(self, step: int) -> list[Weight]:
        """What takes part in the step and is not held yet; it is held from now on."""
        return self._hold(self._taking_part(step))

    def missing(self, optimizer: Optimizer, index: int) -> list[Weight]:
        """The same of the parameters of an optimizer, in no module that is watched."""
        every = (("parameter", name, tensor) for name, tensor in parameters_of(optimizer, index))
        new = self._hold(every)
        for _, name, tensor in new:
            self._tell(name, tensor)
        return new

    def _hold(self, some: Iterable[Weight]) -> list[Weight]:
        held = {id(tensor) for _, _, tensor in self.held}
        new = [one for one in some if id(one[2]) not in held]
        self.held += new
        return new

    def _taking_part(self, step: int) -> Iterator[Weight]:
        """Each parameter and buffer that takes part in the step.

        A parameter is known by optimizer, group and position; one that no optimizer has, and a
        buffer, by module and name. Of several optimizers the newest counts, so that one that is
        garbage, and may or may not have been collected, changes nothing.
        """
        modules = [
            (index, module)
            for index, watched in enumerate(self._modules)
            if watched.step > step - RECENT and (module := watched.ref()) is not None
        ]
        own = [(index, _parts(module)) for index, module in modules]
        owned = {id(tensor) for _, parts in own for _, _, tensor in parts}
        seen: set[int] = set()
        for index, watched in reversed(list(enumerate(self._optimizers))):
            optimizer = watched.ref()
            if optimizer is None:
                continue
            recent = watched.step > step - RECENT
            for name, tensor in parameters_of(optimizer, index):
                if id(tensor) not in seen and (recent or id(tensor) in owned):
                    seen.add(id(tensor))
                    self._tell(name, tensor)
                    yield "parameter", name, tensor
        others = [
            (index, _parts(module))
            for index, other in enumerate(self._others)
            if (module := other()) is not None
        ]
        for letter, some in (("m", own), ("x", others)):
            for index, parts in some:
                for kind, name, tensor in parts:
                    if id(tensor) not in seen:
                        seen.add(id(tensor))
                        identity = f"{letter}{index}.{bare(name)}"
                        self._tell(identity, tensor)
                        yield kind if letter == "m" else "other", identity, tensor

    def name_again(self) -> None:
        """Record the names of parameters and buffers once more, with the next step."""
        self._told.clear()
        self._named.clear()

    def _tell(self, identity: str, tensor: Tensor) -> None:
        """Note name, shape and type of a parameter or buffer, the first time it is recorded."""
        known = self._named.get(identity)
        if known is not None and known() is tensor:
            return
        name = self._names.get(tensor, "")
        if is_lazy(tensor):  # it has no shape yet
            return
        if name:
            self._named[identity] = weakref.ref(tensor)
        if f"{identity} {name}" not in self._told:
            self._told.add(f"{identity} {name}")
            self.news[identity] = [name, list(tensor.shape), str(tensor.dtype)[6:]]


def _parts(module: nn.Module) -> list[Weight]:
    """The parameters and then the buffers of a module, with their names."""
    found: dict[str, dict[int, Weight]] = {"parameter": {}, "buffer": {}}
    for prefix, part in module.named_modules():  # one walk for both
        for kind, members in (("parameter", part._parameters), ("buffer", part._buffers)):
            for name, tensor in members.items():
                if tensor is not None:
                    whole = f"{prefix}.{name}" if prefix else name
                    found[kind].setdefault(id(tensor), (kind, whole, tensor))
    return [*found["parameter"].values(), *found["buffer"].values()]
