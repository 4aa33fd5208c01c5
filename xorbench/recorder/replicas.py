"""The tensors of a distributed training that have identical bits on several ranks.

Those are the parameters of a module under DistributedDataParallel with their gradients and
broadcast buffers, and the `DTensor`s placed `Replicate()`.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from .identity import bare

if TYPE_CHECKING:
    from .listen import Listener

SHARD = "shards"
PARTIAL = "partial sums"
IGNORED = "ignored by DistributedDataParallel"
HOOK = "a communication hook"
FLAT = "FullyShardedDataParallel (FSDP1)"
PLAIN = "outside DistributedDataParallel and DTensor"


class Copies(NamedTuple):
    """The ranks that hold a tensor, and why no other rank has identical bits."""

    identical: list[int]  # with this one
    everyone: list[int]  # also those that hold a part of it
    reason: str = ""


class Replicas:
    """Finds the replicated tensors of this rank, and records their gradients and buffers.

    Attributes:
        news: name and `Copies` of each parameter that no line describes yet.
        inner: the wrapper of each model under DistributedDataParallel, by the model's id.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.news: dict[str, list[Any]] = {}
        self._known: dict[str, list[Any]] = {}
        self._owners = WeakIdKeyDictionary()  # parameter -> the module that wraps its model
        self.inner: dict[int, weakref.ref[DistributedDataParallel]] = {}
        self._passing: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # noted by `passes_on`
        self._flat = False
        self._data: list[int] = []  # the ranks that share a batch, according to a wrapper

    def note(self, module: nn.Module) -> None:
        """Note the wrappers in a module that is trained for the first time."""
        for part in [*module.modules(), *_wrappers(module)] if in_job() else ():
            self._flat = self._flat or type(part).__name__ == "FullyShardedDataParallel"
            self._data = _data_ranks(part) or self._data
            if isinstance(part, DistributedDataParallel):
                self.inner[id(part.module)] = weakref.ref(part)
                for parameter in part.module.parameters():
                    self._owners[parameter] = weakref.ref(part)

    def data_ranks(self, module: nn.Module) -> str:
        """The ranks whose rows together are the batch of a model: with tensor parallelism one."""
        if not in_job():
            return ""
        ranks = self._data
        if not ranks and any(type(p).__name__ == "DTensor" for p in module.parameters()):
            ranks = [distributed.get_rank()]
        return _text(ranks or list(range(distributed.get_world_size())))

    def passes_on(self, module: nn.Module) -> bool:
        """Whether a call only calls a Lightning module's `training_step`; it is noted then."""
        model = module._modules.get("module", module)
        passes = any(kind.__name__ == "LightningModule" for kind in type(model).__mro__)
        if passes and module not in self._passing:
            self._passing.add(module)
            self.note(module)
        return passes

    def read_buffers(self, module: nn.Module) -> None:
        """Record the buffers of a model that its wrapper has just broadcast."""
        wrapper = self.inner[id(module)]()
        if wrapper is None or id(wrapper) not in self._listener.calls or not in_job():
            return
        after = getattr(getattr(wrapper, "buffer_hook", None), "buffer_comm_hook_location", None)
        if after is not None or not wrapper.will_sync_module_buffers():
            return
        copies = distributed.get_process_group_ranks(wrapper.process_group)
        for name, buffer in module.named_buffers():
            if name not in wrapper.parameters_to_ignore and len(copies) > 1:
                self._listener.tensor("replicated buffer", bare(name), buffer, of=_text(copies))

    def take(self, optimizer: Optimizer, index: int) -> None:
        """Record the gradients that an optimizer is about to use, if they are replicated."""
        if not in_job():
            return
        kind = "replicated gradient"
        for identity, tensor in self._listener.weights.optimized_by(optimizer, index):
            gradient = tensor.grad
            ranks = self._copies(tensor if gradient is None else gradient, tensor).identical
            if tensor.requires_grad and len(ranks) > 1:
                if gradient is None:
                    self._listener.add(kind, identity, "none", of=_text(ranks))
                else:
                    self._listener.tensor(kind, identity, gradient, of=_text(ranks))

    def describe(self, held: Iterable[tuple[str, str, Tensor]]) -> None:
        """Describe the parameters that an optimizer has or that ranks share, if that is new."""
        for kind, identity, tensor in held if in_job() else ():
            copies = self._copies(tensor, tensor)
            if kind == "parameter" and (identity.startswith("o") or len(copies.identical) > 1):
                row = [self._listener.weights.name_of(tensor), *copies]
                if self._known.get(identity) != row:
                    self._known[identity] = self.news[identity] = row

    def _copies(self, tensor: Tensor, parameter: Tensor) -> Copies:
        """The copies of a parameter or of its gradient."""
        owner = self._owners.get(parameter)
        wrapper = owner() if owner is not None else None
        if wrapper is not None:
            return _of_wrapped(wrapper, parameter)
        if type(tensor).__name__ == "DTensor":
            return _of_dtensor(tensor)
        own = [distributed.get_rank()]
        return Copies(own, own, FLAT if self._flat else PLAIN)


