"""`fleet`: compare the runs of many ranks."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from xorbench import __version__
from xorbench.errors import BadOption
from xorbench.fleet import atlas, gather, pace, report, rules
from xorbench.fleet.atlas import Atlas
from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Bad, Fleet, Missing, Node, Replica
from xorbench.fleet.validation import RankResult
from xorbench.records.files import decoded, read_bytes, write_whole
from xorbench.records.folders import now
from xorbench.report import document, page
from xorbench.report.run_files import RunOutcome
from xorbench.verdicts import exit_code, some

NAME: Final = "fleet.json"


@dataclass(frozen=True, slots=True)
class FleetReferences:
    """The command line of a fleet, and its references in addition to its own majority."""

    command: str
    threshold: float = pace.THRESHOLD
    atlas: Atlas | None = None
    baseline: Fleet | None = None


def read_references(
    command: str, threshold: float, atlas_file: Path | None, baseline: Path | None
) -> FleetReferences:
    """Read the files before training starts. Raises `BadFile`, `BadOption`."""
    if atlas_file is not None and not atlas_file.is_file():
        raise BadOption(
            f"--atlas: no file {str(atlas_file)!r}", "create one with xorbench fleet atlas add RUN"
        )
    known = atlas.load(atlas_file) if atlas_file else None
    return FleetReferences(command, threshold, known, read_fleet(baseline) if baseline else None)


def read_fleet(path: Path) -> Fleet:
    """The `fleet.json` of an earlier fleet. Raises `BadFile` if it is invalid."""
    file = path / NAME if path.is_dir() else path
    return decoded(read_bytes(file), Fleet, file, "give the fleet.json of a fleet")


def merge(
    folders: Sequence[Path], out: Path, references: FleetReferences, note: Callable[[str], None]
) -> RunOutcome:
    """Judge any set of run folders by the rules of a live fleet, without torch.

    `note` is called with the names of skipped folders. Raises `BadOption` if `out` already holds a
    fleet report.
    """
    if (out / NAME).exists():
        raise BadOption(f"--out: {out} already holds a fleet", "give a new folder")
    runs, unreadable = gather.run_folders(folders)
    if unreadable:
        note(f"skipped folders without read permission: {some(unreadable)}")
    nodes, _, bad = by_kind([gather.read(folder) for folder in runs])
    bad += other_worlds(nodes)
    return conclude(out, references, nodes, absent(nodes, bad), bad, [])


def by_kind(results: Sequence[RankResult]) -> tuple[list[Node], list[Missing], list[Bad]]:
    """Split the results of ranks into records, missing ranks and invalid records."""
    nodes = [node for result in results if isinstance(result, list) for node in result]
    missing = [result for result in results if isinstance(result, Missing)]
    return nodes, missing, [result for result in results if isinstance(result, Bad)]


def absent(nodes: Sequence[Node], bad: Sequence[Bad]) -> list[Missing]:
    """The ranks without a folder, by the number of ranks in the records."""
    world = _usual_world(node.world or 0 for node in nodes)
    present = {node.rank for node in nodes} | {record.rank for record in bad}
    why = "none of the folders is this rank's"
    absent_ranks = (rank for rank in range(world) if rank not in present)
    missing = [Missing(rank=rank, why=why, came=False) for rank in islice(absent_ranks, LISTED)]
    if next(absent_ranks, None) is not None:
        cut = f"{why}; {world - len(present) - LISTED:,} more ranks have none"
        missing[-1] = msgspec.structs.replace(missing[-1], why=cut)
    return missing


LISTED: Final = 100  # missing ranks with a finding each; the last finding counts the rest


def _usual_world(worlds: Iterable[int]) -> int:
    """The most common number of ranks; the smallest on a tie, so one record cannot add ranks."""
    counts = Counter(worlds)
    return min(counts, key=lambda size: (-counts[size], size), default=0)


def other_worlds(nodes: Sequence[Node]) -> list[Bad]:
    """Records whose number of ranks differs from the majority."""
    usual = _usual_world(node.world for node in nodes if node.world is not None)
    return [
        Bad(
            sender=node.run,
            rank=node.rank,
            node=node.node,
            reason=f"reports {node.world:,} ranks, most records report {usual:,}",
        )
        for node in nodes
        if node.world not in (None, usual)
    ]


def conclude(
    out: Path,
    references: FleetReferences,
    nodes: Sequence[Node],
    missing: Sequence[Missing],
    bad: Sequence[Bad],
    replicas: Sequence[Replica],
    *,
    interrupted: bool = False,
) -> RunOutcome:
    """Judge, and write `fleet.json`, `fleet.md`, `fleet.html`, `cordon.txt`."""
    fleet_data = FleetData(
        nodes,
        missing,
        bad,
        replicas,
        atlas=references.atlas.digests if references.atlas else None,
        baseline=references.baseline,
        threshold=references.threshold,
    )
    findings = rules.judge(fleet_data)
    verdicts = rules.verdicts(fleet_data, findings)
    fleet = Fleet(
        xorbench_version=__version__,
        id=out.resolve().name,
        command=references.command,
        judged=now(),
        exit_code=exit_code(verdicts, interrupted=interrupted),
        findings=findings,
        missing=list(missing),
        bad=list(bad),
        replicas=list(replicas),
        nodes=[_without_epoch_digests(node) for node in nodes],
    )
    content = report.content(fleet, fleet_data, verdicts)
    write_whole(out / NAME, msgspec.json.encode(fleet) + b"\n")
    write_whole(out / "cordon.txt", "".join(f"{n}\n" for n in rules.cordon(findings)).encode())
    write_whole(out / "fleet.md", document.markdown(content).encode())
    write_whole(out / "fleet.html", page.html(content).encode())
    return RunOutcome(out, content, fleet.exit_code)


def _without_epoch_digests(node: Node) -> Node:
    """The record as stored in `fleet.json`; the run folders hold the epoch digests."""
    trainings = [msgspec.structs.replace(t, epoch_digests="") for t in node.trainings]
    return msgspec.structs.replace(node, trainings=trainings)
