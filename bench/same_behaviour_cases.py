"""The cases of `same_behaviour.py`: commands, the files that they start from, what is compared."""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

NOT_REPEATED: Final = (
    *("throughput.csv", "phases.*", "engines.csv", "cost_model.csv"),
    *("system_samples.*", "calibrations.*", "presence.jsonl"),
)
"""Files of measured times, and of processes by their ids."""


@dataclass(frozen=True)
class Case:
    """Commands that run in one folder, one after the other.

    Attributes:
        commands: a command of xorbench per line; one that begins with PYTHON runs a script.
        start: the case whose files, as BEFORE left them, it starts from; or a folder of this
            repository.
        measured: its times are measured: they are masked, and pages and pictures not compared.
    """

    name: str
    commands: str
    start: str | None = None
    measured: bool = False

    def compares(self, path: Path) -> bool:
        """Whether the file is one of those that are compared."""
        if not self.measured:
            return True
        times = any(fnmatch(path.name, pattern) for pattern in NOT_REPEATED)
        return not times and path.suffix in {".jsonl", ".json", ".csv", ".xml", ".pt", ".trace"}


TRAIN: Final = """
import os, random, sys
from pathlib import Path
import numpy
import torch
from torch import nn

torch.set_num_threads(1)
random.seed(0)
numpy.random.seed(0)
run = int(os.environ.get("XORBENCH_RUN", 1)) if "--drift" in sys.argv else 0
torch.manual_seed(run if "--from-start" in sys.argv else 0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02 if "--faster" in sys.argv else 0.01)
start, saved = 0, Path("saved.pt")
if "--resume" in sys.argv:
    state = torch.load(saved)
    model.load_state_dict(state["model"])
    start = state["step"]
    if "--forget" not in sys.argv:
        optimizer.load_state_dict(state["optimizer"])
for step in range(start, 20):
    points = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    torch.manual_seed(step + (run if step >= 7 else 0))
    optimizer.zero_grad()
    loss = model(points).square().mean()
    loss.backward()
    optimizer.step()
    if step % 5 == 4:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step + 1}, saved)
print(f"loss {loss.item():.6f}")
"""
FUNCTION: Final = """
import runpy

def train():
    runpy.run_path("train.py")
"""
FIXTURE: Final = """
import sys

def test_same(xorbench):
    xorbench.check([sys.executable, "train.py"])

def test_drift(xorbench):
    xorbench.check([sys.executable, "train.py", "--drift"])
"""
TABLES: Final = """
import xorbench

result = xorbench.load_run("one")
for name in result.tables:
    frame = result.table(name)
    print(name, frame.shape, frame.dtypes.to_dict(), frame.to_csv(), sep="\\n")
print(result.answers, result.exit_code, repr(result), result._repr_html_(), result, sep="\\n")
print(xorbench.compare("one", "two"), xorbench.compare("one", "two").ratios)
"""
CHECK: Final = """
import sys, xorbench

command = [sys.executable, "train.py"]
for more in ([], ["--drift"]):
    result = xorbench.check(command + more)
    print(result, repr(result), result.first_divergence, result.exit_code, sep="\\n")
for options in ({"processes": 0}, {"kill_after": 3}, {"against": "x", "resume": "y"}):
    try:
        xorbench.check(command, **options)
    except Exception as error:
        print(type(error).__name__, error)
"""
RUN: Final = """
import xorbench

result = xorbench.run(quick=True, epochs=3)
print(result.exit_code, result.tables, [verdict.outcome for verdict in result.verdicts])
print([result.table(name).dtypes.to_dict() for name in result.tables])
"""
WRONG_OPTIONS: Final = """
import runpy, shlex, sys

for line in open("wrong.txt"):
    sys.argv = ["xorbench", *shlex.split(line)]
    try:
        runpy.run_module("xorbench", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        print(line, ended.code, file=sys.stderr)
"""
RUN_VALUES: Final = {
    "x,x": ("devices", "engines", "batch-sizes", "seeds", "pin-memory", "inject", "baseline"),
    "-1": ("threads", "processes", "epochs", "lr", "timeout"),
    "''": ("name", "out", "resume", "env", "precision"),
}
WRONG: Final = """
sweep --seeds x
sweep --backend x
sweep --resume x
fleet --merge nowhere
canary --probes x
canary --memory 1
compare nowhere
compare --by x nowhere
report nowhere
diff a b
explain a b
explain --epochs 3 -- python train.py
explain --env x -- python train.py
trace x -o x
import x
export x
dance
check
check a.b
check --unknown
check --resume x -- python train.py
check --kill-after 5 -- python train.py
check --kill-after 5 --resume x --against y -- python train.py
check --kill-after 0 --resume x -- python train.py
check --processes x -- python train.py
check --steps x -- python train.py
check --threshold x --against x -- python train.py
check --skip -1 --against x -- python train.py
check --max-copy -1 -- python train.py
check --speed-only --bits-only --against x -- python train.py
check --from x --steps 3
check --from x
"""
FILES: Final = {
    "train.py": TRAIN,
    "function.py": FUNCTION,
    "test_it.py": FIXTURE,
    "tables.py": TABLES,
    "check.py": CHECK,
    "run.py": RUN,
    "wrong.py": WRONG_OPTIONS,
    "wrong.txt": "".join(
        f"run --{name} {value}\n" for value, names in RUN_VALUES.items() for name in names
    )
    + WRONG.lstrip(),
}
"""Files that are written into the folder of every case, by name."""

