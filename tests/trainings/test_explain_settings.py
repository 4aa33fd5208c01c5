"""`explain A B` by real trainings: injected causes are recovered."""

import json
import os
from pathlib import Path

from conftest import call_in, run_in

from xorbench.machine.kernels import SWITCHES

CASE = "cpu-loader-b128-pin0-drop1-w0-s0"


def test_two_injected_causes_are_recovered_exactly(tmp_path: Path) -> None:
    """Two faults that both move the bits, and threads that do not."""
    done = call_in(
        tmp_path,
        *("explain", CASE, f"{CASE}@threads=2", "--epochs", "2", "--json"),
        *("--inject-b", "skip-batch", "--inject-b", "flip-weight:epoch=1,bit=20"),
    )
    found = json.loads(done.stdout)["explanation"]
    assert done.returncode == 1
    assert sorted(found["cause"]) == ["fault flip-weight:epoch=1,bit=20", "fault skip-batch"]
    assert (found["minimal"], found["rest"], found["rest_gives"]) == (True, ["threads"], "A")


def test_the_cap_ends_real_trainings(tmp_path: Path) -> None:
    """Three trainings show that B's bits differ; which fault it is stays open: exit code 3."""
    done = run_in(
        tmp_path,
        *("explain", CASE, CASE, "--epochs", "1", "--max-trainings", "3"),
        *("--inject-b", "skip-batch", "--inject-b", "draw-extra"),
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[-3:-1]) == (
        3,
        ["3 trainings", "Stopped after 3 trainings (--max-trainings)."],
    )
    assert lines[-1].startswith("Smallest set so far that gives B's bits: fault skip-batch")


def test_the_kernels_of_a_record_are_named(tmp_path: Path) -> None:
    """A trace whose process inherited a switch, which its setting does not show."""
    inherited = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    trace = ("trace", CASE, "--epochs", "1", "-o", "b.trace")
    assert call_in(tmp_path, *trace, env=inherited).returncode == 0
    done = call_in(tmp_path, "explain", CASE, "b.trace", "--epochs", "1")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        "The recorded bits of B are reproduced on this machine with env ATEN_CPU_CAPABILITY=default"
        " (unset → default)."
    )
    assert done.stderr.count("training") == 2 + len(SWITCHES)
