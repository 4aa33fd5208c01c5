"""The live fleet: the work of each rank, and how rank 0 collects results until a deadline."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from xorbench.errors import INTERRUPTED, PASSED, BadOption, XorbenchError
from xorbench.fleet import gather, rendezvous
from xorbench.fleet.deadline import Deadline
from xorbench.fleet.fleet import FleetReferences, by_kind, conclude
from xorbench.fleet.gather import RANK_FILE, RankInfo
from xorbench.fleet.records import Bad, CheckIn, Missing, Node, Replica, Sensors, name
from xorbench.fleet.rendezvous import CONNECT_S, RankPlace, Rendezvous, StoreLost
from xorbench.fleet.validation import (
    RankResult,
    called_ranks,
    valid_record,
    valid_records,
    valid_replica,
)
from xorbench.machine.nvml import Gpus
from xorbench.options import parse
from xorbench.records import loading
from xorbench.records.files import write_whole
from xorbench.report.run_files import RunOutcome
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import Progress, make_slots
from xorbench.runtime.start import running, starter
from xorbench.xor.matrix.case import Case, ProcessConfig, to_dict
from xorbench.xor.matrix.faults import read_fault
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.run.run import RunRequest, train

POLL_S: Final = 0.2
COLLECTIVE_EPOCHS: Final = 5
COLLECTIVE_BATCH: Final = 128
REPLICATED: Final = ("training", "collective")
"""Kinds of faults injected into the collective training."""
# Faults of a rank itself, injected after a number of epochs; the other ranks must continue.
RANK_FAULTS: Final[dict[str, Callable[[], None]]] = {
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


@dataclass(frozen=True, slots=True)
class FleetRequest:
    """The run of every rank, and the deadline of rank 0 in seconds.

    The root of `run` is the folder of the fleet; each of its faults is RANK/FAULT.
    """

    run: RunRequest
    references: FleetReferences
    deadline_s: float = 600.0
    collective: bool = True


class Injected(NamedTuple):
    """The faults of one rank: faults of its run, and faults of the rank with their epoch."""

    run: tuple[str, ...]
    rank: tuple[tuple[int, Callable[[], None]], ...]


def require_faults(texts: Sequence[str]) -> None:
    """Raise `BadOption` for an unknown fault."""
    for text in texts:
        rank, _, fault = text.partition("/")
        injected(texts, parse.integer("--inject", rank, 0, 999_999))
        if fault.partition(":")[0] not in RANK_FAULTS:
            read_fault(fault)


def injected(texts: Sequence[str], rank: int) -> Injected:
    """The faults of one rank."""
    run, rank_faults = [], []
    for place, _, fault in (text.partition("/") for text in texts):
        if place != str(rank):
            continue
        kind, _, details = fault.partition(":")
        if kind in RANK_FAULTS:
            epoch = details.partition("epoch=")[2] or "1"
            after = parse.integer("--inject", epoch, 0, 1_000_000)
            rank_faults.append((after, RANK_FAULTS[kind]))
        else:
            run.append(fault)
    return Injected(tuple(run), tuple(rank_faults))


class Counting(Progress):
    """Silent progress that injects the rank's own faults after their epochs."""

    def __init__(self, faults: Sequence[tuple[int, Callable[[], None]]]) -> None:
        self._faults, self._done = faults, 0

    def advance(self, epochs: int) -> None:
        """Count the epochs, and inject the faults of the last one."""
        self._done += epochs
        for epoch, inject in self._faults:
            if epoch == self._done:
                inject()


# One rank


def rank_place() -> RankPlace:
    """This process's rank, as the launcher sets it. Raises `BadOption` for invalid variables."""
    return rendezvous.place()


