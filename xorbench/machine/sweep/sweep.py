"""`sweep`: train many seeds of the universal training, count the outcomes, write the report."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from xorbench import __version__
from xorbench.errors import BadFile
from xorbench.machine import host
from xorbench.machine.sweep import report
from xorbench.machine.sweep import results as judging
from xorbench.machine.sweep.results import SweepEvidence
from xorbench.machine.sweep.sweeper import Stopped, Sweeper
from xorbench.machine.universal.sweep_plan import (
    SweepPlan,
    default_chunk,
    require_backend,
    require_few_enough,
    require_trainable,
    universal,
)
from xorbench.records import folders, loading
from xorbench.records.folders import now
from xorbench.records.schema.sweep import SweepInfo
from xorbench.records.store import BYTES_PER_SEED, RunStore, create, reopen_sweep
from xorbench.report.run_files import RunOutcome, write_reports
from xorbench.runtime.interrupt import terminable, until_interrupted
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.progress import Bar, Lines
from xorbench.runtime.start import starter
from xorbench.verdicts import exit_code
from xorbench.xor.matrix.recipe import Recipe


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """The options of a sweep; without `backend`, the fastest available one is used."""

    recipe: Recipe
    batch_sizes: tuple[int, ...]
    drop_last: bool
    seeds: tuple[tuple[int, int], ...]
    command: str
    root: Path = Path("results")
    name: str | None = None
    backend: str | None = None
    device: str = "cpu"
    threads: int | None = None
    chunk: int | None = None
    timeout_s: float = 600.0
    anonymous: bool = False

    @property
    def trainings(self) -> int:
        """The number of requested trainings."""
        return len(self.batch_sizes) * sum(last - first + 1 for first, last in self.seeds)


def sweep(request: SweepRequest, progress: Bar | Lines) -> RunOutcome:
    """Start a process, train, count, report. Raises `BadOption` before anything is written."""
    require_backend(request.backend, request.device)
    require_trainable(request.recipe, request.batch_sizes, request.drop_last)
    require_few_enough(request.trainings)
    started, size_bytes = now(), request.trainings * BYTES_PER_SEED
    store = create(request.root, request.name, size_bytes, anonymous=request.anonymous)
    with closing(store):
        sweeper = Sweeper(
            starter(store.log_path, request.timeout_s, "sweep_ops"),
            backend=request.backend,
            device=request.device,
            threads=request.threads,
            recipes=[universal(request.recipe, b, request.drop_last) for b in request.batch_sizes],
        )

        def begin() -> SweepInfo:
            info = _info(request, store, sweeper, started)
            store.write_json("run.json", info)
            folders.point_latest(request.root, store.folder)
            return info

        return _finished(sweeper, store, progress, begin)


def resume(root: Path, text: str, progress: Bar | Lines) -> RunOutcome:
    """Train the rest of a stopped sweep; the result equals an uninterrupted sweep."""
    folder = folders.find(root, text, "--resume", "sweep")
    with closing(reopen_sweep(folder)) as store:
        info = loading.read_kind(folder, SweepInfo)
        if info.finished and _evidence(folder, info).complete:
            return conclude(store)
        info = msgspec.structs.replace(info, finished=None)
        sweeper = Sweeper(
            starter(store.log_path, info.timeout_s, "sweep_ops"),
            backend=info.backend,
            device=info.device,
            threads=info.threads,
            recipes=[info.plan.universal(batch_size) for batch_size in info.plan.batch_sizes],
            before=info.processes,
        )
        return _finished(sweeper, store, progress, lambda: info)


def _finished(
    sweeper: Sweeper, store: RunStore, progress: Bar | Lines, begin: Callable[[], SweepInfo]
) -> RunOutcome:
    """Start the process, train all remaining chunks, and report."""
    with terminable(), opened(sweeper, progress):
        info = begin()
        work = partial(_train, sweeper, info, store, progress)
        interrupted = until_interrupted(work, progress, f"sweep --resume {info.id}")
    return conclude(store, interrupted=interrupted)


def conclude(store: RunStore, *, interrupted: bool = False) -> RunOutcome:
    """Read the sweep from its files, judge it, and write its reports."""
    store.clean_logs()
    info = loading.read_kind(store.folder, SweepInfo)
    outcome = judged(store.folder, info, interrupted=interrupted)
    write_reports(store, outcome.content)
    return outcome


def judged(folder: Path, info: SweepInfo, *, interrupted: bool = False) -> RunOutcome:
    """Count and judge a sweep from its files."""
    evidence = _evidence(folder, info)
    if evidence.info.finished and not evidence.complete:
        raise BadFile(
            f"{folder / 'chunks.jsonl'}: contains fewer seeds than the finished sweep",
            f"retrain with sweep --resume {evidence.info.id}; report.md still has the result",
        )
    verdicts = judging.judge(evidence)
    content = report.content(evidence, verdicts)
    return RunOutcome(folder, content, exit_code(verdicts, interrupted=interrupted))


def _evidence(folder: Path, info: SweepInfo) -> SweepEvidence:
    return judging.count(info, loading.chunks(folder, info), loading.read_examples(folder))


# Training


@contextmanager
def opened(sweeper: Sweeper, progress: Bar | Lines) -> Iterator[None]:
    """Start the sweep's process, and kill it at the end of the block."""
    try:
        process = sweeper.open()
        if process.note:
            progress.note(f"backend {process.backend}: {process.note}")
        progress.note(
            f"{process.backend} on {process.device}, {process.threads} threads;"
            f" start-up {process.import_s + process.compile_s:.1f} s"
        )
        yield
    finally:
        sweeper.kill()


