"""Graphs by CUDA's rules, under CUDA's names.

What is launched on the current device while a graph is captured is kept and not run; what is
launched on another device runs at once, and is not part of the graph. To wait, meanwhile, is an
error.
"""

import contextlib
from collections.abc import Iterator

from simulated_device.device import Device, DeviceModule, Work, place, state


class Graph:
    """`torch.cuda.CUDAGraph`: the kernels that were launched, to be launched again."""

    def __init__(self) -> None:
        self._device: Device | None = None
        self._kernels: list[tuple[Work, bool]] = []

    def begin(self) -> None:
        """Capture what is launched on the current device."""
        self._device = place(None)
        self._device.capture = self._kernels

    def end(self) -> None:
        """Let kernels run again."""
        assert self._device is not None
        self._device.capture = None

    def replay(self) -> None:
        """Launch what was captured, where it was captured."""
        assert self._device is not None
        for work, inference in self._kernels:
            self._device.launch(work, inference)


class Stream:
    """A stream of one device; each device has one queue, so all its streams are in order."""

    def __init__(self, device: object = None) -> None:
        self.device = place(device)  # type: ignore[arg-type]

    def wait_stream(self, other: "Stream") -> None:
        """Nothing to wait for: one queue holds both."""


@contextlib.contextmanager
def captured(graph: Graph) -> Iterator[None]:
    """`torch.cuda.graph`."""
    graph.begin()
    try:
        yield
    finally:
        graph.end()


@contextlib.contextmanager
def inside(stream: Stream) -> Iterator[None]:
    """`torch.cuda.stream`: the stream's device is the current one inside."""
    before, state.current = state.current, stream.device.index
    try:
        yield
    finally:
        state.current = before


def add_to(module: DeviceModule) -> None:
    """Give the module graphs and streams."""
    module.CUDAGraph, module.graph = Graph, captured
    module.Stream, module.current_stream, module.stream = Stream, Stream, inside