FORMS: Final = "--json --junit x.xml --markdown x.md"
TRAINED: Final = "-- PYTHON train.py"
XOR: Final = "cpu-loader-b128-pin0-drop1-w0-s0"
ONE: Final = "--batch-sizes 128 --drop-last true --pin-memory false --epochs 3"


def _measured(name: str, commands: str, start: str | None = None) -> Case:
    return Case(name, commands, start, measured=True)


RUNS: Final = [
    _measured("runs", "run --quick --name one --save-weights\nrun --quick --name two"),
    _measured(
        "engines",
        "run --engines loader,fetch,tensor,replay,universal --batch-sizes 64 --epochs 4",
    ),
    _measured("compile", f"run {ONE} --engines compile"),
    _measured(
        "settings",
        f"run {ONE} --threads 1,2 --seeds 0-1 --dtypes float32,bfloat16 --processes 1 --anonymous",
    ),
    _measured("sweep", "sweep --seeds 0-63 --epochs 30 --name s"),
    _measured("fleet", "fleet --out f0 --epochs 3\nfleet --out f1 --epochs 3 --no-collective"),
    _measured("canary", "canary\ncanary --probes training,conversion --json"),
    *(
        _measured(f"fault {fault}", f"run {ONE} --inject {fault}{more}")
        for fault, more in {
            "flip-weight": ":epoch=1,process=1",
            "nan-gradient": ":epoch=1",
            "flip-data": "",
            "crash": ":epoch=1",
            "hang": ":epoch=1 --timeout 3",
        }.items()
    ),
]
PROGRAMS: Final = [
    _measured("check: equal", f"check {TRAINED}\ncheck --json {TRAINED}"),
    _measured(
        "check: differs", f"check --name d {TRAINED} --drift\ncheck --json {TRAINED} --drift"
    ),
    _measured("check: differs at the start", f"check --junit x.xml {TRAINED} --drift --from-start"),
    _measured("check: function", "check function:train"),
    _measured("check: fails", "check -- PYTHON missing.py"),
    _measured("check --steps", f"check --steps 9 --processes 3 --in-place {TRAINED} --drift"),
    _measured(
        "check --against",
        f"check --bits-only --processes 2 --against 'PYTHON train.py' {TRAINED}\n"
        f"check --bits-only --processes 2 --against 'PYTHON train.py --faster' --name a {TRAINED}",
    ),
    _measured(
        "check --resume",
        f"check --kill-after 7,12 --resume 'PYTHON train.py --resume' {TRAINED}\n"
        f"check --kill-after 7 --resume 'PYTHON train.py --resume --forget' --name k {TRAINED}",
    ),
    _measured("check --dry-run", f"check --dry-run {TRAINED}\nexplain --dry-run {TRAINED}"),
    _measured("explain CMD", f"explain --no-cost --processes 2 --max-runs 4 {TRAINED} --drift"),
    _measured(
        "trace CMD",
        f"trace -o a.trace {TRAINED}\ntrace -o b.trace --detail 0-3 {TRAINED} --faster",
    ),
    _measured("xorbench.check", "PYTHON check.py"),
    _measured("xorbench.run", "PYTHON run.py"),
    _measured("pytest fixture", "PYTHON -m pytest -q -p no:cacheprovider test_it.py"),
]
XOR_CASES: Final = [
    _measured(
        "trace CASE",
        f"trace {XOR} --epochs 2 -o a.trace\n"
        f"trace {XOR} --epochs 2 -o b.trace --epoch 1 --dump-steps 0-2\n"
        f"trace {XOR} --epochs 2 -o c.trace --dump-steps 0-9 --inject flip-weight:epoch=1,step=2\n"
        f"trace {XOR} --epochs 2 -o d.trace --dump-steps 0-9",
    ),
    Case(
        "diff of traces of cases",
        "diff a.trace b.trace\ndiff a.trace c.trace\ndiff c.trace d.trace\n"
        "diff c.trace d.trace --json",
        "trace CASE",
    ),
    Case("diff of runs", "diff one two\ndiff one one --json", "runs"),
    Case("diff of a fault", f"diff latest:{XOR}#p0 latest:{XOR}#p1", "fault flip-weight"),
    Case(
        "explain A B",
        f"explain --epochs 2 {XOR} {XOR}@threads=2\n"
        f"explain --epochs 2 {XOR} {XOR.replace('b128', 'b64')} --json",
    ),
]
READ: Final = [
    Case("report", f"report one\nreport one {FORMS}\nreport one --anonymous", "runs"),
    Case("report: engines", "report latest --verbose", "engines"),
    Case("report: settings", "report latest", "settings"),
    Case("report: fault", "report latest", "fault flip-weight"),
    Case("report: crash", f"report latest {FORMS}", "fault crash"),
    Case("report: sweep", f"report s\nreport s {FORMS}", "sweep"),
    Case("report: two runs", f"report one two\nreport one two --html x.html {FORMS}", "runs"),
    Case("report --history", "report --history\nreport --history --json", "runs"),
    Case(
        "report: references",
        "report epyc-2core-cpu\nreport epyc-2core-cpu-engines\nreport epyc-2core-cpu-sweep\n"
        "report epyc-2core-cpu epyc-2core-cpu-engines --html x.html",
        "results/reference",
    ),
    Case(
        "compare",
        f"compare one two\ncompare one two --threshold 50% {FORMS}\n"
        "compare one --by drop-last\ncompare one --by drop-last --json\n"
        "baseline save base one\ncompare --baseline base two",
        "runs",
    ),
    Case(
        "compare --by", f"compare latest --by engine\ncompare latest --by engine {FORMS}", "engines"
    ),
    Case(
        "pytest-benchmark",
        "pytest-benchmark export one one.json\npytest-benchmark import one.json\nreport latest",
        "runs",
    ),
    Case("fleet atlas", "fleet atlas add one\nfleet atlas show", "runs"),
    Case("fleet --merge", f"fleet --merge --out m f0 f1 {FORMS}", "fleet"),
    _measured("run --dry-run", "run --dry-run\nrun --dry-run --json"),
    Case("check --from", f"check --from 'results/checks/*-d' {FORMS}", "check: differs"),
    Case("against --from", f"check --from 'results/checks/*-a' {FORMS}", "check --against"),
    Case("resume --from", f"check --from 'results/checks/*-k' {FORMS}", "check --resume"),
    Case("diff of traces", "diff a.trace b.trace\ndiff a.trace b.trace --json", "trace CMD"),
    Case("load_run", "PYTHON tables.py", "runs"),
    Case("list, env", "list\nlist --json\nenv\n--version\n--help"),
    Case("help", "check --help\nexplain --help\nrun --help\nfleet --help\ncompare --help"),
    Case("wrong options", "PYTHON wrong.py"),
]
CASES: Final = [*RUNS, *PROGRAMS, *XOR_CASES, *READ]
