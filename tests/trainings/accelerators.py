"""Processes with the simulated accelerator of `simulated/`, or the reason why it is unavailable.

Programs and commands are started two at a time, each once for all tests, in any process of the test
runner.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from accelerator_lines import wanted
from conftest import Completed, command, free_port, once, run_in

HERE = Path(__file__).parent
SIMULATED = HERE / "simulated"
LIMIT_S = 240.0  # per process, on a busy machine
NEEDED = (
    "from torch.utils.backend_registration import _setup_privateuseone_for_python_backend;"
    "import torch;"
    "torch._C._to_dlpack, torch.library.fallthrough_kernel;"
    "torch.ones(2, device='simulated:1').add_(1).cpu()"
)
EASY = ("--train-size", "640", "--test-size", "100", "--lr", "1", "--pin-memory", "false")
PINS = ("run", *EASY[:-2], "--pin-memory", "true", "--drop-last", "true", "--processes", "1")
RUN = ("run", *EASY, "--drop-last", "true", "--processes", "1")
FEW = ("--epochs", "2")  # for tests that do not check accuracy
TRAIN = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
model = model.to("simulated:1")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    loss = ((model(torch.ones(8, 3, device="simulated:1")) - step) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
# Functions of `accelerator_programs`, and variables of the device.
PROGRAMS: dict[str, dict[str, str]] = {"bits": {}, "graphs": {"graphs": "1"}, "everything": {}}
# The words of a command, run in its own folder, and variables of the device.
COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "correct": (
        (*RUN, "--devices", "cpu,simulated,simulated:1,simulated:2", "--engines", "tensor,replay",
         "--batch-sizes", "64", "--epochs", "10", "--require-devices"),
        {"graphs": "1"},
    ),
    "sticky": (
        (*RUN, *FEW, "--devices", "cpu,simulated", "--batch-sizes", "64,96"),
        {"fault": "sticky:96"},
    ),
    "asynchronous": (
        (*RUN, *FEW, "--devices", "simulated:1", "--batch-sizes", "64,96", "--tf32", "true",
         "--engines", "loader,universal,compile", "--stress", "accelerator"),
        {"fault": "asynchronous:96"},
    ),
    "not synchronized": (
        (*RUN, "--epochs", "10", "--devices", "simulated", "--batch-sizes", "64"),
        {"fault": "nosync", "lag_us": "400"},
    ),
    "leak, and inexact addmm": (
        (*RUN, *FEW, "--devices", "cpu,simulated", "--batch-sizes", "64"),
        {"fault": "leak,round:addmm:64"},
    ),
    "pinned": ((*PINS, *FEW, "--devices", "cpu,simulated", "--batch-sizes", "64"), {}),
    "unpinned": (
        (*PINS, *FEW, "--devices", "cpu,simulated", "--batch-sizes", "64",
         "--inject", "unpinned:cases=simulated-*"),
        {},
    ),
    "stress without a device": ((*RUN, *FEW, "--stress", "accelerator"), {"devices": "0"}),
    "canary": (("canary", "--devices", "simulated,simulated:1", "--save", "--json"), {}),
    "burn-in": (
        ("canary", "--devices", "simulated,simulated:1", "--probes", "matmul,conv,memory",
         "--burn-in", "0.1", "--memory", "1MiB", "--json"),
        {},
    ),
    "flipped words, and inexact conv": (
        ("canary", "--devices", "simulated", "--probes", "memory,conv", "--burn-in", "0.1",
         "--memory", "1MiB", "--inject", "flip-memory:epoch=0,element=40000,bit=7"),
        {"fault": "round:convolution:1"},
    ),
    "inexact mm": (
        ("canary", "--devices", "cpu,simulated", "--probes", "matmul", "--burn-in", "0.1"),
        {"fault": "round:mm:1"},
    ),
    "lost": (
        ("canary", "--devices", "cpu,simulated", "--probes", "matmul", "--burn-in", "0.1"),
        {"fault": "sticky:512"},
    ),
    "broken": (
        ("canary", "--devices", "simulated,simulated:1", "--json"), {"fault": "sticky:128"}
    ),
    "sweep": (
        ("sweep", "--device", "simulated:1", "--seeds", "0-2", "--batch-sizes", "64",
         "--epochs", "2", "--train-size", "320", "--test-size", "50"),
        {},
    ),
    "check": (("check", "--json", "--", sys.executable, "-c", TRAIN), {}),
}  # fmt: skip
RUNNER = os.environ.get("PYTEST_XDIST_WORKER", "")
_pool = ThreadPoolExecutor(1 if RUNNER else 2)
_jobs: dict[str, Future[Path]] = {}


def environment(**variables: str) -> dict[str, str]:
    """The variables of a process that has the device and imports xorbench from this clone."""
    paths = [str(SIMULATED), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    own = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",  # two would wait for each other while other tests run
    }
    return {
        **os.environ,
        **own,
        **{f"SIMULATED_{name.upper()}": v for name, v in variables.items()},
    }


@cache
def unavailable_reason() -> str:
    """Why this PyTorch cannot use the simulated accelerator; empty if it can."""
    done = subprocess.run(
        [sys.executable, "-c", NEEDED],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    return done.stderr.strip().split("\n")[-1] if done.returncode else ""


def require() -> None:
    """Skip the test, with the reason, if the simulated accelerator is unavailable."""
    if unavailable_reason():
        pytest.skip(f"this PyTorch cannot use the simulated accelerator: {unavailable_reason()}")


# Results of programs and commands


Made = Callable[[Path], Completed]
Ran = Callable[[str], tuple[Completed, Path]]


def program_result(factory: pytest.TempPathFactory, name: str) -> dict[str, Any]:
    """The result of a function of `accelerator_programs` in its own process."""
    require()
    trace = str(traced(factory))
    start(factory, {key: partial(program, key, trace=trace, **v) for key, v in PROGRAMS.items()})
    done, _ = ended(name)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def ran(factory: pytest.TempPathFactory) -> Ran:
    """A function that returns an ended command and its folder, which must not be changed."""
    require()
    acts: dict[str, Made] = {
        name: partial(_xorbench, words=words, variables=variables)
        for name, (words, variables) in COMMANDS.items()
    }
    start(factory, {**acts, "fleet": fleet})
    return ended


def start(factory: pytest.TempPathFactory, acts: dict[str, Made]) -> None:
    """Start jobs that have not been started; a second runner process starts in reverse order."""
    for name, act in reversed(acts.items()) if RUNNER == "gw1" else acts.items():
        if name not in _jobs:
            made = partial(_keep, act)
            _jobs[name] = _pool.submit(
                once, factory, f"accelerator-{name.replace(' ', '-').replace(',', '')}", made
            )


def _keep(act: Made, folder: Path) -> None:
    done = act(folder)
    kept = {"args": [], "returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    (folder / "done.json").write_text(json.dumps(kept))


def ended(name: str) -> tuple[Completed, Path]:
    """A program or a command that has ended, and its folder."""
    folder = _jobs[name].result(LIMIT_S)
    return subprocess.CompletedProcess(**json.loads((folder / "done.json").read_text())), folder


def program(name: str, folder: Path, **variables: str) -> Completed:
    """Run a function of `accelerator_programs`."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "accelerator_programs.py"), name],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def _xorbench(folder: Path, *, words: tuple[str, ...], variables: dict[str, str]) -> Completed:
    return xorbench(folder, *words, **variables)


