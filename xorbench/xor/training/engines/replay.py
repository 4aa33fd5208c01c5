"""The replay engine: call the operators of a traced step in order.

On devices with graphs (CUDA, XPU), an epoch of these calls is captured as one `device_graph`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, partial
from operator import call

import torch
from torch import Tensor

from xorbench.xor.training import tensor_digest
from xorbench.xor.training.engines import operator_trace, private
from xorbench.xor.training.engines.operator_trace import Call, Program
from xorbench.xor.training.engines.spec import (
    Batches,
    EpochFunction,
    Orders,
    TrainingSpec,
    UnsupportedCase,
    slices,
    tensors_of,
    untouched,
)
from xorbench.xor.training.seeding import current

Programs = Callable[[int, bool], Program]


def replay(spec: TrainingSpec) -> EpochFunction:
    """Replay the traced step, or on CUDA a graph of the whole epoch."""
    operator_trace.require_traceable(spec)
    programs = cache(partial(traced_program, spec))
    if spec.tamper is untouched:
        return whole_epochs(spec, programs)
    return batch_by_batch(spec, programs)


def traced_program(spec: TrainingSpec, size: int, with_loss: bool) -> Program:
    """The step on batches of `size`, bound to the first rows of the data.

    It is verified on the last rows, since a call without effect would keep the correct results of
    the first rows.
    """
    tensors = tensors_of(spec.data, "replay")
    batch = [tensor[:size].to(spec.device) for tensor in tensors]
    module = operator_trace.traced(spec, batch)
    with operator_trace.restored(spec):
        program = operator_trace.program(module, batch, with_loss=with_loss)
    proof = [tensor.flip(0)[:size].to(spec.device) for tensor in tensors]
    require_identical_bits(spec, proof, program)
    return program


def require_identical_bits(spec: TrainingSpec, batch: Sequence[Tensor], program: Program) -> None:
    """Raise `UnsupportedCase` unless the program is bitwise identical to the eager step."""
    with operator_trace.restored(spec):
        operator_trace.eager_step(spec)(*batch)
        expected = tensor_digest.state_sha256(spec.model.state_dict())
    if digest_after(spec, lambda: run(program.calls_on(batch))) != expected:
        raise UnsupportedCase("the replay engine's captured step differs from the eager step")


def digest_after(spec: TrainingSpec, act: Call) -> str:
    """The digest of the weights after `act()` in inference mode; the training is restored."""
    with operator_trace.restored(spec), torch.inference_mode():
        act()
        return tensor_digest.state_sha256(spec.model.state_dict())


def run(calls: Sequence[Call]) -> None:
    """Run the calls in order."""
    deque(map(call, calls), maxlen=0)


def whole_epochs(spec: TrainingSpec, programs: Programs) -> EpochFunction:
    """Gather an epoch into fixed tensors, then replay all its steps."""
    case, tensors = spec.case, tensors_of(spec.data, "replay")
    pieces = slices(len(tensors[0]), case.batch_size, case.drop_last)
    gather = Gatherer(spec, tensors, pieces[-1].stop)
    calls: list[Call] = []
    for piece in pieces:
        program = programs(piece.stop - piece.start, piece is pieces[-1])
        with torch.inference_mode():
            calls += program.calls([gather.place(*source)[piece] for source in program.sources])
        calls += hooks(spec)
    orders, loss = Orders(len(tensors[0]), spec.shuffle), program.loss
    steps: Call = partial(run, calls)
    if not hooks(spec):
        steps = device_graph(spec, steps)

    @torch.inference_mode()
    def epoch() -> Tensor:
        gather(orders.begin())
        steps()
        orders.end()
        return loss.clone()

    return epoch


class Gatherer:
    """Gathers the rows of an epoch into fixed tensors."""

    def __init__(self, spec: TrainingSpec, tensors: Sequence[Tensor], rows: int) -> None:
        self._tensors, self._rows, self._device = tensors, rows, spec.device
        self._pin = spec.case.pin_memory and torch.accelerator.is_available()
        self._non_blocking = spec.case.non_blocking
        self._places: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def place(self, index: int, dtype: torch.dtype) -> Tensor:
        """The fixed tensor for the rows of the `index`-th tensor as `dtype`."""
        if (index, dtype) not in self._places:
            source = self._tensors[index].to(dtype)
            place = source[: self._rows].to(self._device, copy=True)
            self._places[index, dtype] = (source, place)
        return self._places[index, dtype][1]

    def __call__(self, order: Tensor) -> None:
        """Gather the rows in this order."""
        order = order[: self._rows]
        for source, place in self._places.values():
            if source.device == place.device:
                torch.index_select(source, 0, order.to(source.device), out=place)
                continue
            rows = source.index_select(0, order)
            place.copy_(rows.pin_memory() if self._pin else rows, non_blocking=self._non_blocking)


def batch_by_batch(spec: TrainingSpec, programs: Programs) -> EpochFunction:
    """Replay the step on individual batches, which an injected fault may change."""
    batches = Batches(spec, "replay")

    def epoch() -> Tensor:
        loss = torch.empty(())
        for batch in spec.tamper(batches):
            program = programs(len(batch[0]), True)
            with torch.inference_mode():
                run(program.calls_on(batch))
            run(hooks(spec))
            loss = program.loss
        with torch.inference_mode():
            return loss.clone()

    return epoch


def hooks(spec: TrainingSpec) -> list[Call]:
    """The optimizer's post-step hooks as calls."""
    _, after = private.step_hooks(spec.optimizer)
    return [partial(hook, spec.optimizer, (), {}) for hook in after]


def device_graph(spec: TrainingSpec, steps: Call) -> Call:
    """The steps as one device graph, or unchanged if the device has no graphs.

    One launch then replays an epoch's kernels without the host. Raises `UnsupportedCase` unless the
    graph is bitwise identical to the steps.
    """
    device = torch.get_device_module(spec.device)
    names = ("CUDAGraph", "XPUGraph")
    graph_type = next((getattr(device, name) for name in names if hasattr(device, name)), None)
    if spec.device.type == "cpu" or graph_type is None:
        return steps

    def run_on_side_stream() -> None:  # so that libraries allocate before the capture
        side = device.Stream(spec.device)
        side.wait_stream(device.current_stream(spec.device))
        with device.stream(side):
            steps()
        device.current_stream(spec.device).wait_stream(side)

    with current(spec.device):  # a capture covers only launches on the current device
        expected = digest_after(spec, run_on_side_stream)
        graph = graph_type()
        with operator_trace.restored(spec), torch.inference_mode(), device.graph(graph):
            steps()
        replay_graph: Call = graph.replay
        if digest_after(spec, replay_graph) != expected:
            raise UnsupportedCase("the replay engine's graph of an epoch differs from its steps")
    return replay_graph
