"""A small training on any number of ranks: the same updates in each layout, or an injected fault.

The global batch has 8 rows. Run it with torchrun; `--layout` selects the parallelism.
"""

import argparse
import contextlib
import os
import socket
import time
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--layout", default="ddp")
parser.add_argument("--fault", default="")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=6)
parser.add_argument("--rows", type=int, default=48)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--accumulate", type=int, default=1, help="passes of a step")
parser.add_argument("--passes", type=int, default=0, help="passes of a step, of all ranks together")
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--batchnorm", action="store_true")
parser.add_argument("--synchronized", action="store_true")
parser.add_argument("--clip", type=float, default=0.0)
parser.add_argument("--drop-last", action="store_true")
parser.add_argument("--width", type=int, default=16)
parser.add_argument("--hook", action="store_true")
parser.add_argument("--zero", action="store_true", help="shard the optimizer's state")
parser.add_argument("--penalty", action="store_true", help="also call the module itself")
parser.add_argument("--asserts", action="store_true", help="require equal bits of two calls")
parser.add_argument("--save", type=int, default=0, help="save a checkpoint every N steps")
parser.add_argument("--resume", action="store_true")
parser.add_argument("--processes", type=int, default=0, help="start this number of ranks")
parser.add_argument("--start", default="fork")
options = parser.parse_args()
fault = options.fault


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Linear(8, options.width)
        self.norm = nn.BatchNorm1d(options.width) if options.batchnorm else nn.Identity()
        self.drop = nn.Dropout(options.dropout)
        self.w2 = nn.Linear(options.width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(self.drop(self.norm(torch.tanh(self.w1(x)))))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ffn = FeedForward()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ffn(x)


def layout(model: nn.Module) -> tuple[nn.Module, int, int]:
    """The model in its layout, and the number and index of this rank in the data-parallel group."""
    world, rank = dist.get_world_size(), dist.get_rank()
    from torch.distributed.device_mesh import init_device_mesh

    if options.layout in ("plain", "local"):
        return model, world, rank
    if options.layout == "ddp":
        if options.synchronized:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        parallel = nn.parallel.DistributedDataParallel(model)
        if fault == "no broadcast":
            parallel._sync_buffers = lambda: None
        if options.hook:
            parallel.register_comm_hook(None, allreduce_hook)
        return parallel, world, rank
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    plan = {"ffn.w1": ColwiseParallel(), "ffn.w2": RowwiseParallel()}
    if options.layout == "tp":
        return parallelize_module(model, init_device_mesh("cpu", (world,)), plan), 1, 0
    if options.layout == "mesh":
        shape = (max(1, world // 2), min(2, world))
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("dp", "tp"))
        parallelize_module(model, mesh["tp"], plan)
        fully_shard(model.ffn, mesh=mesh["dp"])
        fully_shard(model, mesh=mesh["dp"])
        return model, shape[0], mesh["dp"].get_local_rank()
    fully_shard(model.ffn)
    return fully_shard(model), world, rank


def reduce_by_hand(model: nn.Module) -> None:
    world = dist.get_world_size()
    for number, parameter in enumerate(model.parameters()):
        if fault == "no reduction" or (fault == "one not reduced" and number == 2):
            continue
        dist.all_reduce(parameter.grad)
        if fault != "sum for mean":
            parameter.grad /= world
        if fault == "mean divided":
            parameter.grad /= world


def reduction(parallel: nn.Module, *, waits: bool) -> contextlib.AbstractContextManager[None]:
    """A pass that reduces the gradients, or waits for a later one."""
    if hasattr(parallel, "set_requires_gradient_sync"):
        parallel.set_requires_gradient_sync(not waits)
    hushed = waits and hasattr(parallel, "no_sync")
    return parallel.no_sync() if hushed else contextlib.nullcontext()


def clip(model: nn.Module) -> None:
    if fault == "local clip":
        shards = [
            p.grad.to_local() if isinstance(p.grad, DTensor) else p.grad for p in model.parameters()
        ]
        norm = torch.stack([shard.square().sum() for shard in shards]).sum().sqrt()
        for shard in shards:
            shard.mul_((options.clip / norm).clamp(max=1.0))
        return
    nn.utils.clip_grad_norm_(model.parameters(), options.clip)


def reduce_and_clip(model: nn.Module) -> None:
    if fault == "clip first":
        nn.utils.clip_grad_norm_(model.parameters(), options.clip)
    if options.layout == "plain":
        reduce_by_hand(model)
    if options.clip and fault != "clip first":
        clip(model)


def checkpoint(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, object]:
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, state = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": state}


def save(model: nn.Module, optimizer: torch.optim.Optimizer, done: int) -> None:
    import torch.distributed.checkpoint as dcp

    state = {**checkpoint(model, optimizer), "done": done}
    dcp.save(state, checkpoint_id=f"saved-{done}")
    dist.barrier()
    if dist.get_rank() == 0:
        with open("latest.part", "w") as file:
            file.write(str(done))
        os.replace("latest.part", "latest")


def load(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import set_state_dict

    with open("latest") as file:
        done = int(file.read())
    state = {**checkpoint(model, optimizer), "done": 0}
    dcp.load(state, checkpoint_id=f"saved-{done}")
    if fault == "state lost" and dist.get_rank() == dist.get_world_size() - 1:
        for values in state["optimizer"]["state"].values():
            values["exp_avg"].zero_()
    if fault == "shard lost" and dist.get_rank() == dist.get_world_size() - 1:
        weight = state["model"]["ffn.w2.weight"]
        local = weight.to_local() if isinstance(weight, DTensor) else weight
        local[-local.shape[0] // 2 :].zero_()
    if fault == "shard swapped":
        local = state["model"]["ffn.w1.weight"].to_local()
        shards = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(shards, local)
        local.copy_(shards[dist.get_rank() - 1])
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    return done


def optimizer_of(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    trained = list(model.parameters())
    if fault == "untrained" and dist.get_rank() == 1:
        trained.pop(0)
    if options.zero:
        return ZeroRedundancyOptimizer(trained, torch.optim.AdamW, lr=rate)
    return torch.optim.AdamW(trained, lr=rate)


def train_head(x: torch.Tensor) -> None:
    """Train a model of rank 0 only, which is correct."""
    if fault == "own head" and dist.get_rank() == 0:
        head = nn.Linear(8, 4)
        head(x).square().mean().backward()
        torch.optim.SGD(head.parameters()).step()


def leave() -> None:
    # PyTorch 2.13 may deadlock if the group is freed before its thread frees the last collective.
    if options.zero:
        dist.barrier()
    time.sleep(0.1)
    dist.destroy_process_group()


def main(rank: int = -1) -> None:
    if rank >= 0:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(options.processes)}
    dist.init_process_group("gloo")
    torch.manual_seed(options.seed + (dist.get_rank() if fault == "initial seed" else 0))
    model = Model()
    data = torch.randn(options.rows, 8), torch.randn(options.rows, 4)
    if fault == "initial seed":
        torch.manual_seed(100 + options.seed)
        data = torch.randn(options.rows, 8), torch.randn(options.rows, 4)
    parallel, replicas, replica = layout(model)
    passes = options.passes // replicas or options.accumulate
    rate = 0.02 if fault == "learning rate" and dist.get_rank() == 1 else 0.01
    optimizer = optimizer_of(parallel, rate)
    number, own = (1, 0) if fault == "no sampler" else (replicas, replica)
    sampler = DistributedSampler(
        TensorDataset(*data), number, own, seed=options.seed, drop_last=options.drop_last
    )
    loader = DataLoader(
        TensorDataset(*data),
        batch_size=options.batch // replicas // passes,
        sampler=sampler,
        drop_last=options.drop_last,
    )

    def micro_batches() -> Iterator[list[torch.Tensor]]:
        epoch = 0
        while True:
            forgets = fault == "no epoch" or (fault == "epoch of a rank" and dist.get_rank() == 1)
            sampler.set_epoch(0 if forgets else epoch)
            if fault == "sampler by rank":
                sampler.seed = options.seed + dist.get_rank()
            yield from loader
            epoch += 1

    torch.manual_seed(1 + options.seed + dist.get_rank())
    done = load(parallel, optimizer) if options.resume else 0
    batches = micro_batches()
    for _ in range(0 if fault == "sampler reset" else done * passes):
        next(batches)
    for step in range(done, options.steps):
        if fault == f"hang {step}" and dist.get_rank() == 1:
            time.sleep(1_000)
        optimizer.zero_grad()
        for micro in range(passes):
            x, y = next(batches)
            last = micro == passes - 1
            waits = not last or (fault == "no_sync" and step >= 3)
            with reduction(parallel, waits=waits):
                called = model if fault == "bare module" else parallel
                output = called(x)
                if fault == "to_local" and options.layout == "tp":
                    hidden = torch.tanh(model.ffn.w1(x))
                    weight = model.ffn.w2.weight.to_local()
                    output = hidden @ weight.t() + model.ffn.w2.bias.to_local()
                loss = (output - y).square().mean()
                assert not options.asserts or torch.equal(model(x), model(x)), "other bits"
                if options.penalty:
                    loss = loss + model(x).square().mean()
                divisor = passes
                divisor = 1 if fault == "no division" else divisor
                divisor = divisor**2 if fault == "division twice" else divisor
                (loss / divisor).backward()
        reduce_and_clip(parallel)
        if fault == "changed parameter" and step == 1 and dist.get_rank() == 1:
            with torch.no_grad():
                model.ffn.w2.bias.add_(1e-6)
        train_head(x)
        if fault != "no step" or dist.get_rank() == 0:
            optimizer.step()
        if options.save and (step + 1) % options.save == 0:
            save(parallel, optimizer, step + 1)
    if fault == "changed at the end" and dist.get_rank() == 1:
        with torch.no_grad():
            model.ffn.w2.bias.add_(1e-6)
    leave()


if __name__ == "__main__":
    if options.processes:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = str(probe.getsockname()[1])
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
        if options.start == "spawn":
            mp.spawn(main, nprocs=options.processes)
        else:
            mp.start_processes(main, nprocs=options.processes, start_method=options.start)
    else:
        main()
