"""The parameters and buffers of a training: which of them are recorded, and their identities."""

from __future__ import annotations

import contextlib
import gc
import math
import re
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from .identity import bare, class_name, parameters_of
from .walk import values

RECENT = 20  # steps without use after which a module or an optimizer is no longer recorded
MOST_ALIVE = 4  # untrained models kept alive until the end of the program
MOST_UNTRAINED = 10  # classes of untrained models that are named

MODEL = re.compile(r"m(\d+)\.")  # the prefix of the name of a module's weight

Weight = tuple[str, str, Tensor]  # kind, identity, parameter or buffer
State = tuple[list[dict[str, Any]], Any]  # an optimizer's parameter groups and its state
Members = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
SURVIVORS_BYTES = 1 << 26  # limit on kept tensors that may outlive their module and optimizer


class Tracked:
    """A module or an optimizer in use, and the last step in which it was used.

    The program may drop it long before the process ends, for example when `main` returns. Then
    `died` is called, and its tensors can be read a last time.

    Attributes:
        number: the number of an optimizer among those in use; None before its first step.
        members: the module's tables of parameters, buffers and modules. A replaced entry is
            replaced in the table, so the table keeps no old tensor alive.
        state: parameter groups and state of an optimizer that has stepped.
        built: the same of a new optimizer.
    """

    def __init__(self, thing: Any, step: int, died: Callable[[Tracked], None]) -> None:
        self.ref = weakref.ref(thing, lambda _: died(self))
        self.step = step
        self.number: int | None = None
        self.members: Members | None = None
        self.state: State | None = None
        self.built: State | None = None

    @property
    def used_state(self) -> State | None:
        """The groups and state of an optimizer that takes part, whether or not a hook was called.

        The step of a compiled optimizer calls none.
        """
        return self.state or (self.built if self.number is not None else None)


