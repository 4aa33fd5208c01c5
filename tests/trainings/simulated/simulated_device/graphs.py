"""Graphs with CUDA's rules and names.

During a capture, kernels of the current device are stored and not run. Kernels of other devices run
at once and are not part of the graph. A synchronization during a capture is an error.
"""

import contextlib
from collections.abc import Iterator

from simulated_device.device import Device, DeviceModule, Work, place, state


class Graph:
    """`torch.cuda.CUDAGraph`: captured kernels that can be launched again."""

    def __init__(self) -> None:
        self._device: Device | None = None
        self._kernels: list[tuple[Work, bool]] = []

    def begin(self) -> None:
        """Start capturing the kernels of the current device."""
        self._device = place(None)
        self._device.capture = self._kernels

    def end(self) -> None:
        """End the capture."""
        assert self._device is not None
        self._device.capture = None

    def replay(self) -> None:
        """Launch the captured kernels on their device."""
        assert self._device is not None
        for work, inference in self._kernels:
            self._device.launch(work, inference)


class Stream:
    """A stream of a device; all streams of a device share one queue and are in order."""

    def __init__(self, device: object = None) -> None:
        self.device = place(device)  # type: ignore[arg-type]

    def wait_stream(self, stream: "Stream") -> None:
        """Do nothing: both streams share one queue."""


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
    """`torch.cuda.stream`: in the block, the stream's device is the current one."""
    before, state.current = state.current, stream.device.index
    try:
        yield
    finally:
        state.current = before


def add_to(module: DeviceModule) -> None:
    """Add graphs and streams to the module."""
    module.CUDAGraph, module.graph = Graph, captured
    module.Stream, module.current_stream, module.stream = Stream, Stream, inside
