"""Read run folders into the records that are judged; an unreadable folder is reported."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from xorbench.errors import BadFile, BadOption
from xorbench.fleet.records import Bad, Node, NodeTraining, Sensors, Series, Wrong, name
from xorbench.recorder.environment import KERNEL_VARIABLES
from xorbench.records import files, loading
from xorbench.records.schema.golden import Fact
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import TrainingRecord
from xorbench.state_digest import DIGITS, first_difference
from xorbench.stats.intervals import spread
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import log_relative
from xorbench.xor.matrix.case import with_index
from xorbench.xor.matrix.engines import training_kind

RANK_FILE: Final = "rank.json"
LARGEST_FILE: Final = 1 << 28  # maximum bytes of one file of a run folder
LARGEST_RECORDS: Final = 4 << 20  # maximum bytes of all records of one rank
DEEPEST: Final = 6  # levels below a given folder that are searched for runs
# Parts of the environment that change the PyTorch training's result, apart from the device model.
KEY: Final = (
    "torch_version",
    "torch_git_version",
    "cuda_compiled_version",
    "hip_compiled_version",
    "machine",
    "cpu_capability",
    "mkl",
    "mkldnn",
    "deterministic",
    "float32_matmul_precision",
    "cudnn_version",
    "tf32_matmul",
    "tf32_cudnn",
)


class RankInfo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rank.json`, next to the `runs` of a rank: its position in the fleet."""

    rank: int
    world: int
    node: str
    sensors: Sensors | None = None
    stopped: str = ""


