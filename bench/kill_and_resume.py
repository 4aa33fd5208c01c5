"""Kill `run --quick` with SIGKILL at random times, resume it, and compare the digests.

    python bench/kill_and_resume.py --times 20

Each line has the number of readable epochs at the kill, the number of processes that outlived their
orchestrator, and whether the digests equal those of an uninterrupted run. Exit code 1 if any
resumed run differs or a process survives.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from xorbench.records import loading
from xorbench.records.schema.process import slot_of

RUN = (sys.executable, "-m", "xorbench", "run")
ORPHAN_S = 10


def epoch_digests(folder: Path) -> dict[str, list[str]]:
    """The epoch digests of the newest run by slot and case."""
    trainings = loading.load(folder / "results" / "latest").trainings
    return {f"{slot_of(t.process)} {t.case.id}": t.epoch_digests for t in trainings}


def kill_once(folder: Path, after_s: float) -> tuple[int, int]:
    """Start and kill a run; returns the recorded epochs and the processes alive after 10 s."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen((*RUN, "--quick"), cwd=folder, stdout=quiet, stderr=quiet)
    record = folder / "results" / "latest" / "run.json"
    while not record.exists():  # before this there is no run to resume
        time.sleep(0.01)
    time.sleep(after_s)
    processes = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, orphans = psutil.wait_procs(processes, timeout=ORPHAN_S)
    lines = folder / "results" / "latest" / "epochs.jsonl"
    whole = lines.read_text().split("\n")[:-1] if lines.exists() else []
    return len([json.loads(line) for line in whole]), len(orphans)


def main() -> int:
    """Kill and resume several runs, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws = random.Random(options.seed)
    good = 0
    with tempfile.TemporaryDirectory() as name:
        uninterrupted = Path(name) / "uninterrupted"
        uninterrupted.mkdir()
        begun = time.monotonic()
        subprocess.run((*RUN, "--quick"), cwd=uninterrupted, capture_output=True, check=True)
        span_s = time.monotonic() - begun
        expected = epoch_digests(uninterrupted)
        for number in range(options.times):
            folder = Path(name) / str(number)
            folder.mkdir()
            after_s = draws.uniform(0.0, span_s * 0.6)
            epochs, orphans = kill_once(folder, after_s)
            resumed = subprocess.run(
                (*RUN, "--resume", "latest"), cwd=folder, capture_output=True, check=False
            )
            same = resumed.returncode == 0 and epoch_digests(folder) == expected
            good += same and not orphans
            print(
                f"{number + 1:3}  killed after {after_s:5.2f} s with {epochs:3} epochs readable,"
                f" {orphans} orphans, digests {'identical' if same else 'DIFFER'}",
                flush=True,
            )
    print(f"{good} of {options.times} identical to the uninterrupted run")
    return 0 if good == options.times else 1


if __name__ == "__main__":
    sys.exit(main())
