"""Small hostile trainings, generated from seeds, and a driver that runs them.

    python hostile.py FOLDER SEED … [--harm]

A program is a tiny training with hostile ingredients: descriptors, threads, forks, exits, signals
and environment. Some are nondeterministic, in a known way. Each ends by writing the truth to
`truth.bin`: every parameter, buffer and state of every live model and optimizer.

The driver imports PyTorch once. Every run of a program is a process of its own, forked from the
driver, in a new session and a fresh folder; a recorded one loads the real recorder by the real
`sitecustomize` and is waited for by the real supervisor. Each program runs twice without the
recorder and twice with it. With `--harm` the recorder also writes into a file of the program.
"""

import contextlib
import importlib
import json
import os
import random
import resource
import runpy
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

TIMEOUT_S: Final = 60.0
RUNS: Final = ("plain-1", "plain-2", "run-1", "run-2")
STEPS: Final = 4


class Ingredient(NamedTuple):
    """Lines of a program, and where they stand in it.

    Attributes:
        stage: `start`, in the loop (`step`), `after` it, or at the `exit`, after the truth.
        varies: it makes the program nondeterministic.
        fresh: it needs an interpreter of its own, which imports PyTorch again.
        share: how often it is drawn, relative to others.
    """

    name: str
    stage: str
    code: str
    varies: bool = False
    fresh: bool = False
    share: float = 1.0


class Program(NamedTuple):
    """A generated program, and its ingredients."""

    seed: int
    source: str
    names: tuple[str, ...]
    varies: bool


HEAD: Final = '''
import atexit, json, os, resource, shutil, signal, subprocess, sys, threading, time
import torch
from torch import nn

WORK = os.getcwd()
torch.set_num_threads(1)
torch.manual_seed({seed})
models, optimizers, kept, threads = {{}}, {{}}, [], []

def noise():
    """A number that no other process has."""
    return int.from_bytes(os.urandom(3), "big") * 1e-6 + 1e-3

def net(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 1))

def batch(step, generator=None):
    generator = generator or torch.Generator().manual_seed(1000 + step)
    return torch.randn(5, 3, generator=generator)

def train(name, step, generator=None):
    model, optimizer = models[name], optimizers[name]
    optimizer.zero_grad()
    model(batch(step, generator)).square().mean().backward()
    optimizer.step()

def add(name, kind=torch.optim.{optimizer}, lr=0.05):
    models[name] = net()
    optimizers[name] = kind(models[name].parameters(), lr=lr)

def wait(pid):
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # SIGCHLD is ignored
        pass

def own(name):
    return open(os.path.join(WORK, name), "ab")

def state():
    """The bytes of every parameter, buffer and optimizer state."""
    parts = []
    for name, model in models.items():
        for key, value in model.state_dict().items():
            parts.append(f"{{name}}.{{key}} ".encode() + value.detach().numpy().tobytes())
    for name, optimizer in optimizers.items():
        for key, values in optimizer.state_dict()["state"].items():
            for kind, value in values.items():
                data = value.numpy().tobytes() if torch.is_tensor(value) else repr(value).encode()
                parts.append(f"{{name}}:{{key}}:{{kind}} ".encode() + data)
    return b"\\n".join(parts)

def truth(name="truth.bin"):
    for thread in threads:
        thread.join()
    with open(os.path.join(WORK, name), "wb") as file:
        file.write(state())

add("main")
'''

ENDING: Final = """
signal.setitimer(signal.ITIMER_REAL, 0)
truth()
for file in kept:
    file.write(b"end\\n")
    file.close()
"""

# Descriptors

