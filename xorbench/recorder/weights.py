"""The parameters and buffers of a training: which ones a record has, and what it calls them."""

from __future__ import annotations

import contextlib
import gc
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from .identity import bare, class_name, parameters_in, parameters_of
from .walk import values

RECENT = 20  # steps after which a module or an optimizer that was not used is no longer recorded
MOST_ALIVE = 4  # models that are called and not trained, kept to be recorded at the end
MOST_UNTRAINED = 10  # classes of models that are called and not trained, and are named

Weight = tuple[str, str, Tensor]  # kind, identity, and the parameter or buffer itself
State = tuple[list[dict[str, Any]], Any]  # an optimizer's parameter groups, and its state
Members = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
SURVIVORS_BYTES = 1 << 26  # of tensors that may outlive their module and optimizer, and are kept


class Watched:
    """A module or an optimizer that takes part, and the last step in which it did.

    The program may drop it long before the process ends, as when `main` returns: `died` is called
    then, and its tensors can be read once more.

    Attributes:
        number: the number of an optimizer among those that take part; None before it does.
        members: the tables in which a module has its parameters, buffers and modules; whoever
            replaces one of them replaces it there, so none is kept alive.
        state: parameter groups and state of an optimizer.
    """

    def __init__(self, thing: Any, step: int, died: Callable[[Watched], None]) -> None:
        self.ref = weakref.ref(thing, lambda _: died(self))
        self.step = step
        self.number: int | None = None
        self.members: Members | None = None
        self.state: State | None = None


class Untrained:
    """A model that was called and not trained: its class, and one of its parameters."""

    def __init__(self, name: str, parameter: Tensor) -> None:
        self.name = name
        self.parameter = weakref.ref(parameter)


