"""The cost of recording at the default level of `check`, in total and by part.

    python bench/check_cost.py --processes 6 --steps 40
    python bench/check_cost.py --rounding               the GPT, in the runs of --up-to-rounding

Two trainings: the small GPT of examples/gpt.py (4 layers, width 256, batch 8 × 128 tokens, AdamW)
and the XOR loop of examples/xor.py's size. Each is trained in fresh processes, with and without the
recorder, interleaved (A B B A …). The first steps of a process are skipped. A process is one
sample: the median of its steps. The ratio has a 95% interval over the processes; the share of each
part is timed inside the recorder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pandas as pd
from ratios import mean_ratio

from xorbench.programs.command_run import SITE
from xorbench.report.text import to_markdown

HERE: Final = Path(__file__)
SKIPPED: Final = 5  # warm-up steps
ROUNDING: Final = {
    "with sketches": {"sketches": True},
    "with sketches and noise": {"sketches": True, "noise": 1},
}  # the options of the recorder
PARTS: Final = "XORBENCH_COST_PARTS"


def train(
    training: str, steps: int, parts: dict[str, float]
) -> tuple[list[float], dict[str, float]]:
    """Train in this process; returns the time of each step (s) and the parts of all steps.

    Warm-up steps clear `parts`. The final digests, when the model dies, are no part of a step.
    """
    import torch

    step = _gpt_step(torch) if training == "gpt" else _xor_step(torch)
    times = []
    for number in range(steps):
        if number == SKIPPED:
            parts.clear()
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return times, dict(parts)


def _gpt_step(torch: Any) -> Callable[[], None]:
    sys.path.insert(0, str(HERE.parents[1] / "examples"))
    import gpt

    torch.manual_seed(0)
    sizes = argparse.Namespace(layers=4, width=256, heads=4, length=128, dropout=0.0)
    model = gpt.GPT(sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    data = torch.randint(0, len(gpt.CHARACTERS), (64, 8, 129))
    numbers = iter(range(10**9))

    def step() -> None:
        tokens = data[next(numbers) % 64]
        logits = model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _xor_step(torch: Any) -> Callable[[], None]:
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    points, labels = torch.randn(128, 2), torch.randint(0, 2, (128, 1)).float()

    def step() -> None:
        loss = nn.functional.binary_cross_entropy_with_logits(model(points), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def child(training: str, steps: int) -> None:
    """Train and print the times; with `PARTS` set, also the times of the recorder's parts."""
    parts = _timed_parts() if os.environ.get(PARTS) else {}
    times, parts = train(training, steps, parts)
    print(json.dumps({"times": times, "parts": parts}))


def _timed_parts() -> dict[str, float]:
    """Time the parts of the recorder; the returned times accumulate during training."""
    import torch  # noqa: F401 - loads the recorder

    seconds: dict[str, float] = {}
    recorder = sys.modules["_xorbench_recorder"]
    listen = sys.modules[f"{recorder.__name__}.listen"]
    sink = sys.modules[f"{recorder.__name__}.sink"]

    def timed(owner: Any, name: str, part: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - began

        setattr(owner, name, wrapped)

    original_states = listen.states
    listen.states = lambda: list(original_states())
    timed(listen, "states", "generators")
    timed(listen.Digester, "start", "digests: batch, loss")
    timed(listen.Digester, "start_all", "digests: parameters, buffers")
    timed(listen.Digester, "finish", "digests: fetched")
    timed(listen.Sketches, "details_of", "sketches")
    timed(listen.Listener, "_hyperparameters", "hyperparameters")
    timed(sink.Sink, "write", "writing")
    timed(listen.Listener, "shielded", "total")
    return seconds


def measured(training: str, steps: int, environment: dict[str, str]) -> dict[str, Any]:
    """The times of a fresh process."""
    done = subprocess.run(
        [sys.executable, str(HERE), "--child", training, "--steps", str(steps)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def recorded(folder: str, options: dict[str, Any] | None = None) -> dict[str, str]:
    """The environment that loads the recorder with these options."""
    given = {"XORBENCH_RECORD_OPTIONS": json.dumps(options)} if options else {}
    return {"PYTHONPATH": str(SITE), "XORBENCH_RECORD": folder, **given}


def compared(
    training: str, processes: int, steps: int, name: str = "", options: dict[str, Any] | None = None
) -> dict[str, str]:
    """A row: milliseconds per step without and with the recorder, and the ratio."""
    medians: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(processes):
            for on in (False, True) if turn % 2 == 0 else (True, False):
                times = measured(training, steps, recorded(folder, options) if on else {})["times"]
                medians[on].append(statistics.median(times[SKIPPED:]))
    ratio = mean_ratio([b / a for a, b in zip(medians[False], medians[True], strict=True)])
    low, high = ratio.low or ratio.value, ratio.high or ratio.value
    return {
        "training": f"{training} {name}".strip(),
        "without (ms per step)": f"{1e3 * statistics.median(medians[False]):.3f}",
        "with (ms per step)": f"{1e3 * statistics.median(medians[True]):.3f}",
        "cost (%) [95%]": f"{100 * (ratio.value - 1):.1f} [{100 * (low - 1):.1f},"
        f" {100 * (high - 1):.1f}]",
        "pairs of processes": str(processes),
        "steps each": str(steps - SKIPPED),
    }


def shares(training: str, steps: int, options: dict[str, Any] | None = None) -> pd.DataFrame:
    """The time of each part of the recorder, in a process that times them."""
    with tempfile.TemporaryDirectory() as folder:
        times = measured(training, steps, {**recorded(folder, options), PARTS: "1"})
    step = statistics.median(times["times"][SKIPPED:])
    return pd.DataFrame(
        [
            {
                "part": part,
                "ms per step": f"{1e3 * seconds / (steps - SKIPPED):.3f}",
                "share of a step (%)": f"{100 * seconds / (steps - SKIPPED) / step:.2f}",
            }
            for part, seconds in times["parts"].items()
        ]
    )


def main() -> None:
    """Compare and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=6, help="pairs of processes")
    parser.add_argument("--steps", type=int, default=40, help="steps of the GPT; XOR: 50 times")
    parser.add_argument("--rounding", action="store_true", help="with sketches, and with noise")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.steps)
        return
    if options.rounding:
        counts = options.processes, options.steps
        table = [compared("gpt", *counts, *kind) for kind in ROUNDING.items()]
        print(to_markdown(pd.DataFrame(table)))
        parts = shares("gpt", options.steps, ROUNDING["with sketches"])
        print(f"\ngpt with sketches, by part\n\n{to_markdown(parts)}")
        return
    rows = [
        compared("gpt", options.processes, options.steps),
        compared("xor", options.processes, 50 * options.steps),
    ]
    print(to_markdown(pd.DataFrame(rows)))
    for training, steps in (("gpt", options.steps), ("xor", 50 * options.steps)):
        print(f"\n{training}, by part\n\n{to_markdown(shares(training, steps))}")


if __name__ == "__main__":
    main()
