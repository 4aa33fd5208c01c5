"""The processes of a command: started, and ended with it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xorbench.errors import BadOption
from xorbench.measure.process import OperationFailed, Process, ProcessDied
from xorbench.measure.slots import ProcessSlot, StartProcess
from xorbench.measure.staging import staged
from xorbench.plan.case import ProcessConfig


def starter(
    log_path: Callable[[str], Path], timeout_s: float, operations: str = "operations"
) -> StartProcess:
    """A function that starts a process by name and config."""
    packages = staged()

    def start(name: str, config: ProcessConfig) -> Process:
        return Process(
            name,
            config,
            packages=packages,
            log=log_path(name),
            timeout_s=timeout_s,
            operations=operations,
        )

    return start


@contextmanager
def running(
    slots: list[ProcessSlot], start: StartProcess, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Fill every slot with a configured process; none outlives the block.

    `meanwhile` is called once all have been started: importing PyTorch takes them a while.
    """
    try:
        for slot in slots:
            slot.launch(start)
        meanwhile()
        for slot in slots:
            try:
                slot.configured()
            except (ProcessDied, OperationFailed) as error:
                hint = "python -m xorbench env --debug shows what its PyTorch says"
                raise BadOption(f"process {slot.name} could not start: {error}", hint) from None
        yield
    finally:
        for slot in slots:
            slot.kill()
