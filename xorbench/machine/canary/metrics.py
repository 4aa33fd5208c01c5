"""The canary's verdicts as metrics for node_exporter's textfile collector."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from xorbench.errors import BadOption, why
from xorbench.machine.canary.verdicts import BurnedUnit, CanaryOutcome, rate
from xorbench.verdicts import Outcome, Verdict

VALUES: Final[dict[Outcome, int]] = {"pass": 1, "fail": 0, "inconclusive": -1}
UNITS: Final = {
    "FLOP": ("xorbench_burn_in_flops", "Floating-point operations per second, with verification"),
    "B": ("xorbench_burn_in_bytes_per_second", "Bytes read and written per second"),
}


def write(path: Path, outcome: CanaryOutcome) -> None:
    """Write the file atomically. Raises `BadOption` if it cannot be written."""
    registry = CollectorRegistry()
    code = Gauge("xorbench_canary_exit_code", "0 pass, 1 fail, 3 inconclusive", registry=registry)
    code.set(outcome.exit_code)
    ended = Gauge("xorbench_canary_timestamp_seconds", "End of the canary", registry=registry)
    ended.set(time.time())
    _checks(registry, outcome.verdicts)
    _burned(registry, outcome.burned)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise BadOption(f"--prometheus: cannot write to {str(path)!r}: {why(error)}") from None


def _checks(registry: CollectorRegistry, verdicts: Sequence[Verdict]) -> None:
    about, labels = "1 passed, 0 failed, -1 inconclusive", ["device", "check"]
    passed = Gauge("xorbench_canary_check", about, labels, registry=registry)
    for verdict in verdicts:
        if verdict.outcome in VALUES and verdict.check != "burn-in":
            passed.labels(verdict.subject, verdict.check).set(VALUES[verdict.outcome])


def _burned(registry: CollectorRegistry, burned: Mapping[str, Sequence[BurnedUnit]]) -> None:
    labels = ["device", "unit"]
    results = Gauge("xorbench_burn_in_results", "Results verified", labels, registry=registry)
    wrong = Gauge("xorbench_burn_in_wrong", "Wrong elements", labels, registry=registry)
    rates = {
        measure: Gauge(name, about, labels, registry=registry)
        for measure, (name, about) in UNITS.items()
    }
    for device, units in burned.items():
        for unit in units:
            results.labels(device, unit.unit).set(unit.results)
            wrong.labels(device, unit.unit).set(unit.mismatches)
            if unit.rates:
                rates[unit.measure].labels(device, unit.unit).set(rate(unit)[1])
