"""The ratio of step times from pairs of processes that train turn by turn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from xorbench.programs.command_run import CommandRun
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.cross_comparison import SIDES
from xorbench.programs.experiment import Experiment, RunMissing
from xorbench.programs.pairs import Pair, PairSide
from xorbench.programs.request import CommandRequest
from xorbench.programs.run_processes import port_warning
from xorbench.programs.step_time import PairedTimes, SideTime, StepSpeed, few_steps
from xorbench.records.ended import Ended

TURNS: Final = ("auto", "off")
Trouble = Callable[[str, Sequence[Ended]], Conclusion | None]


def why_off(turns: str, request: CommandRequest, commands: Mapping[str, CommandRun]) -> str:
    """Why the runs are timed one after the other; empty if they take turns."""
    if turns == "off":
        return "--turns off"
    if request.in_place:
        return "both would write into the same folder"
    warnings = (port_warning(run.words) for run in commands.values())
    return next(filter(None, warnings), "")


@dataclass(slots=True)
class Pairs:
    """The pairs of processes of one comparison.

    Attributes:
        most: the largest number of pairs.
        threshold: the difference that is acceptable.
        skip: the number of first steps that are not timed.
        sides: the sides of a pair by its number, in the order in which they start.
        trouble: the conclusion if the runs of a side are not comparable.
        pairs: the pairs that were made or read.
    """

    most: int
    threshold: float
    skip: int
    sides: Callable[[int], Mapping[str, PairSide]]
    trouble: Trouble
    pairs: list[Pair] = field(default_factory=list)

    def make(self, experiment: Experiment) -> None:
        """Make pairs until the ratio is settled, or a pair has no ratio."""
        from xorbench.stats.sequential import is_settled  # SciPy is slow to import

        try:
            while not is_settled(self.logs, self.most, 1 + self.threshold):
                number = len(self.pairs) + 1
                pair = experiment.pair(number, self.sides(number), self.skip)
                self.pairs.append(pair)
                if pair.turns.log_ratio is None or self._stopped() is not None:
                    return
        except RunMissing:
            pass

    @property
    def logs(self) -> list[float]:
        """The log ratio of each pair that has one."""
        ratios = (pair.turns.log_ratio for pair in self.pairs)
        return [log for log in ratios if log is not None]

    @property
    def runs(self) -> list[Ended]:
        """Every run of the pairs."""
        return [pair.ends[side] for pair in self.pairs for side in SIDES if side in pair.ends]

    @property
    def why_none(self) -> str:
        """Why the sides cannot take turns on this machine; empty if they can."""
        return self.pairs[0].turns.no_pair if len(self.pairs) == 1 else ""

    def speed(self) -> StepSpeed:
        """The ratio and its verdict."""
        from xorbench.stats.sequential import judged_pairs, outliers

        if (stopped := self._stopped()) is not None:
            side, trouble = stopped
            finding = f"{side}: {trouble.finding}"
            return StepSpeed(
                "inconclusive", self.threshold, finding, failed=trouble.outcome == "fail"
            )
        logs = self.logs
        if len(logs) < len(self.pairs) or not logs:
            why = few_steps(self._shorter(), self.skip)
            return StepSpeed("inconclusive", self.threshold, why)
        ratio = judged_pairs(logs, self.most, 1 + self.threshold)
        a, b = (self._side_time(side) for side in SIDES)
        times = self._times([logs[index] for index in outliers(logs)])
        return StepSpeed(ratio.verdict, self.threshold, ratio=ratio, a=a, b=b, pairs=times)

    def _stopped(self) -> tuple[str, Conclusion] | None:
        """The first side whose runs are not comparable."""
        for side in SIDES:
            runs = [pair.ends[side] for pair in self.pairs if side in pair.ends]
            trouble = self.trouble(side, runs)
            if trouble is not None:
                return side, trouble
        return None

    def _shorter(self) -> str:
        """The side that ended before the first pair of turns."""
        ends = self.pairs[-1].ends if self.pairs else {}
        return next((side for side, run in ends.items() if run.how == "ended"), SIDES[0])

    def _side_time(self, side: str) -> SideTime:
        import math

        from xorbench.stats.intervals import pooled

        timed = [sum(turn.steps for turn in pair.turns.turns[side]) for pair in self.pairs]
        logs = [math.log(pair.turns.step_s(side)) for pair in self.pairs]
        figure = pooled({side: logs})[side]
        steps = min(timed), max(timed)
        return SideTime(figure.value, figure.low, figure.high, figure.processes, steps)

    def _times(self, outlying: Sequence[float]) -> PairedTimes:
        """The details of the turns."""
        import math

        turns = [pair.turns for pair in self.pairs]
        counts = [len(each.order) for each in turns]
        steps = [each.turns["A"][0].steps for each in turns]
        rows = [turn for each in turns for side in SIDES for turn in each.turns[side]]
        turn_s = sum(turn.seconds for turn in rows)
        return PairedTimes(
            ratios=[math.exp(log) for log in self.logs],
            outliers=[math.exp(log) for log in outlying],
            turns=(min(counts), max(counts)),
            steps=(min(steps), max(steps)),
            waiting_share=sum(sum(each.waiting_cpu_s.values()) for each in turns) / turn_s,
            recorder_share=sum(turn.recorder_s for turn in rows) / turn_s,
            conditions={**turns[0].conditions, "threads": self._threads()},
        )

    def _threads(self) -> str:
        """The number of PyTorch's threads, of A and of B if they differ."""
        numbers = dict.fromkeys(
            trace.head.machine.get("threads")
            for side in SIDES
            for trace in self.pairs[0].ends[side].traces[:1]
        )
        return ", ".join(map(str, numbers))
