"""Drive a sweep: one worker, one chunk a request, each on disk before the next is asked for."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

import msgspec

from xorbench.errors import BadOption
from xorbench.measure.pool import OperationFailed, Worker, WorkerDied
from xorbench.measure.runner import Progress, StartWorker
from xorbench.observe.records import Chunk, Example, Known, SweepInfo, SweepWorker
from xorbench.observe.store import RunStore
from xorbench.plan.case import Setting
from xorbench.plan.sweep import Piece, SweepPlan

TRIES: Final = 2  # a chunk that has ended this many workers is not tried again


class Stopped(Exception):
    """A chunk cannot be trained here; the message says why."""


class Sweeper:
    """The worker of a sweep; a fresh one takes over where it dies."""

    def __init__(
        self,
        start: StartWorker,
        *,
        backend: str | None,
        device: str,
        threads: int | None,
        recipes: Sequence[dict[str, Any]],
        before: Sequence[SweepWorker] = (),
    ) -> None:
        self.workers = list(before)
        self._start = start
        self._asked_for: dict[str, Any] = {
            "backend": backend,
            "device": device,
            "threads": threads,
            "recipes": list(recipes),
        }
        self._worker: Worker | None = None

    def open(self) -> SweepWorker:
        """Start a worker and load its backend; raises `BadOption` where that cannot be."""
        number = len(self.workers)
        name = f"w0.{number}" if number else "w0"
        self._worker = self._start(name, Setting(threads=None))
        try:
            answer = self._worker.ask("open", **self._asked_for)
        except (WorkerDied, OperationFailed) as error:
            raise BadOption(f"worker {name} could not start: {error}") from None
        if "missing" in answer:
            raise BadOption(self._missing(answer["missing"]))
        record = {"id": name, "device": self._asked_for["device"], **answer}
        self.workers.append(msgspec.convert(record, SweepWorker))
        self._asked_for["backend"] = answer["backend"]  # a replacement goes on with the same
        return self.workers[-1]

    def _missing(self, reason: str) -> str:
        option = "device" if self._asked_for["device"] != "cpu" else "backend"
        return f"--{option}: {self._asked_for[option]}: {reason}"

    def known(self, plan: SweepPlan) -> list[Known]:
        """The golden answers of each batch size, as far as the sweep holds their seeds."""
        found = []
        for batch_size in plan.batch_sizes:
            answer = self._ask("known", recipe=plan.universal(batch_size))
            one = msgspec.convert({"batch_size": batch_size, **answer}, Known)
            answers = [answer for answer in one.answers if plan.holds(answer.seed)]
            found.append(msgspec.structs.replace(one, answers=answers))
        return found

    def run(
        self, info: SweepInfo, pieces: Iterable[Piece], store: RunStore, progress: Progress
    ) -> None:
        """Train the pieces in order; raises `Stopped` at one that cannot be trained."""
        for piece in pieces:
            answer = self._train(info, piece, store, progress)
            line = {"worker": self.workers[-1].id, **asdict(piece), **answer}
            store.append("chunks.jsonl", msgspec.convert(line, Chunk))
            progress.advance(piece.count * info.plan.recipe.epochs)

    def _train(
        self, info: SweepInfo, piece: Piece, store: RunStore, progress: Progress
    ) -> dict[str, Any]:
        """Have a piece trained; where the worker cannot, a fresh one tries."""
        reason = ""
        for _ in range(TRIES):
            try:
                return self._ask(
                    "sweep",
                    recipe=info.plan.universal(piece.batch_size),
                    first_seed=piece.first_seed,
                    count=piece.count,
                )
            except (WorkerDied, OperationFailed) as error:
                reason = str(error)
                progress.note(f"worker {self.workers[-1].id}: {reason}")
                self._replace(reason)
                self.write_info(info, store)
        raise Stopped(
            f"batch {piece.batch_size}, {piece.count} seeds from {piece.first_seed}: {reason}"
        )

    def _replace(self, reason: str) -> None:
        self.workers[-1] = msgspec.structs.replace(self.workers[-1], died=reason)
        self.kill()
        try:
            self.open()
        except BadOption as error:
            raise Stopped(error.message) from None

    def write_info(self, info: SweepInfo, store: RunStore) -> None:
        """Write `run.json` with the workers as they are."""
        store.write_json("run.json", msgspec.structs.replace(info, workers=self.workers))

    def example(self, plan: SweepPlan, batch_size: int, seed: int) -> Example:
        """One seed's picture."""
        answer = self._ask("example", recipe=plan.universal(batch_size), seed=seed)
        return msgspec.convert({"batch_size": batch_size, "seed": seed, **answer}, Example)

    def retire(self) -> None:
        """Ask for the peak memory, then let the worker go."""
        with suppress(WorkerDied, OperationFailed):
            usage = self._ask("usage")
            self.workers[-1] = msgspec.structs.replace(self.workers[-1], **usage)
        if self._worker:
            self._worker.stop()

    def kill(self) -> None:
        """End the worker at once."""
        if self._worker:
            with suppress(OSError):
                self._worker.kill()

    def _ask(self, op: str, **args: Any) -> dict[str, Any]:
        if self._worker is None:
            raise WorkerDied("it was not started")
        return self._worker.ask(op, **args)
