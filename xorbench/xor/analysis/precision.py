"""Whether the intervals of a run are as narrow as `--precision` asks."""

from xorbench.records.schema.run import Run
from xorbench.stats.intervals import pooled
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import by_variant, log_epoch


def widest(evidence: Evidence) -> float | None:
    """How far the widest interval of a case's samples/s lies from its figure, as a share of it.

    None where no case has an interval.
    """
    speeds = pooled(by_variant(evidence, log_epoch)).values()
    reached = [speed.high / speed.value - 1 for speed in speeds if speed.high is not None]
    return max(reached, default=None)


def too_wide(run: Run) -> str:
    """The widest interval beside the one asked for, where another process may narrow it.

    Empty where it is narrow enough, where no more processes may be added, and where a training was
    lost: the others would not be compared with it.
    """
    info = run.info
    if info.precision is None or info.processes_per_config >= info.most_processes:
        return ""
    share = widest(Evidence(run))
    if run.failures or share is None or share <= info.precision:
        return ""
    return f"the widest interval is ±{percent(share)}, not --precision {percent(info.precision)}"


def reached(evidence: Evidence) -> str:
    """What became of `--precision`, in words; empty where it was not asked for."""
    info = evidence.run.info
    if info.precision is None or (share := widest(evidence)) is None:
        return ""
    requested = f"--precision {percent(info.precision)}"
    if share <= info.precision:
        return f"within {requested}; a run that ends when they are narrow has them cover 90 to 94%"
    return f"±{percent(share)}, not {requested}, in {info.processes_per_config} processes"


def percent(share: float) -> str:
    """Two digits are enough: 2%, 0.35%."""
    return f"{100 * share:.2g}%"
