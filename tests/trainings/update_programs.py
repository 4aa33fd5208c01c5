"""Small trainings that call no optimizer of `torch.optim`, each run in a fork of one process.

    python update_programs.py NAME … -- WORDS

Each trains four steps. A name that ends in `_late` is the same training with a different update in
step 2, which only the weights of step 3 show.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from recorder_programs import data, main, net
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.utils.checkpoint import checkpoint

STEPS = 4
RATE = 0.1
LATE = 2


def loss_of(model: Callable[[Tensor], Tensor], step: int) -> Tensor:
    """The loss of a step."""
    return model(data(step)).square().mean()


def by_data(rate: Callable[[int], float]) -> None:
    """A write through `.data`, which leaves the version counter as it is."""
    model = net(norm=False)
    for step in range(STEPS):
        model.zero_grad()
        loss_of(model, step).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.data -= rate(step) * parameter.grad


def by_numpy(rate: Callable[[int], float]) -> None:
    """A write by NumPy, into a tensor of no module."""
    torch.manual_seed(0)
    weight = torch.randn(3, 1, requires_grad=True)
    for step in range(STEPS):
        weight.grad = None
        loss_of(lambda x: x @ weight, step).backward()
        assert weight.grad is not None
        np.subtract(
            weight.detach().numpy(), rate(step) * weight.grad.numpy(), weight.detach().numpy()
        )


def rebound(rate: Callable[[int], float]) -> None:
    """New tensors in each step, and their gradients by `autograd.grad`."""
    torch.manual_seed(0)
    weights = [torch.randn(3, 1, requires_grad=True), torch.zeros(1, requires_grad=True)]
    for step in range(STEPS):
        weight, bias = weights
        gradients = torch.autograd.grad((data(step) @ weight + bias).square().mean(), weights)
        weights = [
            (tensor - rate(step) * gradient).detach().requires_grad_()
            for tensor, gradient in zip(weights, gradients, strict=True)
        ]


def functional(rate: Callable[[int], float]) -> None:
    """A module that is called with other parameters than its own."""
    model = net(norm=False)
    weights = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}
    for step in range(STEPS):
        loss = functional_call(model, weights, (data(step),)).square().mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        weights = {
            name: (weight - rate(step) * gradient).detach().requires_grad_()
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }


def transformed(rate: Callable[[int], float]) -> None:
    """The gradient of a function, by `func.grad`."""
    model = net(norm=False)
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, weights, (x,)).square().mean()

    for step in range(STEPS):
        gradients = grad(loss)(weights, data(step))
        weights = {name: w - rate(step) * gradients[name] for name, w in weights.items()}


class Descent:
    """An optimizer that is none of PyTorch's."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = list(model.parameters())

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Descend, and forget the gradients."""
        for weight in self.weights:
            assert weight.grad is not None
            weight.sub_(weight.grad, alpha=rate)
            weight.grad = None


def accumulated(rate: Callable[[int], float]) -> None:
    """An optimizer class of the program's own, after three backward passes, in a function."""
    model = net(norm=False)
    optimizer = Descent(model)
    for step in range(STEPS):
        for part in range(3):
            loss_of(model, 3 * step + part).backward()
        optimizer.step(rate(step))


