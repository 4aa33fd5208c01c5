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

from xorbench.commands import run as running_one
from xorbench.commands.fleet import FleetReferences, conclude
from xorbench.commands.processes import running, starter
from xorbench.commands.progress import Quiet
from xorbench.commands.run import RunRequest
from xorbench.commands.run_outputs import RunOutcome
from xorbench.errors import INTERRUPTED, PASSED, BadOption, XorbenchError
from xorbench.fleet import gather
from xorbench.fleet.belief import (
    RankResult,
    believed,
    believed_records,
    believed_replica,
    called_ranks,
)
from xorbench.fleet.deadline import Deadline
from xorbench.fleet.gather import RANK_FILE, RankInfo
from xorbench.fleet.records import Bad, CheckIn, Missing, Node, Replica, Sensors, name
from xorbench.fleet.rendezvous import CONNECT_S, RankPlace, Rendezvous, StoreLost, place
from xorbench.measure.nvml import Cards
from xorbench.measure.process import OperationFailed, ProcessDied
from xorbench.measure.slots import make_slots
from xorbench.observe import loading
from xorbench.observe.files import write_whole
from xorbench.plan import parse
from xorbench.plan.case import Case, ProcessConfig, to_dict
from xorbench.plan.faults import read_fault
from xorbench.plan.recipe import Recipe

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
    """What every rank is to do, and how long rank 0 waits for them, in seconds."""

    recipe: Recipe
    axes: dict[str, tuple[Any, ...]]
    out: Path
    references: FleetReferences
    processes_per_config: int = 1
    timeout_s: float = 120.0
    deadline_s: float = 600.0
    collective: bool = True
    faults: tuple[str, ...] = ()  # RANK/FAULT each


class Injected(NamedTuple):
    """What is injected in one rank: in its run, and in itself after so many epochs."""

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
    mine = [text.partition("/")[2] for text in texts if text.partition("/")[0] == str(rank)]
    own = [text.partition(":") for text in mine if text.partition(":")[0] in RANK_FAULTS]
    epochs = [
        parse.integer("--inject", rest.partition("epoch=")[2] or "1", 0, 1_000_000)
        for _, _, rest in own
    ]
    acts = [(epoch, RANK_FAULTS[word]) for epoch, (word, _, _) in zip(epochs, own, strict=True)]
    run = tuple(text for text in mine if text.partition(":")[0] not in RANK_FAULTS)
    return Injected(run, tuple(acts))


class Counting(Quiet):
    """Says nothing; injects the rank's own faults when so many epochs are done."""

    def __init__(self, acts: Sequence[tuple[int, Callable[[], None]]]) -> None:
        self._acts, self._done = acts, 0

    def advance(self, epochs: int) -> None:
        """Count, and do what is due."""
        self._done += epochs
        for epoch, act in self._acts:
            if epoch == self._done:
                act()


# One rank


def here() -> RankPlace:
    """This process's place among the ranks; raises `BadOption` for what cannot be."""
    return place()


def take_part(
    fleet_request: FleetRequest, at: RankPlace, say: Callable[[str], None]
) -> RunOutcome | int:
    """Do this rank's share; rank 0 gives the outcome of all, another rank its exit code.

    Raises `BadOption` before anything is written, `StoreLost` where the ranks cannot meet.
    """
    patience_s = CONNECT_S + fleet_request.timeout_s if at.rank else 0.0  # rank 0 decides
    deadline = Deadline(fleet_request.deadline_s + patience_s)
    root = fleet_request.out / f"rank{at.rank}"
    if (root / "runs").exists():
        raise BadOption(f"--out: {fleet_request.out} already holds a fleet", "give a new folder")
    owner = RankInfo(rank=at.rank, world=at.world, node=name(socket.gethostname()))
    write_whole(root / RANK_FILE, msgspec.json.encode(owner))
    with deadline.heeding():
        if at.world == 1:
            found = _own(fleet_request, at, owner, root)
            return conclude(fleet_request.out, fleet_request.references, *_sorted([found]), [])
        rendezvous = Rendezvous(at)
        come = CheckIn(rank=at.rank, world=at.world, node=owner.node)
        rendezvous.put(f"here/{at.rank}", msgspec.json.encode(come))
        found = _own(fleet_request, at, owner, root)
        rendezvous.put(f"record/{at.rank}", msgspec.json.encode(found))
        rank = _Rank(fleet_request, at, owner, root, rendezvous, deadline)
        return rank.follow(found) if at.rank else rank.lead(found, say)