def take_part(
    fleet_request: FleetRequest, place: RankPlace, notify: Callable[[str], None]
) -> RunOutcome | int:
    """Run this rank. Rank 0 returns the outcome of the fleet, the others their exit code.

    Raises `BadOption` before anything is written, `StoreLost` if the store is unreachable.
    """
    request, rank = fleet_request.run, place.rank
    patience_s = CONNECT_S + request.timeout_s if rank else 0.0  # rank 0 decides
    deadline = Deadline(fleet_request.deadline_s + patience_s)
    root = request.root / f"rank{rank}"
    if (root / "runs").exists():
        raise BadOption(f"--out: {request.root} already holds a fleet", "give a new folder")
    owner = RankInfo(rank=rank, world=place.world, node=name(socket.gethostname()))
    write_whole(root / RANK_FILE, msgspec.json.encode(owner))
    with deadline.handling_signals():
        if place.world == 1:
            result = _own_records(request, place, owner, root)
            return conclude(request.root, fleet_request.references, *by_kind([result]), [])
        store = Rendezvous(place)
        check_in = CheckIn(rank=rank, world=place.world, node=owner.node)
        store.put(f"here/{rank}", msgspec.json.encode(check_in))
        result = _own_records(request, place, owner, root)
        store.put(f"record/{rank}", msgspec.json.encode(result))
        member = _Rank(fleet_request, place, owner, root, store, deadline)
        return member.follow(result) if rank else member.lead(result, notify)


def _own_records(
    request: RunRequest, place: RankPlace, owner: RankInfo, root: Path
) -> list[Node] | Bad:
    """Train on this rank's device, then read the record from the folder as `--merge` does."""
    faults = injected(request.faults, place.rank)
    request = replace(request, root=root, faults=faults.run, local_rank=place.local_rank)
    bad = Bad(sender=f"rank {place.rank}", rank=place.rank, node=owner.node, reason=STOPPED)
    try:
        store, interrupted = train(request, Counting(faults.rank))
    except KeyboardInterrupt:
        return bad
    except XorbenchError as error:  # bad input, or a process that its device ended
        return msgspec.structs.replace(bad, reason=error.message[:500])
    store.close()
    owner = msgspec.structs.replace(
        owner, stopped=STOPPED if interrupted else "", sensors=_sensors(store.folder)
    )
    write_whole(root / RANK_FILE, msgspec.json.encode(owner))
    return gather.read(store.folder)


STOPPED: Final = "stopped by its launcher or its user before it finished"


def _sensors(folder: Path) -> Any:
    """The driver's sensors of the run's accelerator; None for a CPU."""
    info = loading.read_info(folder)
    device = info.cases[0].device
    devices = [d for process in info.processes for d in process.machine.get("devices", [])]
    uuid = next((d["uuid"] for d in devices if d["device"] == device and "uuid" in d), None)
    values = Gpus().sensors(uuid) if uuid else None
    return None if values is None else msgspec.convert(values, Sensors)


