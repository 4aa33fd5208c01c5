"""The live fleet in real processes on loopback: differing, slow, hung and killed ranks."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Xorbench, call_in, command, free_port, run_in

from xorbench.errors import BadOption
from xorbench.fleet.ranks import injected, require_faults, shared_case
from xorbench.fleet.rendezvous import RankPlace, place

SMALL = ("--epochs", "3", "--test-size", "100", "--batch-sizes", "128", "--timeout", "60")
Report = dict[str, Any]


def torchrun(ranks: int, *arguments: str) -> list[str]:
    """The command that starts a fleet on this machine."""
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", str(ranks))
    port = ("--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    return [sys.executable, *launcher, *port, "-m", "xorbench", "fleet", *arguments, *SMALL]


@contextlib.contextmanager
def by_hand(folder: Path, ranks: int, *arguments: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the ranks like srun, which does not stop the others when one dies."""
    port = str(free_port())
    processes = []
    for rank in range(ranks):
        position = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        with (folder / f"log{rank}").open("wb") as log:
            process = subprocess.Popen(
                command("fleet", *arguments, *SMALL),
                cwd=folder,
                env={**os.environ, **position, **address},
                stdout=log,
                stderr=log,
            )
        processes.append(process)
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def report_of(folder: Path) -> Report:
    """The fleet's report."""
    return dict(json.loads((folder / "fleet.json").read_text()))


