"""`selftest`: inject every fault, and require that its check catches it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from xorbench.errors import INTERRUPTED
from xorbench.machine.canary import canary
from xorbench.records.schema.run import Run
from xorbench.runtime.interrupt import terminable
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.cost_model import has_accelerator
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import judge
from xorbench.xor.compare.comparison import compare
from xorbench.xor.matrix.faults import FAULTS
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.report.selftest import Caught, SelftestOutcome
from xorbench.xor.run.run import RunRequest, trained

MOMENT: Final = "epoch=1,step=2,element=1"
MORE: Final = {"grow": ",mib=150", "repeat-batch": ""}
BITS: Final = {"stuck": 30}
# Each in its own seed with every loader setting: only the pairs of its setting must break.
ON_EDGES: Final = {
    "pin-draws": "pin_memory",
    "drop-ignored": "drop_last",
    "worker-noise": "num_workers",
}
DEATHS: Final = {"crash": "epoch=1", "hang": "epoch=1"}
CLOCKS: Final = {
    "slow-clock": "percent=900",
    "stopped-clock": "epoch=1",
    "backward-clock": "epoch=1",
}
IDENTICAL: Final = ("scaled-tanh", "other-order")
IN_PROCESS: Final = ("flush-subnormals", "other-tanh")
SPEED: Final = {
    "delay": "percent=300,cases=*-drop0-*-s0",
    "slow-loader": "ms=2,cases=*-drop1-*-s1",
    "slow-optimizer": "ms=2,cases=*-drop0-*-s1",
    "slow": "percent=200",
}
PINNED: Final = ("unpinned",)  # injected where there is an accelerator
BURNED: Final = {"flip-model": "element=3,bit=7", "flip-memory": "element=9,bit=63"}
PRODUCTS: Final = {"flip-product": "step=20,element=5,bit=22", "wrong-product": "element=5,bit=22"}
RACES: Final = ("race",)


def in_seeds() -> list[str]:
    """The remaining faults of a training, each in its own seed, in the second of two processes."""
    apart = {*ON_EDGES, *DEATHS, *CLOCKS, *SPEED, *RACES, *PINNED}
    trainings = [name for name, fault in FAULTS.items() if fault.kind == "training"]
    return [name for name in trainings if name not in apart]


def selftest(note: Callable[[str], None]) -> SelftestOutcome:
    """Train clean and faulty runs in a temporary folder, and judge them; `note` names each."""
    with terminable(), tempfile.TemporaryDirectory() as folder:
        caught: list[Caught] = []
        note("a clean run")
        clean = _trained(Path(folder), 100, drop_last=(True, False), warmup_epochs=2)
        alarms = [_failure_text(v) for v in judge(Evidence(clean)) if v.outcome == "fail"]
        groups = GROUPS | WITH_ACCELERATOR if has_accelerator(clean) else GROUPS
        for title, group in groups.items():
            note(title)
            caught += group(Path(folder))
    return SelftestOutcome(caught, alarms)


def _in_seeds(folder: Path) -> Iterator[Caught]:
    faults = dict(enumerate(in_seeds()))
    injections = [
        f"{name}:{MOMENT},bit={BITS.get(name.split('-')[0], 27)}{MORE.get(name, '')},process=1"
        f",cases=*-s{seed}"
        for seed, name in faults.items()
    ]
    verdicts = _judged(folder, 3, injections, seed=tuple(faults))
    for seed, name in faults.items():
        yield _caught(name, verdicts, f"-s{seed}", f"seed {seed}", "process p1")


def _on_edges(folder: Path) -> Iterator[Caught]:
    """Each fault must break only the pairs of its setting in its seed; also faults in process."""
    injections = [f"{name}:cases=*-s{seed}" for seed, name in enumerate(ON_EDGES)]
    verdicts = _judged(
        folder,
        2,
        [*injections, *IN_PROCESS],
        processes_per_config=1,
        pin_memory=(False, True),
        drop_last=(True, False),
        num_workers=(0, 1),
        seed=tuple(range(len(ON_EDGES))),
    )
    broken = [v for v in verdicts if (v.check, v.outcome) == ("invariance", "fail")]
    for seed, (name, setting) in enumerate(ON_EDGES.items()):
        own = [v for v in broken if v.subject.endswith(f"-s{seed}")]
        only = {v.subject.split()[0] for v in own} == {setting}
        yield Caught(name, f"invariance: {setting}", _failure_text(own[0]) if only else "")
    for name in IN_PROCESS:
        yield _caught(name, verdicts)


def _one_per_seed(
    faults: Mapping[str, str], epochs: int, folder: Path, **options: Any
) -> Iterator[Caught]:
    """Each fault in its own seed, in one process."""
    injections = [
        f"{name}:{how},cases=*-s{seed}" for seed, (name, how) in enumerate(faults.items())
    ]
    seeds = tuple(range(len(faults)))
    verdicts = _judged(folder, epochs, injections, processes_per_config=1, seed=seeds, **options)
    for seed, name in enumerate(faults):
        yield _caught(name, verdicts, f"-s{seed}")


def _one_per_run(
    faults: Sequence[str], epochs: int, folder: Path, **options: Any
) -> Iterator[Caught]:
    """Each fault in every process of its own run, where no comparison can detect it."""
    for name in faults:
        yield _caught(name, _judged(folder, epochs, [name], **options))


def _slower(folder: Path) -> Iterator[Caught]:
    trained = partial(_trained, folder, 20, drop_last=(True, False), seed=(0, 1))
    before = trained()
    compared = compare(before, trained([f"{name}:{how}" for name, how in SPEED.items()]))
    slower = [ratio for ratio in compared.variants if ratio.verdict == "slower"]
    for name in ("delay", "slow-loader", "slow-optimizer"):
        pattern = SPEED[name].partition("cases=")[2]
        own = [f"{x.subject} {x.ratio:.2f}×" for x in slower if fnmatchcase(x.subject, pattern)]
        yield Caught(name, "compare", own[0] if own else "")
    machine = [f"{x.subject} {x.ratio:.2f}×" for x in compared.machine if x.verdict == "slower"]
    yield Caught("slow", "compare: machine", machine[0] if machine else "")


def _burned(_folder: Path) -> Iterator[Caught]:
    faults = [f"{name}:epoch=0,{how}" for name, how in BURNED.items()]
    verdicts = _canary_verdicts(*faults, probes=("training", "memory"), burn_in_s=0.1, memory=2**20)
    yield _caught("flip-model", [v for v in verdicts if "training" in v.subject])
    yield _caught("flip-memory", [v for v in verdicts if "memory" in v.subject])
    for name, how in PRODUCTS.items():
        yield _caught(name, _canary_verdicts(f"{name}:{how}", probes=("matmul",)))


def _canary_verdicts(*faults: str, **options: Any) -> list[Verdict]:
    """The verdicts of a canary on the CPU."""
    request = canary.CanaryRequest(devices=("cpu",), faults=faults, **options)
    outcome = canary.canary(request, lambda _text: None)
    if outcome.exit_code == INTERRUPTED:
        raise KeyboardInterrupt
    return outcome.verdicts


Group: TypeAlias = Callable[[Path], Iterator[Caught]]

GROUPS: Final[dict[str, Group]] = {
    "faults of one training": _in_seeds,
    "faults of a setting, and of arithmetic": _on_edges,
    "faults that end a process": partial(_one_per_seed, DEATHS, 2, timeout_s=3.0),
    "faults of clocks": partial(_one_per_seed, CLOCKS, 20),
    "faults that are identical in every process": partial(_one_per_run, IDENTICAL, 2),
    "faults of speed": _slower,
    "a fault in a burn-in": _burned,
    "a race, under load": partial(_one_per_run, RACES, 3, stress="cpu"),
}
WITH_ACCELERATOR: Final[dict[str, Group]] = {
    "a fault of pinned memory": partial(_one_per_run, PINNED, 2, pin_memory=(True,), phases=True)
}


def _judged(*arguments: Any, **options: Any) -> list[Verdict]:
    """The verdicts on what `_trained` trains."""
    return judge(Evidence(_trained(*arguments, **options)))


def _trained(folder: Path, epochs: int, faults: Sequence[str] = (), **options: Any) -> Run:
    """A run on the CPU, in fresh processes, read back from its files.

    Options are the values of axes, and fields of the request.
    """
    axes: dict[str, tuple[Any, ...]] = {
        "device": ("cpu",),
        "batch_size": (128,),
        "pin_memory": (False,),
        "drop_last": (True,),
        "num_workers": (0,),
        "seed": (0,),
    }
    axes |= {name: options.pop(name) for name in axes.keys() & options}
    recipe, fields = Recipe(epochs=epochs), {"warmup_epochs": 0, **options}
    run = trained(RunRequest(recipe, axes, "selftest", folder, faults=tuple(faults), **fields))
    if run is None:
        raise KeyboardInterrupt
    return run


def _caught(fault: str, verdicts: Sequence[Verdict], *ends: str) -> Caught:
    """The failure of a fault's check, for subjects with one of these ends if any are given."""
    check = FAULTS[fault].caught_by
    failed = [v for v in verdicts if (v.check, v.outcome) == (check, "fail")]
    failed = [v for v in failed if not ends or v.subject.endswith(ends)]
    return Caught(fault, check, _failure_text(failed[0]) if failed else "")


def _failure_text(verdict: Verdict) -> str:
    return f"{verdict.subject}: {verdict.actual}"
