"""Load, the check of memory, and `selftest`."""

import json
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from conftest import call_in, run_in

from xorbench.records.schema.run import Run
from xorbench.runtime.start import PROCESSES, stressed
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import judge
from xorbench.xor.matrix.faults import FAULTS
from xorbench.xor.report import selftest as report
from xorbench.xor.report.selftest import Caught, SelftestOutcome
from xorbench.xor.selftest import (
    BURNED,
    CLOCKS,
    DEATHS,
    IDENTICAL,
    IN_PROCESS,
    ON_EDGES,
    PINNED,
    PRODUCTS,
    RACES,
    SPEED,
    in_seeds,
)


@pytest.mark.parametrize("kind", ["cpu", "memory"])
def test_stress_keeps_the_machine_busy_and_is_gone_with_the_block(kind: str) -> None:
    """The stated number of processes use the processor, and none is left afterwards."""
    with stressed(kind):
        for _ in range(600):  # other tests may keep the processors
            time.sleep(0.1)
            children = psutil.Process().children()
            busy = [child for child in children if child.cpu_times().user > 0.05]
            if len(busy) >= PROCESSES[kind]:
                break
        assert len(busy) == PROCESSES[kind]
    assert not [child for child in busy if child.is_running()]


def test_a_process_that_grows_fails(quick_run: Run) -> None:
    """Growth above 256 MiB after set-up fails; a correct run passes."""
    assert {v.outcome for v in judge(Evidence(quick_run)) if v.check == "memory"} == {"pass"}
    first, *others = quick_run.info.processes
    fat = msgspec.structs.replace(first, peak_rss_bytes=(first.opened_rss_bytes or 0) + 2**29)
    info = msgspec.structs.replace(quick_run.info, processes=[fat, *others])
    run = msgspec.structs.replace(quick_run, info=info)
    memory = [v for v in judge(Evidence(run)) if v.check == "memory"]
    failed = [v.subject for v in memory if v.outcome == "fail"]
    assert failed == ["process p0"]


def test_every_fault_is_injected_by_the_selftest() -> None:
    """All faults except those of a collective, which need two ranks (test_fleet_live.py)."""
    groups = [in_seeds(), ON_EDGES, DEATHS, CLOCKS, IDENTICAL, IN_PROCESS, SPEED, BURNED, PRODUCTS]
    of_fleets = {name for name, fault in FAULTS.items() if fault.kind == "collective"}
    assert {name for group in [*groups, RACES, PINNED] for name in group} | of_fleets == set(FAULTS)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (SelftestOutcome([Caught("a", "rerun", "p1")], []), 0),
        (SelftestOutcome([Caught("a", "rerun", "")], []), 1),
        (SelftestOutcome([Caught("a", "rerun", "p1")], ["seed 0: cried"]), 1),
    ],
)
def test_a_missed_fault_and_a_false_alarm_fail_it(outcome: SelftestOutcome, code: int) -> None:
    """A missed fault, and a false alarm, are exit code 1."""
    assert outcome.exit_code == code


def test_a_missed_fault_is_marked() -> None:
    """A missed fault is in the table and in the total."""
    rows = [Caught("a", "rerun", ""), Caught("b", "inputs", "seed 0")]
    shown = report.text(SelftestOutcome(rows, []), 1.0)
    assert "MISSED" in shown
    assert "1 of 2 faults caught, 0 false alarms in the clean run, 1 s" in shown


@pytest.mark.variant
def test_the_selftest_catches_every_fault(tmp_path: Path) -> None:
    """All faults, except those that a busy machine may hide.

    It makes steps slow, and swaps out memory that has not been used for a while, which is then no
    longer resident.
    """
    done = call_in(tmp_path, "selftest", "--json")
    result = json.loads(done.stdout)
    missed = {row["fault"] for row in result["faults"] if not row["caught"]}
    assert len(result["faults"]) > 50
    assert missed <= {*SPEED, "grow"}, done.stdout
    assert done.returncode == int(bool(missed or result["alarms"]))


def test_a_race_is_caught_under_load(tmp_path: Path) -> None:
    """A weight that depends on thread timing differs between two fresh processes."""
    done = run_in(
        tmp_path,
        *("run", "--quick", "--drop-last", "true", "--epochs", "2", "--stress", "cpu", "--json"),
        *("--inject", "race"),
    )
    result = json.loads(done.stdout)
    assert "cpu" in result["heading"]["under load"]
    assert "rerun" in {v["check"] for v in result["verdicts"] if v["outcome"] == "fail"}


def test_bits_are_identical_under_load(tmp_path: Path) -> None:
    """A correct training is bitwise identical under CPU load."""
    done = call_in(
        tmp_path, *("run", "--quick", "--epochs", "3", "--processes", "2", "--stress", "memory")
    )
    assert "FAIL accuracy" in done.stdout  # too few epochs
    assert "FAIL rerun" not in done.stdout
    assert "FAIL warm-up" not in done.stdout
