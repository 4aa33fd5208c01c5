"""Trainings whose bits the recorder must not change; their final tensors are saved.

    python bits_programs.py FOLDER NAME …

The tensors of all trainings are saved to FOLDER/tensors.pt. Compilations are printed as JSON.
"""
# ruff: noqa: T201 - the result is printed

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch._dynamo.utils import counters

torch.set_num_threads(1)
Tensors = list[Tensor]


class Block(nn.Module):
    """A layer with dropout and a residual connection."""

    def __init__(self, *, dropout: float = 0.0, checkpointed: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(8, 1)
        self.checkpointed = checkpointed

    def inner(self, x: Tensor) -> Tensor:
        """The part that may be checkpointed."""
        return x + self.dropout(nn.functional.gelu(self.first(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Map."""
        if self.checkpointed:
            middle = torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)
        else:
            middle = self.inner(x)
        return self.last(self.norm(middle))


def trained(model: Any, optimizer: torch.optim.Optimizer, count: int = 5) -> Tensors:
    """Train; return losses, gradients, parameters, buffers, state, and a random number."""
    source = torch.Generator().manual_seed(1)
    kept = []
    for _ in range(count):
        x = torch.randn(16, 8, generator=source)

        def closure(x: Tensor = x) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        assert loss is not None
        kept.append(loss.detach().clone())
    kept += [p.grad for p in model.parameters() if p.grad is not None]
    kept += model.state_dict().values()
    kept += [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    return [*kept, torch.rand(3)]


def _adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def plain() -> Tensors:
    """A plain loop."""
    model = Block()
    return trained(model, _adam(model))


def dropout() -> Tensors:
    """Dropout uses the global generator."""
    model = Block(dropout=0.3)
    return trained(model, _adam(model))


def checkpointing() -> Tensors:
    """Activation checkpointing with dropout, which is recomputed in the backward pass."""
    model = Block(dropout=0.3, checkpointed=True)
    return trained(model, _adam(model))


def lbfgs() -> Tensors:
    """The closure runs several times per step."""
    model = Block()
    return trained(model, torch.optim.LBFGS(model.parameters(), max_iter=3), 3)


def sparse() -> Tensors:
    """Sparse gradients of an embedding."""
    table = nn.Embedding(20, 4, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters())
    for step in range(4):
        optimizer.zero_grad()
        table(torch.tensor([step, 3, 3, 7])).square().sum().backward()
        optimizer.step()
    assert table.weight.grad is not None
    return [table.weight.detach(), table.weight.grad.to_dense(), torch.rand(3)]


graphs: dict[str, int] = {}


def counting(name: str, backend: str) -> Callable[..., Any]:
    """A backend that counts its graphs: each break and each recompilation adds some."""
    from torch._dynamo.backends.registry import lookup_backend

    compile_ = lookup_backend(backend)

    def counted(graph: Any, inputs: Any, **more: Any) -> Any:
        graphs[name] = graphs.get(name, 0) + 1
        return compile_(graph, inputs, **more)

    return counted


def compiled() -> Tensors:
    """A compiled model with PyTorch's default backend."""
    model = Block(dropout=0.3)
    backend = counting("compiled", "inductor")
    return trained(torch.compile(model, backend=backend), _adam(model))


def fullgraph() -> Tensors:
    """A compiled model that must be one graph."""
    model = Block()
    backend = counting("fullgraph", "aot_eager")
    return trained(torch.compile(model, backend=backend, fullgraph=True), _adam(model))


def module_compile() -> Tensors:
    """`Module.compile`, which must be a single graph too."""
    model = Block()
    model.compile(backend=counting("module_compile", "aot_eager"), fullgraph=True)
    return trained(model, _adam(model))


def dynamic() -> Tensors:
    """A compiled model that is recompiled when sizes and modes change."""
    model = Block()
    optimizer = _adam(model)
    call = torch.compile(model, backend=counting("dynamic", "aot_eager"))
    for rows in (4, 5, 6, 4):
        optimizer.zero_grad()
        call(torch.ones(rows, 8)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            call(torch.ones(2, 8))
        model.eval()
        call(torch.ones(3, 8))
        model.train()
    return list(model.state_dict().values())


def _inject(fault: str) -> None:
    """A fault of the recorder that changes bits or compiles more."""
    name = "_xorbench_recorder"
    if fault == "draw":  # the recorder uses a generator
        original = sys.modules[f"{name}.listen"].states
        sys.modules[f"{name}.listen"].states = lambda: (torch.rand(1), original())[1]
    elif fault == "touch":  # its hooks are traced, and change Python's state
        sys.modules[f"{name}.install"].is_compiling = lambda: False


def main() -> None:
    """Train each program, save the tensors, print the counts, and end with an exit code."""
    folder, *names = sys.argv[1:]
    if fault := os.environ.get("INJECTED_FAULT"):
        _inject(fault)
    results = {}
    for name in names:
        torch.manual_seed(0)
        torch._dynamo.reset()
        results[name] = globals()[name]()
    torch.save(results, os.path.join(folder, "tensors.pt"))  # noqa: PTH118
    stats = {kind: dict(counters[kind]) for kind in ("stats", "graph_break")}
    print(json.dumps({"graphs": graphs, **stats}))
    sys.exit(7)


if __name__ == "__main__":
    main()
