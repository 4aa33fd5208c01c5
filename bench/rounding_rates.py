"""How often `check --up-to-rounding` is right: false alarms, detection and place, by class.

python bench/rounding_rates.py OUT             run what OUT does not have yet, print the tables
python bench/rounding_rates.py OUT --report    print the tables of what OUT has
python bench/rounding_rates.py child MODEL SEED OUT JOB…    the jobs of one model, in one process

The unit is the script: a model and a seed. The scripts of `FIRST` set the limits. `limits.json` is
written before a script of `SECOND` runs; the tables have `SECOND` only, with its limits.
A job is LABEL|SWITCHES|NOISE. Each job is a whole training under the recorder; jobs of a script
share a process, except those with variables, which need their own.
"""

import argparse
import contextlib
import functools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

STEPS = 20
FIRST = tuple((m, s) for m in ("mlp", "cnn", "gpt", "lstm", "autoencoder") for s in (0, 1))
SECOND = tuple(
    (m, s) for s in (2, 3, 4, 5) for m in ("vit", "resnet", "llama", "recommender", "unet")
)
HALF = tuple((f"{m}-bf16", s) for s in (2, 3) for m in ("vit", "llama", "gpt", "mlp"))
NOISE = 4
# Correct changes; the second entry names the models that have them, empty for all.
CORRECT = {
    "fused": "", "foreach": "", "nomkldnn": "", "double": "", "threads": "", "einsum": "",
    "halves": "", "lse": "", "accumulate=2": "mlp gpt lstm autoencoder vit resnet llama recommender",
    "accumulate=4": "mlp gpt lstm autoencoder vit resnet llama recommender", "gelu=erf": "mlp gpt vit",
    "silu=sigmoid": "resnet llama", "norm=moments": "mlp gpt vit", "attention=manual": "gpt vit llama",
    "channels_last": "cnn resnet unet autoencoder", "unfold": "cnn resnet unet",
    "tanh=sigmoid": "lstm autoencoder",
}  # fmt: skip
APART = {"isa": {"ATEN_CPU_CAPABILITY": "default"}, "cbwr": {"MKL_CBWR": "COMPATIBLE"}}
COMPILED = ("compile",)
# Bugs: the kinds of the tensor in which each begins, and its step.
BUGS = {
    "lr=1.001": ("hyperparameters", 0), "beta=0.99": ("hyperparameters", 0),
    "eps=1e-7": ("hyperparameters", 0), "decay": ("hyperparameters", 0),
    "rate=1.001": ("gradient", 0), "rate=1.0001": ("gradient", 0), "clip=none": ("gradient", 0),
    "trip": ("gradient", 0), "wtrip=3": ("gradient parameter output", 3), "label=2": ("label batch loss", 2),
    "init=1.001": ("initial output", 0), "zeroed": ("gradient", 0), "division": ("loss", 0),
    "scale=1.001": ("output", 0), "gelu=tanh": ("output", 0), "lneps=1e-4": ("output", 0),
    "mask=1": ("output", 0), "bnmom=0.09": ("buffer", 0), "half": ("output", 0),
}  # fmt: skip
ONLY = {
    "gelu=tanh": "mlp gpt vit", "scale=1.001": "gpt vit llama", "lneps=1e-4": "mlp gpt vit",
    "mask=1": "gpt llama", "bnmom=0.09": "cnn unet",
    "beta=0.99": "gpt lstm vit resnet llama recommender", "eps=1e-7": "gpt lstm vit resnet llama recommender",
}  # fmt: skip
SUBTLE = {"rate=1.00001": ("gradient", 0), "lr=1.00001": ("hyperparameters", 0)}
IN_HALF = ("fused", "foreach", "lse", "einsum", "accumulate=2", "attention=manual", "threads")
BUGS_IN_HALF = ("lr=1.001", "beta=0.99", "decay", "label=2", "gelu=tanh", "scale=1.001", "init=1.001")


# The scripts


