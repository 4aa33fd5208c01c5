"""Ranks whose collective results are wrong or differ from the other ranks."""

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding
from xorbench.fleet.rules.code import Code

ULPS: Final = 64.0  # allowed distance of DDP from one process; see docs/fleet.md

REPLICA_OUTVOTED: Final = Code(
    "XB112", "collective", "isolate", "its replica diverges from the others: take it out"
)
REPLICAS_SPLIT: Final = Code(
    "XB113",
    "collective",
    "investigate",
    "replicas diverge without majority: run pairs",
    is_inconclusive=True,
)
REPLICAS_OFF: Final = Code(
    "XB114", "collective", "investigate", "differs from one process: check the backend"
)
ONE_WRONG_COLLECTIVE: Final = Code(
    "XB116", "collective", "isolate", "it gets wrong results: take it out"
)
WRONG_COLLECTIVES: Final = Code(
    "XB117", "collective", "investigate", "several ranks get wrong results: check the network"
)
COLLECTIVE_UNFINISHED: Final = Code(
    "XB306", "collective", "investigate", "see logs/ of this rank; check the network"
)


def replicas(fleet_data: FleetData) -> Iterator[Finding]:
    """Replicas of one collective training must be bitwise identical after every epoch."""
    for replica in fleet_data.replicas:
        if replica.failed:
            yield COLLECTIVE_UNFINISHED.about(replica, replica.failed)
    whole = [replica for replica in fleet_data.replicas if not replica.failed]
    for epoch, digests in enumerate(zip_longest(*(r.epoch_digests for r in whole), fillvalue="")):
        (usual, most), *others = Counter(digests).most_common()
        if others:
            has_majority = most > others[0][1]
            for replica, digest in zip(whole, digests, strict=True):
                if not has_majority or digest != usual:
                    epochs = len(replica.epoch_digests)
                    text = f"diverges in epoch {epoch} of {epochs}, {most} replicas agree"
                    code = REPLICA_OUTVOTED if has_majority else REPLICAS_SPLIT
                    yield code.about(replica, text)
            return
    for replica in whole:
        if replica.ulps is not None and replica.ulps > ULPS:
            distance = f"{replica.ulps:.3g} ulps from the same training in one process"
            yield REPLICAS_OFF.about(None, f"{distance}, at most {ULPS:g}")


def collectives(fleet_data: FleetData) -> Iterator[Finding]:
    """Collectives with a wrong result; a single rank with wrong results is at fault."""
    wrong = [replica for replica in fleet_data.replicas if replica.wrong]
    code = ONE_WRONG_COLLECTIVE if len(wrong) == 1 else WRONG_COLLECTIVES
    for replica in wrong:
        first = replica.wrong[0]
        yield code.about(replica, f"{first.what}: {first.actual}"[:500])