DESCRIPTORS: Final = (
    Ingredient(
        "close all, then open own files",
        "step",
        """
if step == {at}:
    os.closerange(3, {upto})
    for number in range({count}):
        kept.append(own(f"ck{{number}}.bin"))
for file in kept:
    file.write(bytes([step]) * 700)
    file.flush()
""",
        share=3,
    ),
    Ingredient(
        "close all at the start",
        "start",
        "os.closerange(3, {upto})\nkept.append(own('log.txt'))",
    ),
    Ingredient(
        "dup2 over high numbers",
        "step",
        """
if step == {at}:
    file = own("high.bin")
    for number in ({high}):
        os.dup2(file.fileno(), number)
    kept.append(file)
if step > {at}:
    for number in ({high}):
        os.write(number, b"high %d\\n" % step)
""",
        share=2,
    ),
    Ingredient(
        "dup2 over every number in use",
        "step",
        """
if step == {at}:
    file = own("every.bin")
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        if number > 2:
            try:
                os.fstat(number)
                os.dup2(file.fileno(), number)
            except OSError:
                pass
    kept.append(file)
""",
    ),
    Ingredient(
        "few descriptors allowed",
        "start",
        "resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))",
    ),
    Ingredient(
        "standard streams closed",
        "start",
        "for number in ({streams}):\n    os.close(number)\nkept.append(own('first.bin'))",
    ),
    Ingredient(
        "files changed",
        "step",
        """
path = os.path.join(WORK, "moving.bin")
with open(path, "ab") as file:
    file.write(b"x" * 100)
os.chmod(path, 0o400 if step % 2 else 0o600)
os.rename(path, path + ".moved")
os.unlink(path + ".moved") if step == 1 else os.rename(path + ".moved", path)
os.chmod(path, 0o600) if os.path.exists(path) else None
""",
    ),
    Ingredient(
        "close between steps",
        "step",
        """
for thread in threads:
    thread.join()  # it may crash if a file that it reads is closed
os.closerange(3, 4096)
with own("steps.bin") as file:
    file.write(b"step")
""",
    ),
)

# Threads

THREADS: Final = (
    Ingredient(
        "a second training in a thread",
        "start",
        """
add("thread")
def second():
    for step in range({count}):
        train("thread", step, torch.Generator().manual_seed(step))
threads.append(threading.Thread(target=second))
threads[-1].start()
""",
        share=1.5,
    ),
    Ingredient(
        "a second training in a thread that varies",
        "start",
        """
add("thread")
def second():
    for step in range({count}):
        train("thread", step, torch.Generator().manual_seed(int(noise() * 1e6)))
threads.append(threading.Thread(target=second))
threads[-1].start()
""",
        varies=True,
    ),
    Ingredient(
        "a daemon thread that is alive at the end",
        "start",
        "threading.Thread(target=lambda: time.sleep(600), daemon=True).start()",
    ),
    Ingredient(
        "a thread that evaluates",
        "step",
        """
def evaluate():
    with torch.no_grad():
        models["main"][0](batch(99))
evaluation = threading.Thread(target=evaluate)
evaluation.start()
evaluation.join()
""",
    ),
)

# Processes

PROCESSES: Final = (
    Ingredient(
        "a fork that trains",
        "after",
        """
if not (pid := os.fork()):
    for step in range(10, 12):
        train("main", step)
    truth("truth-child.bin")
    os._exit(0)
wait(pid)
""",
        share=2,
    ),
    Ingredient(
        "a fork that trains differently",
        "after",
        """
if not (pid := os.fork()):
    models["main"][0].weight.data.add_(noise())
    for step in range(10, 12):
        train("main", step)
    truth("truth-child.bin")
    os._exit(0)
wait(pid)
""",
        varies=True,
    ),
    Ingredient(
        "a fork that ends by sys.exit",
        "step",
        "if not (pid := os.fork()):\n    os._exit(3)\nwait(pid)",
    ),
    Ingredient(
        "multiprocessing by fork",
        "after",
        """
import multiprocessing
def work():
    with own("part.txt") as file:
        file.write(b"done")
part = multiprocessing.get_context("fork").Process(target=work)
part.start()
part.join()
""",
    ),
    Ingredient(
        "a helper left behind",
        "after",
        """
if not os.fork():
    os.setsid()
    os.closerange(0, 64)
    time.sleep(600)
    os._exit(0)
""",
        share=0.3,
    ),
    Ingredient(
        "the training in a daemon",
        "start",
        """
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
SLOW = 2.5
""",
        share=0.3,
    ),
    Ingredient(
        "a process without the recorder",
        "after",
        """
words = [sys.executable, "-I", "-S", "-c", "open('bare.txt', 'w').write('x')"]
subprocess.run(["env", "-i", *words], cwd=WORK)
""",
    ),
)

