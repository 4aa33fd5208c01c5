"""Who gets something else from a collective than the others, or than it must."""

from collections import Counter
from collections.abc import Iterator
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
CODES: Final = (
    REPLICA_OUTVOTED,
    REPLICAS_SPLIT,
    REPLICAS_OFF,
    ONE_WRONG_COLLECTIVE,
    WRONG_COLLECTIVES,
    COLLECTIVE_UNFINISHED,
)


def replicas(fleet_data: FleetData) -> Iterator[Finding]:
    """Replicas of one collective training have the same bits after every epoch."""
    for one in fleet_data.replicas:
        if one.failed:
            yield COLLECTIVE_UNFINISHED.of_sender(one.rank, one.node, one.failed)
    whole = [one for one in fleet_data.replicas if not one.failed]
    for epoch in range(max((len(one.epoch_digests) for one in whole), default=0)):
        digests = [
            one.epoch_digests[epoch] if epoch < len(one.epoch_digests) else "" for one in whole
        ]
        votes = Counter(digests).most_common()
        if len(votes) > 1:
            sure = votes[0][1] > votes[1][1]
            for one, digest in zip(whole, digests, strict=True):
                if not sure or digest != votes[0][0]:
                    done = len(one.epoch_digests)
                    said = f"diverges in epoch {epoch} of {done}, {votes[0][1]} replicas agree"
                    yield (REPLICA_OUTVOTED if sure else REPLICAS_SPLIT).of_sender(
                        one.rank, one.node, said
                    )
            return
    for one in whole:
        if one.ulps is not None and one.ulps > ULPS:
            said = f"{one.ulps:.3g} ulps from one process that trained the same, at most {ULPS:g}"
            yield REPLICAS_OFF.of_sender(None, "", said)


def collectives(fleet_data: FleetData) -> Iterator[Finding]:
    """Each replica gets the one right result of each collective; who alone does not is at fault."""
    wrong = [one for one in fleet_data.replicas if one.wrong]
    code = ONE_WRONG_COLLECTIVE if len(wrong) == 1 else WRONG_COLLECTIVES
    for one in wrong:
        first = one.wrong[0]
        yield code.of_sender(one.rank, one.node, f"{first.what}: {first.actual}"[:500])


RULES: Final = (
    replicas,
    collectives,
)
