"""Small trainings for the tests of the recorder, each run in a fork of one process with PyTorch.

    python recorder_programs.py NAME … -- WORDS

PyTorch is imported once, then each program runs in a child of its own, as a forked training does:
the recorder opens a record for it at its first step. The answer is a line of JSON on standard
output: each program's process number, exit code and seconds.
"""
# Many programs look for PyTorch long before they import it; the result is printed.
# ruff: noqa: E402, T201

import atexit
import dataclasses
import importlib.util
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

importlib.util.find_spec("torch")

import numpy as np
import torch
import torch._dynamo
import torch.utils.checkpoint
from torch import Tensor, nn

torch.set_num_threads(1)


def net(*, norm: bool = True) -> nn.Sequential:
    """Three layers, one of them with buffers."""
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(4)] if norm else []
    return nn.Sequential(nn.Linear(3, 4), *middle, nn.Linear(4, 1))


def sgd(*modules: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    """An optimizer of all their parameters."""
    return torch.optim.SGD([p for module in modules for p in module.parameters()], lr=lr)


def data(step: int, rows: int = 5) -> Tensor:
    """The batch of a step."""
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(step))


def steps(model: Any, optimizer: torch.optim.Optimizer, count: int = 2, first: int = 0) -> None:
    """A usual training loop."""
    for step in range(first, first + count):
        optimizer.zero_grad()
        model(data(step)).square().mean().backward()
        optimizer.step()


def plain() -> None:
    """Three steps, with a new learning rate from the third; the initial tensors are saved."""
    model = net()
    optimizer = sgd(model)
    kept = []
    for step in range(3):
        if step == 2:
            optimizer.param_groups[0]["lr"] = 0.05
        x = data(step)
        before = [p.detach().clone() for p in model.state_dict().values()]
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        kept.append({"before": before, "batch": x, "loss": loss.detach()})
    final = [p.detach().clone() for p in model.state_dict().values()]
    torch.save({"steps": kept, "final": final}, "plain.pt")


def changed_between() -> None:
    """The program changes a parameter after the optimizer's step."""
    model = net()
    optimizer = sgd(model)
    for step in range(2):
        steps(model, optimizer, 1, step)
        with torch.no_grad():
            model[0].weight.clamp_(-0.1, 0.1)
    torch.save(model[0].weight.detach(), "changed_between.pt")


def generators() -> None:
    """NumPy's and Python's generators are used in one step each."""
    import random

    random.seed(0)
    np.random.seed(0)
    model = net()
    optimizer = sgd(model)
    for step in range(4):
        if step == 1:
            random.random()
        if step == 2:
            np.random.rand()
        if step == 3:
            torch.rand(1)
        steps(model, optimizer, 1, step)


def chained_calls() -> None:
    """A decoder gets the output of an encoder: itself, detached, and a part of it."""
    encoder, decoder = net(), nn.Linear(1, 1)
    optimizer = sgd(encoder, decoder)
    for step in range(2):
        optimizer.zero_grad()
        code = encoder(data(step))
        decoder(code).sum().backward()
        decoder(code.detach()).sum().backward()
        decoder(code.detach()[1:3]).sum().backward()
        optimizer.step()


def loss_module() -> None:
    """The loss is a module, whose call is not a training call."""
    model, criterion = net(), nn.MSELoss()
    optimizer = sgd(model)
    for step in range(2):
        optimizer.zero_grad()
        criterion(model(data(step)), torch.zeros(5, 1)).backward()
        optimizer.step()


@dataclasses.dataclass
class Batch:
    """A batch with names."""

    ids: Tensor
    scale: float


class Pair(NamedTuple):
    """Two tensors."""

    left: Tensor
    right: Tensor


