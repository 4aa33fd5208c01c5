"""A finished training, put together of its end, its epochs and the calibrations beside them."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from xorbench.observe.records.training import (
    CalibrationLine,
    EpochLine,
    TrainingEnd,
    TrainingRecord,
)
from xorbench.plan.engines import CALIBRATIONS_A_ROUND, calibration_key


class CalibrationTimes:
    """The calibration times of a run's processes, in the order in which they were made."""

    def __init__(self, lines: Iterable[CalibrationLine]) -> None:
        self._times: dict[tuple[str, tuple[str, str]], tuple[list[float], list[float]]] = {}
        for line in lines:
            if not line.cold:
                key = line.process, (line.device, line.kind)
                at_s, seconds = self._times.setdefault(key, ([], []))
                at_s.append(line.at_s)
                seconds.append(line.calibration_s)

    def before(self, epoch: EpochLine, key: tuple[str, str]) -> float | None:
        """Median of the last times of the epoch's process before its end, about one round's."""
        at_s, seconds = self._times.get((epoch.process, key), ([], []))
        end = bisect_right(at_s, epoch.at_s)
        latest = seconds[max(0, end - CALIBRATIONS_A_ROUND) : end]
        return median(latest) if latest else None


def training_record(
    end: TrainingEnd,
    timed: Sequence[EpochLine],
    warmup: Sequence[EpochLine],
    calibrations: CalibrationTimes,
) -> TrainingRecord:
    """A finished training with what the lines of its epochs say; raises `ValueError` for none."""
    key = calibration_key(end.case)
    return TrainingRecord(
        **msgspec.structs.asdict(end),
        epoch_s=[line.epoch_s for line in timed],
        calibration_s=[calibrations.before(line, key) for line in timed],
        losses=[line.loss for line in timed],
        epoch_digests=[line.digest for line in timed],
        warmup_epoch_s=[line.epoch_s for line in warmup],
        warmup_epoch_digests=[line.digest for line in warmup],
    )