class RecordedWeights:
    """The modules and optimizers that take part, and their parameters and buffers.

    Attributes:
        held: the weights that the step under way has recorded.
        news: name, shape and type by identity, of each that no line has described yet.
        dead: modules and optimizers that are gone, and whose tensors have not been read since.
    """

    def __init__(self, died: Callable[[], None] = lambda: None) -> None:
        self.held: list[Weight] = []
        self.news: dict[str, list[Any]] = {}
        self.dead: list[Watched] = []
        self._died = died
        self._modules: list[Watched] = []
        self._others: list[weakref.ref[nn.Module]] = []
        self._alive: deque[nn.Module] = deque(maxlen=MOST_ALIVE)
        self._optimizers: list[Watched] = []
        self._numbered = 0
        self._survivors: dict[tuple[str, str], Tensor] = {}
        self._names = WeakIdKeyDictionary()
        self._told: set[str] = set()
        self._named: dict[str, weakref.ref[Tensor]] = {}
        self._untrained: list[Untrained] = []
        self._called = WeakIdKeyDictionary()

    def _watched(self, thing: Any, step: int) -> Watched:
        def died(watched: Watched) -> None:
            self.dead.append(watched)
            self._died()

        return Watched(thing, step, died)

    def watch(self, module: nn.Module, step: int) -> bool:
        """A module is trained in this step; gives whether it is a new one."""
        for watched in self._modules:
            if watched.ref() is module:
                watched.step = step
                return False
        watched = self._watched(module, step)
        watched.members = (module._parameters, module._buffers, module._modules)
        self._modules.append(watched)
        return True

    def name(self, module: nn.Module) -> None:
        """Learn the names of a module's parameters and buffers."""
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor not in self._names:
                self._names[tensor] = bare(name)
        self._untrained = [m for m in self._untrained if m.parameter() not in self._names]

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
        self._optimizers.append(self._watched(optimizer, -RECENT - 1))

    def stepping(self, optimizer: Optimizer, step: int) -> int:
        """The number of an optimizer that steps in this step."""
        same = (watched for watched in self._optimizers if watched.ref() is optimizer)
        watched = next(same, None)
        if watched is None:
            watched = self._watched(optimizer, step)
            self._optimizers.append(watched)
        watched.step = step
        watched.state = (optimizer.param_groups, optimizer.state)
        return self._number_of(watched)

    def _number_of(self, watched: Watched) -> int:
        """The number of an optimizer: by first use, as threads may make optimizers in any order."""
        if watched.number is None:
            watched.number = self._numbered
            self._numbered += 1
        return watched.number

    def untrained(self, module: nn.Module, name: str) -> None:
        """Note a model with parameters that is called, or averaged, and not trained."""
        if module in self._called or len(self._untrained) >= MOST_UNTRAINED:
            return
        self._called[module] = True
        parameter = next(module.parameters(), None)
        if parameter is not None and not self.is_known(parameter):
            self._untrained.append(Untrained(name, parameter))

    def names_of_untrained(self) -> list[str]:
        """The classes of the models that are alive or were called, and are not recorded."""
        modules = [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]
        parts = {
            id(part) for module in modules for part in vars(module).get("_modules", {}).values()
        }
        for module in modules:
            if id(module) not in parts:
                with contextlib.suppress(Exception):  # one that is being taken apart
                    self.untrained(module, class_name(module))
        return list(dict.fromkeys(model.name for model in self._untrained))

    def is_known(self, tensor: Tensor) -> bool:
        """Whether it is a weight of a module that is trained, or of an optimizer."""
        if tensor in self._names or any(tensor is held for _, _, held in self.held):
            return True
        groups = [watched.ref() for watched in self._optimizers]
        return any(
            tensor is parameter
            for optimizer in groups
            if optimizer is not None
            for _, parameter in parameters_of(optimizer, 0)
        )

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

    def finals(self) -> list[Weight]:
        """Every weight that is alive, however long ago it took part, and the optimizers' states."""
        survivors = [(kind, name, tensor) for (kind, name), tensor in self._survivors.items()]
        found = survivors + self._as_trained(self._taking_part(None))
        for watched in self._optimizers:
            if watched.ref() is not None and watched.state is not None:
                found += states_of(*watched.state, self._number_of(watched))
        return found

    def _as_trained(self, weights: Iterable[Weight]) -> list[Weight]:
        """The weights, with the identity in an optimizer that each had while it was trained."""
        trained = {id(ref()): name for name, ref in self._named.items() if name.startswith("o")}
        return [(kind, trained.get(id(t), name), t) for kind, name, t in weights]

    def finals_of_dead(self) -> list[Weight]:
        """The weights of the modules and optimizers that are gone, which are let go now."""
        found: list[Weight] = []
        dead, self.dead = self.dead, []
        for watched in dead:
            if watched.state is not None:
                index = self._number_of(watched)
                groups, state = watched.state
                found += (("parameter", *one) for one in parameters_in(groups, index))
                found += states_of(groups, state, index)
            elif watched.members is not None:
                index = self._modules.index(watched)
                parts = _parts_in(*watched.members)
                found += self._as_trained(self._parts_of_dead(parts, index))
            watched.members, watched.state = None, None
        self._outlive(found)
        return found

    def _outlive(self, weights: list[Weight]) -> None:
        """Keep the memory of some tensors: the program may have them elsewhere, and change them."""
        for kind, name, tensor in weights:
            if kind != "state" and type(tensor) in (Tensor, Parameter) and not is_lazy(tensor):
                self._survivors[(kind, name)] = tensor.detach()
        size = sum(one.numel() * one.element_size() for one in self._survivors.values())
        while size > SURVIVORS_BYTES:
            oldest = self._survivors.pop(next(iter(self._survivors)))
            size -= oldest.numel() * oldest.element_size()

    def _parts_of_dead(self, parts: list[Weight], index: int) -> Iterator[Weight]:
        """The parameters and buffers of a module that no optimizer still has."""
        optimizers = [one.ref() for one in self._optimizers]
        owned = {
            id(tensor)
            for optimizer in optimizers
            if optimizer is not None
            for _, tensor in parameters_of(optimizer, 0)
        }
        for kind, name, tensor in parts:
            if id(tensor) not in owned:
                identity = f"m{index}.{bare(name)}"
                self._tell(identity, tensor)
                yield kind, identity, tensor

    def _hold(self, some: Iterable[Weight]) -> list[Weight]:
        held = {id(tensor) for _, _, tensor in self.held}
        new = [one for one in some if id(one[2]) not in held]
        self.held += new
        return new

    def _taking_part(self, step: int | None) -> Iterator[Weight]:
        """Each parameter and buffer that takes part in the step; None for every one that is alive.

        A parameter is known by optimizer, group and position; one that no optimizer has, and a
        buffer, by module and name. Of several optimizers the newest counts, so that one that is
        garbage, and may or may not have been collected, changes nothing.
        """
        since = -math.inf if step is None else step - RECENT
        own = list(self._trained_since(since))
        every = (tensor for _, parts in own for _, _, tensor in parts)
        owned = {id(tensor): place for place, tensor in enumerate(every)}
        seen: set[int] = set()
        for watched, optimizer in reversed(self._in_use(since, owned)):
            recent = watched.step > since
            for name, tensor in parameters_of(optimizer, self._number_of(watched)):
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

    def _in_use(self, since: float, owned: dict[int, int]) -> list[tuple[Watched, Optimizer]]:
        """Each optimizer that has stepped after a step, or has one of these parameters.

        `owned` has the place of each parameter, which decides the numbers of new optimizers:
        threads may make theirs in any order.
        """
        found = []
        for watched in self._optimizers:
            optimizer = watched.ref()
            if optimizer is not None:
                places = (owned.get(id(tensor)) for _, tensor in parameters_of(optimizer, 0))
                place = next((one for one in places if one is not None), None)
                if place is not None or watched.step > since:
                    found.append((len(owned) if place is None else place, watched, optimizer))
        for _, watched, _ in sorted(found, key=lambda one: one[0]):
            self._number_of(watched)
        by_number = sorted(found, key=lambda one: self._number_of(one[1]))
        return [(watched, optimizer) for _, watched, optimizer in by_number]

    def _trained_since(self, since: float) -> Iterator[tuple[int, list[Weight]]]:
        """The number and the parts of each module that is alive and was trained after a step."""
        for index, watched in enumerate(self._modules):
            module = watched.ref() if watched.step > since else None
            if module is not None:
                yield index, _parts(module)

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
    return _parts_in(module._parameters, module._buffers, module._modules)