class Keywords(nn.Module):
    """Takes keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, *args: Any, x: Tensor, **kwargs: Any) -> Tensor:
        """Map one of them."""
        return self.layer(x)


def inputs() -> None:
    """Inputs of all kinds, by position and by keyword."""
    model = Keywords()
    optimizer = sgd(model)
    x = data(0)
    model(
        Batch(torch.ones(2), 0.5),
        Pair(torch.zeros(1), torch.ones(1)),
        np.arange(3),
        x=x,
        mask={"a": [torch.ones(1)], object: torch.zeros(1)},
        flag=True,
        name="text",
        nothing=None,
    ).sum().backward()
    optimizer.step()


class Slots:
    """A value of an unsupported type."""

    __slots__ = ()


def unreadable() -> None:
    """Inputs without a digest, or with a special one."""
    model = Keywords()
    optimizer = sgd(model)
    model(
        torch.zeros(2, device="meta"),
        torch.eye(3).to_sparse(),
        torch.nested.nested_tensor([torch.zeros(2)], layout=torch.jagged),
        Slots(),
        {1, 2},
        np.array([object()], dtype=object),
        x=data(0),
    ).sum().backward()
    optimizer.step()


def strided_element() -> None:
    """A batch of one element of a column."""
    model = nn.Linear(1, 1)
    optimizer = sgd(model)
    column = data(0)
    model(column[:1, 1]).sum().backward()
    optimizer.step()


def wide() -> None:
    """A batch that is a very long list of numbers, and a list that contains itself."""
    model = Keywords()
    optimizer = sgd(model)
    loop: list[Any] = []
    loop += [loop] * 10
    model(list(range(100_000)), x=data(0)).sum().backward()
    model(loop, x=data(0)).sum().backward()
    optimizer.step()


def two_optimizers() -> None:
    """Two networks that step in turn."""
    a, b = net(norm=False), nn.Linear(3, 1)
    first, second = sgd(a), torch.optim.Adam(b.parameters())
    for step in range(2):
        steps(a, first, 1, step)
        steps(b, second, 1, step)


def accumulation() -> None:
    """Two batches per step."""
    model = net()
    optimizer = sgd(model)
    for step in range(2):
        optimizer.zero_grad()
        for part in range(2):
            (model(data(2 * step + part)).square().mean() / 2).backward()
        optimizer.step()


def lbfgs() -> None:
    """The forward pass is part of the step."""
    model = net(norm=False)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(data(0)).square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)


def grad_scaler() -> None:
    """The scaler skips a step with an infinite gradient."""
    model = net(norm=False)
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(3):
        optimizer.zero_grad()
        loss = model(data(step)).square().mean()
        scaler.scale(loss * float("inf") if step == 1 else loss).backward()
        scaler.step(optimizer)
        scaler.update()


class Tied(nn.Module):
    """The first and the last layer share a weight; a layer in between is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.frozen = nn.Linear(3, 3)
        self.last = nn.Linear(3, 3)
        self.last.weight = self.first.weight
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map."""
        return self.last(self.frozen(self.first(x)))


def tied_and_frozen() -> None:
    """A shared weight, and parameters in no optimizer."""
    model = Tied()
    steps(model, sgd(model.first, nn.ModuleList([])), 2)


def frozen_whole() -> None:
    """A frozen feature extractor before a trained head."""
    body, head = net().requires_grad_(False), nn.Linear(1, 1)
    optimizer = sgd(head)
    head(body(data(0))).sum().backward()
    optimizer.step()


def evaluation() -> None:
    """An evaluation before the first step and within the second step."""
    model = net()
    optimizer = sgd(model)

    def evaluate() -> None:
        model.eval()
        with torch.no_grad():
            model(data(9))
        model.train()

    evaluate()
    steps(model, optimizer, 1)
    optimizer.zero_grad()
    loss = model(data(1)).square().mean()
    evaluate()
    loss.backward()
    optimizer.step()


def module_compile() -> None:
    """`Module.compile` bypasses the hooks of modules."""
    model = net(norm=False)
    model.compile(backend="eager")
    steps(model, sgd(model))


def compiled() -> None:
    """A compiled model."""
    model = net(norm=False)
    steps(torch.compile(model, backend="eager"), sgd(model))


def compiled_step() -> None:
    """A compiled optimizer's step, which is not recorded."""
    model = net(norm=False)
    optimizer = sgd(model)
    step = torch.compile(optimizer.step, backend="eager")
    for number in range(2):
        optimizer.zero_grad()
        model(data(number)).sum().backward()
        step()


