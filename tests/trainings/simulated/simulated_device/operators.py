"""Runs every operator: tensors are unwrapped, processed in CPU memory by the queue, and wrapped.

The first call of an operator with given shapes waits for its results, to store their shapes. Later
calls allocate the results and queue the kernel.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from simulated_device import faults
from simulated_device.device import NAME, Device, counts, is_ours, place, state, unwrap, wrap

CPU_KEYS: Final = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
ATEN: Final = torch.ops.aten
INDEXING: Final = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Operators that accept indices on the CPU together with tensors of the device."""
DEPENDS_ON_DATA: Final = torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape


class Operator(NamedTuple):
    """The properties of an operator."""

    name: str
    draws: bool
    writes: list[tuple[int, str]]  # position and name of each argument that it writes to
    waits: bool  # the shape or value of its result is needed at once


class Expected(NamedTuple):
    """The results of an operator for arguments with known shapes.

    Each result is the index of a written argument, or shape, stride and dtype of a new tensor, or
    None.
    """

    single: bool
    results: list[Any]


operators: Final[dict[Any, Operator]] = {}
known: Final[dict[Any, Expected]] = {}


def described(op: Any) -> Operator:
    """The properties of the operator, from its schema."""
    if op not in operators:
        arguments = op._schema.arguments
        writes = [
            (i, a.name) for i, a in enumerate(arguments) if a.alias_info and a.alias_info.is_write
        ]
        operators[op] = Operator(
            op._schema.name.removeprefix("aten::"),
            any(a.name == "generator" for a in arguments),
            writes,
            any(tag in op.tags for tag in DEPENDS_ON_DATA),
        )
    return operators[op]


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The value with its tensors changed, also in lists."""
    if isinstance(value, list | tuple):
        return [mapped(item, change) for item in value]
    return change(value) if isinstance(value, Tensor) else value


def tensors(value: Any) -> list[Tensor]:
    """The tensors of a value, also in lists."""
    if isinstance(value, Tensor):
        return [value]
    return [t for part in value for t in tensors(part)] if isinstance(value, list | tuple) else []


def signature(value: Any) -> Any:
    """The properties of an argument that decide the shapes of the results."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(signature, value))
    return "generator" if isinstance(value, torch.Generator) else (type(value), value)


def allocated(size: Any, stride: Any, dtype: torch.dtype, device: Device) -> Tensor:
    """New memory of the device."""
    return wrap(torch.empty_strided(size, stride, dtype=dtype), device)


