"""`selftest`: inject every fault, and require that the check meant for it catches it."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final

from xorbench.commands import canary
from xorbench.commands.interrupt import terminable
from xorbench.commands.run import RunRequest, trained
from xorbench.errors import INTERRUPTED
from xorbench.judge.checks import judge
from xorbench.judge.compare import compare
from xorbench.judge.cost_model import has_accelerator
from xorbench.judge.evidence import Evidence
from xorbench.judge.verdicts import Verdict
from xorbench.observe.records.run import Run
from xorbench.plan.faults import FAULTS
from xorbench.plan.recipe import Recipe

MOMENT: Final = "epoch=1,step=2,element=1"
MORE: Final = {"grow": ",mib=150", "repeat-batch": ""}
BITS: Final = {"stuck": 30}
# Each in a seed of its own that has every loader setting: the setting whose edges alone must break.
ON_EDGES: Final = {
    "pin-draws": "pin_memory",
    "drop-ignored": "drop_last",
    "worker-noise": "num_workers",
}
DEATHS: Final = ("crash", "hang")
# Each in a seed of its own, and then each in every process alike: no comparison can see them.
CLOCKS: Final = {
    "slow-clock": "percent=900",
    "stopped-clock": "epoch=1",
    "backward-clock": "epoch=1",
}
ALIKE: Final = ("scaled-tanh", "other-order")
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
    """Every other fault of a training: each in its own seed, in the second of two processes."""
    apart = {*ON_EDGES, *DEATHS, *CLOCKS, *SPEED, *RACES, *PINNED}
    return [name for name, one in FAULTS.items() if one.kind == "training" and name not in apart]


@dataclass(frozen=True, slots=True)
class Caught:
    """One fault, the check that should catch it, and what that check said; empty if nothing."""

    fault: str
    check: str
    said: str


@dataclass(frozen=True, slots=True)
class SelftestOutcome:
    """Every fault with what caught it, and the checks that failed where nothing was injected."""

    caught: list[Caught]
    alarms: list[str]

    @property
    def passed(self) -> bool:
        """Whether every fault was caught, and no check cried wolf."""
        return all(one.said for one in self.caught) and not self.alarms


def selftest(note: Callable[[str], None]) -> SelftestOutcome:
    """Train clean and faulty runs in a temporary folder, and judge them; `note` hears of each."""
    with terminable(), tempfile.TemporaryDirectory() as folder:
        caught: list[Caught] = []
        note("a clean run")
        clean = _trained(Path(folder), Recipe(), quick=True)
        alarms = [_said(v) for v in judge(Evidence(clean)) if v.outcome == "fail"]
        groups = GROUPS | (
            {"a fault of pinned memory": _unpinned} if has_accelerator(clean) else {}
        )
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
    verdicts = _judged(folder, Recipe(epochs=3), injections, seeds=tuple(faults))
    for seed, name in faults.items():
        yield _caught(name, verdicts, f"-s{seed}", f"seed {seed}", "process p1")


def _on_edges(folder: Path) -> Iterator[Caught]:
    """Each must break the edges of its setting in its seed, and no other; and those in process."""
    injections = [f"{name}:cases=*-s{seed}" for seed, name in enumerate(ON_EDGES)]
    verdicts = _judged(
        folder,
        Recipe(epochs=2),
        [*injections, *IN_PROCESS],
        processes_per_config=1,
        pins=(False, True),
        drops=(True, False),
        loader_workers=(0, 1),
        seeds=tuple(range(len(ON_EDGES))),
    )
    for seed, (name, setting) in enumerate(ON_EDGES.items()):
        broken = [
            v
            for v in verdicts
            if v.check == "invariance" and v.outcome == "fail" and v.subject.endswith(f"-s{seed}")
        ]
        only = {v.subject.split()[0] for v in broken} == {setting}
        yield Caught(name, f"invariance: {setting}", _said(broken[0]) if only else "")
    for name in IN_PROCESS:
        yield _caught(name, verdicts)


def _deaths(folder: Path) -> Iterator[Caught]:
    injections = [f"{name}:epoch=1,cases=*-s{seed}" for seed, name in enumerate(DEATHS)]
    verdicts = _judged(
        folder,
        Recipe(epochs=2),
        injections,
        processes_per_config=1,
        timeout_s=3.0,
        seeds=tuple(range(len(DEATHS))),
    )
    for seed, name in enumerate(DEATHS):
        yield _caught(name, verdicts, f"-s{seed}")


def _clocks(folder: Path) -> Iterator[Caught]:
    injections = [
        f"{name}:{how},cases=*-s{seed}" for seed, (name, how) in enumerate(CLOCKS.items())
    ]
    seeds = tuple(range(len(CLOCKS)))
    recipe = Recipe(epochs=20)
    verdicts = _judged(folder, recipe, injections, processes_per_config=1, seeds=seeds)
    for seed, name in enumerate(CLOCKS):
        yield _caught(name, verdicts, f"-s{seed}")


def _alike(folder: Path) -> Iterator[Caught]:
    for name in ALIKE:
        yield _caught(name, _judged(folder, Recipe(epochs=2), [name]))


def _slower(folder: Path) -> Iterator[Caught]:
    trained = partial(_trained, folder, Recipe(epochs=20), drops=(True, False), seeds=(0, 1))
    before = trained()
    compared = compare(before, trained([f"{name}:{how}" for name, how in SPEED.items()]))
    slower = [one for one in compared.variants if one.verdict == "slower"]
    for name in ("delay", "slow-loader", "slow-optimizer"):
        pattern = SPEED[name].partition("cases=")[2]
        own = [f"{x.subject} {x.ratio:.2f}×" for x in slower if fnmatchcase(x.subject, pattern)]
        yield Caught(name, "compare", own[0] if own else "")
    machine = [f"{x.subject} {x.ratio:.2f}×" for x in compared.machine if x.verdict == "slower"]
    yield Caught("slow", "compare: machine", machine[0] if machine else "")


def _unpinned(folder: Path) -> Iterator[Caught]:
    verdicts = _judged(folder, Recipe(epochs=2), PINNED, pins=(True,), phases=True)
    for name in PINNED:
        yield _caught(name, verdicts)


def _burned(_folder: Path) -> Iterator[Caught]:
    burned = [f"{name}:epoch=0,{how}" for name, how in BURNED.items()]
    found = _examined(*burned, probes=("training", "memory"), burn_in_s=0.1, memory=2**20)
    yield _caught("flip-model", [v for v in found if "training" in v.subject])
    yield _caught("flip-memory", [v for v in found if "memory" in v.subject])
    for name, how in PRODUCTS.items():
        yield _caught(name, _examined(f"{name}:{how}", probes=("matmul",)))


def _examined(*faults: str, **options: Any) -> list[Verdict]:
    """What the canary finds on the CPU."""
    request = canary.CanaryRequest(devices=("cpu",), faults=faults, **options)
    outcome = canary.canary(request, lambda _text: None)
    if outcome.exit_code == INTERRUPTED:
        raise KeyboardInterrupt
    return outcome.verdicts


def _raced(folder: Path) -> Iterator[Caught]:
    for name in RACES:
        yield _caught(name, _judged(folder, Recipe(epochs=3), [name], stress="cpu"))


GROUPS: Final[dict[str, Callable[[Path], Iterator[Caught]]]] = {
    "faults of one training": _in_seeds,
    "faults of a setting, and of arithmetic": _on_edges,
    "faults that end a process": _deaths,
    "faults of clocks": _clocks,
    "faults that are the same in every process": _alike,
    "faults of speed": _slower,
    "a fault in a burn-in": _burned,
    "a race, under stress": _raced,
}


def _judged(*arguments: Any, **options: Any) -> list[Verdict]:
    """What the checks say of what `_trained` trains."""
    return judge(Evidence(_trained(*arguments, **options)))


def _trained(
    folder: Path,
    recipe: Recipe,
    faults: Sequence[str] = (),
    *,
    quick: bool = False,
    processes_per_config: int = 2,
    timeout_s: float = 120.0,
    seeds: tuple[int, ...] = (0,),
    pins: tuple[bool, ...] = (False,),
    drops: tuple[bool, ...] = (True,),
    loader_workers: tuple[int, ...] = (0,),
    stress: str | None = None,
    phases: bool = False,
) -> Run:
    """A run of these cases on the CPU, in fresh processes, read back from its files."""
    axes = {
        "device": ("cpu",),
        "batch_size": (128,),
        "pin_memory": pins,
        "drop_last": (True, False) if quick else drops,
        "num_workers": loader_workers,
        "seed": seeds,
    }
    request = RunRequest(
        recipe=recipe,
        axes=axes,
        command="selftest",
        root=folder,
        processes_per_config=processes_per_config,
        warmup_epochs=2 if quick else 0,
        timeout_s=timeout_s,
        faults=tuple(faults),
        stress=stress,
        phases=phases,
    )
    run = trained(request)
    if run is None:
        raise KeyboardInterrupt
    return run


def _caught(fault: str, verdicts: Sequence[Verdict], *ends: str) -> Caught:
    """What its check said of a subject with one of these ends, or of any where none is given."""
    check = FAULTS[fault].caught_by
    failed = [v for v in verdicts if (v.check, v.outcome) == (check, "fail")]
    failed = [v for v in failed if not ends or v.subject.endswith(ends)]
    return Caught(fault, check, _said(failed[0]) if failed else "")


def _said(verdict: Verdict) -> str:
    return f"{verdict.subject}: {verdict.actual}"