def findings(report: Report) -> set[tuple[str, int | None]]:
    """Code and rank of every finding."""
    return {(finding["code"], finding["rank"]) for finding in report["findings"]}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three ranks under torchrun: rank 1 flips a bit of a weight, rank 2 is 30 times slower.

    Rank 2 also gets one bit of each `all_reduce` wrong.
    """
    folder = tmp_path_factory.mktemp("three")
    injections = ("--inject", "1/flip-weight:epoch=1", "--inject", "2/slow:percent=3000")
    injections += ("--inject", "2/flip-collective:element=5,bit=0")
    done = subprocess.run(
        torchrun(3, "--out", "fleet", *injections), cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 1, done.stderr.decode()
    return folder / "fleet"


def test_only_the_flipped_and_the_slow_rank_are_named(three: Path) -> None:
    """The findings name the first epoch, the speed, and the diverging replica.

    Three processes on two cores are so noisy that the slow one may not be significantly slower.
    The test of significance uses records; this test checks that no other rank is reported.
    """
    report = report_of(three)
    bits = {(code, rank) for code, rank in findings(report) if code[2] in "13"}
    assert bits == {("XB103", 1), ("XB112", 1), ("XB116", 2)}
    evidence = {finding["code"]: finding["found"] for finding in report["findings"]}
    assert "from epoch 1 on" in evidence["XB103"]
    assert re.match(r"float32 all_reduce: 1 of 3093 elements, element \[5\]: ", evidence["XB116"])
    assert evidence["XB112"] == "diverges in epoch 1 of 3, 2 replicas agree"
    assert {rank for code, rank in findings(report) if code == "XB201"} <= {2}
    pace = {node["rank"]: node["calibration"]["median_s"] for node in report["nodes"]}
    assert pace.pop(2) > 4 * max(pace.values())


def test_every_rank_leaves_an_ordinary_run(three: Path) -> None:
    """`report` reads each of them."""
    for rank in range(3):
        runs = list((three / f"rank{rank}" / "runs").iterdir())
        assert len(runs) == 1
    done = call_in(three, "report", "--out", "rank2")
    assert "cpu-loader-b128-pin0-drop1-w0-s0" in done.stdout, done.stderr


def test_merging_the_folders_finds_the_same(three: Path, tmp_path: Path) -> None:
    """The same rules apply; only the collective training has no folder."""
    done = run_in(tmp_path, "fleet", "--merge", str(three), "--out", "again")
    assert done.returncode == 1
    expected = {row for row in findings(report_of(three)) if row[0] not in ("XB112", "XB116")}
    assert findings(report_of(tmp_path / "again")) == expected


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three fleets of two ranks: rank 1 hangs, rank 1 is killed, rank 0 is killed."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("hung", "killed", "headless")}
    hung_fleet = by_hand(
        folders["hung"], 2, "--out", "f", "--inject", "1/stop:epoch=2", "--deadline", "10"
    )
    headless_fleet = by_hand(folders["headless"], 2, "--out", "f", "--inject", "0/die:epoch=2")
    with hung_fleet as hung, headless_fleet as headless:
        fleet = torchrun(2, "--out", "f", "--inject", "1/die:epoch=2")
        subprocess.run(fleet, cwd=folders["killed"], capture_output=True, check=False)
        assert hung[0].wait() == 1
        assert hung[1].poll() is None  # it still hangs
        assert headless[0].wait() == -signal.SIGKILL
        while headless[1].poll() is None and not _has_run(folders["headless"] / "f" / "rank1"):
            time.sleep(0.1)
    return {name: folder / "f" for name, folder in folders.items()}


def _has_run(rank: Path) -> bool:
    """Whether the rank has finished its own run."""
    infos = list(rank.glob("runs/*/run.json"))
    return bool(infos) and json.loads(infos[0].read_text())["finished"] is not None


def test_a_hung_rank_is_missing_after_the_deadline(broken: dict[str, Path]) -> None:
    """It joined but gave no result before the deadline; rank 0 is judged."""
    report = report_of(broken["hung"])
    assert ("XB302", 1) in findings(report)
    assert [node["rank"] for node in report["nodes"]] == [0]


def test_a_rank_killed_under_torchrun_leaves_the_others_time(broken: dict[str, Path]) -> None:
    """The launcher stops all ranks when one dies; rank 0 still finishes and judges."""
    report = report_of(broken["killed"])
    assert ("XB302", 1) in findings(report)
    assert not {code for code, _ in findings(report)} & {"XB305", "XB304"}


def test_without_rank_0_the_folders_are_judged(broken: dict[str, Path], tmp_path: Path) -> None:
    """The run of the killed rank 0 is unfinished, the run of rank 1 is complete."""
    assert not (broken["headless"] / "fleet.json").exists()
    done = call_in(tmp_path, "fleet", "--merge", str(broken["headless"]), "--out", "again")
    assert done.returncode == 1, done.stderr
    report = report_of(tmp_path / "again")
    assert ("XB303", 0) in findings(report)
    assert not {code for code, rank in findings(report) if rank == 1 and code != "XB105"}


def test_one_rank_without_a_launcher_is_a_fleet_of_one(xorbench: Xorbench, tmp_path: Path) -> None:
    """It passes with correct golden values; the same folder is not used twice."""
    done = xorbench("fleet", "--epochs", "3", "--batch-sizes", "128")
    assert done.returncode == 0, done.stdout + done.stderr
    assert findings(report_of(tmp_path / "fleet")) == {("XB105", 0)}
    again = xorbench("fleet")
    assert again.returncode == 2
    assert "--out: fleet already holds a fleet" in again.stderr


# Without processes


def test_a_rank_takes_its_place_from_torchrun_or_slurm() -> None:
    """Both give the same rank; under Slurm without a master address it is a fleet of one."""
    address = {"MASTER_ADDR": "n0", "MASTER_PORT": "29500"}
    torch = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", **address}
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
    expected = RankPlace(3, 8, 1, "n0", 29500, hosted=False)
    assert place(torch) == place({**slurm, **address}) == expected
    assert place({**torch, "TORCHELASTIC_USE_AGENT_STORE": "True"}).hosted
    assert place(slurm) == place({}) == RankPlace()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "x"}, "RANK: 'x'"),
        ({"RANK": "8", "WORLD_SIZE": "8", "LOCAL_RANK": "0"}, "rank 8 of 8"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "MASTER_PORT: ''"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_launcher_variables_are_refused(environment: dict[str, str], message: str) -> None:
    """The error is one line that names the variable."""
    with pytest.raises(BadOption, match=message):
        place(environment)


def test_a_fault_is_injected_only_in_its_rank() -> None:
    """It affects the run or the rank itself; an unknown fault is refused."""
    texts = ("1/flip-weight:epoch=2", "2/die:epoch=3")
    require_faults(texts)
    assert injected(texts, 1).run == ("flip-weight:epoch=2",)
    assert [epoch for epoch, _ in injected(texts, 2).rank] == [3]
    assert injected(texts, 0) == ((), ())
    with pytest.raises(BadOption, match="--inject"):
        require_faults(["1/no-such-fault"])


@pytest.mark.parametrize("members", [1, 3, 8, 128, 1_000])
def test_members_can_share_every_batch_evenly(members: int) -> None:
    """Each has at least one row, and an epoch has at least four batches."""
    from xorbench.xor.matrix.recipe import Recipe

    case, recipe = shared_case(Recipe(), members, "cpu")
    assert case.batch_size % members == 0
    assert recipe.steps(case.batch_size, drop_last=True) >= 4
    assert recipe.epochs == 5
