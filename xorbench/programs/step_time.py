"""The time of a step, from records of the clock only; a process is one sample."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final, Literal

from xorbench.options.option_text import option_text
from xorbench.records.trace import ProgramLine, TraceFile, TraceStep
from xorbench.verdicts import Outcome, Verdict, counted, failed, inconclusive, passed

if TYPE_CHECKING:
    from xorbench.stats.figure import Figure
    from xorbench.stats.ratio import Ratio

CHECK: Final = "step time"
VARIANT: Final = "step"
MORE: Final = option_text("more {processes}, or longer runs, make the interval narrower")
StepVerdict = Literal["same", "slower", "faster", "inconclusive"]


@dataclass(frozen=True, slots=True)
class SideTime:
    """The time of a step of one command, with its 95% interval between processes (s)."""

    median_s: float
    low_s: float | None
    high_s: float | None
    processes: int
    steps: tuple[int, int]  # timed steps per process: fewest, most


@dataclass(frozen=True, slots=True)
class PairedTimes:
    """Details of a ratio from pairs of processes that trained turn by turn.

    Attributes:
        ratios: B ÷ A per pair of processes.
        outliers: the ratios far from the others, in which one process is uniformly slower.
        turns: pairs of turns per pair of processes: fewest, most.
        steps: steps per turn: fewest, most.
        waiting_share: processor time used while stopped ÷ time of the turns.
        recorder_share: the recorder's time, which is subtracted, ÷ time of the turns.
        conditions: the conditions of both sides, by name.
    """

    ratios: list[float]
    outliers: list[float]
    turns: tuple[int, int]
    steps: tuple[int, int]
    waiting_share: float
    recorder_share: float
    conditions: dict[str, str]


@dataclass(frozen=True, slots=True)
class StepSpeed:
    """The time of a step of B ÷ A, and its verdict; figures are None if nothing was timed."""

    verdict: StepVerdict
    threshold: float
    why: str = ""
    ratio: "Ratio | None" = None
    a: SideTime | None = None
    b: SideTime | None = None
    failed: bool = False
    pairs: PairedTimes | None = None

    @property
    def outcome(self) -> Outcome:
        """Fail if B is slower or a command failed."""
        if self.verdict == "slower" or self.failed:
            return "fail"
        return "inconclusive" if self.verdict == "inconclusive" else "pass"

    @property
    def figure(self) -> str:
        """The ratio with its interval."""
        return "unknown" if self.ratio is None else self.ratio.times

    def for_programs(self) -> dict[str, object]:
        """The speed as entries of `result.json`."""
        programs: dict[str, object] = {}
        for name, value in asdict(replace(self, ratio=None)).items():
            parts = ("ratio", "low", "high", "p") if name == "ratio" else ()
            programs |= {part: getattr(self.ratio, part, None) for part in parts} or {name: value}
        return programs

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        if self.why:
            return f"speed not judged: {self.why}"
        answer = {
            "same": "a step of B is as fast",
            "slower": "a step of B is slower",
            "faster": "a step of B is faster",
            "inconclusive": "the speed of B is inconclusive",
        }[self.verdict]
        return f"{answer}: {self.figure} the time of A"


def _step_time(side: SideTime) -> str:
    bounds = "" if side.low_s is None else f" [{_ms(side.low_s)}, {_ms(side.high_s or 0.0)}]"
    steps = _range(side.steps)
    return f"{_ms(side.median_s)}{bounds} ms ({side.processes} processes, {steps} steps timed)"


def _range(counts: tuple[int, int]) -> str:
    fewest, most = counts
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.4g}"


def speed_details(speed: StepSpeed) -> list[tuple[str, str]]:
    """The figures of the speed, as details."""
    details = [
        (f"step of {name}", _step_time(side))
        for name, side in (("A", speed.a), ("B", speed.b))
        if side is not None
    ]
    if speed.ratio is not None:
        details.append(("B ÷ A", f"{speed.figure}, threshold {speed.threshold:.3g}"))
    return details if speed.pairs is None else [*details, *_paired_details(speed.pairs)]


def _paired_details(pairs: PairedTimes) -> list[tuple[str, str]]:
    """The turns, the conditions, and the outliers, as details."""
    count = len(pairs.ratios)
    turns = f"{counted(count, 'pair')} of processes, {_range(pairs.turns)} pairs of turns each"
    ratios = ", ".join(f"{ratio:.3f}" for ratio in pairs.ratios)
    outliers = ", ".join(f"{ratio:.3f}" for ratio in pairs.outliers)
    return [
        ("turns", f"{turns}, {_range(pairs.steps)} steps per turn, random order"),
        ("B ÷ A per pair", ratios),
        *(
            [("pairs far from the others", f"{len(pairs.outliers)} of {count}: {outliers}")]
            * bool(outliers)
        ),
        ("processor time while stopped", f"{pairs.waiting_share:.2%} of the turns"),
        ("recorder, subtracted", f"{pairs.recorder_share:.2%} of the turns"),
        *pairs.conditions.items(),
    ]


def speed_verdict(speed: StepSpeed) -> Verdict:
    """The answer as a verdict."""
    expected = f"a step of B takes at most {1 + speed.threshold:.3g}× the time of A"
    if speed.outcome == "pass":
        return passed(CHECK, "A and B", expected, speed.sentence)
    if speed.outcome == "fail":
        hint = "profile a step of each command and compare the two"
        return failed(CHECK, "A and B", expected, speed.sentence, hint)
    return inconclusive(CHECK, "A and B", expected, speed.sentence, MORE)


# From records


@dataclass(frozen=True, slots=True)
class ClockedRun:
    """The number of timed periods of one run, and their median (s)."""

    timed: int
    median_s: float | None


def clocked(traces: Sequence[TraceFile], skip: int) -> ClockedRun:
    """The median period of the process with the most steps, without the first `skip` periods."""
    longest = max((periods(trace.lines()) for trace in traces), key=len, default=[])
    timed = longest[skip:]
    return ClockedRun(len(timed), median(timed) if timed else None)


def periods(lines: Iterable[ProgramLine]) -> list[float]:
    """Seconds between steps of the optimizer with the most steps, without the recorder's time.

    With several optimizers only one counts, so that a period is an iteration.
    """
    begins: dict[str, list[float]] = {}
    spent = 0.0
    for line in lines:
        if isinstance(line, TraceStep):
            spent += line.recorder_s
            names = [event.identity for event in line.events if event.kind == "clock"]
            begins.setdefault(names[0] if names else "", []).append(line.at_s - spent)
    most = max(begins.values(), key=len, default=[])
    return [later - earlier for earlier, later in pairwise(most)]


def step_speed(
    a: Sequence[ClockedRun], b: Sequence[ClockedRun], threshold: float, skip: int
) -> StepSpeed:
    """Compare the step times by the rule of `compare`: each process is one sample."""
    from xorbench.stats.intervals import estimates, pool
    from xorbench.stats.ratio import judged  # SciPy is slow to import

    for name, runs in (("A", a), ("B", b)):
        fewest = min((run.timed for run in runs), default=0)
        if not fewest:
            return StepSpeed("inconclusive", threshold, few_steps(name, skip))
        if any(not run.median_s or run.median_s <= 0 for run in runs):
            return StepSpeed("inconclusive", threshold, f"the clock of {name} did not advance")
    sides = [[math.log(run.median_s) for run in runs if run.median_s] for runs in (a, b)]
    before, after = (pool({VARIANT: logs}) for logs in sides)
    (ratio,) = judged(before, after, 1 + threshold)
    times = [_side(estimates(side)[VARIANT], runs) for side, runs in ((before, a), (after, b))]
    return StepSpeed(
        ratio.verdict,
        threshold,
        ratio=ratio,
        a=times[0],
        b=times[1],
    )


def few_steps(side: str, skip: int) -> str:
    """Why a side has no time of a step."""
    return f"{side} has a run with at most {skip + 1} steps, of which {skip} are skipped"


def _side(figure: "Figure", runs: Sequence[ClockedRun]) -> SideTime:
    timed = [run.timed for run in runs]
    steps = min(timed), max(timed)
    return SideTime(figure.value, figure.low, figure.high, figure.processes, steps)
