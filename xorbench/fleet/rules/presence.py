"""Ranks that never checked in, gave no result, or gave an invalid one."""

from collections.abc import Iterator
from typing import Final

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding
from xorbench.fleet.rules.code import Code

NEVER_STARTED: Final = Code(
    "XB301", "presence", "investigate", "it never started: see the launcher's log"
)
NO_RESULT: Final = Code(
    "XB302", "presence", "isolate", "it started but gave no result: see the node's system log"
)
PROCESS_FAILED: Final = Code(
    "XB303", "completion", "isolate", "its process failed: see logs/ in its run folder"
)
INVALID_RECORD: Final = Code(
    "XB304", "record", "investigate", "check for equal xorbench versions, then inspect this node"
)
STOPPED: Final = Code("XB305", "presence", "investigate", "stopped by its launcher: rerun it")


def presence(fleet_data: FleetData) -> Iterator[Finding]:
    """Ranks without a result."""
    for missing in fleet_data.missing:
        yield (NO_RESULT if missing.came else NEVER_STARTED).about(missing, missing.why)


def completion(fleet_data: FleetData) -> Iterator[Finding]:
    """Ranks that were stopped or whose cases failed."""
    for node in fleet_data.nodes:
        if node.stopped:
            yield STOPPED.about(node, node.stopped)
        elif node.failed:
            yield PROCESS_FAILED.about(node, node.failed[0])


def records(fleet_data: FleetData) -> Iterator[Finding]:
    """Invalid records, as findings about their senders."""
    for bad in fleet_data.bad:
        yield INVALID_RECORD.about(bad, f"{bad.sender}: {bad.reason}"[:500])
