"""What a run of schema version 3 held in other places.

Its lines of `results.jsonl` are whole trainings, of which the median calibrations are copies; of
the calibrations themselves it kept, for each process, the one that was waited for least beyond
what it was said to take.
"""

from collections.abc import Iterator

from msgspec import Struct

from xorbench.observe.records.training import CalibrationLine


class OldProcess(Struct, frozen=True, kw_only=True):
    """Of a process: by device and kind, the least gap and the time that it was beyond."""

    id: str
    calibration_gaps_s: dict[str, tuple[float, float]] = {}


class OldInfo(Struct, frozen=True, kw_only=True):
    """Of `run.json`: its processes."""

    processes: list[OldProcess] = []


def calibrations(info: OldInfo, run: str) -> Iterator[CalibrationLine]:
    """The calibrations that were kept; `cold`, so that they stand beside no epoch."""
    for process in info.processes:
        for key, (gap_s, seconds) in process.calibration_gaps_s.items():
            device, _, kind = key.partition(", ")
            yield CalibrationLine(
                run=run,
                process=process.id,
                device=device,
                kind=kind,
                calibration_s=seconds,
                cold=True,
                waited_s=max(0.0, seconds + gap_s),
                at_s=0.0,
            )
