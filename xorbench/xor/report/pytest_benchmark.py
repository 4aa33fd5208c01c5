"""`pytest-benchmark export` and `import`: runs as its files, and its files as runs."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from xorbench import __version__
from xorbench.errors import PASSED, BadFile, BadOption, why
from xorbench.records import folders, loading, pytest_benchmark
from xorbench.records.files import write_whole
from xorbench.records.folders import now
from xorbench.records.pytest_benchmark import BenchmarkFile, ImportInfo
from xorbench.records.store import create
from xorbench.report.run_files import RunOutcome, write_reports
from xorbench.verdicts import exit_code
from xorbench.xor.report import imports as report


def export(root: Path, text: str, path: Path) -> int:
    """Write the run as a file of pytest-benchmark, and return the number of its variants.

    Raises `BadFile` for a folder without a run, or if no training has finished.
    """
    folder = folders.find(root, text, kind="run")
    run = loading.load(folder)
    if not run.trainings:
        raise BadFile(f"{folder}: no training has finished: nothing to export")
    write_whole(path, pytest_benchmark.to_json(run).encode())
    return len({(t.case, t.config) for t in run.trainings})


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """An import as requested on the command line."""

    file: str
    command: str
    root: Path = Path("results")
    name: str | None = None
    anonymous: bool = False


def import_(request: ImportRequest) -> RunOutcome:
    """Import a file of pytest-benchmark; raises `BadOption` or `BadFile` for other files."""
    content = _read(request.file)
    file = pytest_benchmark.from_json(content, f"FILE: {ascii(request.file)[1:-1]}")
    store = create(request.root, request.name, len(content), anonymous=request.anonymous)
    try:
        info = ImportInfo(
            xorbench_version=__version__,
            id=store.folder.name,
            name=request.name,
            command=request.command,
            started=file.datetime,
            anonymous=request.anonymous,
            source=Path(request.file).name,
            imported=_nameless(file) if request.anonymous else file,
            finished=now(),
        )
        store.write_json("run.json", info)
        folders.point_latest(request.root, store.folder)
        outcome = judged(store.folder, loading.read_kind(store.folder, ImportInfo))
        write_reports(store, outcome.content)
        return replace(
            outcome, exit_code=PASSED
        )  # the code of the import; the report is not judged
    finally:
        store.close()


def _read(text: str) -> bytes:
    """The file's content; raises `BadOption` if it cannot be read."""
    try:
        return Path(text).read_bytes()
    except (OSError, ValueError) as error:
        raise BadOption(f"FILE: cannot read {ascii(text)[:80]}: {why(error)}") from None


def judged(folder: Path, info: ImportInfo) -> RunOutcome:
    """The report of an imported file, without verdicts."""
    content = report.content(info)
    return RunOutcome(folder, content, exit_code(content.verdicts))


def _nameless(file: BenchmarkFile) -> BenchmarkFile:
    """The file without the host name of its machine."""
    machine_info = {key: value for key, value in file.machine_info.items() if key != "node"}
    return msgspec.structs.replace(file, machine_info=machine_info)
