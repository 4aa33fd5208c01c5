"""`baseline calibrate` from end to end: short runs, a file, and its use by `compare`."""

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
    """Six short runs store one entry per machine, and leave no other files."""
    done = xorbench("baseline", "calibrate", "--runs", "4", "--epochs", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["variance"]
    root = tmp_path / "results"
    assert [path.name for path in root.iterdir()] == ["baselines"]
    here = variance_of(root, quick_run)
    assert (here.between, here.residual_drift) == (result["between"], result["residual_drift"])
    assert here.source.startswith("4 runs of this machine, ")
    other = {**quick_run.info.host, "cpu": "another"}
    elsewhere = msgspec.structs.replace(
        quick_run, info=msgspec.structs.replace(quick_run.info, host=other)
    )
    assert variance_of(root, quick_run, elsewhere) == PACKAGED
    assert host.describe(anonymous=True)["cpu"] == quick_run.info.host["cpu"]
