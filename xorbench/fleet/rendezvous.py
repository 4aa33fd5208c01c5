"""The store through which ranks exchange records, provided by PyTorch's rendezvous.

This is the only module outside the training processes that imports torch, and it uses only the
store. It returns undecoded bytes, because other machines wrote them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from xorbench.errors import INCONCLUSIVE, BadOption, XorbenchError

CONNECT_S: Final = 120.0
PREFIX: Final = "xorbench/fleet"
# Environment variables of torchrun and of Slurm's srun.
TORCHRUN: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SLURM: Final = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


class StoreLost(XorbenchError):
    """The store is unreachable."""

    exit_code = INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class RankPlace:
    """A rank, and the address of the store; `hosted` if the launcher runs the store."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    host: str = ""
    port: int = 0
    hosted: bool = True


def place(environment: Mapping[str, str] = os.environ) -> RankPlace:
    """The rank set by the launcher, or rank 0 of 1. Raises `BadOption` for invalid variables."""
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
            f"{name}: {text!r} is not a number",
            "start the ranks with torchrun, or set the variables that torchrun sets",
        )
    return int(text)


class Rendezvous:
    """A connection to the store: small values by name. Raises `StoreLost` if it is unreachable."""

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
        """Store JSON for the other ranks."""
        try:
            self._store.set(name, content.decode())
        except RuntimeError as error:
            raise _lost(error) from None

    def get(self, name: str) -> bytes | None:
        """The content stored under a name, or None."""
        try:
            return bytes(self._store.get(name)) if self._store.check([name]) else None
        except RuntimeError as error:
            raise _lost(error) from None


def _lost(error: RuntimeError) -> StoreLost:
    first = str(error).partition("\n")[0][:200]
    return StoreLost(f"the store is unreachable: {first}", "judge the run folders with --merge")