def _sorted(
    found: Sequence[RankResult],
) -> tuple[list[Node], list[Missing], list[Bad]]:
    """What came of each rank, by kind."""
    nodes = [node for one in found if isinstance(one, list) for node in one]
    missing = [one for one in found if isinstance(one, Missing)]
    return nodes, missing, [one for one in found if isinstance(one, Bad)]


def _own(
    fleet_request: FleetRequest, at: RankPlace, owner: RankInfo, root: Path
) -> list[Node] | Bad:
    """Train on this rank's device; its record is made from the folder, as `--merge` makes it."""
    mine = injected(fleet_request.faults, at.rank)
    request = RunRequest(
        recipe=fleet_request.recipe,
        axes=fleet_request.axes,
        command=fleet_request.references.command,
        root=root,
        quick=True,
        processes_per_config=fleet_request.processes_per_config,
        timeout_s=fleet_request.timeout_s,
        faults=mine.run,
        local_rank=at.local_rank,
    )
    try:
        store, interrupted = running_one.train(request, Counting(mine.rank))
    except KeyboardInterrupt:
        return Bad(sender=f"rank {at.rank}", rank=at.rank, node=owner.node, reason=STOPPED)
    except XorbenchError as error:  # bad input, or a device that has ended its process
        reason = error.message[:500]
        return Bad(sender=f"rank {at.rank}", rank=at.rank, node=owner.node, reason=reason)
    store.close()
    owner = msgspec.structs.replace(
        owner, stopped=STOPPED if interrupted else "", sensors=_sensors(store.folder)
    )
    write_whole(root / RANK_FILE, msgspec.json.encode(owner))
    return gather.read(store.folder)


STOPPED: Final = "stopped by its launcher or its user before its end"


def _sensors(folder: Path) -> Any:
    """What the driver says of the run's accelerator; None of a CPU."""
    info = loading.read_info(folder)
    device = info.cases[0].device
    devices = [d for w in info.processes for d in w.machine.get("devices", [])]
    uuid = next((d["uuid"] for d in devices if d["device"] == device and "uuid" in d), None)
    read = Cards().sensors(uuid) if uuid else None
    return None if read is None else msgspec.convert(read, Sensors)