def in_job() -> bool:
    """Whether this process is one of several ranks."""
    is_joined = distributed.is_available() and distributed.is_initialized()
    return is_joined and distributed.get_world_size() > 1


def _text(ranks: list[int]) -> str:
    return ",".join(map(str, ranks))


def _wrappers(module: nn.Module) -> list[DistributedDataParallel]:
    """The wrappers of a module that is called without them."""
    kind = DistributedDataParallel
    wrappers = [thing for thing in gc.get_objects() if issubclass(type(thing), kind)]
    return [wrapper for wrapper in wrappers if getattr(wrapper, "module", None) is module]


def _data_ranks(part: nn.Module) -> list[int]:
    """The ranks among which a wrapper reduces gradients; empty for any other module."""
    if isinstance(part, DistributedDataParallel):
        return list(distributed.get_process_group_ranks(part.process_group))
    if type(part).__name__ == "FullyShardedDataParallel":
        return list(range(distributed.get_world_size()))
    state = getattr(part, "_get_fsdp_state", lambda: None)()
    group = next(iter(getattr(state, "_fsdp_param_groups", ())), None)
    group = group or getattr(state, "_fsdp_param_group", None)
    return [] if group is None else group.mesh_info.mesh.mesh.flatten().tolist()  # type: ignore[no-any-return]


def _of_wrapped(wrapper: DistributedDataParallel, parameter: Tensor) -> Copies:
    ranks = distributed.get_process_group_ranks(wrapper.process_group)
    own, ignored = [distributed.get_rank()], wrapper.parameters_to_ignore
    names = wrapper.module.named_parameters() if ignored else ()
    if any(p is parameter for name, p in names if name in ignored):
        return Copies(own, own, IGNORED)
    # a hook replaces the mean of the gradients
    hooks = getattr(wrapper, "_comm_hooks", None)
    if hooks or wrapper._get_ddp_logging_data().get("comm_hook"):
        return Copies(own, ranks, HOOK)
    return Copies(ranks, ranks)


def _of_dtensor(tensor: Any) -> Copies:
    """The ranks at the same coordinates in every dimension of the mesh that is not replicated."""
    mesh, placements = tensor.device_mesh, tensor.placements
    everyone, coordinate = mesh.mesh.flatten().tolist(), mesh.get_coordinate()
    if coordinate is None:
        return Copies([distributed.get_rank()], everyone, SHARD)
    places = zip(placements, coordinate)  # noqa: B905 - Python 3.9
    place = tuple(slice(None) if p.is_replicate() else index for p, index in places)
    identical = mesh.mesh[place].flatten().tolist()
    reason = PARTIAL if any(p.is_partial() for p in placements) else SHARD
    return Copies(identical, everyone, "" if len(identical) > 1 else reason)
