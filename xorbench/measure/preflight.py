"""Before a run: can each case be trained here, and is it the machine that began the run?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from xorbench.errors import BadFile
from xorbench.measure.slots import ProcessSlot
from xorbench.observe.records.run import Run
from xorbench.observe.records.training import Skip
from xorbench.observe.redaction import without_names
from xorbench.plan.case import Case
from xorbench.plan.honour import unsupported_reason
from xorbench.plan.recipe import Recipe

# A run is resumed only if a process's machine has the recorded values of these.
SAME_TO_RESUME: Final = (
    "torch_version", "python_version", "cpu", "cpu_capability", "threads", "devices",
)  # fmt: skip


def require_same_machine(run: Run, slots: list[ProcessSlot], folder: Path) -> None:
    """Raise `BadFile` where a run cannot be resumed here: its bits would not be comparable."""
    recorded = {
        process.config.id: process.machine for process in run.info.processes if process.machine
    }
    versions = {slot.calibration_version for slot in slots}
    if slots and versions != {run.info.calibration_version}:
        raise BadFile(
            f"{folder / 'run.json'}: timed with calibration version"
            f" {run.info.calibration_version}, here it is {', '.join(map(str, sorted(versions)))}",
            "resume it with the xorbench that began it, or start a new run",
        )
    for slot in slots:
        machine = without_names(slot.machine) if run.info.anonymous else slot.machine
        before = recorded.get(slot.config.id, machine)
        if difference := other_machine(before, machine):
            hint = "resume it where it was begun, or start a new run"
            raise BadFile(f"{folder / 'run.json'}: {difference}", hint)


def other_machine(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """The first difference of this machine from the one that trained, in words; empty for none."""
    for key in SAME_TO_RESUME:
        if recorded and recorded.get(key) != present.get(key):
            return f"recorded with {key} {recorded.get(key)}, here it is {present.get(key)}"
    return ""


def untrainable(slot: ProcessSlot, recipe: Recipe, cases: Sequence[Case]) -> list[Skip]:
    """The cases that cannot be trained in the slot's process as they are, each with the reason."""
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
