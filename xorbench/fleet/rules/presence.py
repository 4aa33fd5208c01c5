"""Who never came, gave no result, or gave one that cannot be believed."""

from collections.abc import Iterator
from typing import Final

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding
from xorbench.fleet.rules.code import Code

NEVER_CAME: Final = Code(
    "XB301", "presence", "investigate", "it never came: see the launcher's log"
)
NO_RESULT: Final = Code(
    "XB302", "presence", "isolate", "it came and gave no result: see its system's log"
)
PROCESS_FAILED: Final = Code(
    "XB303", "completion", "isolate", "its process failed: see logs/ in its run folder"
)
UNBELIEVABLE: Final = Code(
    "XB304", "record", "investigate", "same xorbench everywhere? else distrust this node"
)
STOPPED: Final = Code("XB305", "presence", "investigate", "stopped by its launcher: run it again")


def presence(fleet_data: FleetData) -> Iterator[Finding]:
    """Every rank came, and gave its result."""
    for missing in fleet_data.missing:
        yield (NO_RESULT if missing.came else NEVER_CAME).about(missing, missing.why)


def completion(fleet_data: FleetData) -> Iterator[Finding]:
    """Every rank trained all that it was to train."""
    for node in fleet_data.nodes:
        if node.stopped:
            yield STOPPED.about(node, node.stopped)
        elif node.failed:
            yield PROCESS_FAILED.about(node, node.failed[0])


def records(fleet_data: FleetData) -> Iterator[Finding]:
    """A record that cannot be believed is a finding about who sent it."""
    for bad in fleet_data.bad:
        yield UNBELIEVABLE.about(bad, f"{bad.sender}: {bad.reason}"[:500])