@dataclass(frozen=True, slots=True)
class _Rank:
    """One of several ranks, after they have met at the store."""

    request: FleetRequest
    place: RankPlace
    owner: RankInfo
    root: Path
    rendezvous: Rendezvous
    deadline: Deadline

    def follow(self, own: list[Node] | Bad) -> int:
        """Take part in the collective training if called, then end; every rank except 0."""
        members = next(self._collected({0: "members"}, self.deadline.over), None)
        called = called_ranks(members and members[1])
        if self.place.rank in called and isinstance(own, list):
            replica = self._replicate(own, called)
            self.rendezvous.put(f"replica/{self.place.rank}", msgspec.json.encode(replica))
        return INTERRUPTED if isinstance(own, Bad) and own.reason == STOPPED else PASSED

    def lead(self, own: list[Node] | Bad, notify: Callable[[str], None]) -> RunOutcome:
        """Rank 0: collect results until all ranks answer or the deadline passes, then judge."""
        results: dict[int, RankResult] = {0: own}
        others = range(1, self.place.world)
        replicas: list[Replica] = []
        called: list[int] = []
        interrupted = False
        try:
            keys = {rank: f"record/{rank}" for rank in others}
            for rank, content in self._collected(keys, self.deadline.waited):
                results[rank] = valid_records(rank, content, self._check_in(rank))
            # A rank whose collective times out still reports that.
            self.deadline.renew(2 * self.request.run.timeout_s)
            called = sorted(rank for rank, result in results.items() if isinstance(result, list))
            called = called if self.request.collective and len(called) > 1 and 0 in called else []
            self.rendezvous.put("members", msgspec.json.encode(called))
            if called and isinstance(own, list):
                replicas.append(self._replicate(own, called))
                keys = {rank: f"replica/{rank}" for rank in called[1:]}
                for rank, content in self._collected(keys, self.deadline.over):
                    replica = valid_replica(rank, content, results[rank])
                    replicas.append(replica or _silent(rank, results))
        except StoreLost as error:
            notify(error.message)
        except KeyboardInterrupt:
            interrupted = True
            notify("stopped: judging the results received so far")
        received = {replica.rank for replica in replicas}
        replicas += [_silent(rank, results) for rank in called if rank not in received]
        for rank in others:
            if rank not in results:
                results[rank] = self._missing(rank)
                notify(f"rank {rank} is missing")
        nodes, missing, bad = by_kind(list(results.values()))
        out, references = self.request.run.root, self.request.references
        return conclude(out, references, nodes, missing, bad, replicas, interrupted=interrupted)

    def _collected(
        self, keys: Mapping[int, str], over: Callable[[], bool]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the content of each rank's key on arrival, until all arrived or time is up."""
        waiting = dict(keys)
        while waiting:
            last = over()
            for rank, key in list(waiting.items()):
                content = self.rendezvous.get(key)
                if content is not None:
                    del waiting[rank]
                    yield rank, content
            if last:
                return
            time.sleep(POLL_S if waiting else 0)

    def _check_in(self, rank: int) -> CheckIn | None:
        """The check-in of a rank; None if it never checked in."""
        try:
            content = self.rendezvous.get(f"here/{rank}")
        except StoreLost:
            return None
        return valid_record(rank, content, CheckIn) if content is not None else None

    def _missing(self, rank: int) -> Missing:
        """A rank without a record, on the node of its check-in if there is one."""
        check_in = self._check_in(rank)
        if check_in is None:
            why = f"did not check in within {self.request.deadline_s:g} s"
            return Missing(rank=rank, why=why, came=False)
        why = "checked in, but gave no result in time: it crashed, hangs, or is too slow"
        return Missing(rank=rank, node=check_in.node, why=why, came=True)

    def _replicate(self, nodes: Sequence[Node], members: Sequence[int]) -> Replica:
        """Train as one of the members in a fresh process; a failure is recorded."""
        request, place, node = self.request.run, self.place, self.owner.node
        slot = make_slots([ProcessConfig()], 1)[0]
        folder = self.root / "collective"
        folder.mkdir(parents=True, exist_ok=True)
        limit_s = max(1.0, min(request.timeout_s, self.deadline.left_s()))
        start = starter(lambda process: folder / f"{process}.log", limit_s, "collective")
        case, recipe = shared_case(request.recipe, len(members), nodes[0].device)
        faults = [read_fault(text) for text in injected(request.faults, place.rank).run]
        try:
            with running([slot], start):
                answer = slot.ask(
                    "replicate",
                    store=[place.host, place.port],
                    index=members.index(place.rank),
                    members=len(members),
                    timeout_s=limit_s,
                    case=to_dict(case),
                    recipe=to_dict(recipe),
                    faults=[fault.to_dict() for fault in faults if fault.kind in REPLICATED],
                )
            return msgspec.convert({"rank": place.rank, "node": node, **answer}, Replica)
        except (ProcessDied, OperationFailed, BadOption, msgspec.ValidationError) as error:
            return Replica(rank=place.rank, node=node, failed=str(error)[:500])


def _silent(rank: int, results: Mapping[int, RankResult]) -> Replica:
    result = results[rank]
    node = result[0].node if isinstance(result, list) else "_"
    return Replica(rank=rank, node=node, failed="no result of the collective check in time")


def shared_case(recipe: Recipe, members: int, device: str) -> tuple[Case, Recipe]:
    """The common training of the members, with global batches that they share evenly.

    The batch size is close to 128, with at least one row per member and four batches per epoch.
    """
    batch = members * max(1, COLLECTIVE_BATCH // members)
    size = max(recipe.train_size, 4 * batch)
    epochs = min(recipe.epochs, COLLECTIVE_EPOCHS)
    case = Case(device=device, engine="fetch", batch_size=batch)
    return case, replace(recipe, train_size=size, epochs=epochs)