def build(name: str):
    """The model, a function that draws a batch, and the optimizer's class and settings."""
    import torch
    from torch import nn

    data = torch.Generator().manual_seed(1)
    F = nn.functional
    adam, sgd = torch.optim.AdamW, torch.optim.SGD

    class Wrap(nn.Module):
        """A body of layers by name, and how they are called."""

        def __init__(self, call, **layers) -> None:
            super().__init__()
            self.call = call
            for key, layer in layers.items():
                setattr(self, key, layer)

        def forward(self, x):
            return self.call(self, x)

    def vectors(inputs: int, classes: int):
        wheel = torch.randn(inputs, classes, generator=data)

        def draw(_):
            x = torch.randn(64, inputs, generator=data)
            return x, (x @ wheel).argmax(1)

        return draw

    def images(channels: int, classes: int, size: int = 16):
        def draw(_):
            labels = torch.randint(0, classes, (16,), generator=data)
            noise = torch.randn(16, channels, size, size, generator=data)
            return noise + labels[:, None, None, None] / classes, labels

        return draw

    def tokens(count: int, length: int):
        def draw(_):
            text = torch.randint(0, count, (8, length + 1), generator=data).cumsum(1) % count
            return text[:, :-1], text[:, 1:]

        return draw

    if name == "mlp":
        layers = [m for i, o in ((32, 128), (128, 128)) for m in (nn.Linear(i, o), nn.LayerNorm(o), Gelu())]
        return nn.Sequential(*layers, nn.Linear(128, 10)), vectors(32, 10), sgd, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}
    if name == "cnn":
        block = lambda i, o: [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*block(1, 8), *block(8, 16), nn.Flatten(), nn.Linear(256, 4)), images(1, 4), torch.optim.Adam, {"lr": 0.01, "weight_decay": 1e-3}
    if name == "lstm":
        call = lambda m, x: m.head(m.rnn(m.table(x))[0])
        model = Wrap(call, table=nn.Embedding(32, 32), rnn=nn.LSTM(32, 48, batch_first=True), head=nn.Linear(48, 32))
        return model, tokens(32, 12), adam, {"lr": 3e-3, "weight_decay": 0.1}
    if name == "autoencoder":
        layers = (nn.Conv2d(1, 8, 3, 2, 1), Tanh(), nn.Conv2d(8, 16, 3, 2, 1), Tanh(), nn.ConvTranspose2d(16, 8, 4, 2, 1), Tanh(), nn.Conv2d(8, 4, 3, 2, 1), nn.Flatten(), nn.Linear(64, 4))
        return nn.Sequential(*layers), images(1, 4), sgd, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    if name == "resnet":
        def call(m, x):
            x = m.stem(x)
            for part in (m.one, m.two):
                x = x + part(x)
            return m.head(x.mean((2, 3)))
        part = lambda: nn.Sequential(nn.GroupNorm(4, 16), Silu(), nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), Silu(), nn.Conv2d(16, 16, 1))
        return Wrap(call, stem=nn.Conv2d(3, 16, 3, 2, 1), one=part(), two=part(), head=nn.Linear(16, 10)), images(3, 10), adam, {"lr": 3e-3, "weight_decay": 0.05}
    if name == "unet":
        def call(m, x):
            high = m.down(x)
            low = m.middle(F.max_pool2d(high, 2))
            return m.head(torch.cat([high, m.up(low)], 1)).mean((2, 3))
        conv = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())
        return Wrap(call, down=conv(1, 8), middle=conv(8, 16), up=nn.ConvTranspose2d(16, 8, 2, 2), head=nn.Conv2d(16, 4, 1)), images(1, 4), sgd, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    if name == "recommender":
        call = lambda m, x: m.top(torch.cat([m.users(x[:, :1]), m.items(x[:, 1:])], 1))
        def draw(_):
            x = torch.randint(0, 200, (64, 6), generator=data)
            return x, (x.sum(1) % 5)
        top = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 5))
        return Wrap(call, users=nn.EmbeddingBag(200, 32), items=nn.EmbeddingBag(200, 32), top=top), draw, adam, {"lr": 1e-2, "weight_decay": 0.01}
    if name in ("gpt", "vit", "llama"):
        return *transformer(name, Wrap), tokens(32, 24) if name != "vit" else images(3, 10), adam, {"lr": 1e-3, "weight_decay": 0.1}
    raise ValueError(name)


