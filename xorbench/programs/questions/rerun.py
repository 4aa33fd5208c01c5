"""`check`: is a user's training bitwise identical when it is rerun?"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from xorbench.programs.command_run import CommandRun
from xorbench.programs.command_runs import (
    detailed_pair,
    noted_sources,
    observe,
    traces_of,
    why_not_comparable,
)
from xorbench.programs.conclusion import CheckRuns, DetailedPair, RunPair, conclude, verdicts
from xorbench.programs.experiment import MAIN, Experiment, Judgement, RunMissing, run_rows
from xorbench.programs.rank_agreement import agreement_of
from xorbench.programs.request import CommandRequest
from xorbench.programs.run_processes import port_warning
from xorbench.programs.trainings import list_trainings
from xorbench.records.ended import Ended
from xorbench.records.trace import TraceFile

VALUES_BYTES: Final = 1 << 30
# The components of differences that a switch may remove.
EXPLAINED: Final = ("forward", "gradients", "buffers", "loss", "update", "order")
WINDOWS: Final = (1, 4, 16)  # steps before and after the difference that a detailed pair records


@dataclass(frozen=True, slots=True)
class CheckRequest(CommandRequest):
    """The question whether a command is bitwise identical in every run."""

    asker: ClassVar[str] = "check"

    @property
    def check(self) -> CommandRequest:
        """The request itself."""
        return self

    @property
    def title(self) -> str:
        """The command."""
        return self.command

    def commands(self) -> dict[str, CommandRun]:
        """The command; raises `BadOption`."""
        return {MAIN: self.command_run()}

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The runs, and the pairs with detailed recording if they differ."""
        run = commands[MAIN]
        times = f"{self.processes} times" if self.processes > 2 else "twice"
        return [
            f"runs {times}, one after the other: {self.command}",
            *self.place_lines(run),
            *filter(None, [port_warning(run.words)]),
            "if they differ: up to three more pairs, with detailed recording",
        ]

    def saved(self) -> dict[str, Any]:
        """No further entries."""
        return {}

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare each run with the first, and locate a difference with detailed recording."""
        runs: list[Ended] = []
        with suppress(RunMissing):
            for number in range(1, self.processes + 1):
                runs.append(experiment.run(f"run-{number}", number, f"run {number}"))
                if why_not_comparable(self.words, runs) or agreement_of(runs[-1:]).failure:
                    break
        observed = observe(self.words, runs)
        observed.files_decide = self.files

        def again(side: int, pair: int, **options: Any) -> Ended:
            label = f"detailed pair {pair}, run {side}"
            return experiment.run(f"closer-{pair}/{side}", side, label, **options)

        first = observed.diverged
        if first is not None and first.resumed_from is None and not first.shares_jobs:
            observed.detailed_pairs = detailed_pairs(first, again)
        judged = judgement(observed, runs)
        if judged.conclusion.component not in EXPLAINED:
            return judged
        return replace(judged, conclusion=replace(judged.conclusion, next_command=self.explain()))


def judgement(observed: CheckRuns, runs: Sequence[Ended]) -> Judgement:
    """The answer from the compared runs of one command."""
    conclusion, rows = conclude(observed), run_rows(runs)
    if conclusion.outcome != "fail" and runs:
        details = (*conclusion.details, *list_trainings(runs[0].traces))
        conclusion = replace(conclusion, details=details)
    return Judgement(conclusion, verdicts(observed, conclusion), rows, {"runs": rows})


def detailed_pairs(
    pair: RunPair,
    again: Callable[..., Ended],
    read: Callable[[Ended], list[TraceFile]] = traces_of,
) -> list[DetailedPair]:
    """Run pairs with detailed recording around the first difference, until one diverges there.

    The first differing step may vary between runs, so the window widens. `again` makes one run of a
    pair. If the runs differ in their events, a single run notes the sources of the program.
    """
    first = pair.compared.first
    assert first is not None
    pairs: list[DetailedPair] = []
    if first.how != "digest":
        with suppress(RunMissing):
            options = {"detail": (first.step, first.step), "stop_after": first.step + 1}
            pairs.append(noted_sources(pair, again(1, 1, **options), read))
    for number, width in enumerate(WINDOWS if first.how == "digest" else (), 1):
        start, end = max(0, first.step - width), first.step + width - 1
        options = {"detail": (start, end), "values_bytes": VALUES_BYTES, "stop_after": end + 1}
        try:
            runs = [again(side, number, **options) for side in (1, 2)]
        except RunMissing:
            break
        pairs.append(detailed_pair(pair, runs, read))
        place = pairs[-1].first
        if place is not None and start <= place.step <= end:
            break
    return pairs
