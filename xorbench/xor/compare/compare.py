"""`compare` and `baseline save`: is B slower than A, or this machine than it was?"""

import contextlib
from collections.abc import Callable
from pathlib import Path

from xorbench.errors import BadFile, BadOption
from xorbench.machine import host
from xorbench.records import baselines, folders, loading
from xorbench.records.pytest_benchmark import ImportInfo
from xorbench.records.saved import load_variances, machine_key
from xorbench.records.schema.run import Run, RunInfo
from xorbench.verdicts import OUTCOME_CODES, Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import PACKAGED, RunVariance
from xorbench.xor.compare import comparison as judge
from xorbench.xor.compare import imported
from xorbench.xor.compare.baseline import WithBaseline
from xorbench.xor.compare.by_axis import AxisComparison, by_verdicts, planned_pairs
from xorbench.xor.compare.by_axis import by_axis as judged_by
from xorbench.xor.matrix.axes import AXES, Axis
from xorbench.xor.matrix.recipe import Recipe

Observed = Run | ImportInfo


def compare(
    root: Path, a: str | None, b: str, baseline: str | None, thresholds: tuple[float, float]
) -> judge.Comparison:
    """Judge run B against run A, or against a named baseline; an imported file by raw times.

    Raises `BadOption` where both are one run: a run says nothing about itself.
    """
    folder = baselines.find(root, baseline) if baseline else folders.find(root, str(a), "A", "run")
    before, after = _loaded(folder), _loaded(folders.find(root, b, "B", "run"))
    _refuse_the_same(before, after)
    relative, machine = thresholds
    if isinstance(before, Run) and isinstance(after, Run):
        scatter = variance_of(root, before, after)
        return judge.compare(
            before, after, threshold=relative, machine_threshold=machine, scatter=scatter
        )
    return imported.compare(_measured(before), _measured(after), threshold=relative, limit=machine)


def variance_of(root: Path, *runs: Run) -> RunVariance:
    """What `calibrate` has saved of this machine, if all the runs were made on it; else PACKAGED.

    Raises `BadFile` for a damaged file.
    """
    return local_variance(root)(*runs)


def local_variance(root: Path) -> Callable[..., RunVariance]:
    """The same for many runs, of which each call names some; the file is read once."""
    local = host.describe(anonymous=False)
    saved = load_variances(root).machines.get(machine_key(local, local["hostname"]))

    def scatter(*runs: Run) -> RunVariance:
        if saved is None or not all(baselines.is_same_machine(r.info.host, local) for r in runs):
            return PACKAGED
        if any(run.info.calibration_version != saved.calibration_version for run in runs):
            return PACKAGED
        return RunVariance.of_runs(
            saved.between_runs, saved.residual_drift, saved.runs, saved.saved[:10]
        )

    return scatter


def with_baseline(folder: Path, run: Run) -> WithBaseline | None:
    """The run of a folder compared with a baseline beside it, by the usual thresholds.

    That is the one that the run asks for, or else the newest of its machine and recipe that has a
    case of it; None where there is none, and for a run that is not finished or was put under
    stress. Raises `BadOption` or `BadFile` where the one that it asks for is not there.
    """
    root, baseline = folder.parent.parent, run.info.baseline
    if not run.info.finished or run.info.stress:
        return None
    if baseline is not None:
        return _with(root, baselines.find(root, baseline), run)
    for path, info in baselines.machine_baselines(root, run.info):
        with contextlib.suppress(BadFile):
            result = _with(root, path, run, info)
            if result.comparison.variants:
                return result
    return None


def _with(root: Path, path: Path, run: Run, info: RunInfo | None = None) -> WithBaseline:
    before = loading.load(path, info)
    return WithBaseline(
        path.name,
        before.info.started,
        judge.compare(before, run, scatter=variance_of(root, before, run)),
        baselines.is_same_machine(before.info.host, run.info.host),
        is_requested=run.info.baseline is not None,
    )


def require_baseline(root: Path, name: str, recipe: Recipe) -> None:
    """Raise `BadOption` for a baseline that is not there, or that has another recipe."""
    info = loading.read_info(baselines.find(root, name))
    if info.recipe_sha256 != recipe.sha256():
        why = judge.nothing_by_recipes(info.recipe, recipe)
        raise BadOption(f"--baseline: {why}", f"A is {name}: give this run its recipe")


def _loaded(folder: Path) -> Observed:
    info = loading.read_any(folder)
    return info if isinstance(info, ImportInfo) else loading.load(folder, info)


def _measured(source: Observed) -> imported.Measured:
    return imported.from_run(source) if isinstance(source, Run) else imported.from_import(source)


def _refuse_the_same(a: Observed, b: Observed) -> None:
    """Raise `BadOption` for one run twice: a copy, a baseline or an export of it, one file."""
    hint = "run again, and compare the new run: python -m xorbench run"
    common = [run_id for run_id in _ids(a) if run_id in _ids(b)]
    if common:
        raise BadOption(f"compare: A and B are the same run {common[0]}", hint)
    if isinstance(a, ImportInfo) and isinstance(b, ImportInfo) and a.imported == b.imported:
        raise BadOption(f"compare: A and B are the same file, imported as {a.id} and {b.id}", hint)


def _ids(source: Observed) -> list[str]:
    """The id, and of an export that was imported the id of the run that it is of."""
    if isinstance(source, Run):
        return [source.info.id]
    origin = source.imported.xorbench
    return [source.id, *([origin.run] if origin else [])]


def exit_code(result: judge.Comparison | AxisComparison) -> int:
    """0 passed, 1 slower or bits that are not as they must be, 3 inconclusive."""
    return OUTCOME_CODES[result.outcome]


def verdicts(result: judge.Comparison | AxisComparison) -> list[Verdict]:
    """The verdict of each case."""
    return by_verdicts(result) if isinstance(result, AxisComparison) else judge.verdicts(result)


def by_axis(root: Path, run: str, name: str, threshold: float) -> AxisComparison:
    """Judge one run along one axis; raises `BadOption` where it varies none."""
    axis = _axis(name)
    folder = folders.find(root, run, kind="run")
    observed = loading.load(folder)
    if not planned_pairs(Evidence(observed), axis):
        raise BadOption(
            f"--by: no two cases of {folder.name} differ in {axis.name} alone",
            f"run with several {axis.option}",
        )
    return judged_by(observed, axis, threshold=threshold)


def _axis(name: str) -> Axis:
    for axis in AXES:
        if name in (axis.name, axis.name.replace("_", "-"), axis.option[2:]):
            return axis
    known = ", ".join(axis.name for axis in AXES)
    raise BadOption(f"--by: unknown setting {name!r}", f"one of {known}")


def save_baseline(root: Path, name: str, run: str, *, replace: bool) -> Path:
    """Keep a copy of the run as a named baseline."""
    return baselines.save(root, name, folders.find(root, run, kind="run"), replace=replace)
