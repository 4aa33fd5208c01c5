"""The devices: their memory, their queues, their generators, and `torch.simulated`."""

import ctypes
import os
import threading
import types
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from simulated_device import faults

NAME: Final = "simulated"
COUNT: Final = int(os.environ.get("SIMULATED_DEVICES", "2"))
MODELS: Final = os.environ.get("SIMULATED_NAMES", ",".join(["Simulated 1"] * COUNT)).split(",")
BLOCK_BYTES: Final = 512  # the unit of allocated memory, as in CUDA's allocator
EXTERNAL_DEVICE: Final = 12  # `kDLExtDev` of DLPack
MULTIPLIER: Final = 6_364_136_223_846_793_005
BATCH: Final = 64
Work = Callable[[], object]

state: Final = types.SimpleNamespace(
    current=0,
    pid=os.getpid(),
    stuck=False,
    lazy=False,  # kernels run only during a synchronization: the longest possible queue
)
counts: Final = {"synchronize": 0, "pinned": 0}


class Device:
    """One device: its memory counters, its generator, and its queue with one thread."""

    def __init__(self, index: int) -> None:
        self.index, self.held_bytes, self.peak_bytes = index, 0, 0
        self.seed = self.offset = 0  # of the generator, kept on the host as CUDA does
        self.kernels = 0
        self.capture: list[tuple[Work, bool]] | None = None
        self._queue: deque[tuple[Work, bool]] = deque()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._posted = self.done = 0
        self._idle = threading.Condition()
        self._awaited = threading.Event()

    def post(self, work: Work) -> None:
        """Queue a kernel, or add it to the graph that is being captured."""
        entry = (work, torch.is_inference_mode_enabled())
        if self.capture is not None:
            self.capture.append(entry)
            return
        self.launch(*entry)

    def launch(self, work: Work, inference: bool) -> None:
        """Queue a kernel. The thread is woken once per batch, which is faster."""
        self.kernels += 1
        self._posted += 1
        self._queue.append((work, inference))
        if not state.lazy and self._posted % BATCH == 0:
            self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._awaited.set()

    def _run(self) -> None:
        torch.set_grad_enabled(False)
        while True:
            self._awaited.wait()
            self._awaited.clear()
            while self._queue:
                self._run_kernel(*self._queue.popleft())
                self.done += 1
            with self._idle:
                self._idle.notify_all()

    def _run_kernel(self, work: Work, inference: bool) -> None:
        try:
            with torch.inference_mode(inference):
                faults.timed(work)
        except Exception as error:  # as on CUDA, raised at the next synchronization
            self._error = error

    def drain(self) -> None:
        """Wait until the queue is empty; raises the error of a kernel."""
        if self.capture is not None:
            raise torch.AcceleratorError(
                "simulated error: operation not permitted when stream is capturing"
            )
        if self.done < self._posted:
            self._wake()
            with self._idle:
                self._idle.wait_for(lambda: self.done == self._posted)
        if self._error is not None:
            error, self._error = self._error, None
            raise torch.AcceleratorError(f"simulated error (asynchronous): {error}") from error

    def draw(self) -> torch.Generator:
        """The generator of one kernel; like Philox, it does not depend on running kernels."""
        self.offset += 1
        return torch.Generator().manual_seed((self.seed * MULTIPLIER + self.offset) % 2**63)