class RecordedWeights:
    """The modules and optimizers in use, and their parameters and buffers.

    Attributes:
        held: the weights recorded in the current step.
        news: name, shape and type of each weight not yet described in a line, by identity.
        dead: freed modules and optimizers whose tensors have not been read yet.
    """

    def __init__(self, died: Callable[[], None] = lambda: None) -> None:
        self.held: list[Weight] = []
        self.news: dict[str, list[Any]] = {}
        self.dead: list[Tracked] = []
        self._died = died
        self._modules: list[Tracked] = []
        self._recorded_untrained: list[weakref.ref[nn.Module]] = []
        self._alive: deque[nn.Module] = deque(maxlen=MOST_ALIVE)
        self._optimizers: list[Tracked] = []
        self._numbered = 0
        self._survivors: dict[tuple[str, str], Tensor] = {}
        self._names = WeakIdKeyDictionary()
        self._described: set[str] = set()
        self._named: dict[str, weakref.ref[Tensor]] = {}
        self._untrained_models: list[tuple[str, weakref.ref[Tensor]]] = []  # class, a parameter
        self._called = WeakIdKeyDictionary()

    def _tracked(self, thing: Any, step: int) -> Tracked:
        def died(tracked: Tracked) -> None:
            self.dead.append(tracked)
            self._died()

        return Tracked(thing, step, died)

    def track(self, module: nn.Module, step: int) -> bool:
        """Note that a module is trained in this step; return whether it is new."""
        for tracked in self._modules:
            if tracked.ref() is module:
                tracked.step = step
                return False
        tracked = self._tracked(module, step)
        tracked.members = members_of(module)
        self._modules.append(tracked)
        return True

    def number_of(self, module: nn.Module) -> int:
        """The number of a module among those that are trained; -1 for any other."""
        numbers = (i for i, tracked in enumerate(self._modules) if tracked.ref() is module)
        return next(numbers, -1)

    def forget(self, models: set[int]) -> Callable[[str], str]:
        """Forget modules by number; the answer gives the new name of a weight, empty if it is gone.

        Only before anything of them is written.
        """

        def renamed(name: str) -> str:
            match = MODEL.match(name)
            if match is None:
                return name
            number = int(match[1])
            new = number - sum(other < number for other in models)
            return "" if number in models else f"m{new}.{name[match.end() :]}"

        self._modules = [t for i, t in enumerate(self._modules) if i not in models]
        survivors = self._survivors.items()
        self._survivors = {(k, new): t for (k, n), t in survivors if (new := renamed(n))}
        self.news = {new: news for name, news in self.news.items() if (new := renamed(name))}
        self._named = {new: ref for name, ref in self._named.items() if (new := renamed(name))}
        self._described = {new for name in self._described if (new := renamed(name))}
        return renamed

    def name(self, module: nn.Module) -> None:
        """Store the names of a module's parameters and buffers."""
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._names.setdefault(tensor, bare(name))
        self._untrained_models = [
            (c, p) for c, p in self._untrained_models if p() not in self._names
        ]

    def add_other_model(self, module: nn.Module) -> None:
        """Note a model that is called and not trained, such as an average of the weights."""
        if not weights_in(members_of(module)):
            return
        if not any(model() is module for model in self._recorded_untrained):
            self._recorded_untrained.append(weakref.ref(module))
        if not any(held is module for held in self._alive):
            self._alive.append(module)  # a local model of `main` is freed before the end

    def built(self, optimizer: Optimizer) -> None:
        """Note a new optimizer, before its first step. It may never call a hook."""
        tracked = self._tracked(optimizer, -RECENT - 1)
        tracked.built = (optimizer.param_groups, optimizer.state)
        self._optimizers.append(tracked)

    def stepping(self, optimizer: Optimizer, step: int) -> int:
        """The number of the optimizer that makes this step."""
        matches = (tracked for tracked in self._optimizers if tracked.ref() is optimizer)
        tracked = next(matches, None)
        if tracked is None:
            tracked = self._tracked(optimizer, step)
            self._optimizers.append(tracked)
        tracked.step = step
        tracked.state = (optimizer.param_groups, optimizer.state)
        return self._number_of(tracked)

    def _number_of(self, tracked: Tracked) -> int:
        """The number of an optimizer, by first use: threads may make optimizers in any order."""
        if tracked.number is None:
            tracked.number = self._numbered
            self._numbered += 1
        return tracked.number

    def note_followed(self, module: nn.Module) -> None:
        """Note that the state of an untrained model is recorded elsewhere."""
        self._called[module] = True

    def note_untrained(self, module: nn.Module, name: str) -> None:
        """Note an untrained model with parameters, called or averaged."""
        if module in self._called or len(self._untrained_models) >= MOST_UNTRAINED:
            return
        self._called[module] = True
        state = next(iter((*module.parameters(), *module.buffers())), None)
        if state is not None and not self.is_known(state):
            self._untrained_models.append((name, weakref.ref(state)))

    def names_of_untrained(self) -> list[str]:
        """The classes of unrecorded models that were called or are alive."""
        modules = [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]
        parts = {
            id(part) for module in modules for part in vars(module).get("_modules", {}).values()
        }
        for module in modules:
            if id(module) not in parts:
                with contextlib.suppress(Exception):  # a module that is being destroyed
                    self.note_untrained(module, class_name(module))
        return list(dict.fromkeys(name for name, _ in self._untrained_models))

    def is_known(self, tensor: Tensor) -> bool:
        """Whether the tensor is a weight of a trained module or of an optimizer."""
        return self.knows()(tensor)

    def knows(self) -> Callable[[Tensor], bool]:
        """Whether a tensor is a weight of a trained module or of an optimizer, for many tensors."""
        known = self.optimized() | {id(held) for _, _, held in self.held}
        return lambda tensor: id(tensor) in known or tensor in self._names

    def optimized(self) -> set[int]:
        """The ids of the parameters of all live optimizers."""
        return {id(tensor) for tensor in self._optimized()}

    def is_named(self, tensor: Tensor) -> bool:
        """Whether it is a weight of a module that was trained."""
        return tensor in self._names

    def taking_part(self, step: int) -> list[Weight]:
        """The weights that take part in a step, as they are now."""
        return list(self._in_step(step))

    def _optimized(self) -> Iterator[Tensor]:
        """The parameters of all live optimizers."""
        for tracked in self._optimizers:
            optimizer = tracked.ref()
            if optimizer is not None:
                yield from (tensor for _, tensor in parameters_of(optimizer.param_groups, 0))

    def new_weights(self, step: int) -> list[Weight]:
        """The weights used in the step that are not held yet; they are held from now on."""
        return self._hold(self._in_step(step))

    def new_parameters(self, optimizer: Optimizer, index: int) -> list[Weight]:
        """The parameters of an optimizer that are not held yet, in no tracked module."""
        parameters = parameters_of(optimizer.param_groups, index)
        new = self._hold(("parameter", name, tensor) for name, tensor in parameters)
        for _, name, tensor in new:
            self.describe(name, tensor)
        return new

    def name_of(self, tensor: Tensor) -> str:
        """The name of a weight of a trained module; empty for other tensors."""
        return str(self._names.get(tensor, ""))

    def optimized_by(self, optimizer: Optimizer, index: int) -> Iterator[tuple[str, Tensor]]:
        """Each parameter of an optimizer, with its identity in this step."""
        held = {id(tensor): name for _, name, tensor in self.held if name.startswith("o")}
        for name, tensor in parameters_of(optimizer.param_groups, index):
            yield held.get(id(tensor), name), tensor

    def optimizer_states(self) -> list[Weight]:
        """The states of the optimizers that have stepped."""
        return [
            state
            for tracked in self._optimizers
            if tracked.ref() is not None and tracked.state is not None
            for state in states_of(*tracked.state, self._number_of(tracked))
        ]

    def finals(self) -> list[Weight]:
        """All live weights, whenever they were last used, and the optimizers' states."""
        weights = [(kind, name, tensor) for (kind, name), tensor in self._survivors.items()]
        weights += self._as_trained(self._in_step(None))
        for tracked in self._optimizers:
            if tracked.ref() is not None and tracked.used_state is not None:
                weights += states_of(*tracked.used_state, self._number_of(tracked))
        return weights

    def _as_trained(self, weights: Iterable[Weight]) -> list[Weight]:
        """The weights, each under its identity in the optimizer that trained it."""
        trained = {id(ref()): name for name, ref in self._named.items() if name.startswith("o")}
        return [(kind, trained.get(id(t), name), t) for kind, name, t in weights]

    def finals_of_dead(self) -> list[Weight]:
        """The weights of freed modules and optimizers; the references to them are dropped."""
        weights: list[Weight] = []
        dead, self.dead = self.dead, []
        for tracked in dead:
            if tracked.used_state is not None:
                index = self._number_of(tracked)
                groups, state = tracked.used_state
                weights += (("parameter", *named) for named in parameters_of(groups, index))
                weights += states_of(groups, state, index)
            elif tracked.members is not None:
                index = self._modules.index(tracked)
                parts = self._parts_of_dead(weights_in(tracked.members), index)
                weights += self._as_trained(parts)
            tracked.members = tracked.state = tracked.built = None
        self._outlive(weights)
        return weights

    def _outlive(self, weights: list[Weight]) -> None:
        """Keep the memory of some tensors: the program may still hold and change them."""
        for kind, name, tensor in weights:
            if kind != "state" and type(tensor) in (Tensor, Parameter) and not is_lazy(tensor):
                self._survivors[(kind, name)] = tensor.detach()
        size = sum(t.numel() * t.element_size() for t in self._survivors.values())
        while size > SURVIVORS_BYTES:
            oldest = self._survivors.pop(next(iter(self._survivors)))
            size -= oldest.numel() * oldest.element_size()

    def _parts_of_dead(self, parts: list[Weight], index: int) -> Iterator[Weight]:
        """The parameters and buffers of a freed module that are in no live optimizer."""
        owned = self.optimized()
        for kind, name, tensor in parts:
            if id(tensor) not in owned:
                identity = f"m{index}.{bare(name)}"
                self.describe(identity, tensor)
                yield kind, identity, tensor

    def _hold(self, weights: Iterable[Weight]) -> list[Weight]:
        held = {id(tensor) for _, _, tensor in self.held}
        new = [weight for weight in weights if id(weight[2]) not in held]
        self.held += new
        return new

    def _in_step(self, step: int | None) -> Iterator[Weight]:
        """Each parameter and buffer used in the step; all live ones if the step is None.

        A parameter is identified by optimizer, group and position. A buffer, and a parameter in no
        optimizer, is identified by module and name. The newest optimizer wins, so an unreferenced
        one changes nothing, collected or not.
        """
        since = -math.inf if step is None else step - RECENT
        own = list(self._trained_since(since))
        tensors = (tensor for _, parts in own for _, _, tensor in parts)
        owned = {id(tensor): place for place, tensor in enumerate(tensors)}
        seen: set[int] = set()
        for tracked, optimizer in reversed(_owners(self._in_use(since, owned))):
            recent = tracked.step > since
            for name, tensor in parameters_of(optimizer.param_groups, self._number_of(tracked)):
                if id(tensor) not in seen and (recent or id(tensor) in owned):
                    seen.add(id(tensor))
                    self.describe(name, tensor)
                    yield "parameter", name, tensor
        untrained = [
            (index, weights_in(members_of(module)))
            for index, model in enumerate(self._recorded_untrained)
            if (module := model()) is not None
        ]
        for letter, numbered in (("m", own), ("x", untrained)):
            for index, parts in numbered:
                for kind, name, tensor in parts:
                    if id(tensor) not in seen:
                        seen.add(id(tensor))
                        identity = f"{letter}{index}.{bare(name)}"
                        self.describe(identity, tensor)
                        yield kind if letter == "m" else "other", identity, tensor

    def _in_use(self, since: float, owned: dict[int, int]) -> list[tuple[Tracked, Optimizer]]:
        """The optimizers that stepped after `since` or hold one of these parameters.

        `owned` maps each parameter to its position, which decides the numbers of new optimizers,
        since threads may make optimizers in any order.
        """
        used = []
        for tracked in self._optimizers:
            optimizer = tracked.ref()
            if optimizer is not None:
                tensors = (tensor for _, tensor in parameters_of(optimizer.param_groups, 0))
                places = (owned[id(tensor)] for tensor in tensors if id(tensor) in owned)
                place = next(places, len(owned))
                if place < len(owned) or tracked.step > since:
                    used.append((place, tracked, optimizer))
        used.sort(key=lambda row: row[0])
        for _, tracked, _ in used:
            self._number_of(tracked)
        used.sort(key=lambda row: self._number_of(row[1]))
        return [(tracked, optimizer) for _, tracked, optimizer in used]

    def _trained_since(self, since: float) -> Iterator[tuple[int, list[Weight]]]:
        """The number and the parts of each live module that was trained after `since`."""
        for index, tracked in enumerate(self._modules):
            module = tracked.ref() if tracked.step > since else None
            if module is not None:
                yield index, weights_in(members_of(module))

    def name_again(self) -> None:
        """Record the names of parameters and buffers again, with the next step."""
        self._described.clear()
        self._named.clear()

    def describe(self, identity: str, tensor: Tensor) -> None:
        """Store name, shape and type of a parameter or buffer when it is first recorded."""
        known = self._named.get(identity)
        if known is not None and known() is tensor:
            return
        name = self._names.get(tensor, "")
        if is_lazy(tensor):  # no shape yet
            return
        if name:
            self._named[identity] = weakref.ref(tensor)
        if f"{identity} {name}" not in self._described:
            self._described.add(f"{identity} {name}")
            self.news[identity] = [name, list(tensor.shape), str(tensor.dtype)[6:]]


