"""Who gets something else from a collective than the others, or than it must."""

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding
from xorbench.fleet.rules.code import Code

ULPS: Final = 64.0  # how far DistributedDataParallel may lie from one process; see docs/fleet.md

REPLICA_OUTVOTED: Final = Code(
    "XB112", "collective", "isolate", "its replica diverges from the others: take it out"
)
REPLICAS_SPLIT: Final = Code(
    "XB113",
    "collective",
    "investigate",
    "replicas diverge without majority: run pairs",
    is_open=True,
)
REPLICAS_OFF: Final = Code(
    "XB114", "collective", "investigate", "not what one process trains: look at the backend"
)
ONE_WRONG_COLLECTIVE: Final = Code(
    "XB116", "collective", "isolate", "it gets other results than it must: take it out"
)
WRONG_COLLECTIVES: Final = Code(
    "XB117", "collective", "investigate", "several get wrong results: look at the network"
)
COLLECTIVE_UNFINISHED: Final = Code(
    "XB306", "collective", "investigate", "see logs/ of this rank; check the network"
)


def replicas(fleet_data: FleetData) -> Iterator[Finding]:
    """Replicas of one collective training have the same bits after every epoch."""
    for replica in fleet_data.replicas:
        if replica.failed:
            yield COLLECTIVE_UNFINISHED.about(replica, replica.failed)
    whole = [replica for replica in fleet_data.replicas if not replica.failed]
    for epoch, digests in enumerate(zip_longest(*(r.epoch_digests for r in whole), fillvalue="")):
        (usual, most), *others = Counter(digests).most_common()
        if others:
            sure = most > others[0][1]
            for replica, digest in zip(whole, digests, strict=True):
                if not sure or digest != usual:
                    epochs = len(replica.epoch_digests)
                    text = f"diverges in epoch {epoch} of {epochs}, {most} replicas agree"
                    yield (REPLICA_OUTVOTED if sure else REPLICAS_SPLIT).about(replica, text)
            return
    for replica in whole:
        if replica.ulps is not None and replica.ulps > ULPS:
            distance = f"{replica.ulps:.3g} ulps from one process that trained the same"
            yield REPLICAS_OFF.about(None, f"{distance}, at most {ULPS:g}")


def collectives(fleet_data: FleetData) -> Iterator[Finding]:
    """Each replica gets the one right result of each collective; who alone does not is at fault."""
    wrong = [replica for replica in fleet_data.replicas if replica.wrong]
    code = ONE_WRONG_COLLECTIVE if len(wrong) == 1 else WRONG_COLLECTIVES
    for replica in wrong:
        first = replica.wrong[0]
        yield code.about(replica, f"{first.what}: {first.actual}"[:500])