class Checkpointed(nn.Module):
    """Layers that are computed again in the backward pass, so that the graph has few leaves."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """The output of the last layer."""
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=True)
        return x


def checkpointed(rate: Callable[[int], float]) -> None:
    """Reentrant checkpointing: most parameters are in no graph of the loss."""
    model = Checkpointed()
    optimizer = Descent(model)
    for step in range(STEPS):
        model(data(step).requires_grad_()).square().mean().backward()
        optimizer.step(rate(step))


def compiled(rate: Callable[[int], float]) -> None:
    """An optimizer's step that is compiled, in which no hook is called."""
    model = net(norm=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    step_ = torch.compile(optimizer.step, backend="eager")
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.param_groups[0]["lr"] = rate(step)
        step_()


def within_backward(rate: Callable[[int], float]) -> None:
    """An optimizer for each parameter, which steps in the hook of its gradient."""
    model = net(norm=False)
    optimizers = {p: torch.optim.SGD([p], lr=RATE) for p in model.parameters()}

    def update(parameter: Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    for step in range(STEPS):
        for optimizer in optimizers.values():
            optimizer.param_groups[0]["lr"] = rate(step)
        loss_of(model, step).backward()


def frozen() -> None:
    """Backward passes without an update are one step that is not complete."""
    model = net(norm=False)
    for step in range(STEPS):
        loss_of(model, step).backward()


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Train as everybody does."""
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def probed() -> None:
    """Before it trains, an unseeded model is called and thrown away, to learn a shape."""
    probe = net()
    for parameter in probe.parameters():
        nn.init.uniform_(parameter, generator=unseeded())
    assert probe(data(0)).shape == (5, 1)
    model = net()
    trained(model, torch.optim.SGD(model.parameters(), lr=RATE))


def probed_with_anything() -> None:
    """Before it trains, the model itself is called with memory that nobody has filled."""
    model = net(norm=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    model(torch.empty(2, 3).uniform_(generator=unseeded()))
    trained(model, optimizer)


def generated() -> None:
    """The first call is of a generator, whose detached output trains a discriminator."""
    generator, discriminator = nn.Linear(3, 3), net(norm=False)
    optimizers = [torch.optim.SGD(m.parameters(), lr=RATE) for m in (discriminator, generator)]
    for step in range(STEPS):
        for optimizer in optimizers:
            fake = generator(data(step))
            fake = fake if optimizer is optimizers[1] else fake.detach()
            optimizer.zero_grad()
            discriminator(torch.cat([fake, data(step)])).square().mean().backward()
            optimizer.step()


def parallel(rate: Callable[[int], float]) -> None:
    """Two threads that train at the same time, each its own model."""

    def work(seed: int) -> None:
        torch.manual_seed(0)
        weight = torch.full((3, 1), float(seed), requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=RATE)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = rate(step) if seed == 2 else RATE
            optimizer.zero_grad()
            barrier.wait()
            loss_of(lambda x: x @ weight, step).backward()
            barrier.wait()
            optimizer.step()

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=work, args=(i,), name=f"worker {i}") for i in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Summed(nn.Linear):
    """A layer whose input is a mapping."""

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """The layer of the sum of the values."""
        return super().forward(x["a"] + x["b"])


def mapping(names: str) -> None:
    """Inputs in a mapping whose keys come from a set, in any order."""
    torch.manual_seed(0)
    model = Summed(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for step in range(STEPS):
        optimizer.zero_grad()
        model({name: data(step) * ord(name) for name in names}).square().mean().backward()
        optimizer.step()


def unseeded() -> torch.Generator:
    """A generator that draws different numbers in each run."""
    generator = torch.Generator()
    generator.seed()
    return generator


class Codebook(nn.Module):
    """Vectors that are moved towards their inputs, and in no optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        """The vectors, after they have moved."""
        return self.vectors.lerp_(x.mean(0), 0.1)


def with_codebook(factor: float) -> None:
    """A model that is called and not trained, and that the training changes."""
    codebook, model = Codebook(), net(norm=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        codebook(factor * data(step))


def with_another_model() -> None:
    """An unseeded model that is called in each step, and that stays as it was."""
    other, model = nn.Linear(3, 1), net(norm=False)
    nn.init.uniform_(other.weight, generator=unseeded())
    other.requires_grad_(requires_grad=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        other(data(step))


KINDS = {
    program.__name__: program
    for program in (
        *(by_data, by_numpy, rebound, functional, transformed),
        *(accumulated, checkpointed, compiled, within_backward),
    )
}


def variants() -> Iterator[tuple[str, Callable[[], None]]]:
    """Each training, and the same with a different update in step 2."""
    for name, program in KINDS.items():
        yield name, partial(program, lambda _: RATE)
        yield f"{name}_late", partial(program, lambda step: RATE + 0.01 * (step == LATE))
    yield "frozen", frozen
    for program in (probed, probed_with_anything, generated, with_another_model):
        yield program.__name__, program
        yield f"{program.__name__}_again", program
    yield "parallel", partial(parallel, lambda _: RATE)
    yield "parallel_late", partial(parallel, lambda step: RATE + 0.01 * (step == LATE))
    yield "mapping", partial(mapping, "ab")
    yield "mapping_reversed", partial(mapping, "ba")
    yield "codebook", partial(with_codebook, 1.0)
    yield "codebook_late", partial(with_codebook, 1.1)


if __name__ == "__main__":
    main(dict(variants()))
