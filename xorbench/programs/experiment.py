"""An experiment: the runs of commands that a question needs, and its answer.

A question is one file. It names the commands, plans and makes the runs, and judges them. The same
procedure answers it from new runs and from the records of earlier ones.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from xorbench.answers import Answer
from xorbench.programs import check_folder
from xorbench.programs.command_run import CommandRun, working_copy
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.request import CommandRequest
from xorbench.programs.run_maker import Note, RunMaker
from xorbench.programs.step_time import StepSpeed
from xorbench.records.ended import Ended, read_ended
from xorbench.records.redaction import local_names
from xorbench.runtime.interrupt import terminable
from xorbench.verdicts import OUTCOME_CODES, Verdict

MAIN: Final = "B"  # the command that a question is about; A is the one that it is compared with
EVERY_RUN: Final = 1_000_000  # a number of runs that no check makes: those that are recorded

Row = dict[str, object]


class RunMissing(Exception):
    """The records of an experiment end before a run that its question needs."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer to a question, with all that its report shows.

    Attributes:
        conclusion: the answer.
        verdicts: the answer as verdicts.
        rows: the runs, a row each.
        details: what `result.json` holds besides the conclusion.
        answers: a sentence per question where there are several.
        tables: further tables of the report, between the answer and the runs: name, title, rows.
        speed: the comparison of step times, if there was one.
    """

    conclusion: Conclusion
    verdicts: Sequence[Verdict]
    rows: Sequence[Row]
    details: Mapping[str, object]
    answers: Sequence[Answer] = ()
    tables: Sequence[tuple[str, str, Sequence[Row]]] = ()
    speed: StepSpeed | None = None


@dataclass(slots=True)
class Experiment:
    """The runs of one question: made one after the other, or read again from their records.

    Attributes:
        folder: the folder of the records, which has a folder for each run.
        request: how the main command is run.
        commands: the commands, by name.
        note: is called with each line of progress.
        maker: makes the runs; None to read them again.
        first: the first run.
    """

    folder: Path
    request: CommandRequest
    commands: Mapping[str, CommandRun] = field(default_factory=dict)
    note: Note = lambda _line: None
    maker: RunMaker | None = None
    first: Ended | None = None

    def run(
        self, name: str, number: int, label: str, *, command: str = MAIN, **options: Any
    ) -> Ended:
        """One run, whose records are in the folder `name`.

        Raises `BadOption`; of records `RunMissing` after the last run, `BadFile` without a first.
        """
        if self.maker is None:
            run = self._recorded(name)
        else:
            run = self.maker.run(self.commands[command], number, name, label, **options)
        self.first = self.first or run
        return run

    def save(self, saved: Mapping[str, Any] | None) -> None:
        """Store what new runs are made for, so that they can be judged again; None stores none."""
        if self.maker is not None and saved is not None:
            check_folder.save_request(self.folder, self.request, saved)

    def _recorded(self, name: str) -> Ended:
        if self.first is not None and not (self.folder / name / "ended.json").exists():
            raise RunMissing
        return read_ended(self.folder / name)


class Question(Protocol):
    """A question about commands: the runs that it needs, and how they are judged.

    Attributes:
        asker: the command of xorbench that asks it.
    """

    asker: ClassVar[str]

    @property
    def check(self) -> CommandRequest:
        """How its main command is run."""

    @property
    def title(self) -> str:
        """Its commands, as one would type them."""

    def commands(self) -> dict[str, CommandRun]:
        """The commands as they will be run, by name; raises `BadOption`."""

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The runs that it will make, in lines."""

    def saved(self) -> dict[str, Any] | None:
        """What `check.json` holds of it; None if it cannot be answered from its records."""

    def answer(self, experiment: Experiment) -> Judgement:
        """Make the runs and judge them."""


@dataclass(frozen=True, slots=True)
class ExperimentOutcome:
    """The judgement, of which commands, and where the files are."""

    name: str
    folder: Path
    command: str
    judgement: Judgement
    machine: dict[str, Any]
    anonymous: bool = False

    @property
    def conclusion(self) -> Conclusion:
        """The answer."""
        return self.judgement.conclusion

    @property
    def exit_code(self) -> int:
        """The exit code of the answer."""
        return OUTCOME_CODES[self.conclusion.outcome]


def ask(question: Question, note: Note) -> ExperimentOutcome:
    """Answer a question by new runs; raises `BadOption`."""
    commands, request = question.commands(), question.check
    for line in question.plan(commands):
        note(line)
    with (
        check_folder.records_folder(request) as folder,
        terminable(),
        working_copy(commands[MAIN]) as fresh,
    ):
        maker = _maker(question, folder, fresh, note)
        experiment = Experiment(folder, request, commands, note, maker)
        experiment.save(question.saved())
        return _outcome(question, experiment)


def ask_again(question: Question, folder: Path, *, anonymous: bool) -> ExperimentOutcome:
    """Answer a question from the records of its runs; raises `BadFile`."""
    return _outcome(question, Experiment(folder, question.check), anonymous=anonymous)


def _maker(question: Question, folder: Path, fresh: Callable[[], Path], note: Note) -> RunMaker:
    request = question.check
    options = {
        "max_bytes": request.max_record,
        "stop_after": request.steps,
        "with_source": request.with_source,
    }
    names = local_names() if request.anonymous else None
    return RunMaker(question.asker, options, folder, fresh, note, names)


def _outcome(
    question: Question, experiment: Experiment, *, anonymous: bool = False
) -> ExperimentOutcome:
    judgement = question.answer(experiment)
    assert experiment.first is not None
    machine = machine_of(experiment.first)
    return ExperimentOutcome(
        question.asker, experiment.folder, question.title, judgement, machine, anonymous
    )


def machine_of(run: Ended) -> dict[str, Any]:
    """The machine and the environment in the first record of a run; empty where there is none."""
    for trace in run.traces[:1]:
        return {**trace.head.machine, **trace.head.environment}
    return {}


def run_rows(runs: Iterable[Ended]) -> list[Row]:
    """Each run and how it ended."""
    return [
        {
            "run": run.number,
            "ended": run.how,
            "exit code": run.code,
            "wall time (s)": round(run.wall_s, 2),
        }
        for run in runs
    ]
