"""The collective operations of a process with other ranks: replicas of one training.

PyTorch's `DistributedDataParallel` averages the gradients. Every process generates the same points
in the same order, so that the union of the shares is the batch of a single-process training.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

import numpy as np
import torch
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from xorbench.machine.probes import collective as probe
from xorbench.process.operations import SESSION, Session, configure
from xorbench.xor.matrix.case import Case, case_from
from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.faults import flip_bit, inject
from xorbench.xor.training.problem import Batch
from xorbench.xor.training.training import Training

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

    The first replica then trains the same global batches on its own, and answers the largest
    difference in ulps at the largest weight. `store` is the host and port of the ranks' store.
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
    single = Training(trained_case, size)
    for _ in range(size.epochs):
        single.step()
    return {**answer, "ulps": ulps(training.state(), single.state())}


def replicated(
    case: Case, recipe: Recipe, index: int, members: int, faults: Sequence[FaultSpec] = ()
) -> Training:
    """The training of replica `index` of `members`; requires an initialized process group.

    Raises `ValueError` if the batch cannot be split evenly, since the mean of the shares' means
    would not be the mean of the batch.
    """
    if case.batch_size % members or not case.drop_last:
        raise ValueError(f"{members} replicas cannot share batches of {case.batch_size} evenly")

    def alter(training: Training) -> None:
        training.spec.model = DistributedDataParallel(training.model)
        training.spec.tamper = share(index, members)
        inject(training, faults)

    return Training(case, recipe, alter=alter)


def share(index: int, members: int) -> Callable[[Iterable[Batch]], Iterator[Batch]]:
    """The function that reduces each batch to the rows of this replica."""

    def shared(batches: Iterable[Batch]) -> Iterator[Batch]:
        for points, labels in batches:
            size = len(labels) // members
            rows = slice(index * size, (index + 1) * size)
            yield points[rows], labels[rows]

    return shared


def ulps(state: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> float:
    """The largest difference of two networks' weights, in ulps at the reference's largest one."""
    a, b = (torch.cat([t.reshape(-1) for t in s.values()]).numpy() for s in (state, reference))
    return float(np.max(np.abs(a.astype(float) - b)) / np.spacing(np.max(np.abs(b))))


def _probed(
    device: torch.device, index: int, members: int, injected: Sequence[FaultSpec]
) -> dict[str, Any]:
    """The result of the exact probe of collectives: the number of comparisons and mismatches."""
    for fault in injected:
        if fault.name == "flip-collective":
            _flip_all_reduce(fault)
    result = probe.check(device, index, members)
    wrong = [asdict(fact) for fact in result.wrong]
    return {"checked": result.checked, "wrong": wrong, "unavailable": result.skipped}


def _flip_all_reduce(fault: FaultSpec) -> None:
    """Injected fault: flip one bit of this member's result of each `all_reduce`."""
    original = distributed.all_reduce

    def all_reduce(tensor: torch.Tensor, *args: Any, **options: Any) -> Any:
        result = original(tensor, *args, **options)
        flip_bit(tensor, fault.number("element"), fault.number("bit"))
        return result

    setattr(distributed, "all_reduce", all_reduce)  # noqa: B010


def _join(
    host: str, port: int, index: int, members: int, timeout_s: float, device: torch.device
) -> PrefixStore:
    """Initialize the process group through the store of the ranks."""
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
    """Wait until every replica has trained, since an earlier exit closes shared connections.

    The group ends with the process, which is ended after its answer.
    """
    store.set(f"trained/{index}", "yes")
    store.wait([f"trained/{member}" for member in range(members)])


OPERATIONS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "configure": configure,
    "replicate": replicate,
}
