"""Epoch times by two clocks: the reporting process and the waiting orchestrator."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from xorbench.records.schema.training import CalibrationLine, EpochLine

RATE: Final = 0.01  # largest relative difference in rate of two clocks of one machine
READING_S: Final = 0.05  # longest delay between reading the two clocks on a busy machine
LATE_S: Final = 0.001  # tolerance for an epoch that appears longer than the wait for it
UNACCOUNTED_S: Final = 0.002  # largest part of the shortest wait outside the epoch …
UNACCOUNTED: Final = 0.05  # … plus this share of the epoch
FEWEST_EPOCHS: Final = 10  # at least one of them is undisturbed on a busy machine


def flaws(epochs: Sequence[EpochLine]) -> Iterator[str]:
    """Why the times of a training are invalid, by process; empty if they are valid."""
    for process, lines in groupby(epochs, key=attrgetter("process")):
        yield from (f"{process}: {flaw}" for flaw in _flaws_of(list(lines)))


def _flaws_of(lines: Sequence[EpochLine]) -> Iterator[str]:
    longer = [line for line in lines if line.epoch_s > line.waited_s + LATE_S]
    if longer:
        first = longer[0]
        took, waited = _ms(first.epoch_s), _ms(first.waited_s)
        yield f"epoch {first.epoch} reported {took}, but its answer arrived after {waited}"
    ran, passed_by = _spans(lines)
    if abs(ran - passed_by) > RATE * passed_by + READING_S:
        yield f"its clock advanced {ran:.3g} s in {passed_by:.3g} s"
    least, epoch_s = _least_unaccounted(lines)
    if len(lines) >= FEWEST_EPOCHS and least > UNACCOUNTED_S + UNACCOUNTED * epoch_s:
        yield f"each epoch took at least {_ms(least)} longer than reported ({_ms(epoch_s)})"


def _spans(lines: Sequence[EpochLine]) -> tuple[float, float]:
    """Seconds from the first to the last epoch, by the process's clock and the orchestrator's."""
    first, last = lines[0], lines[-1]
    ran = last.clock_s - first.clock_s
    return ran, last.at_s - first.at_s


def _least_unaccounted(lines: Sequence[EpochLine]) -> tuple[float, float]:
    """The shortest wait beyond the reported epoch time, and that time, in seconds."""
    return min((line.waited_s - line.epoch_s, line.epoch_s) for line in lines)


def calibration_flaws(calibrations: Mapping[str, Sequence[CalibrationLine]]) -> Iterator[str]:
    """Why the calibration times of a process are invalid, by workload name."""
    for name, lines in calibrations.items():
        gap_s, seconds = min((x.waited_s - x.calibration_s, x.calibration_s) for x in lines)
        if gap_s < -LATE_S or gap_s > UNACCOUNTED_S + UNACCOUNTED * seconds:
            yield f"{name}: reported {_ms(seconds)}, took at least {_ms(gap_s)} longer"


def overhead_text(epochs: Sequence[EpochLine]) -> str:
    """The shortest wait beyond an epoch's reported time, as text."""
    return f"they match, with at least {_ms(_least_unaccounted(epochs)[0])} per answer"


def _ms(seconds: float | None) -> str:
    return f"{1e3 * (seconds or 0.0):.3g} ms"
