"""Two commands side by side: does B have the bits of A, and is a step of it as fast?

What either does not repeat itself says nothing of the other, so each is compared with its own first
run before the two are compared.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from msgspec.structs import replace as changed

from xorbench.judge.check import NOT_SAME, CheckRuns, Conclusion, RunPair, conclude, verdicts
from xorbench.judge.event_names import label, when
from xorbench.judge.first_difference import Compared, compare
from xorbench.judge.questions import FAST, SAME, Answer
from xorbench.judge.ratio import Ratio
from xorbench.judge.verdicts import (
    Outcome,
    Verdict,
    capitalized,
    failed,
    inconclusive,
    passed,
    worst_outcome,
)
from xorbench.observe.trace import (
    EpochEnd,
    TraceEnd,
    TraceEvent,
    TraceFile,
    TraceHead,
    TraceStep,
)

SPEED: Final = "step time"
BITS: Final = "same bits"
# One that moves no bit, such as `foreach`, is no finding.
HYPERPARAMETERS: Final = ("hyperparameters",)
CALLS: Final = (*HYPERPARAMETERS, "call", "batch", "input")
StepVerdict = Literal["same", "slower", "faster", "inconclusive"]


@dataclass(frozen=True, slots=True)
class AgainstTrace(TraceFile):
    """A trace as it is read beside another program's: without what only the source decides.

    These are the arguments, names of classes, and the outputs of modules, which have such names.
    """

    def all_lines(self) -> Iterator[TraceStep | EpochEnd | TraceEnd]:
        """The lines, with every event that is left."""
        for line in TraceFile.all_lines(self):
            if isinstance(line, TraceStep):
                yield changed(line, events=_without_names(line.events))
            else:
                yield line


def _without_names(events: Sequence[TraceEvent]) -> list[TraceEvent]:
    return [
        changed(event, more=changed(event.more, name="")) if event.kind == "call" else event
        for event in events
        if event.kind != "output"
    ]


def beside_another(traces: Sequence[TraceFile]) -> list[TraceFile]:
    """The traces of a run, to be paired and compared with those of another command."""
    return [AgainstTrace(trace.path, _without_arguments(trace)) for trace in traces]


def _without_arguments(trace: TraceFile) -> TraceHead:
    process = trace.head.process
    return changed(trace.head, process=process and changed(process, argv=[]))


def compared_across(a: TraceFile, b: TraceFile) -> tuple[Compared, str]:
    """Compare a process of A with one of B; and what should be known of it besides.

    Where the two make other calls, what counts is parameters, buffers and losses.
    """
    found = compare(a.lines(), b.lines(), a.head.generators, HYPERPARAMETERS)
    first = found.first
    if first is None or first.how != "events":
        return found, ""
    values = compare(a.lines(), b.lines(), a.head.generators, CALLS)
    if values.first is not None:
        return found, ""
    told = f"B makes other calls than A, first in {when(first)}, in {label(first)}"
    return values, f"{told}; its parameters, buffers and losses are equal"


# Bits


@dataclass(frozen=True, slots=True)
class SideRuns:
    """The runs of one command, compared with its own first run."""

    name: str
    own: CheckRuns

    @property
    def diverges_at(self) -> float:
        """The first step in which its runs differ; infinite where none does."""
        return -1.0 if self.own.unpaired else step_of(self.own.diverged)


def step_of(pair: RunPair | None) -> float:
    """The step in which a pair diverges; infinite for none."""
    return math.inf if pair is None or pair.compared.first is None else pair.compared.first.step


def bits(a: SideRuns, b: SideRuns, across: CheckRuns) -> Conclusion:
    """The answer to whether B has the bits of A; `across` compares the first run of each."""
    for side in (a, b):
        if side.own.trouble is not None:
            outcome, sentence, hint = side.own.trouble
            return Conclusion(outcome, f"{side.name}: {sentence}", hint=hint)
    if step_of(across.diverged) < min(a.diverges_at, b.diverges_at):
        return _moved(across)
    if a.diverges_at < math.inf:
        return _unrepeated(a, b)
    if b.diverges_at < math.inf:
        return _no_longer_repeated(b)
    return conclude(across)


MAY_BE_A_SWITCH: Final = (
    "if threads, loader processes, compilation or a seed may be behind it:"
    " xorbench explain --against A -- B tries them"
)


def _moved(across: CheckRuns) -> Conclusion:
    found = conclude(across)
    pair = across.diverged
    assert pair is not None
    assert pair.compared.first is not None
    values = pair.compared.first.values
    unused = {"run again", *(["generators that differ"] if pair.compared.first.undrawn else [])}
    facts = [(what, said) for what, said in found.facts if what not in unused]
    facts += [("hyperparameters that differ", values)] if values else []
    meaning = "A and B each repeat their own bits up to there, so it is B that moves them."
    hint = "" if values else MAY_BE_A_SWITCH
    return replace(found, meaning=meaning, hint=hint, facts=tuple(facts))


def _own(side: SideRuns) -> str:
    return conclude(side.own).finding


def _unrepeated(a: SideRuns, b: SideRuns) -> Conclusion:
    sentence = f"A is not the same when it is run again, so B cannot be compared with it: {_own(a)}"
    own = "the same in its runs" if b.diverges_at == math.inf else _own(b)
    hint = "make A repeat its own bits first: xorbench explain -- A finds the switch"
    return Conclusion("inconclusive", sentence, hint=hint, facts=(("B alone", own),))


def _no_longer_repeated(b: SideRuns) -> Conclusion:
    found = conclude(b.own)
    sentence = f"{NOT_SAME}A repeats its own bits and B does not: {_own(b)}"
    return replace(found, sentence=sentence)


# Speed


@dataclass(frozen=True, slots=True)
class SideTime:
    """The time of a step of one command, with its interval between processes (s)."""

    median_s: float
    low_s: float | None
    high_s: float | None
    processes: int
    steps: tuple[int, int]  # timed in a process: the fewest, the most


@dataclass(frozen=True, slots=True)
class StepSpeed:
    """B's step ÷ A's, and what it comes to; the figures are None where there is nothing to time."""

    verdict: StepVerdict
    threshold: float
    why: str = ""
    ratio: Ratio | None = None
    a: SideTime | None = None
    b: SideTime | None = None
    failed: bool = False

    @property
    def outcome(self) -> Outcome:
        """Slower fails, and so does a command that failed."""
        if self.verdict == "slower" or self.failed:
            return "fail"
        return "inconclusive" if self.verdict == "inconclusive" else "pass"

    def for_programs(self) -> dict[str, object]:
        """The speed, to be written as JSON."""
        programs: dict[str, object] = {}
        for name, value in asdict(replace(self, ratio=None)).items():
            parts = ("ratio", "low", "high", "p") if name == "ratio" else ()
            programs |= {part: getattr(self.ratio, part, None) for part in parts} or {name: value}
        return programs

    @property
    def figure(self) -> str:
        """The ratio with its interval."""
        return "unknown" if self.ratio is None else self.ratio.times

    @property
    def sentence(self) -> str:
        """What it came to, in words."""
        if self.why:
            return f"speed not judged: {self.why}"
        said = {
            "same": "a step of B is as fast",
            "slower": "a step of B is slower",
            "faster": "a step of B is faster",
            "inconclusive": "the speed of B is not settled",
        }[self.verdict]
        return f"{said}: {self.figure} the time of A"


def _step_time(side: SideTime) -> str:
    bounds = "" if side.low_s is None else f" [{_ms(side.low_s)}, {_ms(side.high_s or 0.0)}]"
    fewest, most = side.steps
    steps = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{_ms(side.median_s)}{bounds} ms ({side.processes} processes, {steps} steps timed)"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.4g}"


def speed_facts(speed: StepSpeed) -> list[tuple[str, str]]:
    """What the speed rests on."""
    facts = [
        (f"step of {name}", _step_time(side))
        for name, side in (("A", speed.a), ("B", speed.b))
        if side is not None
    ]
    if speed.ratio is not None:
        facts.append(("B ÷ A", f"{speed.figure}, threshold {speed.threshold:.3g}"))
    return facts


# Both


@dataclass(frozen=True, slots=True)
class AgainstAnswer:
    """Both answers; one that was not asked for is None."""

    bits: Conclusion | None
    speed: StepSpeed | None
    verdicts: list[Verdict]

    @property
    def outcome(self) -> Outcome:
        """That of the two which counts."""
        return worst_outcome(one.outcome for one in (self.bits, self.speed) if one is not None)

    def answers(self) -> list[Answer]:
        """The sentence of each question."""
        found = []
        if self.bits is not None:
            found.append(Answer(SAME, self.bits.outcome, capitalized(self.bits.finding)))
        if self.speed is not None:
            found.append(Answer(FAST, self.speed.outcome, capitalized(self.speed.sentence)))
        return found


def against(found: Conclusion | None, across: CheckRuns, speed: StepSpeed | None) -> AgainstAnswer:
    """Both answers with their verdicts."""
    said: list[Verdict] = []
    if found is not None:
        said += _bits_verdicts(found, across)
    if speed is not None:
        said.append(_speed_verdict(speed))
    return AgainstAnswer(found, speed, said)


def _bits_verdicts(found: Conclusion, across: CheckRuns) -> list[Verdict]:
    expected = "the bits of A"
    own = across.diverged is None and found.outcome == "fail"
    if across.pairs and found.outcome != "inconclusive" and not own:
        return [
            changed(verdict, check=BITS, expected=expected) for verdict in verdicts(across, found)
        ]
    make = failed if found.outcome == "fail" else inconclusive
    return [make(BITS, "A and B", expected, found.sentence, found.hint)]


def _speed_verdict(speed: StepSpeed) -> Verdict:
    expected = f"a step of B takes at most {1 + speed.threshold:.3g}× the time of A"
    if speed.outcome == "pass":
        return passed(SPEED, "A and B", expected, speed.sentence)
    if speed.outcome == "fail":
        hint = "profile a step of each command: what does B do that A does not?"
        return failed(SPEED, "A and B", expected, speed.sentence, hint)
    return inconclusive(SPEED, "A and B", expected, speed.sentence, MORE)


MORE: Final = "more --processes, or longer runs, make the interval narrower"


def joined(answer: AgainstAnswer, notes: Sequence[str]) -> Conclusion:
    """Both answers as one: a sentence, what differs, what to do, what it rests on."""
    found, speed = answer.bits, answer.speed
    base = found or Conclusion("pass", "")
    parts = [one.sentence for one in (found, speed) if one is not None]
    facts = [*base.facts, *(speed_facts(speed) if speed else ())]
    hint = base.hint
    if not hint and speed is not None and speed.outcome == "inconclusive":
        hint = MORE
    return replace(
        base,
        outcome=answer.outcome,
        sentence="; ".join(parts),
        hint=hint,
        facts=tuple(facts),
        notes=tuple(notes),
    )
