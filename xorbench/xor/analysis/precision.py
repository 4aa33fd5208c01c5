"""Whether the intervals of a run reach `--precision`."""

from xorbench.records.schema.run import Run
from xorbench.stats.intervals import pooled
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import by_variant, log_epoch


def widest(evidence: Evidence) -> float | None:
    """The reach of the widest interval of samples/s, relative to its figure.

    None if no case has an interval.
    """
    speeds = pooled(by_variant(evidence, log_epoch)).values()
    reached = [speed.high / speed.value - 1 for speed in speeds if speed.high is not None]
    return max(reached, default=None)


def too_wide(run: Run) -> str:
    """The widest interval and the requested one, if another process may narrow it.

    Empty if it is narrow enough, if no process may be added, or if a training failed, because its
    case could not be compared.
    """
    info = run.info
    if info.precision is None or info.processes_per_config >= info.most_processes:
        return ""
    share = widest(Evidence(run))
    if run.failures or share is None or share <= info.precision:
        return ""
    return f"the widest interval is ±{percent(share)}, not --precision {percent(info.precision)}"


def reached(evidence: Evidence) -> str:
    """The result of `--precision` as text; empty if it was not requested."""
    info = evidence.run.info
    if info.precision is None or (share := widest(evidence)) is None:
        return ""
    requested = f"--precision {percent(info.precision)}"
    if share <= info.precision:
        return f"within {requested}; optional stopping reduces their coverage to 90 to 94%"
    return f"±{percent(share)}, not {requested}, in {info.processes_per_config} processes"


def percent(share: float) -> str:
    """The share in per cent with two digits: 2%, 0.35%."""
    return f"{100 * share:.2g}%"
