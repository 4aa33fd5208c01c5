"""Settings of the DataLoader: their effect in the real DataLoader and on the bits."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, get_worker_info

from xorbench.records.schema.run import Run
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import judge
from xorbench.xor.matrix.axes import CASE_AXES, idle_note
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.matrix.support import float64_refusal, unsupported_reason
from xorbench.xor.training.engines.loaders import make_loader, start_method
from xorbench.xor.training.training import Training

SMALL = Recipe(train_size=256, test_size=20, epochs=2)
BASE = Case(batch_size=64, num_workers=1)
WAIT_S = 0.5
OF_LOADERS = {"prefetch_factor": 4, "multiprocessing_context": "spawn", "in_order": False}


class Starts(Dataset[Any]):
    """Each sample encodes the class of the process that fetched it."""

    def __len__(self) -> int:
        return SMALL.train_size

    def __getitem__(self, _index: int) -> int:
        return len(type(multiprocessing.current_process()).__name__)


class Fetchers(Dataset[Any]):
    """Each sample is the number of the loader worker that fetched it; the first is late."""

    def __init__(self) -> None:
        self.second_done = multiprocessing.get_context("fork").Event()

    def __len__(self) -> int:
        return SMALL.train_size

    def __getitem__(self, _index: int) -> Tensor:
        info = get_worker_info()
        assert info is not None
        if info.id == 0:
            self.second_done.wait(WAIT_S)
        return torch.tensor(info.id)


def batches(case: Case, data: Dataset[Any]) -> Iterator[Any]:
    """The batches of the engine's DataLoader for these data."""
    return iter(make_loader(replace(Training(BASE, SMALL).spec, case=case), data))


def digests(case: Case) -> list[str]:
    """The epoch digests of a new training."""
    training = Training(case, SMALL)
    return [training.step().digest for _ in range(SMALL.epochs)]


@pytest.mark.parametrize(("factor", "ahead"), [(None, 2), (1, 1), (3, 3)])
def test_a_loader_worker_prefetches_the_given_number_of_batches(
    factor: int | None, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler advances accordingly after the first batch; PyTorch's default is two."""
    drawn = 0
    draw = BatchSampler.__iter__

    def counted(sampler: BatchSampler) -> Iterator[list[int]]:
        nonlocal drawn
        for batch in draw(sampler):
            drawn += 1
            yield batch

    monkeypatch.setattr(BatchSampler, "__iter__", counted)
    next(batches(replace(BASE, prefetch_factor=factor), Training(BASE, SMALL).spec.data))
    assert drawn == 1 + ahead


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers_have_the_given_start_method(method: str) -> None:
    """They are processes of that class."""
    first = next(batches(replace(BASE, multiprocessing_context=method), Starts()))
    assert set(first.tolist()) == {len({"fork": "ForkProcess", "spawn": "SpawnProcess"}[method])}


@pytest.mark.parametrize(("in_order", "first"), [(True, 0), (False, 1)])
def test_a_late_loader_worker_is_waited_for_only_in_order(in_order: bool, first: int) -> None:
    """Without `in_order`, the batch of the second worker is first."""
    data = Fetchers()
    result = batches(replace(BASE, num_workers=2, in_order=in_order), data)
    assert set(next(result).tolist()) == {first}
    data.second_done.set()


@pytest.mark.parametrize("setting", OF_LOADERS)
def test_settings_keep_the_bits_with_one_loader_worker(setting: str) -> None:
    """They keep the order."""
    assert digests(replace(BASE, **{setting: OF_LOADERS[setting]})) == digests(Case(batch_size=64))


@pytest.mark.parametrize(("setting", "value"), OF_LOADERS.items())
def test_without_loader_workers_a_setting_has_no_effect(setting: str, value: object) -> None:
    """The case is trained with a note, and the result is bitwise identical."""
    case = replace(Case(batch_size=64), **{setting: value})
    assert idle_note(case, False).startswith("no effect here: ")
    assert idle_note(replace(case, num_workers=2), False) == ""
    assert digests(case) == digests(Case(batch_size=64))
    assert start_method(case) is None


@pytest.mark.parametrize(("setting", "value"), OF_LOADERS.items())
def test_engines_without_a_loader_refuse_the_setting(setting: str, value: object) -> None:
    """The loader engines support it."""
    case = replace(Case(num_workers=2), **{setting: value})
    assert unsupported_reason(case, Recipe()) == ""
    refused = unsupported_reason(replace(case, engine="tensor", num_workers=0), Recipe())
    assert refused.startswith("the tensor engine ")


def test_the_float64_reference_needs_batches_in_order() -> None:
    """Batches in any order cannot be recomputed; the other settings are supported."""
    reason = "no float64 reference: it uses batches in the sampler's order, not in_order false"
    assert float64_refusal(Case(num_workers=2, in_order=False)) == reason
    assert float64_refusal(Case(num_workers=2, prefetch_factor=4)) == ""


def test_the_settings_do_not_change_existing_ids() -> None:
    """With defaults they are neither in the id nor in the key of the float64 reference."""
    assert Case(num_workers=2).id == "cpu-loader-b128-pin0-drop1-w2-s0"
    rows = [axis for axis in CASE_AXES if axis.name in OF_LOADERS]
    assert [axis.default for axis in rows] == [(None,), ("auto",), (True,)]
    assert not any(axis.changes_float64 for axis in rows)


@pytest.mark.parametrize(("loader_workers", "outcome"), [(2, "skipped"), (1, "fail")])
def test_different_bits_in_any_order_pass(
    quick_run: Run, loader_workers: int, outcome: str
) -> None:
    """Two processes may differ only if batches may have any order."""
    case = Case(num_workers=loader_workers, in_order=False)
    first, second = (t for t in quick_run.trainings if t.case == quick_run.trainings[0].case)
    changed = msgspec.structs.replace(second, epoch_digests=["0" * 64, *second.epoch_digests[1:]])
    trainings = [msgspec.structs.replace(t, case=case) for t in (first, changed)]
    info = msgspec.structs.replace(quick_run.info, cases=[case])
    run = msgspec.structs.replace(
        quick_run, info=info, trainings=trainings, phases=[], epochs_by_training={}
    )
    rerun, *_ = (verdict for verdict in judge(Evidence(run)) if verdict.check == "rerun")
    assert rerun.outcome == outcome