def _parts_in(parameters: Any, buffers: Any, modules: Any) -> list[Weight]:
    """The same of a module's tables."""
    found: dict[str, dict[int, Weight]] = {"parameter": {}, "buffer": {}}
    seen: set[nn.Module] = set()
    walks = [part.named_modules(seen, name) for name, part in modules.items() if part is not None]
    tables = [(prefix, part._parameters, part._buffers) for walk in walks for prefix, part in walk]
    for prefix, own, kept in (("", parameters, buffers), *tables):
        for kind, members in (("parameter", own), ("buffer", kept)):
            for name, tensor in members.items():
                if tensor is not None:
                    whole = f"{prefix}.{name}" if prefix else name
                    found[kind].setdefault(id(tensor), (kind, whole, tensor))
    return [*found["parameter"].values(), *found["buffer"].values()]


def states_of(groups: list[dict[str, Any]], state: Any, index: int) -> list[Weight]:
    """The state that an optimizer keeps of each parameter: tensors, and numbers as such."""
    found: list[Weight] = []
    for name, parameter in parameters_in(groups, index):
        for path, value in values(state.get(parameter, {})):
            if isinstance(value, Tensor):
                found.append(("state", name + path, value))
            elif isinstance(value, (int, float)):
                found.append(("state", name + path, torch.tensor(value)))
    return found
