"""`compare` and `save-baseline`: is B slower than A, or this machine than it was?"""

from pathlib import Path

from xorbench.errors import BadOption
from xorbench.judge import compare as judge
from xorbench.judge import imported
from xorbench.judge.costs import Cost, by_pair
from xorbench.judge.evidence import Evidence
from xorbench.observe import baselines, store
from xorbench.plan.axes import AXES


def compare(
    root: Path, a: str | None, b: str, baseline: str | None, thresholds: tuple[float, float]
) -> judge.Comparison:
    """Judge run B against run A, or against a named baseline; an imported file by raw times."""
    before = baselines.find(root, baseline) if baseline else store.find(root, str(a), "A")
    after = store.find(root, b, "B")
    relative, machine = thresholds
    if "benchmark" in (store.kind_of(before), store.kind_of(after)):
        return imported.compare(
            _measured(before), _measured(after), threshold=relative, limit=machine
        )
    return judge.compare(
        store.load(before), store.load(after), threshold=relative, machine_threshold=machine
    )


def _measured(folder: Path) -> imported.Measured:
    if store.kind_of(folder) == "benchmark":
        return imported.of_import(store.read_import(folder))
    return imported.of_run(store.load(folder))


def exit_code(found: judge.Comparison) -> int:
    """0 passed, 1 slower, 3 inconclusive."""
    return judge.EXIT_CODES[found.outcome]


def by_axis(root: Path, run: str, name: str) -> list[Cost]:
    """The ratios along one axis of one run; raises `BadOption` where it varies none."""
    axis = next(
        (one for one in AXES if name in (one.name, one.name.replace("_", "-"), one.option[2:])),
        None,
    )
    if axis is None:
        known = ", ".join(one.name for one in AXES)
        raise BadOption(f"--by: unknown setting {name!r}", f"one of {known}")
    folder = store.find(root, run)
    costs = by_pair(Evidence(store.load(folder)), axis)
    if not costs:
        raise BadOption(
            f"--by: no two finished cases of {folder.name} differ in {axis.name} alone",
            f"run with several {axis.option}",
        )
    return costs


def save_baseline(root: Path, name: str, run: str, *, replace: bool) -> Path:
    """Keep a copy of the run as a named baseline."""
    return baselines.save(root, name, store.find(root, run), replace=replace)