class Token:
    """Lives as long as a storage of the device, and counts its bytes."""

    def __init__(self, device: Device, size: int) -> None:
        self._device = device
        self._size = (size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES
        device.held_bytes += self._size
        device.peak_bytes = max(device.peak_bytes, device.held_bytes)

    def __del__(self) -> None:
        if not faults.LEAKS:
            self._device.held_bytes -= self._size


devices: Final = [Device(index) for index in range(COUNT)]


def place(device: torch.device | str | int | None) -> Device:
    """The named device, or the current one for None; raises for a broken device."""
    if state.pid != os.getpid():
        raise RuntimeError("Cannot re-initialize simulated in forked subprocess.")
    if state.stuck:
        raise torch.AcceleratorError(faults.STUCK)
    if isinstance(device, str):
        device = torch.device(device)
    index = device.index if isinstance(device, torch.device) else device
    index = state.current if index is None else index
    if not 0 <= index < COUNT or faults.lacks(index):
        raise torch.AcceleratorError("simulated error: invalid device ordinal")
    return devices[index]


# Memory shared by the device and the CPU

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def wrap(cpu: Tensor, device: Device) -> Tensor:
    """The same memory as a tensor of the device: by DLPack, with the device type replaced."""
    capsule = torch._C._to_dlpack(cpu)
    described = _pointer(capsule, b"dltensor")
    ctypes.c_int32.from_address(described + 8).value = EXTERNAL_DEVICE
    ctypes.c_int32.from_address(described + 12).value = device.index
    tensor: Tensor = torch._C._from_dlpack(capsule)
    storage: Any = tensor.untyped_storage()
    storage.hidden, storage.token = cpu.untyped_storage(), Token(device, storage.nbytes())
    return tensor


def unwrap(tensor: Tensor) -> Tensor:
    """The hidden CPU tensor."""
    if tensor.is_inference() == torch.is_inference_mode_enabled():
        return _unwrapped(tensor)
    with torch.inference_mode(tensor.is_inference()):
        return _unwrapped(tensor)


def _unwrapped(tensor: Tensor) -> Tensor:
    hidden: Any = getattr(tensor.untyped_storage(), "hidden", None)
    return torch.empty(0, dtype=tensor.dtype).set_(
        hidden, tensor.storage_offset(), tensor.size(), tensor.stride()
    )


def is_ours(value: object) -> bool:
    """Whether it is a tensor of this device type."""
    return isinstance(value, Tensor) and value.device.type == NAME


# `torch.simulated`, with the names of `torch.cuda`


class DeviceModule(types.ModuleType):
    """The functions of a device type for PyTorch and its users."""

    is_available = staticmethod(lambda: COUNT > 0)
    is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: COUNT)
    current_device = staticmethod(lambda: state.current)
    _is_in_bad_fork = staticmethod(lambda: state.pid != os.getpid())
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])
    memory_allocated = staticmethod(lambda device=None: place(device).held_bytes)
    max_memory_allocated = staticmethod(lambda device=None: place(device).peak_bytes)

    @staticmethod
    def reset_peak_memory_stats(device: Any = None) -> None:
        """Set the peak to the current memory."""
        place(device).peak_bytes = place(device).held_bytes

    @staticmethod
    def get_rng_state(device: Any = None) -> Tensor:
        """Seed and offset, as bytes."""
        owner = place(device)
        return torch.tensor([owner.seed, owner.offset]).view(torch.uint8)

    @staticmethod
    def set_rng_state(new: Tensor, device: Any = None) -> None:
        """Set seed and offset."""
        owner = place(device)
        owner.seed, owner.offset = new.view(torch.int64).tolist()

    @staticmethod
    def manual_seed(seed: int) -> None:
        """Seed the current device."""
        current = place(None)
        current.seed, current.offset = seed % 2**63, 0

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """Seed every device."""
        for device in devices:
            device.seed, device.offset = seed % 2**63, 0

    @staticmethod
    def set_device(device: Any) -> None:
        """Make a device the current one."""
        state.current = place(device).index

    @staticmethod
    def synchronize(device: Any = None) -> None:
        """Wait until the device has completed all queued kernels."""
        counts["synchronize"] += 1
        if faults.SYNCHRONIZES:
            place(device).drain()

    @staticmethod
    def get_device_properties(device: Any = None) -> types.SimpleNamespace:
        """Its name, memory and number of processors."""
        name = MODELS[place(device).index % len(MODELS)]
        return types.SimpleNamespace(name=name, total_memory=2**30, multi_processor_count=1)