def fallback(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operator without a specific function."""
    about = described(op)
    given = tensors(args) + tensors(list(kwargs.values()))
    own = [t for t in given if is_ours(t)]
    device = place(own[0].device if own else kwargs.get("device"))
    require_same_device(about, given, own)
    if kwargs.get("device") is not None:
        kwargs["device"] = torch.device("cpu")
    if faults.hits("sticky", own):
        state.stuck = True  # as after an illegal access, the context is lost for good
        place(None)
    if about.draws and kwargs.get("generator") is None:
        kwargs["generator"] = device.draw()
    written = tensors([args[i] if i < len(args) else kwargs.get(n) for i, n in about.writes])
    key = op, signature(args), *((n, signature(v)) for n, v in kwargs.items())
    shadows = {id(t): unwrap(t) for t in own}
    if faults.hits("asynchronous", own):
        device.post(faults.fail)
    call = launch(op, about, shadows, args, kwargs)
    if key in known:
        return queued(known[key], call, written, device)
    return completed(key, about, call, written, shadows, device)


def launch(
    op: Any, about: Operator, shadows: dict[int, Tensor], args: Any, kwargs: dict[str, Any]
) -> Callable[[], Any]:
    """The kernel. It holds no tensor of the device, so Python frees memory immediately."""

    def shadowed(tensor: Tensor) -> Tensor:
        return shadows.get(id(tensor), tensor)

    inputs = mapped(args, shadowed)
    named = {name: mapped(value, shadowed) for name, value in kwargs.items()}

    def call() -> Any:
        made = op(*inputs, **named)
        faults.damage(about.name, tensors(made))
        return made

    return call


def require_same_device(about: Operator, given: Iterable[Tensor], own: list[Tensor]) -> None:
    """Raise for tensors of several devices, except for scalars and indices on the CPU."""
    for tensor in given:
        on_cpu = tensor.device.type == "cpu" and (tensor.dim() == 0 or about.name in INDEXING)
        if own and tensor.device != own[0].device and not on_cpu:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices,"
                f" {own[0].device} and {tensor.device}! ({about.name})"
            )


def queued(
    expected: Expected, call: Callable[[], Any], written: list[Tensor], device: Device
) -> Any:
    """Allocate the results, and queue the kernel that fills them."""
    results = [
        written[form] if isinstance(form, int) else form and allocated(*form, device)
        for form in expected.results
    ]
    places = [
        None if isinstance(form, int) or form is None else unwrap(result)
        for result, form in zip(results, expected.results, strict=True)
    ]

    def work() -> None:
        made = call()
        made = made if isinstance(made, list | tuple) else [made]
        for target, value in zip(places, made, strict=False):
            if target is not None:
                target.copy_(value)

    device.post(work)
    return results[0] if expected.single else tuple(results) if results else None


def completed(
    key: Any,
    about: Operator,
    call: Callable[[], Any],
    written: list[Tensor],
    shadows: dict[int, Tensor],
    device: Device,
) -> Any:
    """Run the operator at once, and store the form of its results."""
    device.drain()
    made = call()
    device.kernels += 1
    steady = not about.waits and not any(map(moved, written, (shadows[id(t)] for t in written)))
    own = {id(shadows[id(t)]): i for i, t in enumerate(written)}
    single = not isinstance(made, list | tuple)
    leaves = [made] if single else list(made)
    if steady and made is None:
        known[key] = Expected(single=False, results=[])
    elif steady and all(isinstance(r, Tensor) or (r is None and not single) for r in leaves):
        results = [
            own.get(id(r), r if r is None else (r.shape, r.stride(), r.dtype)) for r in leaves
        ]
        known[key] = Expected(single, results)
    outs = [
        written[own[id(r)]]
        if id(r) in own
        else wrap(r.clone() if r._is_view() else r, device)
        if isinstance(r, Tensor)
        else r
        for r in leaves
    ]
    return outs[0] if single else tuple(outs)


def moved(tensor: Tensor, shadow: Tensor) -> bool:
    """Whether the operator changed the tensor's shape or memory; if so, update the tensor."""
    if shadow.shape == tensor.shape and shadow.data_ptr() == unwrap(tensor).data_ptr():
        return False
    resize_(tensor, shadow.shape)
    unwrap(tensor).copy_(shadow)
    return True


# Operators that the fallback does not support: views, memory, copies


def view_of(op: Any) -> Callable[..., Tensor]:
    """A view of the device's memory, made by the CPU's operator."""
    return lambda *args, **kwargs: op.redispatch(CPU_KEYS, *args, **kwargs)


def empty(
    size: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> Tensor:
    """`aten::empty.memory_format`."""
    cpu = torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format)
    return wrap(cpu, place(device))


def empty_strided(
    size: Any,
    stride: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Tensor:
    """`aten::empty_strided`."""
    return allocated(size, stride, dtype or torch.get_default_dtype(), place(device))


def resize_(tensor: Tensor, size: Any, *, memory_format: Any = None) -> Tensor:
    """`aten::resize_`: allocate more memory if needed."""
    needed = (tensor.storage_offset() + torch.Size(size).numel()) * tensor.element_size()
    if needed > tensor.untyped_storage().nbytes():
        fresh = wrap(torch.empty(size, dtype=tensor.dtype), place(tensor.device))
        place(tensor.device).drain()
        unwrap(fresh).view(-1)[: tensor.numel()].copy_(unwrap(tensor).reshape(-1))
        op = ATEN.set_.source_Storage_storage_offset
        return op.redispatch(CPU_KEYS, tensor, fresh.untyped_storage(), 0, size, fresh.stride())
    return ATEN.resize_.default.redispatch(CPU_KEYS, tensor, size, memory_format=memory_format)


def copy_(to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """`aten::copy_`, as CUDA copies.

    A copy to the device is queued: pinned memory is read when the kernel runs, pageable memory is
    staged before the call returns. A copy from the device waits unless the target is pinned and the
    call is non-blocking.
    """
    if to.numel() != source.numel():
        source = source.expand(to.shape)
    target = unwrap(to) if is_ours(to) else to
    values = unwrap(source) if is_ours(source) else source
    if is_ours(to):
        _to_device(to, source, target, values, non_blocking)
    elif non_blocking and is_pinned(to):
        place(source.device).post(lambda: target.copy_(values))
    else:
        place(source.device).drain()
        target.copy_(values)
    return to


def _to_device(
    to: Tensor, source: Tensor, target: Tensor, values: Tensor, non_blocking: bool
) -> None:
    if is_ours(source) and source.device != to.device:
        place(source.device).drain()
    locked = is_pinned(source)
    if not is_ours(source) and not locked:
        values = values.clone()
    place(to.device).post(lambda: target.copy_(values))
    if locked and not non_blocking:
        place(to.device).drain()


def copy_from(source: Tensor, to: Tensor, non_blocking: bool = False) -> Tensor:
    """`aten::_copy_from`."""
    return copy_(to, source, non_blocking)


def convolution(*args: Any) -> Any:
    """`aten::convolution_overrideable`: the convolution of a backend without a library."""
    return fallback(ATEN.convolution.default, *args)


def convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> Any:
    """`aten::convolution_backward_overrideable`."""
    return fallback(ATEN.convolution_backward.default, gradient, x, weight, None, *rest)


def item(tensor: Tensor) -> Any:
    """`aten::_local_scalar_dense`: it waits."""
    place(tensor.device).drain()
    return unwrap(tensor).item()


def is_pinned(tensor: Tensor, device: Any = None) -> bool:
    """`aten::is_pinned`."""
    return tensor.device.type == "cpu" and getattr(tensor.untyped_storage(), "pinned", False)


def pin(tensor: Tensor, device: Any = None) -> Tensor:
    """`aten::_pin_memory`."""
    copy = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype).copy_(tensor)
    storage: Any = copy.untyped_storage()
    storage.pinned = True
    counts["pinned"] += 1
    return copy


def autocast(op: Any, dtype: torch.dtype | None) -> Callable[..., Any]:
    """The operator with floats cast to the autocast type, or to `dtype`."""
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(*args: Any, **kwargs: Any) -> Any:
        to = dtype or torch.get_autocast_dtype(NAME)

        def converted(t: Tensor) -> Tensor:
            return t.to(to) if is_ours(t) and t.is_floating_point() else t

        with torch._C._ExcludeDispatchKeyGuard(key):
            named = {name: mapped(value, converted) for name, value in kwargs.items()}
            return op(*mapped(args, converted), **named)

    return cast
