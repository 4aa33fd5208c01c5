"""Control of a sweep: one process, one chunk per request, each stored before the next."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

import msgspec

from xorbench.errors import BadOption
from xorbench.machine.universal.sweep_plan import Piece, SweepPlan
from xorbench.records.schema.sweep import Chunk, Example, Known, SweepInfo, SweepProcess
from xorbench.records.store import RunStore
from xorbench.runtime.process import OperationFailed, Process, ProcessDied
from xorbench.runtime.slots import Progress, StartProcess
from xorbench.xor.matrix.case import ProcessConfig

TRIES: Final = 2  # a chunk that killed this many processes is not retried


class Stopped(Exception):
    """A chunk cannot be trained; the message gives the reason."""


class Sweeper:
    """The process of a sweep, replaced by a fresh one if it dies."""

    def __init__(
        self,
        start: StartProcess,
        *,
        backend: str | None,
        device: str,
        threads: int | None,
        recipes: Sequence[dict[str, Any]],
        before: Sequence[SweepProcess] = (),
    ) -> None:
        self.processes = list(before)
        self._start = start
        self._request: dict[str, Any] = {
            "backend": backend,
            "device": device,
            "threads": threads,
            "recipes": list(recipes),
        }
        self._process: Process | None = None

    def open(self) -> SweepProcess:
        """Start a process and load its backend. Raises `BadOption` if either fails."""
        number = len(self.processes)
        name = f"p0.{number}" if number else "p0"
        self._process = self._start(name, ProcessConfig(threads=None))
        try:
            answer = self._process.ask("open", **self._request)
        except (ProcessDied, OperationFailed) as error:
            raise BadOption(f"process {name} could not start: {error}") from None
        if "missing" in answer:
            raise BadOption(self._missing(answer["missing"]))
        record = {"id": name, "device": self._request["device"], **answer}
        self.processes.append(msgspec.convert(record, SweepProcess))
        self._request["backend"] = answer["backend"]  # a replacement uses the same backend
        return self.processes[-1]

    def _missing(self, reason: str) -> str:
        option = "device" if self._request["device"] != "cpu" else "backend"
        return f"--{option}: {self._request[option]}: {reason}"

    def known(self, plan: SweepPlan) -> list[Known]:
        """The golden values of each batch size for the seeds of the sweep."""
        return [self._known(plan, batch_size) for batch_size in plan.batch_sizes]

    def _known(self, plan: SweepPlan, batch_size: int) -> Known:
        answer = self._ask("known", recipe=plan.universal(batch_size))
        answers = [row for row in answer["answers"] if plan.holds(row["seed"])]
        return msgspec.convert({**answer, "batch_size": batch_size, "answers": answers}, Known)

    def run(
        self, info: SweepInfo, pieces: Iterable[Piece], store: RunStore, progress: Progress
    ) -> None:
        """Train the pieces in order. Raises `Stopped` for a piece that cannot be trained."""
        for piece in pieces:
            answer = self._train(info, piece, store, progress)
            line = {"process": self.processes[-1].id, **asdict(piece), **answer}
            store.append("chunks.jsonl", msgspec.convert(line, Chunk))
            progress.advance(piece.count * info.plan.recipe.epochs)

    def _train(
        self, info: SweepInfo, piece: Piece, store: RunStore, progress: Progress
    ) -> dict[str, Any]:
        """Train a piece; if the process fails, retry in a fresh one."""
        reason = ""
        for _ in range(TRIES):
            try:
                return self._ask(
                    "sweep",
                    recipe=info.plan.universal(piece.batch_size),
                    first_seed=piece.first_seed,
                    count=piece.count,
                )
            except (ProcessDied, OperationFailed) as error:
                reason = str(error)
                progress.note(f"process {self.processes[-1].id}: {reason}")
                self._replace(reason)
                self.write_info(info, store)
        raise Stopped(
            f"batch {piece.batch_size}, {piece.count} seeds from {piece.first_seed}: {reason}"
        )

    def _replace(self, reason: str) -> None:
        self.processes[-1] = msgspec.structs.replace(self.processes[-1], died=reason)
        self.kill()
        try:
            self.open()
        except BadOption as error:
            raise Stopped(error.message) from None

    def write_info(self, info: SweepInfo, store: RunStore) -> None:
        """Write `run.json` with the current processes."""
        store.write_json("run.json", msgspec.structs.replace(info, processes=self.processes))

    def example(self, plan: SweepPlan, batch_size: int, seed: int) -> Example:
        """The decision boundary of one seed."""
        answer = self._ask("example", recipe=plan.universal(batch_size), seed=seed)
        return msgspec.convert({"batch_size": batch_size, "seed": seed, **answer}, Example)

    def retire(self) -> None:
        """Request the peak memory, then stop the process."""
        with suppress(ProcessDied, OperationFailed):
            usage = self._ask("usage")
            self.processes[-1] = msgspec.structs.replace(self.processes[-1], **usage)
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """End the process at once."""
        if self._process:
            with suppress(OSError):
                self._process.kill()

    def _ask(self, op: str, **args: Any) -> dict[str, Any]:
        if self._process is None:
            raise ProcessDied("the process was not started")
        return self._process.ask(op, **args)
