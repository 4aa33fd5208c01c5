"""Kill `run --quick` with -9 at random moments, resume it, and compare the bits.

    python bench/kill_and_resume.py --times 20

Each line: how many epochs were on record at the kill, whether every one of them could be read,
whether any process outlived its orchestrator, and whether the resumed run ended with the digests of
an undisturbed one. Exit code 1 if any did not.
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
    return {f"{slot_of(one.process)} {one.case.id}": one.epoch_digests for one in trainings}


def kill_once(folder: Path, after_s: float) -> tuple[int, int]:
    """Start, kill, and count: epochs on record, processes still alive after ten seconds."""
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
    """Do it as often as asked, and print a line each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws = random.Random(options.seed)
    good = 0
    with tempfile.TemporaryDirectory() as name:
        undisturbed = Path(name) / "undisturbed"
        undisturbed.mkdir()
        begun = time.monotonic()
        subprocess.run((*RUN, "--quick"), cwd=undisturbed, capture_output=True, check=True)
        span_s = time.monotonic() - begun
        expected = epoch_digests(undisturbed)
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
                f" {orphans} orphans, digests {'equal' if same else 'DIFFER'}",
                flush=True,
            )
    print(f"{good} of {options.times} equal to the undisturbed run")
    return 0 if good == options.times else 1


if __name__ == "__main__":
    sys.exit(main())
