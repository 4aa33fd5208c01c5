"""An experiment: the runs of commands that a question needs, and its answer.

Each question is one module. It names the commands, plans and makes the runs, and judges them. The
same procedure evaluates new runs and the records of earlier runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from xorbench.answers import Answer
from xorbench.programs import check_folder
from xorbench.programs.command_run import CommandRun, Fresh, working_copy
from xorbench.programs.command_runs import BY_THREAD, BY_THREAD_TEXT
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.limits import trains_in_threads
from xorbench.programs.pairs import Pair, PairSide, make_pair
from xorbench.programs.request import CommandRequest
from xorbench.programs.run_maker import Note, RunMaker
from xorbench.programs.step_time import StepSpeed
from xorbench.programs.turns import Turns
from xorbench.records.ended import Ended, read_ended
from xorbench.records.redaction import local_names
from xorbench.runtime.interrupt import terminable
from xorbench.verdicts import OUTCOME_CODES, Verdict

if TYPE_CHECKING:
    from xorbench.report.content import Picture  # loads pandas, which is slow to import

MAIN: Final = "B"  # the command that a question is about; A is the reference
EVERY_RUN: Final = 1_000_000  # more runs than any check makes: reads every recorded run

Row = dict[str, object]


class RunMissing(Exception):
    """A run that the question needs has no records."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer to a question, and the contents of its report.

    Attributes:
        conclusion: the answer.
        verdicts: the answer as verdicts.
        rows: one row per run.
        details: the entries that `result.json` adds to the conclusion.
        answers: one answer per question, if there are several.
        tables: tables of the report between the answer and the runs: name, title, rows.
        speed: the comparison of step times, if requested.
        pictures: pictures of the report.
    """

    conclusion: Conclusion
    verdicts: Sequence[Verdict]
    rows: Sequence[Row]
    details: Mapping[str, object]
    answers: Sequence[Answer] = ()
    tables: Sequence[tuple[str, str, Sequence[Row]]] = ()
    speed: StepSpeed | None = None
    pictures: "Sequence[Picture]" = ()


@dataclass(slots=True)
class Experiment:
    """The runs of one question, made in sequence or read from their records.

    Attributes:
        folder: the folder of the records, with one folder per run.
        request: the request for the main command.
        commands: the commands, by name.
        note: called with each line of progress.
        maker: makes the runs; None to read them.
        first: the first run.
        by_thread: whether each thread has its own record in all further runs.
    """

    folder: Path
    request: CommandRequest
    commands: Mapping[str, CommandRun] = field(default_factory=dict)
    note: Note = lambda _line: None
    maker: RunMaker | None = None
    first: Ended | None = None
    by_thread: bool = False

    def run(
        self, name: str, number: int, label: str, *, command: str = MAIN, **options: Any
    ) -> Ended:
        """Make or read one run, whose records are in the folder `name`.

        If several threads of the command train, it makes the run again with one record per thread,
        and all further runs in that way. It does not do so for runs that are killed or resumed.
        Raises `BadOption`; when reading, `RunMissing` after the last run and `BadFile` if there is
        no first run.
        """
        by_thread = self.by_thread and not options.get("state")
        if by_thread:
            name, options = f"{name}{BY_THREAD}", {**options, "threads": True}
        run = self._run(name, number, label, command, options)
        if by_thread or options.get("state") or not trains_in_threads(run.traces):
            return run
        self.by_thread = True
        self.note(f"{BY_THREAD_TEXT}: the run is repeated with one record per thread")
        return self.run(name, number, label, command=command, **options)

    def _run(
        self, name: str, number: int, label: str, command: str, options: Mapping[str, Any]
    ) -> Ended:
        if self.maker is None:
            run = self._recorded(name)
        else:
            run = self.maker.run(self.commands[command], number, name, label, **options)
        self.first = self.first or run
        return run

    def pair(self, number: int, sides: Mapping[str, PairSide], skip: int) -> Pair:
        """Make or read one pair of processes that train turn by turn; raises as `run` does."""
        path = self.folder / f"turns-{number}.json"
        if self.maker is not None:
            pair = make_pair(self.maker, self.commands, sides, skip, seed=number)
            pair.turns.write(path)
        elif path.exists():
            names = {side: row.name for side, row in sides.items()}
            pair = Pair(read_runs(self.folder, names), Turns.read(path))
        else:
            raise RunMissing
        self.first = self.first or next(iter(pair.ends.values()), None)
        return pair

    def save(self, saved: Mapping[str, Any] | None) -> None:
        """Store the question of new runs, so that they can be judged again; None stores nothing."""
        if self.maker is not None and saved is not None:
            check_folder.save_request(self.folder, self.request, saved)

    def _recorded(self, name: str) -> Ended:
        if self.first is not None and not (self.folder / name / "ended.json").exists():
            raise RunMissing
        return read_ended(self.folder / name)


def read_runs(folder: Path, names: Mapping[str, str]) -> dict[str, Ended]:
    """The recorded runs of these folders; a run that was not made is missing."""
    return {
        side: read_ended(folder / name)
        for side, name in names.items()
        if (folder / name / "ended.json").exists()
    }


class Question(Protocol):
    """A question about commands: its runs, and how they are judged.

    Attributes:
        asker: the xorbench command that asks it.
    """

    asker: ClassVar[str]

    @property
    def check(self) -> CommandRequest:
        """The request for its main command."""

    @property
    def title(self) -> str:
        """Its commands, as typed in a shell."""

    def commands(self) -> dict[str, CommandRun]:
        """The commands to run, by name; raises `BadOption`."""

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The planned runs, as lines of text."""

    def saved(self) -> dict[str, Any] | None:
        """Its entries in `check.json`; None if records cannot answer it."""

    def answer(self, experiment: Experiment) -> Judgement:
        """Make the runs and judge them."""


@dataclass(frozen=True, slots=True)
class ExperimentOutcome:
    """The judgement, its commands, and the folder of its files."""

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
    """Answer a question with new runs; raises `BadOption`."""
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


def _maker(question: Question, folder: Path, fresh: Fresh, note: Note) -> RunMaker:
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
    """The machine and environment in the first record of a run; empty without a record."""
    for trace in run.traces[:1]:
        return {**trace.head.machine, **trace.head.environment}
    return {}


def run_rows(runs: Iterable[Ended], names: Iterable[str] | None = None) -> list[Row]:
    """One row per run: how it ended; with its name, or else its number."""
    runs = list(runs)
    labels = [run.number for run in runs] if names is None else names
    return [
        {
            "run": label,
            "ended": run.how,
            "exit code": run.code,
            "wall time (s)": round(run.wall_s, 2),
        }
        for label, run in zip(labels, runs, strict=True)
    ]
