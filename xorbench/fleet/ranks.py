"""The live fleet: what each rank does, and how rank 0 collects it and waits for no dead one."""

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
from xorbench.fleet.belief import (
    RankResult,
    believed,
    believed_records,
    believed_replica,
    called_ranks,
)
from xorbench.fleet.deadline import Deadline
from xorbench.fleet.fleet import FleetReferences, by_kind, conclude
from xorbench.fleet.gather import RANK_FILE, RankInfo
from xorbench.fleet.records import Bad, CheckIn, Missing, Node, Replica, Sensors, name
from xorbench.fleet.rendezvous import CONNECT_S, RankPlace, Rendezvous, StoreLost
from xorbench.machine.nvml import Cards
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
"""The kinds of faults that are injected in the collective training."""
# Injected in a rank itself, to see the others go on: after so many epochs of its run.
RANK_FAULTS: Final[dict[str, Callable[[], None]]] = {
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


@dataclass(frozen=True, slots=True)
class FleetRequest:
    """The run of every rank, and how long rank 0 waits for them, in seconds.

    `run` has the folder of the fleet as its root, and its faults as RANK/FAULT each.
    """

    run: RunRequest
    references: FleetReferences
    deadline_s: float = 600.0
    collective: bool = True


class Injected(NamedTuple):
    """The faults of one rank: those of its run, and its own after so many epochs."""

    run: tuple[str, ...]
    rank: tuple[tuple[int, Callable[[], None]], ...]


def require_faults(texts: Sequence[str]) -> None:
    """Raise `BadOption` for a text that names no fault."""
    for text in texts:
        rank, _, fault = text.partition("/")
        injected(texts, parse.integer("--inject", rank, 0, 999_999))
        if fault.partition(":")[0] not in RANK_FAULTS:
            read_fault(fault)


def injected(texts: Sequence[str], rank: int) -> Injected:
    """The faults of one rank."""
    run, acts = [], []
    for place, _, fault in (text.partition("/") for text in texts):
        if place != str(rank):
            continue
        kind, _, details = fault.partition(":")
        if kind in RANK_FAULTS:
            epoch = details.partition("epoch=")[2] or "1"
            acts.append((parse.integer("--inject", epoch, 0, 1_000_000), RANK_FAULTS[kind]))
        else:
            run.append(fault)
    return Injected(tuple(run), tuple(acts))


class Counting(Progress):
    """Shows nothing; injects the rank's own faults when so many epochs are done."""

    def __init__(self, acts: Sequence[tuple[int, Callable[[], None]]]) -> None:
        self._acts, self._done = acts, 0

    def advance(self, epochs: int) -> None:
        """Count the epochs, and inject the faults of this one."""
        self._done += epochs
        for epoch, act in self._acts:
            if epoch == self._done:
                act()


# One rank


def rank_place() -> RankPlace:
    """This process's place among the ranks; raises `BadOption` for an invalid one."""
    return rendezvous.place()


def take_part(
    fleet_request: FleetRequest, place: RankPlace, say: Callable[[str], None]
) -> RunOutcome | int:
    """Do this rank's share; rank 0 returns the outcome of all, another rank its exit code.

    Raises `BadOption` before anything is written, `StoreLost` where the ranks cannot meet.
    """
    request, rank = fleet_request.run, place.rank
    patience_s = CONNECT_S + request.timeout_s if rank else 0.0  # rank 0 decides
    deadline = Deadline(fleet_request.deadline_s + patience_s)
    root = request.root / f"rank{rank}"
    if (root / "runs").exists():
        raise BadOption(f"--out: {request.root} already holds a fleet", "give a new folder")
    owner = RankInfo(rank=rank, world=place.world, node=name(socket.gethostname()))
    write_whole(root / RANK_FILE, msgspec.json.encode(owner))
    with deadline.heeding():
        if place.world == 1:
            result = _own_records(request, place, owner, root)
            return conclude(request.root, fleet_request.references, *by_kind([result]), [])
        store = Rendezvous(place)
        check_in = CheckIn(rank=rank, world=place.world, node=owner.node)
        store.put(f"here/{rank}", msgspec.json.encode(check_in))
        result = _own_records(request, place, owner, root)
        store.put(f"record/{rank}", msgspec.json.encode(result))
        member = _Rank(fleet_request, place, owner, root, store, deadline)
        return member.follow(result) if rank else member.lead(result, say)


def _own_records(
    request: RunRequest, place: RankPlace, owner: RankInfo, root: Path
) -> list[Node] | Bad:
    """Train on this rank's device; its record is made from the folder, as `--merge` makes it."""
    faults = injected(request.faults, place.rank)
    request = replace(request, root=root, faults=faults.run, local_rank=place.local_rank)
    bad = Bad(sender=f"rank {place.rank}", rank=place.rank, node=owner.node, reason=STOPPED)
    try:
        store, interrupted = train(request, Counting(faults.rank))
    except KeyboardInterrupt:
        return bad
    except XorbenchError as error:  # bad input, or a device that has ended its process
        return msgspec.structs.replace(bad, reason=error.message[:500])
    store.close()
    owner = msgspec.structs.replace(
        owner, stopped=STOPPED if interrupted else "", sensors=_sensors(store.folder)
    )
    write_whole(root / RANK_FILE, msgspec.json.encode(owner))
    return gather.read(store.folder)


STOPPED: Final = "stopped by its launcher or its user before its end"


def _sensors(folder: Path) -> Any:
    """The driver's sensors of the run's accelerator; None for a CPU."""
    info = loading.read_info(folder)
    device = info.cases[0].device
    devices = [d for process in info.processes for d in process.machine.get("devices", [])]
    uuid = next((d["uuid"] for d in devices if d["device"] == device and "uuid" in d), None)
    values = Cards().sensors(uuid) if uuid else None
    return None if values is None else msgspec.convert(values, Sensors)


@dataclass(frozen=True, slots=True)
class _Rank:
    """One of several ranks, and what it works with once they have met."""

    request: FleetRequest
    place: RankPlace
    owner: RankInfo
    root: Path
    rendezvous: Rendezvous
    deadline: Deadline

    def follow(self, own: list[Node] | Bad) -> int:
        """A rank other than 0: take part in the collective if called, then end."""
        members = next(self._collected({0: "members"}, self.deadline.over), None)
        called = called_ranks(members and members[1])
        if self.place.rank in called and isinstance(own, list):
            replica = self._replicate(own, called)
            self.rendezvous.put(f"replica/{self.place.rank}", msgspec.json.encode(replica))
        return INTERRUPTED if isinstance(own, Bad) and own.reason == STOPPED else PASSED

    def lead(self, own: list[Node] | Bad, say: Callable[[str], None]) -> RunOutcome:
        """Rank 0: collect until all ranks have answered or the deadline is over, then judge."""
        results: dict[int, RankResult] = {0: own}
        others = range(1, self.place.world)
        replicas: list[Replica] = []
        called: list[int] = []
        interrupted = False
        try:
            keys = {rank: f"record/{rank}" for rank in others}
            for rank, content in self._collected(keys, self.deadline.waited):
                results[rank] = believed_records(rank, content, self._check_in(rank))
            # a rank that waits in vain still reports it
            self.deadline.renew(2 * self.request.run.timeout_s)
            called = sorted(rank for rank, result in results.items() if isinstance(result, list))
            called = called if self.request.collective and len(called) > 1 and 0 in called else []
            self.rendezvous.put("members", msgspec.json.encode(called))
            if called and isinstance(own, list):
                replicas.append(self._replicate(own, called))
                keys = {rank: f"replica/{rank}" for rank in called[1:]}
                for rank, content in self._collected(keys, self.deadline.over):
                    replica = believed_replica(rank, content, results[rank])
                    replicas.append(replica or _silent(rank, results))
        except StoreLost as error:
            say(error.message)
        except KeyboardInterrupt:
            interrupted = True
            say("stopped: judged is what came until now")
        received = {replica.rank for replica in replicas}
        replicas += [_silent(rank, results) for rank in called if rank not in received]
        for rank in others:
            if rank not in results:
                results[rank] = self._missing(rank)
                say(f"rank {rank} is missing")
        nodes, missing, bad = by_kind(list(results.values()))
        out, references = self.request.run.root, self.request.references
        return conclude(out, references, nodes, missing, bad, replicas, interrupted=interrupted)

    def _collected(
        self, keys: Mapping[int, str], over: Callable[[], bool]
    ) -> Iterator[tuple[int, bytes]]:
        """The content of each rank's key, as it comes, until all are there or the time is up."""
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
        """The check-in of a rank, if it came."""
        try:
            content = self.rendezvous.get(f"here/{rank}")
        except StoreLost:
            return None
        return believed(rank, content, CheckIn) if content is not None else None

    def _missing(self, rank: int) -> Missing:
        """A rank without a record: on the node of its check-in, if it ever came."""
        check_in = self._check_in(rank)
        if check_in is None:
            why = f"never came within {self.request.deadline_s:g} s"
            return Missing(rank=rank, why=why, came=False)
        why = "came, and gave no result in time: it crashed, hangs, or is slow beyond the deadline"
        return Missing(rank=rank, node=check_in.node, why=why, came=True)

    def _replicate(self, nodes: Sequence[Node], members: Sequence[int]) -> Replica:
        """Train as one of the members, in a fresh process; a failure is its record too."""
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
    """The common training of the members: global batches that they can share evenly.

    A batch of 128 as near as it can be, at least one row a member, at least four batches an epoch.
    """
    batch = members * max(1, COLLECTIVE_BATCH // members)
    size = max(recipe.train_size, 4 * batch)
    epochs = min(recipe.epochs, COLLECTIVE_EPOCHS)
    case = Case(device=device, engine="fetch", batch_size=batch)
    return case, replace(recipe, train_size=size, epochs=epochs)
