"""Starts and checks the processes of a command, generates load, and ends them with it."""

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from xorbench.errors import BadFile, BadOption
from xorbench.extras import not_installed
from xorbench.records.redaction import without_names
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import Skip
from xorbench.runtime.process import START_S, OperationFailed, Process, ProcessDied, environment
from xorbench.runtime.slots import ProcessSlot, StartProcess
from xorbench.runtime.staging import staged
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.matrix.support import unsupported_reason

# A run is resumed only if a process's machine has the recorded values of these.
SAME_TO_RESUME: Final = (
    "torch_version", "python_version", "cpu", "cpu_capability", "threads", "devices",
)  # fmt: skip
# Stressors of each kind; for an accelerator one per device.
PROCESSES: Final = {"cpu": os.cpu_count() or 1, "memory": 2}


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
    slots: list[ProcessSlot], start: StartProcess, work: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Start and configure a process in every slot; all are ended after the block.

    `work` is called while the processes import PyTorch.
    """
    try:
        for slot in slots:
            slot.launch(start)
        work()
        for slot in slots:
            try:
                slot.configured()
            except (ProcessDied, OperationFailed) as error:
                raise _start_error(slot, str(error)) from None
        yield
    finally:
        for slot in slots:
            slot.kill()


def _start_error(slot: ProcessSlot, reason: str) -> BadOption:
    """The error of a process that could not start."""
    if slot.config.python is None and "No module named 'torch'" in reason:
        return not_installed(f"process {slot.name}", "torch", "run")
    hint = "python -m xorbench env --debug shows the error of its PyTorch"
    return BadOption(f"process {slot.name} could not start: {reason}", hint)


def require_same_machine(run: Run, slots: list[ProcessSlot], folder: Path) -> None:
    """Raise `BadFile` if a run cannot be resumed here: its results would not be comparable."""
    recorded = {
        process.config.id: process.machine for process in run.info.processes if process.machine
    }
    versions = {slot.calibration_version for slot in slots}
    if slots and versions != {run.info.calibration_version}:
        raise BadFile(
            f"{folder / 'run.json'}: timed with calibration version {run.info.calibration_version},"
            f" this xorbench has {', '.join(map(str, sorted(versions)))}",
            "resume it with the xorbench that started it, or start a new run",
        )
    for slot in slots:
        machine = without_names(slot.machine) if run.info.anonymous else slot.machine
        before = recorded.get(slot.config.id, machine)
        if difference := machine_difference(before, machine):
            hint = "resume it where it was started, or start a new run"
            raise BadFile(f"{folder / 'run.json'}: {difference}", hint)


def machine_difference(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """The first difference of this machine from the recorded one, as text; empty for none."""
    for key in SAME_TO_RESUME:
        if recorded and recorded.get(key) != present.get(key):
            return f"recorded with {key} {recorded.get(key)}, this machine has {present.get(key)}"
    return ""


def untrainable(slot: ProcessSlot, recipe: Recipe, cases: Sequence[Case]) -> list[Skip]:
    """The cases that cannot be trained in the slot's process, with the reasons."""
    devices = list(dict.fromkeys(case.device for case in cases))
    unavailable_reason = slot.ask("probe", devices=devices)
    available = [device for device in devices if not unavailable_reason[device]]
    engines = list(dict.fromkeys(case.engine for case in cases))
    unfit = slot.ask("probe engines", engines=engines, devices=available)
    skips = []
    for case in cases:
        if unavailable_reason[case.device]:
            skips.append(Skip(case=case, skipped=unavailable_reason[case.device]))
        elif reason := unsupported_reason(case, recipe) or unfit[case.engine][case.device]:
            skips.append(Skip(case=case, skipped=reason, lacks="engine"))
    return skips


@contextmanager
def stressed(kind: str | None, devices: Sequence[str] = ()) -> Iterator[None]:
    """Generate load on the processor, the memory or the devices in the block; not for None.

    The block begins once all stressors work. Raises `BadOption` if one of them cannot.
    """
    processes = [_stressor(kind, device, staged()) for device in _targets(kind, devices)]
    try:
        for process in processes:
            _await(process, kind)
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _targets(kind: str | None, devices: Sequence[str]) -> Sequence[str]:
    """The device of each stressor; empty for processor and memory."""
    if kind == "accelerator" and not devices:
        raise BadOption("--stress: no accelerator is available", "use cpu or memory")
    return devices if kind == "accelerator" else [""] * (PROCESSES[kind] if kind else 0)


def _stressor(kind: str | None, device: str, packages: Path) -> subprocess.Popen[bytes]:
    script = f"from xorbench.process.stressors import run; run({kind!r}, {device!r})"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=packages,
        env=environment(ProcessConfig(), packages),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _await(process: subprocess.Popen[bytes], kind: str | None) -> None:
    """Wait until the stressor reports that it works."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    if not (ready and process.stdout.readline()):
        raise BadOption(f"--stress: cannot generate load: {kind}")
