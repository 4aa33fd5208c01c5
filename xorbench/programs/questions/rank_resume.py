"""`check --resume` on another number of ranks: does the resumed training make the same updates?"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import numpy as np

from xorbench.programs.command_run import CommandRun
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.experiment import MAIN, Experiment, Judgement, RunMissing
from xorbench.programs.kills import Kill
from xorbench.programs.questions.ranks import (
    RunsCompared,
    conclusion_or_disagreement,
    judgement,
    noise_of,
    run_whole,
    trouble_of,
)
from xorbench.programs.questions.resume import FROM_SCRATCH, HINTS, ResumeRequest
from xorbench.programs.questions.rounding import NOISY_RUNS
from xorbench.programs.whole_steps import WholeStep, ranks_of, whole_steps
from xorbench.records.ended import Ended
from xorbench.verdicts import counted

RANKS_OPTION: Final = re.compile(r"--n(?:proc[-_]per[-_]node|um[-_]processes)[= ](\d+)")


def starts_other_ranks(words: Sequence[str], resume: Sequence[str]) -> bool:
    """Whether two commands start different numbers of ranks with a launcher."""
    counts = [RANKS_OPTION.findall(" ".join(side)) for side in (words, resume)]
    return all(counts) and counts[0][-1] != counts[1][-1]


class RankResumeRequest(ResumeRequest):
    """The check of a command whose resume command starts another number of ranks."""

    __slots__ = ()

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The uninterrupted run, two runs per kill, and the runs with noise."""
        noise = f"if they differ little: {NOISY_RUNS} more runs with noise of rounding"
        return [*super().plan(commands), noise]

    def saved(self, _checkpoints: object = None) -> dict[str, Any]:
        """The resume command and the kills."""
        return {**super().saved(), "resume_ranks": True}

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare each resumed run with the uninterrupted run."""
        runs: dict[str, Ended] = {}
        conclusions: dict[str, Conclusion] = {}
        with suppress(RunMissing):
            runs["run-1"] = run_whole(experiment, "run-1", "run 1", MAIN)
            if trouble := trouble_of(self.check.words, runs["run-1"]):
                return judgement({"the uninterrupted run": trouble}, runs)
            for steps in self.kill_after or ():
                name = f"the resume after {counted(steps, 'step')}"
                conclusions[name] = self._resumed(experiment, runs, steps)
        return judgement(conclusions, runs)

    def _resumed(self, experiment: Experiment, runs: dict[str, Ended], steps: int) -> Conclusion:
        """Kill the training, resume it, and compare."""
        name, resumed = f"killed-after-{steps}", f"resumed-after-{steps}"
        options = Kill(steps).options
        runs[name] = run_whole(experiment, name, f"killed after {steps}", MAIN, 2, **options)
        label, place = f"resumed after {steps}", {"same_place": True}
        runs[resumed] = run_whole(experiment, resumed, label, "resume", 3, **place)
        if trouble := trouble_of(self.resume, runs[resumed]):
            return replace(trouble, finding=f"after the resume: {trouble.finding}")
        if not (b := whole_steps(runs[resumed])):
            return Conclusion("inconclusive", "the resumed run makes no step on every rank")
        whole = whole_steps(runs["run-1"])
        first = resumed_at(whole[: steps + 1], b)
        if not first:
            finding = f"killed after {counted(steps, 'step')}, the training began {FROM_SCRATCH}"
            return Conclusion("fail", finding, hint=HINTS[FROM_SCRATCH])
        ranks = [counted(len(ranks_of(runs[run])), "rank") for run in ("run-1", resumed)]
        place_text = f"killed on {ranks[0]} after {counted(steps, 'step')}, resumed on {ranks[1]}"
        names = ("the uninterrupted run", f"{place_text} at step {first}")
        a, noise = whole_steps(runs["run-1"], first), noise_of(experiment, runs, first)
        lead = f"resume is not exact: {names[1]}"
        compared = RunsCompared(names, a, b, noise, None, lead, whole[:first])
        return conclusion_or_disagreement(compared, runs[resumed])


def resumed_at(a: Sequence[WholeStep], b: Sequence[WholeStep]) -> int:
    """The step of the first run in which most parameters are closest to the initial ones of `b`."""
    starts = [("initial", a[0]), *(("parameter", step) for step in a[:-1])]
    votes = Counter[int]()
    for (kind, name), sketch in b[0].step.sketches.items():
        known = [whole.step.sketches.get((wanted, name)) for wanted, whole in starts]
        if kind == "initial" and None not in known:
            gaps = [float(np.linalg.norm(k.sums - sketch.sums)) for k in known if k]
            votes[gaps.index(min(gaps))] += 1
    return max(votes, key=lambda step: (votes[step], step), default=0)
