"""What a process can be asked to do together with those of other ranks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

import torch
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from xorbench.plan.case import case_from
from xorbench.plan.faults import FaultSpec
from xorbench.plan.recipe import Recipe
from xorbench.probes import collective as probe
from xorbench.process.operations import SESSION, Session, configure
from xorbench.workload.faults import flip_bit
from xorbench.workload.loop import Training
from xorbench.workload.replicated import replicated, ulps

__all__ = ["OPERATIONS", "SESSION"]

BACKENDS: Final = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}


def replicate(
    _session: Session,
    *,
    store: list[Any],
    index: int,
    members: int,
    timeout_s: float,
    case: dict[str, Any],
    recipe: dict[str, Any],
    faults: list[dict[str, Any]],
) -> dict[str, Any]:
    """Train as one of several replicas; answers the digest after each epoch.

    The first replica then trains the same global batches alone, and answers how far the two lie
    apart, in ulps at the largest weight. `store` is the host and port where the ranks meet.
    """
    trained_case, size = case_from(case), Recipe(**recipe)
    device = torch.device(trained_case.device)
    group_store = _join(store[0], store[1], index, members, timeout_s, device)
    injected = [FaultSpec(**fault) for fault in faults]
    training_faults = [fault for fault in injected if fault.kind == "training"]
    training = replicated(trained_case, size, index, members, training_faults)
    epoch_digests = [training.step().digest for _ in range(size.epochs)]
    answer = {"epoch_digests": epoch_digests, **_probed(device, index, members, injected)}
    _leave(group_store, index, members)
    if index:
        return {**answer, "ulps": None}
    alone = Training(trained_case, size)
    for _ in range(size.epochs):
        alone.step()
    return {**answer, "ulps": ulps(training.state(), alone.state())}


def _probed(
    device: torch.device, index: int, members: int, injected: Sequence[FaultSpec]
) -> dict[str, Any]:
    """The result of the exact probe of collectives: how much was compared, and what is wrong."""
    for fault in injected:
        if fault.name == "flip-collective":
            _flip_all_reduce(fault)
    result = probe.check(device, index, members)
    wrong = [asdict(fact) for fact in result.wrong]
    return {"checked": result.checked, "wrong": wrong, "unavailable": result.skipped}


def _flip_all_reduce(fault: FaultSpec) -> None:
    """Injected fault: one bit of what this member gets of each `all_reduce` is flipped."""
    sound = distributed.all_reduce

    def all_reduce(tensor: torch.Tensor, *args: Any, **options: Any) -> Any:
        result = sound(tensor, *args, **options)
        flip_bit(tensor, fault.number("element"), fault.number("bit"))
        return result

    setattr(distributed, "all_reduce", all_reduce)  # noqa: B010


def _join(
    host: str, port: int, index: int, members: int, timeout_s: float, device: torch.device
) -> PrefixStore:
    """Make the process group, by the store that the ranks have met in."""
    limit = timedelta(seconds=timeout_s)
    if device.type != "cpu":
        torch.accelerator.set_device_index(device)
    store = PrefixStore("xorbench/collective", TCPStore(host, port, is_master=False, timeout=limit))
    distributed.init_process_group(
        BACKENDS.get(device.type, "gloo"),
        store=store,
        rank=index,
        world_size=members,
        timeout=limit,
    )
    return store


def _leave(store: PrefixStore, index: int, members: int) -> None:
    """Wait until every replica has trained: who leaves earlier closes connections that others need.

    The group itself ends with the process, which is ended after its answer.
    """
    store.set(f"trained/{index}", "yes")
    store.wait([f"trained/{member}" for member in range(members)])


OPERATIONS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "configure": configure,
    "replicate": replicate,
}
