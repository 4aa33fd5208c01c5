"""What the harness costs: beside a bare loop of the same training, and of a run's wall time.

    python bench/no_tax.py --processes 10    harness ÷ bare throughput, paired epoch by epoch
    python bench/no_tax.py --runs 3          quick and default runs: what their time goes into

The bare loop is written as in a notebook, with nothing of the harness: the same case, flags, thread
and process. Each round trains one epoch of both in random order. A process gives one ratio, the
median over its rounds; the interval is Student's t between fresh processes (95%).
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ratios import shown

from xorbench.recorder.environment import processor
from xorbench.records import loading
from xorbench.report.text import to_markdown
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.training import Training

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import reference  # noqa: E402
from reference import xor  # noqa: E402  it imports nothing of xorbench


def bare() -> Iterator[tuple[float, str]]:
    """A bare training: each `next` trains one epoch; its seconds, and the weights' digest."""
    points = xor.XORDataset(2500, xor.stream(0, "train"))
    with torch.random.fork_rng():
        torch.manual_seed(xor.stream(0, "init"))
        model = xor.SimpleClassifier()
    shuffle = torch.Generator().manual_seed(xor.stream(0, "shuffle"))
    loader = xor.make_loader(points, 128, True, shuffle)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    while True:
        start = time.perf_counter()
        xor.train_epoch(model, loader, optimizer, torch.device("cpu"))
        seconds = time.perf_counter() - start
        yield seconds, reference.digest(model.state_dict())


def one_process(seed: int) -> None:
    """Both trainings, interleaved; prints their medians' ratios and final digests as JSON."""
    torch.set_num_threads(ProcessConfig().threads or 1)
    torch.use_deterministic_algorithms(ProcessConfig().deterministic)
    recipe, draws = Recipe(), random.Random(seed)
    harness, loop = Training(Case(), recipe), bare()
    ours, steps, theirs = [], [], []
    for _ in range(recipe.epochs):
        for act in draws.sample(("harness", "bare"), 2):
            if act == "bare":
                seconds, bare_digest = next(loop)
                theirs.append(seconds)
            else:
                start = time.perf_counter()
                epoch = harness.step()
                steps.append(time.perf_counter() - start)
                ours.append(epoch.epoch_s)
    found = {
        "epoch": float(np.median(np.divide(theirs, ours))),
        "step": float(np.median(np.divide(theirs, steps))),
        "digests": [epoch.digest, bare_digest],
    }
    print(json.dumps(found))


def beside_a_bare_loop(processes: int) -> None:
    """Start the processes one after the other, and print what they came to."""
    found = []
    for seed in range(processes):
        command = [sys.executable, __file__, "--child", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    digests = {digest for one in found for digest in one["digests"]}
    assert len(digests) == 1, digests
    print(f"final digest of both, in every process: {digests.pop()}")
    for title, part in (("timed epoch", "epoch"), ("the whole step, with the digest", "step")):
        ratio = shown([one[part] for one in found], ".4f")
        print(f"harness ÷ bare throughput, {title}: {ratio}, n = {processes} processes")


def parts_of(folder: Path, began: float, ended: float) -> dict[str, float]:
    """Seconds of each part of a run that a program started and saw end at these times."""
    run = loading.load(folder)
    timed = [line for line in run.epochs if not line.warmup]
    epochs_s = sum(line.epoch_s for line in timed)
    calibrations_s = sum(line.calibration_s for line in run.calibrations)
    last = (folder / "epochs.jsonl").stat().st_mtime  # when the last epoch was written
    trained = max(line.at_s for line in timed)  # from when the processes stood ready
    first = min(line.at_s - line.waited_s for line in timed)
    return {
        "start: Python, PyTorch and its compiler, in all processes at once": last - trained - began,
        "golden values, exact probes, warm-up": first,
        "timed epochs": epochs_s,
        "calibration workloads": calibrations_s,
        "between the epochs": trained - first - epochs_s - calibrations_s,
        "double precision, scores, reports": ended - last,
        "all": ended - began,
    }


def of_runs(count: int) -> None:
    """Make runs, quick ones and as many default ones, and print the median of each part."""
    rows: dict[str, dict[str, str]] = {}
    for words in (["run", "--quick"], ["run", "--devices", "cpu"]):
        found = []
        for _ in range(count):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "xorbench", *words, "--out", folder]
                began = time.time()
                subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
                found.append(parts_of((Path(folder) / "latest").resolve(), began, time.time()))
        for part in found[0]:
            middle = statistics.median(one[part] for one in found)
            rows.setdefault(part, {})[f"{' '.join(words)} (s)"] = f"{middle:.1f}"
    print(f"n = {count}\n")
    print(to_markdown(pd.DataFrame(rows).T.reset_index(names="part")))


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--child", type=int)
    options = parser.parse_args()
    if options.child is not None:
        one_process(options.child)
        return
    print(f"{processor()}; PyTorch {torch.__version__}, 1 thread")
    if options.runs:
        of_runs(options.runs)
    else:
        beside_a_bare_loop(options.processes)


if __name__ == "__main__":
    main()