@dataclass(frozen=True, slots=True)
class _Rank:
    """One of several ranks, and what it works with once they have met."""

    request: FleetRequest
    at: RankPlace
    owner: RankInfo
    root: Path
    rendezvous: Rendezvous
    deadline: Deadline

    def follow(self, found: list[Node] | Bad) -> int:
        """Another rank than 0: take part in the collective if called, then go."""
        called = called_ranks(self._awaited("members"))
        if self.at.rank in called and isinstance(found, list):
            part = self._replicate(found, called)
            self.rendezvous.put(f"replica/{self.at.rank}", msgspec.json.encode(part))
        return INTERRUPTED if isinstance(found, Bad) and found.reason == STOPPED else PASSED

    def lead(self, own: list[Node] | Bad, say: Callable[[str], None]) -> RunOutcome:
        """Rank 0: collect until all have spoken or the deadline is there, then judge."""
        found: dict[int, RankResult] = {0: own}
        others = range(1, self.at.world)
        replicas: list[Replica] = []
        called: list[int] = []
        interrupted = False
        try:
            for rank, content in self._collected("record", others, self.deadline.waited):
                found[rank] = believed_records(rank, content, self._check_in(rank))
            self.deadline.renew(2 * self.request.timeout_s)  # who waits in vain still says so
            called = sorted(rank for rank, one in found.items() if isinstance(one, list))
            called = called if self.request.collective and len(called) > 1 and 0 in called else []
            self.rendezvous.put("members", msgspec.json.encode(called))
            if called and isinstance(own, list):
                replicas.append(self._replicate(own, called))
                there = [rank for rank in called if rank]
                for rank, content in self._collected("replica", there, self.deadline.over):
                    replicas.append(believed_replica(rank, content, found) or _silent(rank, found))
        except StoreLost as error:
            say(error.message)
        except KeyboardInterrupt:
            interrupted = True
            say("stopped: judged is what came until now")
        heard = {one.rank for one in replicas}
        replicas += [_silent(rank, found) for rank in called if rank not in heard]
        for rank in others:
            if rank not in found:
                found[rank] = self._missing(rank)
                say(f"rank {rank} is missing")
        results = _sorted(list(found.values()))
        out, references = self.request.out, self.request.references
        return conclude(out, references, *results, replicas, interrupted=interrupted)

    def _awaited(self, key: str) -> bytes | None:
        while not self.deadline.over():
            content = self.rendezvous.get(key)
            if content is not None:
                return content
            time.sleep(POLL_S)
        return None

    def _collected(
        self, kind: str, ranks: Sequence[int], over: Callable[[], bool]
    ) -> Iterator[tuple[int, bytes]]:
        """What each rank puts under a name, as it comes, until all have or the time is up."""
        waiting = list(ranks)
        while waiting:
            last = over()
            for rank in list(waiting):
                content = self.rendezvous.get(f"{kind}/{rank}")
                if content is not None:
                    waiting.remove(rank)
                    yield rank, content
            if last:
                return
            time.sleep(POLL_S if waiting else 0)

    def _check_in(self, rank: int) -> CheckIn | None:
        """Where a rank said it was when it came, if it came."""
        try:
            content = self.rendezvous.get(f"here/{rank}")
        except StoreLost:
            return None
        return believed(rank, content, CheckIn) if content is not None else None

    def _missing(self, rank: int) -> Missing:
        """A rank that gave no record: where it said it was, if it ever came."""
        here = self._check_in(rank)
        if here is None:
            why = f"never came within {self.request.deadline_s:g} s"
            return Missing(rank=rank, why=why, came=False)
        why = "came, and gave no result in time: it crashed, hangs, or is slow beyond the deadline"
        return Missing(rank=rank, node=here.node, why=why, came=True)

    def _replicate(self, nodes: Sequence[Node], members: Sequence[int]) -> Replica:
        """Train as one of the members, in a fresh process; what goes wrong is its record too."""
        request, at, node = self.request, self.at, self.owner.node
        slot = make_slots([ProcessConfig()], 1)[0]
        folder = self.root / "collective"
        folder.mkdir(parents=True, exist_ok=True)
        limit_s = max(1.0, min(request.timeout_s, self.deadline.left_s()))
        start = starter(lambda process: folder / f"{process}.log", limit_s, "collective")
        case, recipe = shared_case(request.recipe, len(members), nodes[0].device)
        faults = [read_fault(text) for text in injected(request.faults, at.rank).run]
        try:
            with running([slot], start):
                answer = slot.ask(
                    "replicate",
                    store=[at.host, at.port],
                    index=members.index(at.rank),
                    members=len(members),
                    timeout_s=limit_s,
                    case=to_dict(case),
                    recipe=to_dict(recipe),
                    faults=[fault.to_dict() for fault in faults if fault.kind in REPLICATED],
                )
            return msgspec.convert({"rank": at.rank, "node": node, **answer}, Replica)
        except (ProcessDied, OperationFailed, BadOption, msgspec.ValidationError) as error:
            return Replica(rank=at.rank, node=node, failed=str(error)[:500])


def _silent(rank: int, found: Mapping[int, RankResult]) -> Replica:
    of_rank = found[rank]
    node = of_rank[0].node if isinstance(of_rank, list) else "_"
    return Replica(rank=rank, node=node, failed="no result of the collective check in time")


def shared_case(recipe: Recipe, members: int, device: str) -> tuple[Case, Recipe]:
    """What the members train together: global batches that they can share out evenly.

    A batch of 128 as near as it can be, at least one row a member, at least four batches an epoch.
    """
    batch = members * max(1, COLLECTIVE_BATCH // members)
    size = max(recipe.train_size, 4 * batch)
    epochs = min(recipe.epochs, COLLECTIVE_EPOCHS)
    case = Case(device=device, engine="fetch", batch_size=batch)
    return case, replace(recipe, train_size=size, epochs=epochs)
