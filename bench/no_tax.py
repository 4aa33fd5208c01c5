"""What the harness costs: beside a bare loop of the same training, and of a run's wall time.

    python bench/no_tax.py --processes 10    harness ÷ bare throughput, paired epoch by epoch
    python bench/no_tax.py --run             a default run: the share of its wall time not measured

The bare loop is written as in a notebook, with nothing of the harness: the same case, flags, thread
and process. Each round trains one epoch of both in random order. A process gives one ratio, the
median over its rounds; the interval is Student's t between fresh processes (95%).
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.special import stdtrit
from torch import nn
from torch.utils.data import DataLoader

from xorbench.observe import loading
from xorbench.observe.records.run import Run
from xorbench.plan import processor
from xorbench.plan.case import Case, ProcessConfig
from xorbench.plan.recipe import Recipe
from xorbench.workload.loop import Training

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import witness  # noqa: E402  the second reading of the workload, which imports nothing of xorbench


def bare() -> Iterator[tuple[float, str]]:
    """A bare training: each `next` trains one epoch; its seconds, and the weights' digest."""
    points = witness.XORDataset(2500, 0.1, 0, "train")
    with torch.random.fork_rng():
        torch.manual_seed(witness.stream(0, "init"))
        model = witness.SimpleClassifier(2, 4, 1)
    shuffle = torch.Generator().manual_seed(witness.stream(0, "shuffle"))
    loader = DataLoader(points, batch_size=128, shuffle=True, drop_last=True, generator=shuffle)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_module = nn.BCEWithLogitsLoss()
    model.train()
    while True:
        start = time.perf_counter()
        for data_inputs, data_labels in loader:
            preds = model(data_inputs).squeeze(dim=1)
            loss = loss_module(preds, data_labels.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds = time.perf_counter() - start
        yield seconds, witness.digest(model.state_dict())


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
        "epoch": float(np.median(np.log(theirs) - np.log(ours))),
        "step": float(np.median(np.log(theirs) - np.log(steps))),
        "digests": [epoch.digest, bare_digest],
    }
    print(json.dumps(found))


def shown(logs: list[float]) -> str:
    """Geometric mean and its 95% interval."""
    n, mean = len(logs), float(np.mean(logs))
    margin = float(stdtrit(n - 1, 0.975)) * float(np.std(logs, ddof=1)) / n**0.5
    low, value, high = np.exp([mean - margin, mean, mean + margin])
    return f"{value:.4f} [{low:.4f}, {high:.4f}], n = {n} processes"


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
    print(f"harness ÷ bare throughput, timed epoch: {shown([one['epoch'] for one in found])}")
    print(f"… the whole step, with the digest:      {shown([one['step'] for one in found])}")


def measured_s(run: Run) -> float:
    """Seconds of a run in which something was timed: epochs, warm-ups, calibration workloads."""
    epochs = sum(line.epoch_s for line in run.epochs)
    return epochs + sum(line.calibration_s for line in run.calibrations)


def of_a_run() -> None:
    """Make a default run, and print how much of its wall time was not measured."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "xorbench", "run", "--out", folder]
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
        wall_s = time.perf_counter() - start
        measured = measured_s(loading.load((Path(folder) / "latest").resolve()))
    outside = 100 * (1 - measured / wall_s)
    print(f"default run: {wall_s:.1f} s, of them {measured:.1f} s measured: {outside:.1f}% outside")


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--child", type=int)
    options = parser.parse_args()
    if options.child is not None:
        one_process(options.child)
        return
    print(f"{processor.model()}; PyTorch {torch.__version__}, 1 thread")
    if options.run:
        of_a_run()
    else:
        beside_a_bare_loop(options.processes)


if __name__ == "__main__":
    main()
