"""`run --dry-run`: the cases on this machine, and an estimate of their time."""

import tempfile
import time
from pathlib import Path
from typing import Final

from xorbench.machine import host
from xorbench.runtime.slots import make_slots
from xorbench.runtime.start import running, starter
from xorbench.xor.matrix.axes import idle_note
from xorbench.xor.matrix.estimate import Plan, Preview, ProcessPace, crowded, estimate_s, phases_s
from xorbench.xor.matrix.not_tested import not_tested
from xorbench.xor.run.run import RunRequest, resolve, validated

TIMED_CONFIGS: Final = 8  # each costs a start of PyTorch; further configs are similar


def preview(request: RunRequest) -> Preview:
    """Expand the plan on this machine without training a case or writing anything."""
    configs, _ = validated(request)
    slots = make_slots(configs[:TIMED_CONFIGS], 1)
    paces = {}
    with tempfile.TemporaryDirectory() as folder:
        start = starter(lambda name: Path(folder) / name, request.timeout_s)
        for slot in slots:
            began = time.monotonic()
            with running([slot], start):
                start_s = time.monotonic() - began
                times_s = slot.ask("calibrations", device="cpu", count=5)["calibrations_s"]
                paces[slot.config.id] = ProcessPace(start_s, min(times_s))
                if slot is slots[0]:
                    cases, skips = resolve(request, slots)
                    has_accelerator = slot.machine.get("accelerator") is not None
    reasons = {skip.case: skip.skipped for skip in skips}
    notes = {case: f"not tested: {reason}" for case, reason in reasons.items()}
    noted = [(case.id, notes.get(case) or idle_note(case, has_accelerator)) for case in cases]
    trained = tuple(case for case in cases if case not in reasons)
    plan = Plan(
        request.recipe,
        trained,
        configs,
        request.processes_per_config,
        request.warmup_epochs,
        request.times_phases,
    )
    more = f" to {request.most}" if request.precision else ""
    each = f"{request.processes_per_config}{more} processes"
    cores = host.cores()
    return Preview(
        noted,
        not_tested(skips),
        [(config.id, each) for config in configs],
        len(configs) * request.processes_per_config,
        len(configs) * request.most,
        estimate_s(plan, paces, cores),
        crowded(trained, configs, cores),
        phases_s(plan, paces, cores),
    )
