"""`compare` and `baseline save`: is B slower than A, or this machine slower than before?"""

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
    """Judge run B against run A or a named baseline; imported files are judged by raw times.

    Raises `BadOption` if both are the same run.
    """
    folder = baselines.find(root, baseline) if baseline else folders.find(root, str(a), "A", "run")
    before, after = _loaded(folder), _loaded(folders.find(root, b, "B", "run"))
    _refuse_same_run(before, after)
    relative, machine = thresholds
    if isinstance(before, Run) and isinstance(after, Run):
        variance = variance_of(root, before, after)
        return judge.compare(
            before, after, threshold=relative, machine_threshold=machine, variance=variance
        )
    return imported.compare(_measured(before), _measured(after), threshold=relative, limit=machine)


def variance_of(root: Path, *runs: Run) -> RunVariance:
    """The variance that `baseline calibrate` saved for the machine of these runs; else PACKAGED.

    Raises `BadFile` for a damaged file.
    """
    return local_variance(root)(*runs)


def local_variance(root: Path) -> Callable[..., RunVariance]:
    """`variance_of` for repeated calls; the file is read once."""
    local = host.describe(anonymous=False)
    saved = load_variances(root).machines.get(machine_key(local, local["hostname"]))

    def variance(*runs: Run) -> RunVariance:
        if saved is None or not all(baselines.is_same_machine(r.info.host, local) for r in runs):
            return PACKAGED
        if any(run.info.calibration_version != saved.calibration_version for run in runs):
            return PACKAGED
        return RunVariance.of_runs(
            saved.between_runs, saved.residual_drift, saved.runs, saved.saved[:10]
        )

    return variance


def with_baseline(folder: Path, run: Run) -> WithBaseline | None:
    """Compare the run of a folder with a baseline, by the default thresholds.

    The baseline is the one that the run requests, else the newest of its machine and recipe with a
    common case. None without a baseline, and for an unfinished run or a run under load. Raises
    `BadOption` or `BadFile` if the requested baseline is missing.
    """
    root, baseline = folder.parent.parent, run.info.baseline
    if not run.info.finished or run.info.stress:
        return None
    if baseline is not None:
        return _with_folder(root, baselines.find(root, baseline), run)
    for path, info in baselines.machine_baselines(root, run.info):
        with contextlib.suppress(BadFile):
            result = _with_folder(root, path, run, info)
            if result.comparison.variants:
                return result
    return None


def _with_folder(root: Path, path: Path, run: Run, info: RunInfo | None = None) -> WithBaseline:
    before = loading.load(path, info)
    return WithBaseline(
        path.name,
        before.info.started,
        judge.compare(before, run, variance=variance_of(root, before, run)),
        baselines.is_same_machine(before.info.host, run.info.host),
        is_requested=run.info.baseline is not None,
    )


def require_baseline(root: Path, name: str, recipe: Recipe) -> None:
    """Raise `BadOption` for a missing baseline or one with a different recipe."""
    info = loading.read_info(baselines.find(root, name))
    if info.recipe_sha256 != recipe.sha256():
        why = judge.recipes_text(info.recipe, recipe)
        raise BadOption(f"--baseline: {why}", f"A is {name}: use the recipe of the baseline")


def _loaded(folder: Path) -> Observed:
    info = loading.read_any(folder)
    return info if isinstance(info, ImportInfo) else loading.load(folder, info)


def _measured(source: Observed) -> imported.Measured:
    return imported.from_run(source) if isinstance(source, Run) else imported.from_import(source)


def _refuse_same_run(a: Observed, b: Observed) -> None:
    """Raise `BadOption` if both are one run (a copy, baseline or export of it) or one file."""
    hint = "compare with a new run: python -m xorbench run"
    common = [run_id for run_id in _ids(a) if run_id in _ids(b)]
    if common:
        raise BadOption(f"compare: A and B are the same run {common[0]}", hint)
    if isinstance(a, ImportInfo) and isinstance(b, ImportInfo) and a.imported == b.imported:
        raise BadOption(f"compare: A and B are the same file, imported as {a.id} and {b.id}", hint)


def _ids(source: Observed) -> list[str]:
    """The id; for an imported export also the id of the exported run."""
    if isinstance(source, Run):
        return [source.info.id]
    origin = source.imported.xorbench
    return [source.id, *([origin.run] if origin else [])]


def exit_code(result: judge.Comparison | AxisComparison) -> int:
    """0 pass, 1 slower or unexpected bits, 3 inconclusive."""
    return OUTCOME_CODES[result.outcome]


def verdicts(result: judge.Comparison | AxisComparison) -> list[Verdict]:
    """The verdict of each case."""
    return by_verdicts(result) if isinstance(result, AxisComparison) else judge.verdicts(result)


def by_axis(root: Path, run: str, name: str, threshold: float) -> AxisComparison:
    """Judge one run along one axis; raises `BadOption` if the run does not vary it."""
    axis = _axis(name)
    folder = folders.find(root, run, kind="run")
    observed = loading.load(folder)
    if not planned_pairs(Evidence(observed), axis):
        raise BadOption(
            f"--by: no two cases of {folder.name} differ only in {axis.name}",
            f"run with several values of {axis.option}",
        )
    return judged_by(observed, axis, threshold=threshold)


def _axis(name: str) -> Axis:
    for axis in AXES:
        if name in (axis.name, axis.name.replace("_", "-"), axis.option[2:]):
            return axis
    known = ", ".join(axis.name for axis in AXES)
    raise BadOption(f"--by: unknown setting {name!r}", f"one of {known}")


def save_baseline(root: Path, name: str, run: str, *, replace: bool) -> Path:
    """Store a copy of the run as a named baseline."""
    return baselines.save(root, name, folders.find(root, run, kind="run"), replace=replace)