def members_of(module: nn.Module) -> Members:
    """The tables in which a module has its parameters, buffers and modules."""
    return module._parameters, module._buffers, module._modules


def _owners(used: list[tuple[Tracked, Optimizer]]) -> list[tuple[Tracked, Optimizer]]:
    """The optimizers without those that an older one holds, such as ZeroRedundancyOptimizer."""
    parts: set[int] = set()
    owners = []
    for tracked, optimizer in used:
        if id(optimizer) not in parts:
            parts.update(map(id, vars(optimizer).values()))
            owners.append((tracked, optimizer))
    return owners


def weights_in(members: Members) -> list[Weight]:
    """The parameters, then the buffers, in a module's tables, with their names."""
    seen: set[nn.Module] = set()
    walks = [
        part.named_modules(seen, name) for name, part in members[2].items() if part is not None
    ]
    tables = [(f"{prefix}.", members_of(part)) for walk in walks for prefix, part in walk]
    parts: dict[tuple[str, int], Weight] = {}
    for column, kind in enumerate(("parameter", "buffer")):
        for prefix, table in (("", members), *tables):
            for name, tensor in table[column].items():
                if tensor is not None:
                    parts.setdefault((kind, id(tensor)), (kind, prefix + name, tensor))
    return list(parts.values())


def states_of(groups: list[dict[str, Any]], state: Any, index: int) -> list[Weight]:
    """The optimizer's state of each parameter; numbers become tensors."""
    states: list[Weight] = []
    for name, parameter in parameters_of(groups, index):
        for path, value in values(state.get(parameter, {})):
            if isinstance(value, Tensor):
                states.append(("state", name + path, value))
            elif isinstance(value, (int, float)):
                states.append(("state", name + path, torch.tensor(value)))
    return states