# Exits, signals, environment

EXITS: Final = (
    Ingredient("os._exit", "exit", "os._exit(0)", share=2),
    Ingredient(
        "os._exit after a change",
        "exit",
        "with torch.no_grad():\n    models['main'][0].weight.add_(1.0)\ntruth()\nos._exit(0)",
        share=2,
    ),
    Ingredient(
        "os._exit after a change that varies",
        "exit",
        "with torch.no_grad():\n    models['main'][0].weight.add_(noise())\ntruth()\nos._exit(0)",
        varies=True,
        share=2,
    ),
    Ingredient("sys.exit", "exit", "sys.exit(0)"),
    Ingredient("exit code 5", "exit", "sys.exit(5)", share=0.5),
    Ingredient(
        "sys.exit in atexit",
        "exit",
        "def leave():\n    truth()\n    sys.exit(0)\natexit.register(leave)",
    ),
    Ingredient(
        "a change in atexit that varies",
        "exit",
        """
def change():
    models["main"][0].bias.data.add_(noise())
    truth()
atexit.register(change)
""",
        varies=True,
    ),
    Ingredient(
        "an exception that is handled",
        "exit",
        "sys.excepthook = lambda *_: os._exit(0)\nraise RuntimeError('after the last step')",
    ),
    Ingredient("killed by itself", "exit", "os.kill(os.getpid(), signal.SIGKILL)", share=0.5),
    Ingredient("ended by itself", "exit", "os.kill(os.getpid(), signal.SIGTERM)", share=0.5),
    Ingredient(
        "a second stage by exec",
        "exit",
        """
if len(sys.argv) == 1:
    os.chdir(WORK)
    os.execv(sys.executable, [sys.executable, os.path.join(WORK, "script.py"), "second"])
""",
        fresh=True,
        share=0.3,
    ),
)
SIGNALS: Final = (
    Ingredient(
        "SIGUSR1 during steps",
        "step",
        """
signal.signal(signal.SIGUSR1, lambda *_: own("signals.txt").write(b"one"))
os.kill(os.getpid(), signal.SIGUSR1)
""",
    ),
    Ingredient(
        "a timer during steps",
        "start",
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)",
        share=2,
    ),
    Ingredient("SIGCHLD ignored", "start", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"),
)
ENVIRONMENT: Final = (
    Ingredient("another folder", "start", "os.chdir('/')"),
    Ingredient("no environment", "start", "os.environ.clear()"),
    Ingredient(
        "changed variables",
        "start",
        "os.environ.update(HOME='/nowhere', TMPDIR='/nowhere', PYTHONPATH='/nowhere')",
    ),
    Ingredient("a strict umask", "start", "os.umask(0o777 if os.geteuid() == 0 else 0o077)"),
    Ingredient(
        "the record is deleted",
        "step",
        "if step == {at}:\n"
        "    shutil.rmtree(os.environ.get('XORBENCH_RECORD', '/nowhere'), ignore_errors=True)",
        share=1.5,
    ),
)

# Other nondeterminism

