"""How reliable is `check --operators`? Coverage, false alarms, and the smallest detected faults.

    python bench/operator_rates.py run RESULTS.jsonl [PART …]
    python bench/operator_rates.py table RESULTS.jsonl

Each part runs in processes of its own and appends lines to the file. A run that is repeated skips
the cases that the file has, so an interrupted run continues. Parts:

- `models`: the ten packaged models in float32, bfloat16 and with autocast.
- `alarms`: the same in float32 and float64, in a fractional design of 15 runs: each pair of levels
  of seed (5), instruction set (3), threads (2), memory format (2) and type (2) occurs in a run.
- `samples`: the samples of PyTorch's own operator tests, in float32 and float64; needs expecttest.
- `faults`: one wrong element in the result of 33 operators, by relative size.
- `cost`: processor time of a judged step.
"""

import functools
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ISAS = ("default", "avx2", "avx512")
SEEDS = 5
MOST_SAMPLES = 6  # per operator
SAMPLE_PARTS = 8
SIZES = {"float32": (1e-3, 1e-4, 1e-5, 1e-6), "bfloat16": (1e-1, 3e-2, 2e-2, 1e-2, 5e-3)}


def design() -> list[dict[str, Any]]:
    """15 runs: all pairs of seed and instruction set, the other factors balanced over them."""
    rows = []
    for seed, (i, isa) in itertools.product(range(SEEDS), enumerate(ISAS)):
        rows.append({
            "seed": seed, "isa": isa, "threads": 1 + (seed + i) % 2,
            "channels_last": (seed // 2 + i) % 2 == 1,
            "type": ("float32", "float64")[(seed + i // 2 + seed // 3) % 2],
        })  # fmt: skip
    return rows


def uncovered(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The pairs of levels that no run has."""
    levels = {name: sorted({row[name] for row in rows}) for name in rows[0]}
    pairs = []
    for a, b in itertools.combinations(levels, 2):
        seen = {(row[a], row[b]) for row in rows}
        pairs += [(a, x, b, y) for x in levels[a] for y in levels[b] if (x, y) not in seen]
    return pairs


# In a process of its own


def judged(work: Callable[[], object], fault: Any = None) -> list[dict[str, Any]]:
    from xorbench.recorder.operators.interception import JudgedOperators

    mode = JudgedOperators(SimpleNamespace(root="", with_source=False), "", fault)
    with mode:
        work()
    calls = [mode._calls[key] for key in mode.kinds]
    return [{**k, "calls": n} for k, n in zip(mode.kinds.values(), calls, strict=True)]


def summary(kinds: list[dict[str, Any]]) -> dict[str, Any]:
    from xorbench.programs.defects import known

    own = [k for k in kinds if k["text"] != "uninitialized"]
    missing = [k for k in own if k["state"] == "not judged"]
    wrong = [k for k in own if k["state"] == "wrong"]
    return {
        "kinds": len(own), "calls": sum(k["calls"] for k in own),
        "kinds_missing": len(missing), "calls_missing": sum(k["calls"] for k in missing),
        "missing": sorted({f"{k['operator']}: {k['text']}" for k in missing}),
        "wrong": [f"{k['operator']} {k['signature']} {k['text']}" for k in wrong if not known(k)],
        "known": sum(known(k) is not None for k in wrong),
        "seconds": round(sum(k["seconds"] for k in kinds), 2),
    }  # fmt: skip


def run_models(case: dict[str, Any]) -> dict[str, Any]:
    import torch

    from xorbench.recorder.operators import models

    torch.manual_seed(case.get("seed", 0))
    torch.set_num_threads(case.get("threads", 2))
    if case.get("channels_last"):
        models.LAYOUT = torch.channels_last
    kinds = []
    optimizers = models.optimizers()
    for name in models.MODELS:
        optimizer = next(optimizers)
        kinds += judged(lambda n=name, o=optimizer: models.train(n, case["type"], "cpu", o))
    return summary(kinds)


def run_samples(case: dict[str, Any]) -> dict[str, Any]:
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    torch.manual_seed(0)
    dtype, kinds, crashes = getattr(torch, case["type"]), [], []
    for info in op_db[case["part"] :: SAMPLE_PARTS]:
        if dtype not in info.supported_dtypes("cpu"):
            continue
        try:
            samples = itertools.islice(info.sample_inputs("cpu", dtype), MOST_SAMPLES)
            for sample in samples:
                call = functools.partial(info, sample.input, *sample.args, **sample.kwargs)
                kinds += judged(call)
        except Exception as error:
            crashes.append(f"{info.name}: {type(error).__name__}: {str(error)[:80]}")
    return {**summary(kinds), "errors": crashes}


def operators(dtype: Any) -> dict[str, Callable[[], Any]]:
    """33 operators, by the name whose result gets the fault."""
    import torch
    from torch.nn import functional as f

    def r(*shape: int) -> Any:
        return torch.randn(*shape, dtype=dtype)

    def backward(work: Callable[[Any], Any], *shape: int) -> Callable[[], Any]:
        def run() -> None:
            x = r(*shape).requires_grad_()
            y = work(x)
            y.backward(torch.randn(y.shape, dtype=y.dtype))

        return run

    unary = {n: (lambda n=n: getattr(torch, n)(r(32, 32).abs() + 0.5))
             for n in ("exp", "log", "tanh", "sigmoid", "sqrt", "rsqrt", "sin", "erf")}  # fmt: skip
    table = torch.arange(64) % 16
    return {
        **unary,
        "add": lambda: r(32, 32) + r(32, 32), "mul": lambda: r(32, 32) * r(32, 32),
        "div": lambda: r(32, 32) / (r(32, 32).abs() + 1), "pow": lambda: r(32, 32).abs() ** 2.5,
        "mm": lambda: r(32, 64) @ r(64, 32), "bmm": lambda: torch.bmm(r(4, 16, 32), r(4, 32, 16)),
        "addmm": lambda: f.linear(r(32, 32), r(32, 32), r(32)),
        "convolution": lambda: f.conv2d(r(2, 4, 12, 12), r(8, 4, 3, 3)),
        "convolution_backward": backward(lambda x: f.conv2d(x, r(8, 4, 3, 3)), 2, 4, 12, 12),
        "sum": lambda: r(64, 32).sum(0), "mean": lambda: r(64, 32).mean(0),
        "var": lambda: r(64, 32).var(0), "cumsum": lambda: r(64, 32).cumsum(0),
        "linalg_vector_norm": lambda: torch.linalg.vector_norm(r(64, 32), dim=0),
        "_softmax": lambda: f.softmax(r(32, 32), -1),
        "_log_softmax": lambda: f.log_softmax(r(32, 32), -1),
        "gelu": lambda: f.gelu(r(32, 32)), "silu": lambda: f.silu(r(32, 32)),
        "gelu_backward": backward(f.gelu, 32, 32),
        "native_layer_norm": lambda: f.layer_norm(r(32, 32), (32,)),
        "native_layer_norm_backward": backward(lambda x: f.layer_norm(x, (32,)), 32, 32),
        "native_batch_norm": lambda: f.batch_norm(r(8, 4, 6, 6), None, None, training=True),
        "_scaled_dot_product_flash_attention_for_cpu":
            lambda: f.scaled_dot_product_attention(*(r(2, 2, 16, 8) for _ in range(3))),
        "embedding": lambda: f.embedding(table, r(16, 8)),
        "avg_pool2d": lambda: f.avg_pool2d(r(2, 4, 12, 12), 3),
    }  # fmt: skip


def run_faults(case: dict[str, Any]) -> dict[str, Any]:
    """For each operator, the sizes of the fault that are detected in 5 of 5 seeds."""
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from operator_cases import broken

    def change(size: float) -> Callable[[Any], None]:
        def one(result: Any) -> None:
            index = torch.randint(result.numel(), ()).item()
            place = tuple(int(i) for i in torch.unravel_index(torch.tensor(index), result.shape))
            result[place] = result[place] * (1 + size)

        return one

    caught: dict[str, list[float]] = {}
    cases = operators(getattr(torch, case["type"]))
    for name, work in cases.items():
        caught[name] = []
        for size in SIZES[case["type"]]:
            hits = 0
            for seed in range(SEEDS):
                torch.manual_seed(seed)
                kinds = judged(work, broken(name, change(size)))
                names = {k["operator"].split(".")[1] for k in kinds if k["state"] == "wrong"}
                hits += name in names
            if hits == SEEDS:
                caught[name].append(size)
    return {"caught": caught}


def run_cost(case: dict[str, Any]) -> dict[str, Any]:
    import argparse

    import torch

    torch.manual_seed(0)
    if case["model"] == "gpt":
        sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
        from gpt import CHARACTERS, GPT

        model: Any = GPT(argparse.Namespace(width=64, heads=4, dropout=0.1, layers=2, length=32))
        inputs = torch.randint(0, len(CHARACTERS), (16, 32))
    else:
        model, inputs = resnet18(), torch.randn(8, 3, 64, 64)
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        model(inputs).square().mean().backward()
        optimizer.step()

    started, before = time.process_time(), time.process_time()
    step()
    plain = time.process_time() - before
    kinds = judged(step)
    return {**summary(kinds), "process_s": round(time.process_time() - started, 2), "plain": plain}


def resnet18() -> Any:
    from torch import nn
    from torch.nn import functional as f

    class Block(nn.Module):
        def __init__(self, i: int, o: int, s: int) -> None:
            super().__init__()
            self.a, self.b = (
                nn.Conv2d(i, o, 3, s, 1, bias=False),
                nn.Conv2d(o, o, 3, 1, 1, bias=False),
            )
            self.na, self.nb = nn.BatchNorm2d(o), nn.BatchNorm2d(o)
            skip = [nn.Conv2d(i, o, 1, s, bias=False), nn.BatchNorm2d(o)]
            self.skip = nn.Sequential(*(skip if s > 1 or i != o else []))

        def forward(self, x: Any) -> Any:
            return f.relu(self.nb(self.b(f.relu(self.na(self.a(x))))) + self.skip(x))

    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2),
              (256, 256, 1), (256, 512, 2), (512, 512, 1)]  # fmt: skip
    stem = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*stem, *(Block(*w) for w in widths), *head)


RUNS = {"models": run_models, "alarms": run_models, "samples": run_samples,
        "faults": run_faults, "cost": run_cost}  # fmt: skip


def cases() -> Iterator[dict[str, Any]]:
    for kind in ("float32", "bfloat16", "autocast"):
        yield {"part": "models", "type": kind}
    for model in ("gpt", "resnet18"):
        yield {"part": "cost", "model": model}
    for kind in SIZES:
        yield {"part": "faults", "type": kind}
    for row in design():
        yield {"part": "alarms", **row}
    for kind, part in itertools.product(("float32", "float64"), range(SAMPLE_PARTS)):
        yield {"part": "samples", "type": kind, "number": part}


def run(path: Path, parts: list[str]) -> None:
    done = {json.dumps(row["case"]) for row in rows_of(path)}
    for case in cases():
        if (parts and case["part"] not in parts) or json.dumps(case) in done:
            continue
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": case.get("isa", "")}
        if not case.get("isa"):
            del environment["ATEN_CPU_CAPABILITY"]
        words = [sys.executable, __file__, "child", json.dumps(case)]
        ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        lines = ended.stdout.splitlines()
        crashed = ended.returncode or not lines
        result = {"crash": ended.stderr[-500:]} if crashed else json.loads(lines[-1])
        with path.open("a") as file:
            file.write(json.dumps({"case": case, **result}) + "\n")
        print(case, "crash" if crashed else "done", flush=True)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(path: Path) -> None:
    """Print the results by part, and the smallest fault by operator and type."""
    rows = rows_of(path)
    for part in RUNS:
        own = [row for row in rows if row["case"]["part"] == part]
        total: Counter[str] = Counter()
        for row in own:
            for name in ("kinds", "calls", "kinds_missing", "calls_missing", "known"):
                total[name] += row.get(name, 0)
        wrong = Counter(text.split(" ")[0] for row in own for text in row.get("wrong", ()))
        crashes = sum("crash" in row for row in own)
        print(f"{part}: {len(own)} runs, {crashes} crashes, {dict(total)}")
        print(f"  wrong: {dict(wrong)}")
        for row in own if part == "cost" else ():
            print(f"  {row['case']['model']}: {row.get('process_s')} s of processor time")
    smallest: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        for name, sizes in row.get("caught", {}).items():
            smallest[name][row["case"]["type"]] = min(sizes, default=0.0)
    print("| operator | float32 | bfloat16 |\n| --- | ---: | ---: |")
    for name, sizes in smallest.items():
        texts = (f"{sizes[t]:g}" if sizes.get(t) else "none" for t in SIZES)
        print(f"| {name} | {' | '.join(texts)} |")
    for kind, sizes in SIZES.items():
        counts = {s: sum(0 < v.get(kind, 0) <= s for v in smallest.values()) for s in sizes}
        print(kind, counts, "of", len(smallest))


if __name__ == "__main__":
    if sys.argv[1] == "child":
        case = json.loads(sys.argv[2])
        if case["part"] == "samples":
            result = run_samples({**case, "part": case["number"]})
        else:
            result = RUNS[case["part"]](case)
        print(json.dumps(result))
    elif sys.argv[1] == "run":
        assert not uncovered(design()), uncovered(design())
        run(Path(sys.argv[2]), sys.argv[3:])
    else:
        table(Path(sys.argv[2]))
