"""`lessons`: try what tutorials say of this network, in a worker of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xorbench import __version__
from xorbench.judge import lessons as judging
from xorbench.judge.checks import exit_code
from xorbench.measure import host
from xorbench.measure.pool import OperationFailed, WorkerDied
from xorbench.measure.runner import Slot, make_slots, now
from xorbench.observe import store as files
from xorbench.observe.records import Finding, LessonsInfo
from xorbench.plan.case import Setting
from xorbench.report import lessons as report
from xorbench.verbs.files import Outcome, write_reports
from xorbench.verbs.workers import running, starter, terminable

SIZE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """The lessons as the command line asks for them."""

    command: str
    root: Path = Path("results")
    name: str | None = None
    timeout_s: float = 120.0
    anonymous: bool = False


def lessons(request: Request) -> Outcome:
    """Start a worker, try every lesson, report."""
    started = now()
    store = files.create(request.root, request.name, SIZE_BYTES, anonymous=request.anonymous)
    try:
        slot = make_slots([Setting()], 1)[0]
        findings: list[Finding] = []
        stopped = None
        with terminable(), running([slot], starter(store.log_path, request.timeout_s, "teaching")):
            try:
                findings.extend(_learn(slot))
            except (WorkerDied, OperationFailed) as error:
                stopped = str(error)
        info = _info(request, store.folder.name, started, slot.machine, findings, stopped)
        store.write_json("run.json", info)
        files.point_latest(request.root, store.folder)
        store.clean_logs()
        outcome = judged(store.folder)
        write_reports(store, outcome.content)
        return outcome
    finally:
        store.close()


def _learn(slot: Slot) -> Iterator[Finding]:
    for name, statement in slot.ask("index")["lessons"]:
        yield Finding(lesson=name, statement=statement, **slot.ask("learn", lesson=name))


def _info(
    request: Request,
    name: str,
    started: str,
    machine: dict[str, Any],
    findings: list[Finding],
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


def judged(folder: Path) -> Outcome:
    """Judge the lessons from their files alone."""
    info = files.read_lessons(folder)
    verdicts = judging.judge(info)
    return Outcome(folder, report.content(info, verdicts), exit_code(verdicts))
