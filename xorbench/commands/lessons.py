"""`lessons`: try what tutorials say of this network, in a process of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xorbench import __version__
from xorbench.commands.interrupt import terminable
from xorbench.commands.processes import running, starter
from xorbench.commands.run_outputs import RunOutcome, write_reports
from xorbench.judge import lessons as judging
from xorbench.judge.verdicts import exit_code
from xorbench.measure import host
from xorbench.measure.process import OperationFailed, ProcessDied
from xorbench.measure.slots import ProcessSlot, make_slots
from xorbench.observe import folders, loading
from xorbench.observe.folders import now
from xorbench.observe.records.lessons import LessonRecord, LessonsInfo
from xorbench.observe.store import create
from xorbench.plan.case import ProcessConfig
from xorbench.report import lessons as report

SIZE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class LessonsRequest:
    """The lessons as the command line asks for them."""

    command: str
    root: Path = Path("results")
    name: str | None = None
    timeout_s: float = 120.0
    anonymous: bool = False


def lessons(request: LessonsRequest) -> RunOutcome:
    """Start a process, try every lesson, report."""
    started = now()
    store = create(request.root, request.name, SIZE_BYTES, anonymous=request.anonymous)
    try:
        slot = make_slots([ProcessConfig()], 1)[0]
        findings: list[LessonRecord] = []
        stopped = None
        with (
            terminable(),
            running([slot], starter(store.log_path, request.timeout_s, "lesson_ops")),
        ):
            try:
                findings.extend(_learn(slot))
            except (ProcessDied, OperationFailed) as error:
                stopped = str(error)
        info = _info(request, store.folder.name, started, slot.machine, findings, stopped)
        store.write_json("run.json", info)
        folders.point_latest(request.root, store.folder)
        store.clean_logs()
        outcome = judged(store.folder, loading.read_kind(store.folder, LessonsInfo))
        write_reports(store, outcome.content)
        return outcome
    finally:
        store.close()


def _learn(slot: ProcessSlot) -> Iterator[LessonRecord]:
    for name, statement in slot.ask("index")["lessons"]:
        yield LessonRecord(lesson=name, statement=statement, **slot.ask("learn", lesson=name))


def _info(
    request: LessonsRequest,
    name: str,
    started: str,
    machine: dict[str, Any],
    findings: list[LessonRecord],
    stopped: str | None,
) -> LessonsInfo:
    return LessonsInfo(
        xorbench_version=__version__,
        id=name,
        name=request.name,
        command=request.command,
        started=started,
        anonymous=request.anonymous,
        host=host.describe(anonymous=request.anonymous),
        machine=machine,
        findings=findings,
        stopped=stopped,
        finished=now(),
    )


def judged(folder: Path, info: LessonsInfo) -> RunOutcome:
    """Judge the lessons from their files alone."""
    verdicts = judging.judge(info)
    return RunOutcome(folder, report.content(info, verdicts), exit_code(verdicts))
