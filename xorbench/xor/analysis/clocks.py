"""Two clocks: what a process says its epochs took, and how long the orchestrator waited."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from xorbench.records.schema.training import CalibrationLine, EpochLine

RATE: Final = 0.01  # by which two clocks of one machine may run apart
READING_S: Final = 0.05  # between the readings of the two clocks, each time, on a busy machine
LATE_S: Final = 0.001  # by which an epoch may seem longer than the wait for it
UNACCOUNTED_S: Final = 0.002  # of the shortest wait that may lie outside the epoch …
UNACCOUNTED: Final = 0.05  # … and which share of the epoch
FEWEST_EPOCHS: Final = 10  # one of which a busy machine leaves in peace


def flaws(epochs: Sequence[EpochLine]) -> Iterator[str]:
    """Why the times of a training cannot be believed, process by process; none where they can."""
    for process, lines in groupby(epochs, key=attrgetter("process")):
        yield from (f"{process}: {flaw}" for flaw in _flaws_of(list(lines)))


def _flaws_of(lines: Sequence[EpochLine]) -> Iterator[str]:
    longer = [line for line in lines if line.epoch_s > line.waited_s + LATE_S]
    if longer:
        first = longer[0]
        took, waited = _ms(first.epoch_s), _ms(first.waited_s)
        yield f"epoch {first.epoch} took {took}, and its answer came after {waited}"
    ran, passed_by = _spans(lines)
    if abs(ran - passed_by) > RATE * passed_by + READING_S:
        yield f"its clock advanced {ran:.3g} s in {passed_by:.3g} s"
    least, epoch_s = _least_unaccounted(lines)
    if len(lines) >= FEWEST_EPOCHS and least > UNACCOUNTED_S + UNACCOUNTED * epoch_s:
        yield f"each epoch took {_ms(least)} longer than it says ({_ms(epoch_s)}), or more"


def _spans(lines: Sequence[EpochLine]) -> tuple[float, float]:
    """Seconds from the first to the last epoch, by the process's clock and the orchestrator's."""
    first, last = lines[0], lines[-1]
    ran = last.clock_s - first.clock_s
    return ran, last.at_s - first.at_s


def _least_unaccounted(lines: Sequence[EpochLine]) -> tuple[float, float]:
    """The least wait beyond what an epoch is said to take, and that epoch's time, in seconds."""
    return min((line.waited_s - line.epoch_s, line.epoch_s) for line in lines)


def calibration_flaws(calibrations: Mapping[str, Sequence[CalibrationLine]]) -> Iterator[str]:
    """Why the times of a process's calibration workloads, by their names, cannot be believed."""
    for name, lines in calibrations.items():
        gap_s, seconds = min((x.waited_s - x.calibration_s, x.calibration_s) for x in lines)
        if gap_s < -LATE_S or gap_s > UNACCOUNTED_S + UNACCOUNTED * seconds:
            yield f"{name}: said to take {_ms(seconds)}, and took {_ms(gap_s)} longer, or more"


def overhead_text(epochs: Sequence[EpochLine]) -> str:
    """The least that lay between an epoch and the wait for it."""
    return f"they are, and at least {_ms(_least_unaccounted(epochs)[0])} more for the answer"


def _ms(seconds: float | None) -> str:
    return f"{1e3 * (seconds or 0.0):.3g} ms"