def functional() -> None:
    """A model without a module."""
    weight = nn.Parameter(torch.ones(3, 1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    steps(lambda x: x @ weight, optimizer)


def fake() -> None:
    """A model that is traced with fake tensors, next to a real training."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        model = nn.Linear(3, 1)
        steps(lambda _: model(torch.zeros(1, 3)), torch.optim.Adam([nn.Parameter(torch.ones(1))]))
    real = net()
    steps(real, sgd(real), 1)


def transforms() -> None:
    """`grad` and `vmap` of a functional call, and `jit.trace`, which are ignored."""
    model = net(norm=False)
    optimizer = sgd(model)
    parameters = dict(model.named_parameters())

    def loss(weights: Any, x: Tensor) -> Tensor:
        return torch.func.functional_call(model, weights, (x,)).sum()

    torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, data(0))
    torch.export.export(model, (data(0),))
    steps(model, optimizer, 1)


def checkpointing() -> None:
    """Both kinds of activation checkpointing recompute in the backward pass."""
    first, last = nn.Linear(3, 3), nn.Linear(3, 1)
    optimizer = sgd(first, last)
    for reentrant in (False, True):
        optimizer.zero_grad()
        x = data(0).requires_grad_()
        middle = torch.utils.checkpoint.checkpoint(first, x, use_reentrant=reentrant)
        last(middle).sum().backward()
        optimizer.step()


def raises_within() -> None:
    """A forward pass that raises is caught, and the training continues."""

    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            output = self.layer(x)
            if x.shape[0] == 1:
                raise ValueError
            return output

    model = Sometimes()
    optimizer = sgd(model)
    for _ in range(2):
        try:
            model(data(0, rows=1))
        except ValueError:
            steps(model, optimizer, 1)


def lazy() -> None:
    """A lazy layer that gets its shape at its first call."""
    model = nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 1))
    steps(model, sgd(model))


def plain_values() -> None:
    """Hyperparameters without a JSON number."""
    model = net(norm=False)
    groups = [
        {"params": model[0].parameters(), "lr": np.float32(0.5), "limit": float("inf")},
        {"params": model[1].parameters(), "lr": torch.tensor(0.25), "more": {"a": [float("nan")]}},
    ]
    steps(model, torch.optim.SGD(groups, lr=0.1))


def threads() -> None:
    """Two threads train, the second after the end of the first."""
    model = net()
    optimizer = sgd(model)
    ended = threading.Event()

    def second() -> None:
        ended.wait()
        steps(model, optimizer, 1, 1)

    first = threading.Thread(target=steps, args=(model, optimizer, 1))
    other = threading.Thread(target=second)  # started now, or it might get the id of the first
    first.start()
    other.start()
    first.join()
    ended.set()
    other.join()


def own_generator() -> None:
    """NumPy's global generator is of a different kind."""
    np.random.set_bit_generator(np.random.PCG64(0))
    model = net()
    steps(model, sgd(model))


def forks() -> None:
    """Two steps, then a child that trains, one that does not, and one more step."""
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer, 2)
    model(data(0))
    for trains in (True, False):
        child = os.fork()
        if not child:
            if trains:
                other = nn.Linear(3, 1)
                steps(other, sgd(other), 1)
            else:
                model.eval()(data(0))
            leave()
        os.waitpid(child, 0)
    steps(model, optimizer, 1)


def killed() -> None:
    """Killed in step 3."""
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer, 3)
    model(data(3)).sum().backward()
    os.kill(os.getpid(), signal.SIGKILL)


def raises() -> None:
    """Ends with an exception within step 1."""
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer, 1)
    model(data(1)).sum().backward()
    raise RuntimeError("the program's own")


def exits() -> None:
    """Ends with its own exit code."""
    model = net()
    steps(model, sgd(model), 1)
    sys.exit(7)


def never_steps() -> None:
    """Only evaluates."""
    model = net().eval()
    model(data(0))


def recorder(name: str) -> Any:
    """A module of the recorder in this process."""
    return sys.modules[f"_xorbench_recorder.{name}"]


def _in_order() -> None:
    """The control without a fault."""


def _broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("injected")