VARYING: Final = (
    Ingredient("weights without a seed", "start", "torch.seed()\nadd('main')", varies=True),
    Ingredient(
        "a learning rate by the clock",
        "step",
        "optimizers['main'].param_groups[0]['lr'] = 0.05 + noise()",
        varies=True,
    ),
    Ingredient(
        "weights that vary after the last step",
        "after",
        "with torch.no_grad():\n    models['main'][3].weight.mul_(1 + noise())",
        varies=True,
        share=2,
    ),
    Ingredient(
        "a second model that varies",
        "after",
        "torch.seed()\nadd('second')\nfor step in range(2):\n    train('second', step)",
        varies=True,
    ),
    Ingredient(
        "a teacher that varies and is trained a little",
        "start",
        "add('teacher')\nmodels['teacher'][0].weight.data.add_(noise())\ntrain('teacher', 0)",
        varies=True,
        share=2,
    ),
    Ingredient(
        "an early model that varies at the end",
        "after",
        "add('early')\ntrain('early', 0)\nfor step in range(25):\n    train('main', step)\n"
        "models['early'][0].bias.data.add_(noise())",
        varies=True,
        share=2,
    ),
    Ingredient(
        "a buffer that varies in the evaluation",
        "after",
        "models['main'].register_buffer('seen', torch.zeros(2))\nmodels['main'].eval()\n"
        "with torch.no_grad():\n    models['main'](batch(50))\n"
        "    models['main'].seen.add_(noise())",
        varies=True,
        share=2,
    ),
    Ingredient(
        "a batch norm that varies after the last step",
        "after",
        "models['main'].train()\nwith torch.no_grad():\n    models['main'](batch(50) + noise())",
        varies=True,
        share=2,
    ),
    Ingredient(
        "an optimizer whose state varies",
        "after",
        "for values in optimizers['main'].state.values():\n    for value in values.values():\n"
        "        if torch.is_tensor(value) and value.ndim:\n            value.add_(noise())",
        varies=True,
        share=2,
    ),
    Ingredient(
        "a head that is new after the last step",
        "after",
        "torch.seed()\nmodels['main'].append(nn.Linear(1, 2))",
        varies=True,
    ),
)
HARMLESS: Final = (*DESCRIPTORS, *THREADS, *PROCESSES, *SIGNALS, *ENVIRONMENT)
EVERY: Final = (*HARMLESS, *EXITS, *VARYING)
SHARE_VARYING: Final = 0.4


def program(seed: int) -> Program:
    """The program of a seed."""
    draw = random.Random(seed)
    same = [one for one in HARMLESS if not one.varies]
    chosen = drawn(draw, same, draw.choice((1, 2, 2, 3)))
    varies = draw.random() < SHARE_VARYING
    if varies:
        chosen += drawn(draw, [one for one in EVERY if one.varies], 1)
    if not any(one.stage == "exit" for one in chosen) and draw.random() < 0.5:
        chosen += drawn(draw, [one for one in EXITS if not one.varies], 1)
    stages = {stage: lines(draw, chosen, stage) for stage in ("start", "step", "after", "exit")}
    optimizer = draw.choice(("SGD", "Adam", "AdamW"))
    if any("optimizer" in one.name for one in chosen):
        optimizer = "Adam"  # plain SGD has no state
    source = HEAD.format(seed=seed, optimizer=optimizer) + "SLOW = 0\n" + stages["start"]
    source += f"for step in range({STEPS}):\n    time.sleep(SLOW)\n"
    source += indented("train('main', step)\n" + stages["step"])
    source += stages["after"] + ENDING + stages["exit"]
    return Program(seed, source, tuple(one.name for one in chosen), varies)


def drawn(draw: random.Random, among: Iterable[Ingredient], count: int) -> list[Ingredient]:
    """Different ingredients, by their shares."""
    left, chosen = list(among), []
    for _ in range(count):
        one = draw.choices(left, [each.share for each in left])[0]
        chosen.append(one)
        left.remove(one)
    return chosen


def lines(draw: random.Random, chosen: Iterable[Ingredient], stage: str) -> str:
    """The lines of a stage, with numbers drawn."""
    values = {
        "at": draw.randrange(STEPS - 1),
        "upto": draw.choice((64, 200, 1024, 70_000)),
        "count": draw.choice((1, 3, 8, 30)),
        "high": ", ".join(map(str, sorted(draw.sample((60, 100, 255, 500, 900, 1000, 1023), 3)))),
        "limit": draw.choice((32, 64, 128)),
        "streams": draw.choice(("0,", "0, 1", "1, 2", "0, 1, 2")),
    }
    return "".join(
        one.code.strip("\n").format(**values) + "\n" for one in chosen if one.stage == stage
    )


def indented(text: str) -> str:
    """The lines as the body of a loop."""
    return "".join(f"    {line}\n" for line in text.splitlines())


# The driver