def _info(request: SweepRequest, store: RunStore, sweeper: Sweeper, started: str) -> SweepInfo:
    process = sweeper.processes[-1]
    plan = SweepPlan(
        request.recipe,
        request.batch_sizes,
        request.drop_last,
        request.seeds,
        request.chunk or default_chunk(request.recipe, process.backend, request.device),
    )
    return SweepInfo(
        xorbench_version=__version__,
        id=store.folder.name,
        name=request.name,
        command=request.command,
        started=started,
        plan=plan,
        recipe_sha256=request.recipe.sha256(),
        backend=process.backend,
        device=request.device,
        threads=request.threads,
        timeout_s=request.timeout_s,
        anonymous=request.anonymous,
        host=host.describe(anonymous=request.anonymous),
        known=sweeper.known(plan),
        processes=sweeper.processes,
    )


def _train(sweeper: Sweeper, info: SweepInfo, store: RunStore, progress: Bar | Lines) -> None:
    """Train the remaining pieces, store two example models, and record the end of the sweep."""
    trained = sum(1 for _ in loading.chunks(store.folder, info))
    remaining = info.plan.trainings - sum(p.count for p in islice(info.plan.pieces(), trained))
    progress.begin(remaining * info.plan.recipe.epochs)
    info = msgspec.structs.replace(info, stopped=None)
    try:
        sweeper.run(info, islice(info.plan.pieces(), trained, None), store, progress)
        _keep_examples(sweeper, info, store, progress)
        sweeper.retire()
        info = msgspec.structs.replace(info, finished=now())
    except Stopped as error:
        progress.note(f"stopped: {error}")
        info = msgspec.structs.replace(info, stopped=str(error))
    finally:
        sweeper.write_info(info, store)


def _keep_examples(
    sweeper: Sweeper, info: SweepInfo, store: RunStore, progress: Bar | Lines
) -> None:
    """Store the examples of a success and a failure; a sweep is complete without them."""
    try:
        chosen = judging.example_seeds(_evidence(store.folder, info).tallies)
        examples = [sweeper.example(info.plan, *batch_and_seed) for batch_and_seed in chosen]
    except (ProcessDied, OperationFailed) as error:
        progress.note(f"no picture of a decision boundary: {error}")
    else:
        store.write_text("examples.json", msgspec.json.encode(examples).decode() + "\n")