def transformer(name: str, wrap):
    """A small transformer: of tokens with LayerNorm or RMSNorm, or of image patches."""
    import torch
    from torch import nn

    width, heads = 48, 4
    norm = nn.RMSNorm if name == "llama" else nn.LayerNorm

    def attention(m, x):
        q, k, v = m.qkv(x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        if name == "llama":
            q, k = map(rotated, (q, k))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=name != "vit")
        return m.out(mixed.transpose(1, 2).flatten(2))

    def rotated(x):
        angle = torch.arange(x.shape[-2])[:, None] / 100.0 ** (torch.arange(x.shape[-1] // 2) / 6)
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)

    def block(m, x):
        x = x + m.attn(m.norm1(x))
        y = m.norm2(x)
        return x + (m.down(m.act(m.up(y)) * m.gate(y)) if name == "llama" else m.down(m.act(m.up(y))))

    def one():
        attn = wrap(attention, qkv=nn.Linear(width, 3 * width), out=nn.Linear(width, width))
        parts = {"gate": nn.Linear(width, 96)} if name == "llama" else {}
        return wrap(block, norm1=norm(width), attn=attn, norm2=norm(width), up=nn.Linear(width, 96), down=nn.Linear(96, width), act=Silu() if name == "llama" else Gelu(), **parts)

    def call(m, x):
        if name == "vit":
            x = m.patch(x).flatten(2).transpose(1, 2) + m.places.weight
        else:
            x = m.table(x) + m.places.weight[: x.shape[1]]
        x = m.norm(m.blocks(x))
        return m.head(x.mean(1) if name == "vit" else x)

    first = {"patch": nn.Conv2d(3, width, 4, 4)} if name == "vit" else {"table": nn.Embedding(32, width)}
    places = nn.Embedding(16 if name == "vit" else 24, width)
    return (wrap(call, **first, places=places, blocks=nn.Sequential(one(), one()), norm=norm(width), head=nn.Linear(width, 10 if name == "vit" else 32)),)


def _activation(function: str):
    from torch import nn

    class Activation(nn.Module):
        def forward(self, x):
            return getattr(nn.functional, function)(x)

    return Activation


def Gelu():  # noqa: N802
    """GELU by its functional form, which a switch replaces."""
    return _activation("gelu")()


def Silu():  # noqa: N802
    """SiLU by its functional form."""
    return _activation("silu")()


def Tanh():  # noqa: N802
    """Tanh by its functional form."""
    return _activation("tanh")()


@contextlib.contextmanager
def patched(v: dict):
    """The functional forms that the switches replace."""
    import torch
    from torch.nn import functional as F

    kept = {name: getattr(F, name) for name in ("gelu", "silu", "tanh", "linear", "layer_norm", "conv2d", "cross_entropy", "scaled_dot_product_attention")}
    plain = kept

    def manual(q, k, w, is_causal=False):
        scores = q @ k.transpose(-1, -2) * (float(v.get("scale", 1)) / math.sqrt(q.shape[-1]))
        if is_causal:
            mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(int(v.get("mask", 0)))
            scores = scores.masked_fill(~mask, -math.inf)
        return scores.softmax(-1) @ w

    def moments(x, shape, weight=None, bias=None, eps=1e-5):
        mean = x.mean(-1, keepdim=True)
        return (x - mean) * ((x * x).mean(-1, keepdim=True) - mean * mean + eps).rsqrt() * weight + bias

    def halves(x, w, b=None):
        k = w.shape[1] // 2
        out = x[..., :k] @ w[:, :k].t() + x[..., k:] @ w[:, k:].t()
        return out if b is None else out + b

    def einsum(x, w, b=None):
        out = torch.einsum("...i,oi->...o", x, w)
        return out if b is None else out + b

    def unfold(x, w, b, stride, padding, dilation, groups):
        columns = F.unfold(x, w.shape[2:], dilation, padding, stride)
        size = [(x.shape[i + 2] + 2 * padding[i] - w.shape[i + 2]) // stride[i] + 1 for i in (0, 1)]
        return (w.flatten(1) @ columns).unflatten(-1, size) + b[:, None, None]

    def lse(out, labels, reduction="mean"):
        return (out.logsumexp(1) - out.gather(1, labels[:, None])[:, 0]).sum()

    changes = {
        "gelu=erf": ("gelu", lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))),
        "gelu=tanh": ("gelu", lambda x: plain["gelu"](x, approximate="tanh")),
        "silu=sigmoid": ("silu", lambda x: x * torch.sigmoid(x)),
        "tanh=sigmoid": ("tanh", lambda x: 2 * torch.sigmoid(2 * x) - 1),
        "halves": ("linear", halves), "einsum": ("linear", einsum), "norm=moments": ("layer_norm", moments),
        "unfold": ("conv2d", unfold), "lse": ("cross_entropy", lse),
        "half": ("linear", lambda x, w, b=None: plain["linear"](x.bfloat16().to(x.dtype), w, b)),
    }  # fmt: skip
    if {"attention", "scale", "mask"} & set(v):
        F.scaled_dot_product_attention = manual
    for switch, (name, function) in changes.items():
        if v.get(switch.partition("=")[0]) == (switch.partition("=")[2] or "1"):
            setattr(F, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(F, name, function)


def train(name: str, seed: int, v: dict) -> None:
    """Train with the switches."""
    import torch
    from torch import nn

    F = nn.functional
    torch.manual_seed(seed)
    torch.set_num_threads(2 if "threads" in v else 1)
    torch.backends.mkldnn.enabled = "nomkldnn" not in v
    model, batch, kind, settings = build(name.removesuffix("-bf16"))
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = float(v.get("lneps", 1e-5))
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = float(v.get("bnmom", 0.1))
    names = dict(model.named_parameters())
    wide = [n for n, p in names.items() if p.dim() > 1]
    middle, bias = names[wide[len(wide) // 2]], names[[n for n in names if n.endswith("bias")][-1]]
    middle.data.mul_(float(v.get("init", 1)))
    model.to(torch.float64 if "double" in v else torch.float32)
    if "channels_last" in v:
        model.to(memory_format=torch.channels_last)
    settings |= {"lr": settings["lr"] * float(v.get("lr", 1))} | ({"eps": float(v["eps"])} if "eps" in v else {})
    settings |= {"betas": (0.9, float(v["beta"]))} if "beta" in v else {}
    settings |= {key: True for key in ("fused", "foreach") if key in v}
    groups = [{"params": [p], **({"weight_decay": 0.0} if "decay" in v and p is middle else {})} for p in names.values()]
    optimizer = kind(groups if "decay" in v else model.parameters(), **settings)
    run, parts = torch.compile(model) if "compile" in v else model, int(v.get("accumulate", 1))
    cast = torch.autocast("cpu", torch.bfloat16) if name.endswith("-bf16") else contextlib.nullcontext()
    with patched(v):
        for step in range(STEPS):
            x, y = batch(step)
            if v.get("label") == str(step):
                y[(0,) * y.dim()] = (y[(0,) * y.dim()] + 1) % 4
            x = x.double() if "double" in v and x.is_floating_point() else x
            optimizer.zero_grad()
            for part, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
                with cast:
                    out = run(part).flatten(0, -2)
                out = out if "double" in v else out.float()
                loss = F.cross_entropy(out, labels.flatten(), reduction="sum")
                (loss / (y.numel() - ("division" in v))).backward()
            with torch.no_grad():
                bias.grad.mul_(0 if "zeroed" in v else 1)
                if "trip" in v:  # one gradient, or one weight in one step, goes through bfloat16
                    middle.grad.copy_(middle.grad.bfloat16())
                if v.get("wtrip") == str(step):
                    middle.copy_(middle.bfloat16())
            if v.get("clip") != "none":
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            if "rate" in v:  # a wrong rate that is no hyperparameter
                for p in names.values():
                    p.grad.mul_(float(v["rate"]))
            optimizer.step()


def child(name: str, seed: int, out: Path, jobs: list[str]) -> None:
    """Run jobs in this process, each with a record of its own."""
    from xorbench.recorder import install, listen
    from xorbench.recorder.detail import Detail
    from xorbench.recorder.entry import Presence
    from xorbench.recorder.head import head
    from xorbench.recorder.options import Options
    from xorbench.recorder.rounding import Rounding
    from xorbench.recorder.sink import Sink
    from xorbench.recorder.start_states import StartStates

    os.environ["XORBENCH_RECORD_OPTIONS"] = json.dumps({"sketches": True})
    listener: listen.Listener = install.install(Presence(str(out)))
    for job in jobs:
        label, switches, noise = job.split("|")
        v = dict(s.split("=") if "=" in s else (s, "1") for s in switches.split(",") if s)
        folder = out / f".{label}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        states = str(out / "states")
        place = {"keep_states": states} if label == "a" else {"start_from": states}
        options = Options(sketches=True, noise=int(noise) if noise else None, **({} if "free" in v else place))
        listener.options = options
        listener._open_record = functools.partial(_opened, Sink, head, folder, options)
        listener.reset()
        listener.detail, listener.rounding = Detail(listener), Rounding(listener)
        listener.start_states = StartStates(listener)
        began = time.perf_counter()
        train(name, seed, v)
        listener.rounding.pop()
        listener.shielded(listener.finish)
        (folder / "took").write_text(f"{time.perf_counter() - began:.3f}")
        shutil.rmtree(out / label, ignore_errors=True)
        folder.rename(out / label)


def _opened(sink, head, folder, options):
    record = sink(str(folder), options.max_bytes)
    record.write(head(options, {}), always=True)
    return record


# The runs and the tables


def has(job: str, name: str, models: str) -> bool:
    return not models or name.removesuffix("-bf16") in models.split()


def jobs_of(name: str) -> dict[str, str]:
    """The class of each job of a script, by its switches."""
    if name.endswith("-bf16"):
        correct = {s: "correct bf16" for s in IN_HALF if has(s, name, CORRECT.get(s, ""))}
        return correct | {s: "bug bf16" for s in BUGS_IN_HALF if has(s, name, ONLY.get(s, ""))}
    correct = {s: "correct" for s, models in CORRECT.items() if has(s, name, models)}
    bugs = {s: "bug" for s in BUGS if has(s, name, ONLY.get(s, ""))}
    return correct | bugs | dict.fromkeys(SUBTLE, "subtle") | dict.fromkeys(APART, "correct")


def run_script(out: Path, name: str, seed: int) -> None:
    """Run the jobs that are missing, and judge each pair."""
    folder = out / f"{name}-{seed}"
    result = folder / "results.json"
    if result.exists():
        return
    shared = ["a||", *(f"n{k}||{k}" for k in range(1, NOISE + 1))]
    shared += [f"{s}|{s}|" for s in jobs_of(name) if s not in APART]
    _child(name, seed, folder, shared, {})
    for label, variables in APART.items():
        if label in jobs_of(name):
            _child(name, seed, folder, [f"{label}||"], variables)
    result.write_text(json.dumps(judged(folder, name), indent=1))
    for label in (*jobs_of(name), "states"):
        shutil.rmtree(folder / label, ignore_errors=True)


def _child(name: str, seed: int, folder: Path, jobs: list[str], variables: dict) -> None:
    words = [sys.executable, __file__, "child", name, str(seed), str(folder), *jobs]
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(words, check=True, env={**os.environ, **variables})


def read(folder: Path):
    from xorbench.programs.rounding import read_steps
    from xorbench.records.trace import opened

    (path,) = folder.glob("[0-9]*.jsonl")
    return read_steps(opened(path).lines())


def judged(folder: Path, name: str) -> list[dict]:
    """Each pair of a script: its class, the answer, the largest ratio, and the place."""
    from xorbench.programs import rounding

    a, *noisy = (read(folder / label) for label in ("a", *(f"n{k}" for k in range(1, NOISE + 1))))
    rows = []
    for label, kind in jobs_of(name).items():
        b = read(folder / label)
        reset = all(rounding.reset_steps(steps) > 1 for steps in (b, *noisy))
        answer = rounding.judge(rounding.Comparison(a, a, b, noisy, reset))
        first, worst = answer.first, answer.worst
        times = max((row.times for row in (first, worst) if row and not row.text), default=0.0)
        rows.append({
            "pair": label, "class": kind, "answer": answer.word, "judged": len(answer.judged),
            "total": answer.total, "times": times, "forks": len(answer.forks), "reset": reset,
            "first": first and [first.step, first.kind, first.name, first.ratio, first.along, first.text],
            "worst": worst and [worst.step, worst.kind, worst.name, worst.ratio, worst.along],
        })  # fmt: skip
    return rows


def wilson(hits: int, n: int) -> str:
    """A share with Wilson's interval at 95%."""
    if not n:
        return "-"
    z, p = 1.96, hits / n
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{hits} of {n} ({100 * max(0, low):.1f} to {100 * min(1, high):.1f}%)"


def report(out: Path, scripts) -> None:
    """Print the tables of these scripts."""
    rows = [
        {**row, "script": f"{name}-{seed}"}
        for name, seed in scripts
        if (out / f"{name}-{seed}" / "results.json").exists()
        for row in json.loads((out / f"{name}-{seed}" / "results.json").read_text())
    ]
    print("\n| correct change | beyond | cannot tell | largest ratio |\n| --- | --- | --- | ---: |")
    for group in ("correct", "correct bf16"):
        own = [row for row in rows if row["class"] == group]
        for label in [*dict.fromkeys(row["pair"] for row in own), group]:
            few = [row for row in own if label in (row["pair"], group)]
            counts = [sum(r["answer"] == word for r in few) for word in ("beyond", "cannot tell")]
            largest = max((row["times"] for row in few), default=0)
            print(f"| {label} | {wilson(counts[0], len(few))} | {wilson(counts[1], len(few))} | {largest:.1f} |")
    print("\n| fault | found | right step | right tensor |\n| --- | --- | --- | --- |")
    for group in ("bug", "subtle", "bug bf16"):
        own = [row for row in rows if row["class"] == group]
        for label in [*dict.fromkeys(row["pair"] for row in own), group]:
            few = [row for row in own if label in (row["pair"], group)]
            found = [row for row in few if row["answer"] == "beyond"]
            steps = sum(row["first"][0] == (BUGS | SUBTLE)[row["pair"]][1] for row in found)
            right = sum(row["first"][1] in (BUGS | SUBTLE)[row["pair"]][0] for row in found)
            print(f"| {label} | {wilson(len(found), len(few))} | {wilson(steps, len(few))} | {wilson(right, len(few))} |")


def main() -> None:
    """Run the scripts that are missing; the limits are written down between the halves."""
    if sys.argv[1:2] == ["child"]:
        name, seed, out, *jobs = sys.argv[2:]
        child(name, int(seed), Path(out), jobs)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--first", action="store_true", help="only the scripts that set the limits")
    args = parser.parse_args()
    from xorbench.programs import rounding

    scripts = FIRST if args.first else (*FIRST, *SECOND, *HALF)
    limits = {"limit": rounding.LIMIT, "scale_limit": rounding.SCALE_LIMIT}
    for name, seed in () if args.report else scripts:
        if (name, seed) not in FIRST:
            written = args.out / "limits.json"
            if not written.exists():
                written.write_text(json.dumps(limits))
            if json.loads(written.read_text()) != limits:
                sys.exit(f"{written}: the second half has other limits: {written.read_text()}")
        run_script(args.out, name, seed)
    report(args.out, FIRST if args.first else (*SECOND, *HALF))


if __name__ == "__main__":
    main()
