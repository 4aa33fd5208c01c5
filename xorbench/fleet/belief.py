"""What a rank sends is believed only as far as it is of the schema, of that rank and its node."""

from typing import TypeAlias

import msgspec

from xorbench.fleet.gather import LARGEST_RECORDS
from xorbench.fleet.records import Bad, CheckIn, Missing, Node, Record, Replica, decode
from xorbench.records.files import UNDECODABLE

RankResult: TypeAlias = list[Node] | Bad | Missing
"""The result of a rank: one record per device, one that cannot be believed, or none."""


def believed_records(rank: int, content: bytes, check_in: CheckIn | None) -> list[Node] | Bad:
    """A rank's records, each believed only if it is of the schema, that rank, and its node.

    The node is that of its check-in: nobody can have another node cordoned.
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
        return Bad(sender=sender, rank=rank, reason="records of another rank, or none")
    place = check_in.node if check_in else ""
    others = sorted({node.node for node in nodes if node.node != place})
    if others:
        came = f"it came in as {place}" if check_in else "it never came in"
        reason = f"records of node {', '.join(others)[:200]}, and {came}"
        return Bad(sender=sender, rank=rank, node=place, reason=reason)
    return nodes


def believed_replica(rank: int, content: bytes, result: RankResult) -> Replica | None:
    """A rank's part in the collective, if it is of the node that its records are of."""
    replica = believed(rank, content, Replica)
    same = replica and isinstance(result, list) and replica.node == result[0].node
    return replica if same else None


def believed(rank: int, content: bytes, kind: type[Record]) -> Record | None:
    """A record of this kind, if it is one and is that rank's."""
    record = decode(content, kind)
    return None if isinstance(record, str) or getattr(record, "rank", None) != rank else record


def called_ranks(members: bytes | None) -> list[int]:
    """The ranks that rank 0 calls; what is no such list calls nobody."""
    try:
        return msgspec.json.decode(members, type=list[int]) if members else []
    except UNDECODABLE:
        return []