def _fails(owner: Any, name: str) -> None:
    """Train with a part of the recorder that raises."""
    setattr(owner, name, _broken)
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer)
    print(json.dumps([p.tolist() for p in model.parameters()]), flush=True)


def fault_start() -> None:
    """The digest of each tensor fails at its start."""
    _fails(recorder("fingerprint").Digester, "start")


def fault_finish() -> None:
    """The digests fail when they are fetched."""
    _fails(recorder("fingerprint").Digester, "finish")


def fault_states() -> None:
    """The states of generators cannot be read."""
    _fails(recorder("listen"), "states")


def fault_inputs() -> None:
    """Inputs cannot be walked."""
    _fails(recorder("listen"), "values")


def fault_hyperparameters() -> None:
    """Hyperparameters cannot be read."""
    _fails(recorder("listen").Listener, "_hyperparameters")


def fault_write() -> None:
    """The record cannot be written."""
    _fails(recorder("sink").Sink, "write")


def fault_open() -> None:
    """The file of the record cannot be opened."""
    _fails(recorder("sink").RecordFile, "_open")


def no_fault() -> None:
    """The same training without a fault."""
    _fails(sys.modules[__name__], "_in_order")


def file_size_limit() -> None:
    """The user limits the size of files, and lifts the limit before the end."""
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer, 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    steps(model, optimizer, 20)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def closes_descriptors() -> None:
    """A daemon closes every descriptor and reuses the numbers for its own files."""
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer, 2)
    for step in range(2, 6):
        if step in (2, 4):
            os.closerange(3, 4096)
            own = [os.open(f"own{step}-{n}.bin", os.O_RDWR | os.O_CREAT) for n in range(8)]
            for number in (200, 900):  # possible numbers of the recorder's descriptors
                os.dup2(own[0], number)
            for descriptor in own:
                os.write(descriptor, b"x" * 70_000)
        steps(model, optimizer, 1, step)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))  # a write of the record fails
    steps(model, optimizer, 20, 6)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    print(
        json.dumps([Path(f"own{s}-{n}.bin").stat().st_size for s in (2, 4) for n in range(8)]),
        flush=True,
    )


def record_replaced() -> None:
    """The program replaces the file of the record by its own file."""
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer, 1)
    (record,) = Path("records").glob(f"*-{os.getpid()}.jsonl")
    Path("mine.bin").write_bytes(b"x" * 100)
    Path("mine.bin").rename(record)
    steps(model, optimizer, 2, 1)
    print(record.stat().st_size, flush=True)
    record.unlink()


def waiting_threads() -> None:
    """The main thread trains, and waits for a second thread that trains 3 steps."""
    model, other = net(), net()
    optimizer = sgd(model)
    steps(model, optimizer, 2)
    thread = threading.Thread(target=steps, args=(other, sgd(other), 3))
    thread.start()
    thread.join()
    steps(model, optimizer, 1)


def parallel_threads() -> None:
    """Two threads take turns of one step."""
    turns = [threading.Semaphore(1), threading.Semaphore(0)]

    def train(own: int) -> None:
        model = net()
        optimizer = sgd(model)
        for step in range(3):
            turns[own].acquire()
            steps(model, optimizer, 1, step)
            turns[1 - own].release()

    threads = [threading.Thread(target=train, args=(own,)) for own in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def idle_thread() -> None:
    """A thread that stays alive calls the model once, as a warm-up; the main thread trains."""
    model, done, stop = net(), threading.Event(), threading.Event()

    def warm_up() -> None:
        model(data(0))
        done.set()
        stop.wait()

    thread = threading.Thread(target=warm_up)
    thread.start()
    done.wait()
    steps(model, sgd(model))
    stop.set()
    thread.join()


def outlived() -> None:
    """A tensor in no module changes after its optimizer was freed."""
    weight = torch.ones(3, requires_grad=True)

    def train() -> None:
        optimizer = torch.optim.SGD([weight], lr=0.1)
        weight.square().sum().backward()
        optimizer.step()

    train()
    with torch.no_grad():
        weight.fill_(7.0)


def replaced_layer() -> None:
    """A layer is replaced after the last step and must be freed."""
    import weakref

    model = net()
    steps(model, sgd(model))
    old = weakref.ref(model[0].weight)
    model[0] = nn.Linear(3, 4)
    print("gone" if old() is None else "alive", flush=True)


def hooks_cleared() -> None:
    """The program clears PyTorch's global module hooks, and continues."""
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer, 2)
    nn.modules.module._global_forward_pre_hooks.clear()
    steps(model, optimizer, 2)