class Forked:
    """A program in a fork of this process, as the supervisor's `SupervisedCommand`."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.code: int | None = None
        self.replies: list[int] = []
        self.asked: dict[str, Any] | None = None

    def start(self, asked: dict[str, Any]) -> None:
        """Fork; in the child raises `InChild`."""
        self.pid = os.fork()
        if not self.pid:
            raise InChild(asked)

    def has_ended(self) -> bool:
        """Whether the program has ended."""
        from xorbench.runtime.process_tree import reap

        if self.code is None:
            self.code = reap(self.pid)
        return self.code is not None

    def is_lost(self) -> bool:
        """It is a child of this process."""
        return False

    def processes(self) -> Any:
        """The living processes of the program."""
        from xorbench.runtime.process_tree import descendants

        return descendants(os.getpid(), self.pid)

    tree = processes


class InChild(BaseException):
    """This process is the program now."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__("the program")
        self.asked = asked


def run(folder: Path, name: str, site: Path, environment: Mapping[str, str]) -> None:
    """One run of the program of a folder, in `work`, which is moved to `NAME.work` after it."""
    from xorbench.records.ended import Ended, write_ended
    from xorbench.runtime import supervisor

    work, output = folder / "work", folder / name
    work.mkdir()
    shutil.copy(folder / "script.py", work)
    (output / "records").mkdir(parents=True)
    asked = {
        "folder": str(work),
        "environment": dict(environment),
        "site": str(site) if name.startswith("run") else "",
        "stdout": str(output / "stdout.txt"),
        "stderr": str(output / "stderr.txt"),
        "timeout_s": TIMEOUT_S,
        "records": str(output / "records"),
        "stops": False,
    }
    command: Any = Forked()
    answer = supervisor.supervise(asked, command)
    work.rename(folder / f"{name}.work")
    kept = {key: answer[key] for key in ("how", "code", "wall_s", "left", "left_pids")}
    (output / "records").mkdir(exist_ok=True)
    write_ended(Ended(number=int(name[-1]), folder=output, **kept))


def drive(root: Path, seeds: list[int], *, harm: bool) -> None:
    """Run every program four times."""
    from xorbench.programs.command_run import SITE, environment
    from xorbench.runtime.process_tree import adopt_orphans

    adopt_orphans()
    for seed in seeds:
        folder = root / str(seed)
        folder.mkdir(parents=True)
        made = program(seed)
        (folder / "script.py").write_text(made.source)
        for name in RUNS:
            values = dict(os.environ)
            if name.startswith("run"):
                records = folder / name / "records"
                values = environment(int(name[-1]), records, folder / "work", {"max_bytes": 10**8})
                values |= {"HOSTILE_HARM": "1"} if harm else {}
            run(folder, name, SITE, values)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in spent)
    (root / "cost.json").write_text(json.dumps({"processor_s": seconds}))


def become(asked: dict[str, Any]) -> None:
    """Be the program: its session, folder, streams and environment, and the recorder if asked."""
    os.setsid()
    os.chdir(asked["folder"])
    streams = [os.open(os.devnull, os.O_RDONLY)]
    flags = os.O_WRONLY | os.O_CREAT
    streams += [os.open(asked[name], flags, 0o600) for name in ("stdout", "stderr")]
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["script.py"]
    if asked["site"]:
        _as_site_does(asked["site"])
        if os.environ.get("HOSTILE_HARM"):
            _harm()


def _as_site_does(folder: str) -> None:
    """Import `sitecustomize` from the folder, and the next one if there is one, as `site` does."""
    sys.modules.pop("sitecustomize", None)
    sys.path.insert(0, folder)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise


def _harm() -> None:
    """Let the recorder write a line into a file of the program as well."""
    sink = sys.modules["_xorbench_recorder.sink"].Sink
    write = sink.write

    def both(self: Any, *arguments: Any, **options: Any) -> None:
        write(self, *arguments, **options)
        with contextlib.suppress(OSError), Path("truth.bin").open("ab") as file:
            file.write(b"a line of the record\n")

    sink.write = both


if __name__ == "__main__":
    import torch
    import torch._dynamo

    torch.set_num_threads(1)
    numbers = [int(word) for word in sys.argv[2:] if word.isdecimal()]
    script = None
    try:
        drive(Path(sys.argv[1]), numbers, harm="--harm" in sys.argv)
    except InChild as child:
        script = child.asked
    if script is not None:
        become(script)
        runpy.run_path("script.py", run_name="__main__")