def xorbench(folder: Path, *arguments: str, **variables: str) -> Completed:
    """The real program in a folder, its processes on the simulated accelerator."""
    own = environment(short_golden="1", **variables)
    return run_in(folder, *arguments, env=own, timeout=LIMIT_S)


def fleet(folder: Path) -> Completed:
    """Two ranks on this machine, each with its own device, as started by srun."""
    port = str(free_port())
    words = command(
        *("fleet", "--out", "fleet", "--epochs", "2", "--test-size", "50", "--batch-sizes", "128"),
        *("--train-size", "384", "--timeout", "60", "--no-collective"),
    )
    with ExitStack() as stack:
        ranks = []
        for rank in range(2):
            launcher = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            process = subprocess.Popen(
                words,
                cwd=folder,
                env={**environment(short_golden="1"), **launcher, **master},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.kill)
            ranks.append(process)
        outputs = [process.communicate(timeout=LIMIT_S) for process in ranks]
    # Rank 0 judges; the store may be closed before other ranks have read the last message.
    return subprocess.CompletedProcess(words, ranks[0].returncode, *outputs[0])


# Executed lines of the package


def traced(factory: pytest.TempPathFactory) -> Path:
    """The file with the lines to trace; executed lines are recorded in a file next to it."""

    def make(folder: Path) -> None:
        lines = {name: sorted(lines) for name, lines in wanted().items()}
        (folder / "wanted.json").write_text(json.dumps(lines))

    return once(factory, "accelerator-lines", make) / "wanted.json"


def lines_run(factory: pytest.TempPathFactory) -> set[tuple[str, int]]:
    """File and line of each executed line of all programs, once all have ended."""
    for name in PROGRAMS:
        ended(name)
    hits = traced(factory).with_suffix(".hits").read_text().splitlines()
    return {(file, int(line)) for file, _, line in (hit.rpartition(":") for hit in hits)}