def early_model() -> None:
    """A model that is trained for 2 steps, changes after 40 steps of another, and is freed."""
    torch.manual_seed(1)
    early, late = net(), net()
    steps(early, torch.optim.Adam(early.parameters()), 2)
    steps(late, sgd(late), 40)
    early[0].weight.data.fill_(7.0)
    early[1].running_mean.fill_(8.0)


def state_changed() -> None:
    """The state of the optimizer changes after the last step."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    steps(model, optimizer)
    optimizer.state[model[0].weight]["exp_avg"].fill_(7.0)
    torch.save(optimizer.state[model[0].weight], "state_changed.pt")


def unused_parts() -> None:
    """An averaged model, a manually updated tensor, and an evaluation after the last step."""
    model = net()
    average = torch.optim.swa_utils.AveragedModel(model)
    scale = torch.ones(1, requires_grad=True)
    optimizer = sgd(model)
    model.eval()(data(0))
    model.train()
    for step in range(3):
        optimizer.zero_grad()
        (scale * model(data(step))).square().mean().backward()
        optimizer.step()
        average.update_parameters(model)
        with torch.no_grad():
            scale -= 0.1 * scale.grad
        scale.grad = None
    for _ in range(2):
        model.eval()(data(0))


def multiprocessing_fork() -> None:
    """A process forked by `multiprocessing` trains; it ends by os._exit."""
    import multiprocessing

    model = net()
    steps(model, sgd(model), 1)
    child = multiprocessing.get_context("fork").Process(target=steps, args=(model, sgd(model)))
    child.start()
    child.join()


def handler_raises() -> None:
    """A signal handler raises while the recorder runs; the program catches the exception."""
    model = net()
    optimizer = sgd(model)
    steps(model, optimizer, 1)

    def handler(*_: Any) -> None:
        raise TimeoutError("the program's own")

    signal.signal(signal.SIGUSR1, handler)
    listen = recorder("listen")
    began = listen.Listener.begin

    def interrupted(self: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        began(self)

    listen.Listener.begin = interrupted
    try:
        steps(model, optimizer, 1, 1)
    except TimeoutError:
        print("caught", flush=True)
    listen.Listener.begin = began


def long() -> None:
    """Thirty steps."""
    model = net()
    steps(model, sgd(model), 30)


def adam() -> None:
    """Two steps with an optimizer state."""
    model = net()
    steps(model, torch.optim.Adam(model.parameters(), lr=0.01))


def infinite_loss() -> None:
    """The loss is not a number."""
    model = net(norm=False)
    optimizer = sgd(model)
    (model(data(0)).sum() * float("nan")).backward()
    optimizer.step()


def sharded() -> None:
    """A sharded parameter with one half in this process."""
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, Shard, init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    local = torch.arange(6.0).view(2, 3)
    weight = nn.Parameter(DTensor.from_local(local, mesh, [Shard(0)], run_check=False))
    weight.grad = DTensor.from_local(torch.ones(2, 3), mesh, [Shard(0)], run_check=False)
    torch.optim.SGD([weight], lr=1.0, foreach=False).step()
    dist.destroy_process_group()


def leave() -> None:
    """End as Python does, without the second to free its memory."""
    atexit._run_exitfuncs()
    os._exit(0)


def main(programs: dict[str, Any]) -> None:
    """Run each program in a child."""
    names = sys.argv[1 : sys.argv.index("--")]
    results = {}
    for name in names:
        began = time.perf_counter()
        child = os.fork()
        if not child:
            with open(f"{name}.out", "w") as out:  # noqa: PTH123 - by its number
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            signal.alarm(60)
            programs[name]()
            leave()
        _, status = os.waitpid(child, 0)
        results[name] = (child, os.waitstatus_to_exitcode(status), time.perf_counter() - began)
    print(json.dumps(results))


if __name__ == "__main__":
    main(globals())
