"""Where ranks meet: the store that PyTorch's rendezvous already provides.

The only module outside the training processes that imports torch, and of torch the store alone.
What is read from the store is bytes that somebody else wrote; nothing here decodes them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from xorbench.errors import INCONCLUSIVE, BadOption, XorbenchError

CONNECT_S: Final = 120.0
PREFIX: Final = "xorbench/fleet"
# What a rank is called by torchrun, and by Slurm's srun.
TORCHRUN: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SLURM: Final = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


class StoreLost(XorbenchError):
    """The store cannot be reached, or no longer."""

    exit_code = INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class RankPlace:
    """A rank's place among the others, and where they meet; `hosted` is a store that is there."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    host: str = ""
    port: int = 0
    hosted: bool = True


def place(environment: Mapping[str, str] = os.environ) -> RankPlace:
    """The place that the launcher gives; alone without one. Raises `BadOption` for a bad one."""
    if "RANK" not in environment and "MASTER_ADDR" not in environment:
        return RankPlace()
    names = TORCHRUN if "RANK" in environment else SLURM
    rank, world, local = (_number(environment, name) for name in names)
    if not 0 <= rank < world:
        raise BadOption(f"{names[0]}: rank {rank} of {world}", "ranks count from 0")
    if world == 1:
        return RankPlace(local_rank=local)
    port = _number(environment, "MASTER_PORT")
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return RankPlace(rank, world, local, environment.get("MASTER_ADDR", "127.0.0.1"), port, hosted)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal() or len(text) > 9:
        raise BadOption(
            f"{name}: {text!r} is not a number", "start it by torchrun, or set what torchrun sets"
        )
    return int(text)


class Rendezvous:
    """The store, opened: small values by name. Raises `StoreLost` where it is gone."""

    def __init__(self, place: RankPlace) -> None:
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

        try:
            store = TCPStore(
                place.host,
                place.port,
                is_master=place.rank == 0 and not place.hosted,
                timeout=timedelta(seconds=CONNECT_S),
                wait_for_workers=False,
            )
        except RuntimeError as error:
            raise _lost(error) from None
        self._store = PrefixStore(PREFIX, store)

    def put(self, name: str, content: bytes) -> None:
        """Let the other ranks read this JSON."""
        try:
            self._store.set(name, content.decode())
        except RuntimeError as error:
            raise _lost(error) from None

    def get(self, name: str) -> bytes | None:
        """The content under a name; None where there is none yet."""
        try:
            return bytes(self._store.get(name)) if self._store.check([name]) else None
        except RuntimeError as error:
            raise _lost(error) from None


def _lost(error: RuntimeError) -> StoreLost:
    first = str(error).partition("\n")[0][:200]
    return StoreLost(f"the store is gone: {first}", "fleet --merge judges the run folders")