def run_folders(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The runs in and below the folders, and the unreadable folders.

    Raises `BadOption` for a folder without a run.
    """
    runs: dict[Path, None] = {}
    unreadable: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise BadOption(f"--merge: no folder {str(folder)!r}")
        below = sorted(path.resolve() for path in _walk(folder, DEEPEST, unreadable))
        if not below:
            raise BadOption(f"--merge: no run in {folder}", "a run is a folder with a run.json")
        runs.update(dict.fromkeys(below))
    return list(runs), unreadable


def _walk(folder: Path, levels: int, unreadable: list[str]) -> Iterator[Path]:
    """Yield every run in and below a folder; add unreadable folders to `unreadable`."""
    try:
        if (folder / "run.json").is_file():
            yield folder
            return
        below = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        unreadable.append(str(folder))
        return
    if levels:
        for inner in sorted(below):
            yield from _walk(Path(inner), levels - 1, unreadable)


def read(folder: Path) -> list[Node] | Bad:
    """The records of a run folder, one per device, or the reason why it is invalid."""
    try:
        _require_small(folder)
        return nodes_of(loading.load(folder), rank_info(folder))
    except (BadFile, msgspec.ValidationError) as error:
        owner = None
        with suppress(BadFile):
            owner = rank_info(folder)
        return Bad(
            sender=folder.name[:500],
            rank=owner.rank if owner else None,
            node=name(owner.node) if owner else "",
            reason=str(error)[:500],
        )


def _require_small(folder: Path) -> None:
    for path in folder.glob("*.json*"):
        if path.stat().st_size > LARGEST_FILE:
            raise BadFile(f"{path}: {path.stat().st_size:,} bytes are more than {LARGEST_FILE:,}")


def rank_info(folder: Path) -> RankInfo | None:
    """The rank of the run in its fleet; None for a run outside a fleet."""
    path = folder.parent.parent / RANK_FILE
    if not path.is_file():
        return None
    return files.decoded(files.read_bytes(path), RankInfo, path)


def nodes_of(run: Run, owner: RankInfo | None = None) -> list[Node]:
    """One record per device. Raises `ValidationError` for values outside the schema."""
    devices = dict.fromkeys(case.device for case in run.info.cases)
    skipped = {skip.case.device for skip in run.skips}
    evidence = Evidence(run)
    return [_node(evidence, owner, device) for device in devices if device not in skipped]


def _node(evidence: Evidence, owner: RankInfo | None, device: str) -> Node:
    run = evidence.run
    machine = run.machine
    model = _model(run.info.host, machine, device)
    golden = [w.golden[device] for w in run.info.processes if device in w.golden]
    node = {
        "rank": owner.rank if owner else None,
        "world": owner.world if owner else None,
        "node": name(owner.node if owner else run.info.host.get("hostname", run.info.id)),
        "device": name(device),
        "model": model,
        "run": name(run.info.id),
        "key": environment_key(machine, model),
        "checked": {
            "arithmetic": sum(len(g.arithmetic) for g in golden),
            "universal": sum(len(g.universal) for g in golden),
            "probes": sum(probe.checked for g in golden for probe in g.probes),
        },
        "arithmetic": _wrong([value for g in golden for value in g.arithmetic]),
        "universal": _wrong([value for g in golden for value in g.universal]),
        "probes": _wrong([value for g in golden for probe in g.probes for value in probe.wrong]),
        "trainings": list(_trainings(evidence, device)),
        "calibration": _calibration(run, device),
        "calibration_version": run.info.calibration_version,
        "failed": _failed(run, device),
        "stopped": owner.stopped if owner else "",
        "sensors": owner.sensors if owner else None,
    }
    return msgspec.convert(msgspec.to_builtins(node), Node)


def _model(host: dict[str, Any], machine: dict[str, Any], device: str) -> str:
    """The name of the processor or accelerator."""
    if device == "cpu":
        return str(host.get("cpu", "?"))[:500]
    known = {d.get("device"): d for d in machine.get("devices", [])}
    return str(known.get(with_index(device), {}).get("name", device))[:500]


def environment_key(machine: dict[str, Any], model: str) -> dict[str, str]:
    """The properties that two devices must share to have comparable bits."""
    variables = machine.get("environment") or {}
    key = {field: str(machine.get(field))[:500] for field in KEY}
    given = {f: str(variables[f])[:500] for f in KERNEL_VARIABLES if variables.get(f)}
    return {"device": model, **key, **given}


def _wrong(values: Sequence[Fact]) -> list[Wrong]:
    wrong = [value for value in values if value.expected != value.actual][:64]
    return [
        Wrong(what=f.what[:500], expected=f.expected[:500], actual=f.actual[:500]) for f in wrong
    ]


def _trainings(evidence: Evidence, device: str) -> Iterator[NodeTraining]:
    recipe_sha256 = evidence.run.info.recipe_sha256
    for variant in evidence.variants:
        if variant.case.device == device and training_kind(variant.case) == "pytorch":
            name = variant_name(variant.id, device)
            yield _training(name, recipe_sha256, evidence.trainings[variant.id])


def variant_name(variant: str, device: str) -> str:
    """A variant's id without its device: the same for ranks on different accelerators."""
    return variant.replace(device.replace(":", ""), "device", 1)


def _training(
    variant: str, recipe_sha256: str, trainings: Sequence[TrainingRecord]
) -> NodeTraining:
    first = trainings[0]
    diverged = [
        first_difference(first.epoch_digests, again.epoch_digests) for again in trainings[1:]
    ]
    relative = log_relative(first)
    return NodeTraining(
        variant=variant,
        recipe_sha256=recipe_sha256,
        inputs_sha256=first.inputs_sha256,
        weights_sha256=first.weights_sha256,
        epoch_digests="".join(digest[:DIGITS] for digest in first.epoch_digests[:20_000]),
        correct=min(training.test.correct for training in trainings),
        total=first.test.total,
        epoch=_series([s for training in trainings for s in training.epoch_s]),
        relative=None if relative is None else math.exp(relative),
        processes=len(trainings),
        diverged=min((epoch for epoch in diverged if epoch is not None), default=None),
    )


def _series(seconds: Sequence[float]) -> Series:
    times = spread(seconds)
    return Series(median_s=times.median, q1_s=times.q1, q3_s=times.q3, rounds=times.rounds)


def _calibration(run: Run, device: str) -> Series | None:
    """The raw calibration times of all rounds, one per round and process."""
    rounds: dict[tuple[str, int], float] = {
        (training.process, epoch): seconds
        for training in run.trainings
        if training.case.device == device
        for epoch, seconds in enumerate(training.calibration_s)
        if seconds
    }
    return _series(list(rounds.values())) if rounds else None


def _failed(run: Run, device: str) -> list[str]:
    lost = [f"{f.case.id}: {f.failed}" for f in run.failures if f.case.device == device]
    lost += [
        f"{u.case.id}: stopped after epoch {u.epochs} of {run.info.recipe.epochs}"
        for u in run.unfinished
        if u.case.device == device
    ]
    return [text[:500] for text in lost[:64]]


def require_no_faults(folder: Path) -> None:
    """Raise `BadOption` for a run with injected faults."""
    faults = loading.read_info(folder).faults
    if faults:
        raise BadOption(f"RUN: {folder.name} has injected faults: {', '.join(faults)}")
