"""Validation of the data that a rank sends: its schema, its rank and its node."""

from typing import TypeAlias

import msgspec

from xorbench.fleet.gather import LARGEST_RECORDS
from xorbench.fleet.records import Bad, CheckIn, Missing, Node, Record, Replica, decode
from xorbench.records.files import UNDECODABLE

RankResult: TypeAlias = list[Node] | Bad | Missing
"""The result of a rank: one record per device, an invalid record, or none."""


def valid_records(rank: int, content: bytes, check_in: CheckIn | None) -> list[Node] | Bad:
    """A rank's records; `Bad` if the schema, the rank or the node does not match.

    The node must be the node of the check-in, so that a rank cannot have a different node cordoned.
    """
    sender = f"rank {rank}"
    if len(content) > LARGEST_RECORDS:
        reason = f"{len(content):,} bytes are more than {LARGEST_RECORDS:,}"
        return Bad(sender=sender, rank=rank, reason=reason)
    try:
        nodes = msgspec.json.decode(content, type=list[Node] | Bad)
    except UNDECODABLE as error:
        return Bad(sender=sender, rank=rank, reason=f"not a record of this schema: {error}"[:500])
    if isinstance(nodes, Bad):
        return msgspec.structs.replace(nodes, sender=sender, rank=rank)
    if not nodes or any(node.rank != rank for node in nodes):
        return Bad(sender=sender, rank=rank, reason="no records, or records of a different rank")
    place = check_in.node if check_in else ""
    foreign = sorted({node.node for node in nodes if node.node != place})
    if foreign:
        checked_in = f"checked in as {place}" if check_in else "never checked in"
        reason = f"{checked_in}, but sent records of node {', '.join(foreign)[:200]}"
        return Bad(sender=sender, rank=rank, node=place, reason=reason)
    return nodes


def valid_replica(rank: int, content: bytes, result: RankResult) -> Replica | None:
    """A rank's replica of the collective training, if its node is the node of its records."""
    replica = valid_record(rank, content, Replica)
    same = replica and isinstance(result, list) and replica.node == result[0].node
    return replica if same else None


def valid_record(rank: int, content: bytes, kind: type[Record]) -> Record | None:
    """The decoded record, if it fits the schema and belongs to this rank."""
    record = decode(content, kind)
    return None if isinstance(record, str) or getattr(record, "rank", None) != rank else record


def called_ranks(members: bytes | None) -> list[int]:
    """The ranks that rank 0 calls; empty for an invalid list."""
    try:
        return msgspec.json.decode(members, type=list[int]) if members else []
    except UNDECODABLE:
        return []
