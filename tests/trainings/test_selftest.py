"""Stress, the check of memory, and the harness that tests itself."""

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
    ALIKE,
    BURNED,
    CLOCKS,
    DEATHS,
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
    """As many processes as stated, using the processor; none afterwards."""
    with stressed(kind):
        for _ in range(600):  # other tests may keep the processors
            time.sleep(0.1)
            mine = psutil.Process().children()
            busy = [child for child in mine if child.cpu_times().user > 0.05]
            if len(busy) >= PROCESSES[kind]:
                break
        assert len(busy) == PROCESSES[kind]
    assert not [child for child in busy if child.is_running()]


def test_a_process_that_grows_is_told(quick_run: Run) -> None:
    """More than 256 MiB once everything stands open; a sound run passes."""
    assert {v.outcome for v in judge(Evidence(quick_run)) if v.check == "memory"} == {"pass"}
    first, *others = quick_run.info.processes
    fat = msgspec.structs.replace(first, peak_rss_bytes=(first.opened_rss_bytes or 0) + 2**29)
    info = msgspec.structs.replace(quick_run.info, processes=[fat, *others])
    run = msgspec.structs.replace(quick_run, info=info)
    memory = [v for v in judge(Evidence(run)) if v.check == "memory"]
    failed = [v.subject for v in memory if v.outcome == "fail"]
    assert failed == ["process p0"]


def test_every_fault_is_injected_by_the_selftest() -> None:
    """But those of a collective, which take two ranks: tests/trainings/test_fleet_live.py."""
    groups = [in_seeds(), ON_EDGES, DEATHS, CLOCKS, ALIKE, IN_PROCESS, SPEED, BURNED, PRODUCTS]
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
    """Either is exit code 1."""
    assert outcome.exit_code == code


def test_what_was_missed_stands_out() -> None:
    """In the table and in the sum."""
    rows = [Caught("a", "rerun", ""), Caught("b", "inputs", "seed 0")]
    shown = report.text(SelftestOutcome(rows, []), 1.0)
    assert "MISSED" in shown
    assert "1 of 2 faults caught, 0 false alarms in the clean run, 1 s" in shown


def test_the_selftest_catches_every_fault(tmp_path: Path) -> None:
    """All of them, but for those that a busy machine may hide.

    It makes steps slow, and takes back memory that nobody has touched for a while, which is then
    no longer resident.
    """
    done = call_in(tmp_path, "selftest", "--json")
    found = json.loads(done.stdout)
    missed = {row["fault"] for row in found["faults"] if not row["caught"]}
    assert len(found["faults"]) > 50
    assert missed <= {*SPEED, "grow"}, done.stdout
    assert done.returncode == int(bool(missed or found["alarms"]))


def test_a_race_is_caught_under_stress(tmp_path: Path) -> None:
    """A weight that depends on a thread's luck: two fresh processes part. The run says it all."""
    done = run_in(
        tmp_path,
        *("run", "--quick", "--drop-last", "true", "--epochs", "2", "--stress", "cpu", "--json"),
        *("--inject", "race"),
    )
    found = json.loads(done.stdout)
    assert "cpu" in found["heading"]["under load"]
    assert "rerun" in {v["check"] for v in found["verdicts"] if v["outcome"] == "fail"}


def test_bits_hold_under_stress(tmp_path: Path) -> None:
    """With the processor kept busy a sound training parts nowhere."""
    done = call_in(
        tmp_path, *("run", "--quick", "--epochs", "3", "--processes", "2", "--stress", "memory")
    )
    assert "FAIL accuracy" in done.stdout  # too few epochs
    assert "FAIL rerun" not in done.stdout
    assert "FAIL warm-up" not in done.stdout
