"""Differences between two runs other than times: software, machines, bits and scores."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from xorbench.machine import kernels
from xorbench.records.nested import flat
from xorbench.records.schema.process import ProcessRecord
from xorbench.records.schema.run import Run
from xorbench.state_digest import first_difference
from xorbench.xor.analysis.evidence import Evidence

# Software under the calibration workload: if it differs, the machine no longer cancels.
SOFTWARE: Final = (
    "torch_version", "torch_git_version", "python_version", "threads", "cpu_capability",
)  # fmt: skip
ABSENT: Final = "(absent)"
PASSING: Final = ("load_average_1min", "python_executable")  # may differ between any two runs


class Change(Struct, frozen=True, kw_only=True):
    """A difference other than a time."""

    what: str
    where: str
    a: str
    b: str


def software_changes(a: Run, b: Run) -> list[Change]:
    """Differences of the software under the calibration workload, by common config."""
    return [change for change in _machine_changes(a, b) if change.what in SOFTWARE]


def remaining_changes(a: Run, b: Run) -> list[Change]:
    """All other recorded differences of the machines."""
    hosts = differences("host", flat(a.info.host), flat(b.info.host))
    rest = [change for change in _machine_changes(a, b) if change.what not in SOFTWARE]
    versions = differences(
        "harness",
        {"xorbench_version": a.info.xorbench_version},
        {"xorbench_version": b.info.xorbench_version},
    )
    return [*versions, *hosts, *rest]


def _machine_changes(a: Run, b: Run) -> Iterator[Change]:
    before, after = _machines(a), _machines(b)
    for config in (config for config in before if config in after):
        yield from differences(
            f"processes, {config}", flat(before[config].machine), flat(after[config].machine)
        )


def _machines(run: Run) -> dict[str, ProcessRecord]:
    """The first described process of each config, in the order of the plan."""
    first: dict[str, ProcessRecord] = {}
    for process in run.info.processes:
        if process.machine:
            first.setdefault(process.config.id, process)
    return first


def kernel_hint(changes: Sequence[Change]) -> list[str]:
    """A hint at MKL's kernels if bits and processors differ; empty if either is identical."""
    changed = {change.what for change in changes}
    hint = kernels.hint(changed) if changed & {"bits", "weights_sha256"} else ""
    return [hint] if hint else []


def differences(where: str, a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[Change]:
    """The details that differ, except those that may differ between any two runs.

    An unset variable equals a variable that an older version did not record.
    """
    for key in dict.fromkeys([*a, *b]):
        values = a.get(key, ABSENT), b.get(key, ABSENT)
        unset = key.startswith("environment.") and set(values) == {ABSENT, "None"}
        if values[0] != values[1] and key not in PASSING and not unset:
            yield Change(what=key, where=where, a=values[0], b=values[1])


def answer_changes(a: Evidence, b: Evidence, matched: Sequence[str]) -> Iterator[Change]:
    """Differences of inputs, bits and scores."""
    for name in matched:
        before, after = a.trainings[name][0], b.trainings[name][0]
        if before.inputs_sha256 != after.inputs_sha256:
            yield Change(
                what="inputs", where=name, a=before.inputs_sha256[:16], b=after.inputs_sha256[:16]
            )
        epoch = first_difference(before.epoch_digests, after.epoch_digests)
        if epoch is not None:
            yield Change(
                what="bits",
                where=f"{name}, from epoch {epoch}",
                a=before.epoch_digests[epoch][:16],
                b=after.epoch_digests[epoch][:16],
            )
        scores = [f"{t.test.correct}/{t.test.total}" for t in (before, after)]
        if scores[0] != scores[1]:
            yield Change(what="accuracy", where=name, a=scores[0], b=scores[1])
