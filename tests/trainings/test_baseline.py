"""A run that is judged by a saved baseline, from end to end."""

import json
import shutil
from pathlib import Path

from conftest import Xorbench


def test_the_real_program_judges_a_run_by_its_baseline(
    xorbench: Xorbench, inside: Xorbench, tmp_path: Path
) -> None:
    """A slower run is reported and passes; with --baseline it and its report fail."""
    few = (
        *("run", "--devices", "cpu", "--batch-sizes", "64", "--train-size", "640"),
        *("--test-size", "100", "--lr", "1", "--epochs", "10", "--pin-memory", "false"),
        *("--drop-last", "true"),
    )
    slow = ("--inject", "delay:percent=5000")  # beyond what other tests beside it can hide
    assert "baseline save" in inside(*few).stdout
    assert inside("baseline", "save", "quiet").returncode == 0
    judged = xorbench(*few, *slow, "--baseline", "quiet", "--json")
    assert judged.returncode == 1, judged.stdout
    counted = json.loads(judged.stdout)["verdicts"]
    assert [v["outcome"] for v in counted if v["check"] == "compare"] == ["fail"]
    page = (tmp_path / "results" / "latest" / "report.html").read_text()
    assert "Slower than this machine&#39;s baseline quiet" in page
    path = tmp_path / "results" / "latest" / "run.json"
    info = path.read_text()
    path.write_text(json.dumps(json.loads(info) | {"baseline": None}))
    reported = inside("report")
    assert reported.returncode == 0, reported.stdout
    answer = "Is it as fast as expected? No. Slower than this machine's baseline quiet"
    assert answer in reported.stdout
    path.write_text(info)
    shutil.rmtree(tmp_path / "results" / "baselines")
    assert inside("report").returncode == 3
