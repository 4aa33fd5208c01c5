"""`baseline calibrate` from end to end: short runs, a file, and what `compare` makes of it."""

import json
from pathlib import Path

import msgspec
from conftest import Xorbench

from xorbench.machine import host
from xorbench.records.schema.run import Run
from xorbench.xor.analysis.speed import PACKAGED
from xorbench.xor.compare.compare import variance_of


def test_a_machine_is_calibrated_and_its_comparisons_use_it(
    xorbench: Xorbench, tmp_path: Path, quick_run: Run
) -> None:
    """The real program: six short runs, a file, nothing else left; another machine has its own."""
    done = xorbench("baseline", "calibrate", "--runs", "4", "--epochs", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["scatter"]
    root = tmp_path / "results"
    assert [path.name for path in root.iterdir()] == ["baselines"]
    here = variance_of(root, quick_run)
    assert (here.between, here.residual_drift) == (found["between"], found["residual_drift"])
    assert here.source.startswith("4 runs of this machine, ")
    other = {**quick_run.info.host, "cpu": "another"}
    elsewhere = msgspec.structs.replace(
        quick_run, info=msgspec.structs.replace(quick_run.info, host=other)
    )
    assert variance_of(root, quick_run, elsewhere) == PACKAGED
    assert host.describe(anonymous=True)["cpu"] == quick_run.info.host["cpu"]
