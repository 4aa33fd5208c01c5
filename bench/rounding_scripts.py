"""Small trainings with correct changes and with faults, which switches turn on."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS = int(os.environ.get("STEPS", "20"))
WIDTH, HEADS, TOKENS, LENGTH = 48, 4, 32, 24
Switches = dict[str, str]
Draw = Callable[[], tuple[Tensor, Tensor]]
ADAM = {"lr": 1e-3, "weight_decay": 0.1}
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}


class Script(NamedTuple):
    """A model, a function that draws a batch, and the optimizer's class and settings."""

    model: nn.Module
    draw: Draw
    optimizer: Any
    settings: dict[str, Any]


class Wrap(nn.Module):
    """Layers by name, and a function that calls them."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.call = call
        for key, layer in layers.items():
            setattr(self, key, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Call the layers."""
        return self.call(self, x)


class Activation(nn.Module):
    """An activation by its functional form, which a switch may replace."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        result: Tensor = getattr(functional, self.name)(x)
        return result


# The models


def vectors(data: torch.Generator) -> Draw:
    """Random vectors, labelled by a linear map."""
    wheel = torch.randn(32, 10, generator=data)

    def draw() -> tuple[Tensor, Tensor]:
        x = torch.randn(64, 32, generator=data)
        return x, (x @ wheel).argmax(1)

    return draw


def images(data: torch.Generator, channels: int) -> Draw:
    """Noise with a brightness of the class."""

    def draw() -> tuple[Tensor, Tensor]:
        labels = torch.randint(0, 4, (16,), generator=data)
        noise = torch.randn(16, channels, 16, 16, generator=data)
        return noise + labels[:, None, None, None] / 4, labels

    return draw


def texts(data: torch.Generator) -> Draw:
    """Random walks over tokens, and the next token of each."""

    def draw() -> tuple[Tensor, Tensor]:
        text = torch.randint(0, TOKENS, (8, LENGTH + 1), generator=data).cumsum(1) % TOKENS
        return text[:, :-1].clone(), text[:, 1:].clone()

    return draw


def mlp(data: torch.Generator) -> Script:
    """Linear layers with LayerNorm and GELU."""
    sizes = ((32, 128), (128, 128))
    layers = [m for i, o in sizes for m in (nn.Linear(i, o), nn.LayerNorm(o), Activation("gelu"))]
    model = nn.Sequential(*layers, nn.Linear(128, 10))
    return Script(model, vectors(data), torch.optim.SGD, {**SGD, "lr": 0.1})


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """A convolution with batch norm and ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def cnn(data: torch.Generator) -> Script:
    """Convolutions with batch norm and max-pool."""
    blocks = [*convolution(1, 8), nn.MaxPool2d(2), *convolution(8, 16), nn.MaxPool2d(2)]
    model = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(256, 4))
    settings = {"lr": 0.01, "weight_decay": 1e-3}
    return Script(model, images(data, 1), torch.optim.Adam, settings)


def lstm(data: torch.Generator) -> Script:
    """A recurrent language model."""
    layers: dict[str, nn.Module] = {
        "table": nn.Embedding(TOKENS, 32),
        "rnn": nn.LSTM(32, 48, batch_first=True),
        "head": nn.Linear(48, TOKENS),
    }
    model = Wrap(lambda m, x: m.head(m.rnn(m.table(x))[0]), **layers)
    return Script(model, texts(data), torch.optim.AdamW, {**ADAM, "lr": 3e-3})


def autoencoder(data: torch.Generator) -> Script:
    """Strided and transposed convolutions with tanh."""
    down = [nn.Conv2d(1, 8, 3, 2, 1), Activation("tanh"), nn.Conv2d(8, 16, 3, 2, 1)]
    up = [Activation("tanh"), nn.ConvTranspose2d(16, 8, 4, 2, 1), Activation("tanh")]
    head = [nn.Conv2d(8, 4, 3, 2, 1), nn.Flatten(), nn.Linear(64, 4)]
    return Script(nn.Sequential(*down, *up, *head), images(data, 1), torch.optim.SGD, {**SGD})


def resnet(data: torch.Generator) -> Script:
    """Residual blocks with GroupNorm and SiLU."""

    def part() -> nn.Module:
        first = [nn.GroupNorm(4, 16), Activation("silu"), nn.Conv2d(16, 16, 3, padding=1)]
        return nn.Sequential(*first, nn.GroupNorm(4, 16), Activation("silu"), nn.Conv2d(16, 16, 1))

    def call(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for block in (m.one, m.two):
            x = x + block(x)
        result: Tensor = m.head(x.mean((2, 3)))
        return result

    stem, head = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 4)
    model = Wrap(call, stem=stem, one=part(), two=part(), head=head)
    return Script(model, images(data, 3), torch.optim.AdamW, {**ADAM, "lr": 3e-3})


def unet(data: torch.Generator) -> Script:
    """Two resolutions, with max-pool, batch norm and a transposed convolution."""

    def call(m: Any, x: Tensor) -> Tensor:
        high = m.down(x)
        low = m.up(m.middle(functional.max_pool2d(high, 2)))
        result: Tensor = m.head(torch.cat([high, low], 1)).mean((2, 3))
        return result

    layers: dict[str, nn.Module] = {
        "down": nn.Sequential(*convolution(1, 8)),
        "middle": nn.Sequential(*convolution(8, 16)),
        "up": nn.ConvTranspose2d(16, 8, 2, 2),
        "head": nn.Conv2d(16, 4, 1),
    }
    return Script(Wrap(call, **layers), images(data, 1), torch.optim.SGD, {**SGD})


def recommender(data: torch.Generator) -> Script:
    """Bags of embeddings and a ReLU network."""

    def draw() -> tuple[Tensor, Tensor]:
        x = torch.randint(0, 200, (64, 6), generator=data)
        return x, x.sum(1) % 5

    def call(m: Any, x: Tensor) -> Tensor:
        result: Tensor = m.top(torch.cat([m.users(x[:, :1]), m.items(x[:, 1:])], 1))
        return result

    top = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 5))
    users, items = nn.EmbeddingBag(200, 32), nn.EmbeddingBag(200, 32)
    model = Wrap(call, users=users, items=items, top=top)
    return Script(model, draw, torch.optim.AdamW, {**ADAM, "lr": 1e-2})


def rotated(x: Tensor) -> Tensor:
    """Rotary positions."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2])[:, None] / 100.0 ** (torch.arange(half) / half)
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def attend(m: Any, x: Tensor, *, rotary: bool, causal: bool) -> Tensor:
    """Attention of several heads."""
    q, k, v = m.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    q, k = (rotated(q), rotated(k)) if rotary else (q, k)
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    result: Tensor = m.out(mixed.transpose(1, 2).flatten(2))
    return result


def transformer(data: torch.Generator, kind: str) -> Script:
    """A transformer of tokens with LayerNorm or RMSNorm, or of image patches."""
    is_llama, is_vit = kind == "llama", kind == "vit"
    norm = nn.RMSNorm if is_llama else nn.LayerNorm

    def block(m: Any, x: Tensor) -> Tensor:
        x = x + m.attn(m.norm1(x))
        y = m.norm2(x)
        inner = m.act(m.up(y))
        result: Tensor = x + m.down(inner * m.gate(y) if is_llama else inner)
        return result

    def one() -> nn.Module:
        call = partial(attend, rotary=is_llama, causal=not is_vit)
        attn = Wrap(call, qkv=nn.Linear(WIDTH, 3 * WIDTH), out=nn.Linear(WIDTH, WIDTH))
        act = Activation("silu" if is_llama else "gelu")
        layers = {"norm1": norm(WIDTH), "attn": attn, "norm2": norm(WIDTH), "act": act}
        layers |= {"gate": nn.Linear(WIDTH, 96)} if is_llama else {}
        return Wrap(block, **layers, up=nn.Linear(WIDTH, 96), down=nn.Linear(96, WIDTH))

    def call(m: Any, x: Tensor) -> Tensor:
        x = m.first(x)
        x = x.flatten(2).transpose(1, 2) if is_vit else x
        x = m.norm(m.blocks(x + m.places.weight))
        result: Tensor = m.head(x.mean(1) if is_vit else x)
        return result

    first = nn.Conv2d(3, WIDTH, 4, 4) if is_vit else nn.Embedding(TOKENS, WIDTH)
    places, blocks = nn.Embedding(16 if is_vit else LENGTH, WIDTH), nn.Sequential(one(), one())
    head = nn.Linear(WIDTH, 4 if is_vit else TOKENS)
    model = Wrap(call, first=first, places=places, blocks=blocks, norm=norm(WIDTH), head=head)
    draw = images(data, 3) if is_vit else texts(data)
    return Script(model, draw, torch.optim.AdamW, {**ADAM})


MODELS: dict[str, Callable[[torch.Generator], Script]] = {
    **{f.__name__: f for f in (mlp, cnn, lstm, autoencoder, resnet, unet, recommender)},
    **{name: partial(transformer, kind=name) for name in ("gpt", "llama", "vit")},
}


# The switches


def manual(
    v: Switches,
    q: Tensor,
    k: Tensor,
    w: Tensor,
    is_causal: bool = False,
) -> Tensor:
    """Attention without a fused kernel."""
    scores = q @ k.transpose(-1, -2) * (float(v.get("scale", 1)) / math.sqrt(q.shape[-1]))
    if is_causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(int(v.get("mask", 0)))
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1) @ w


def moments(x: Tensor, _shape: Any, weight: Any, bias: Any, eps: float) -> Tensor:
    """LayerNorm by the difference of two moments."""
    mean = x.mean(-1, keepdim=True)
    scale = ((x * x).mean(-1, keepdim=True) - mean * mean + eps).rsqrt()
    result: Tensor = (x - mean) * scale * weight + bias
    return result


def halves(x: Tensor, w: Tensor, b: Any = None) -> Tensor:
    """A linear layer in two sums."""
    k = w.shape[1] // 2
    out = x[..., :k] @ w[:, :k].t() + x[..., k:] @ w[:, k:].t()
    return out if b is None else out + b


def einsum(x: Tensor, w: Tensor, b: Any = None) -> Tensor:
    """A linear layer by einsum."""
    out: Tensor = torch.einsum("...i,oi->...o", x, w)
    return out if b is None else out + b


def unfold(
    x: Tensor, w: Tensor, b: Any, stride: Any, padding: Any, dilation: Any, _: Any
) -> Tensor:
    """A convolution as a product of matrices."""
    columns = functional.unfold(x, w.shape[2:], dilation, padding, stride)
    sizes = zip(x.shape[2:], w.shape[2:], stride, padding, strict=True)
    size = [(n + 2 * p - k) // s + 1 for n, k, s, p in sizes]
    result: Tensor = (w.flatten(1) @ columns).unflatten(-1, size) + b[:, None, None]
    return result


def lse(out: Tensor, labels: Tensor, **_: Any) -> Tensor:
    """The summed cross entropy by logsumexp."""
    return (out.logsumexp(1) - out.gather(1, labels[:, None])[:, 0]).sum()


GELU, LINEAR = functional.gelu, functional.linear
CHANGES: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "gelu=erf": ("gelu", lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))),
    "gelu=tanh": ("gelu", lambda x: GELU(x, approximate="tanh")),
    "silu=sigmoid": ("silu", lambda x: x * torch.sigmoid(x)),
    "tanh=sigmoid": ("tanh", lambda x: 2 * torch.sigmoid(2 * x) - 1),
    "halves": ("linear", halves),
    "einsum": ("linear", einsum),
    "norm=moments": ("layer_norm", moments),
    "unfold": ("conv2d", unfold),
    "lse": ("cross_entropy", lse),
    "half": ("linear", lambda x, w, b=None: LINEAR(x.bfloat16().to(x.dtype), w, b)),
}


@contextlib.contextmanager
def patched(v: Switches) -> Iterator[None]:
    """Replace functional forms."""
    changes = [CHANGES[text] for text in (f"{k}={x}" if x != "1" else k for k, x in v.items())
               if text in CHANGES]  # fmt: skip
    if {"attention", "scale", "mask"} & set(v):
        changes.append(("scaled_dot_product_attention", partial(manual, v)))
    kept = {name: getattr(functional, name) for name, _ in changes}
    for name, function in changes:
        setattr(functional, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(functional, name, function)


def optimizer_of(script: Script, v: Switches, odd: Tensor) -> torch.optim.Optimizer:
    """The optimizer with changed hyperparameters; one parameter may have no weight decay."""
    settings = dict(script.settings)
    settings["lr"] *= float(v.get("lr", 1))
    settings |= {"eps": float(v["eps"])} if "eps" in v else {}
    settings |= {"betas": (0.9, float(v["beta"]))} if "beta" in v else {}
    settings |= {key: True for key in ("fused", "foreach") if key in v}
    if "decay" not in v:
        optimizer: torch.optim.Optimizer = script.optimizer(script.model.parameters(), **settings)
        return optimizer
    groups = [
        {"params": [p], **({"weight_decay": 0.0} if p is odd else {})}
        for p in script.model.parameters()
    ]
    return script.optimizer(groups, **settings)  # type: ignore[no-any-return]


def prepare(model: nn.Module, v: Switches) -> tuple[Tensor, Tensor]:
    """Apply the switches of the model; two of its parameters, for faults: a weight and a bias."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = float(v.get("lneps", 1e-5))
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = float(v.get("bnmom", 0.1))
    named = dict(model.named_parameters())
    wide = [p for p in named.values() if p.dim() > 1]
    weight, bias = wide[len(wide) // 2], [p for n, p in named.items() if n.endswith("bias")][-1]
    weight.data.mul_(float(v.get("init", 1)))
    if "double" in v:
        model.double()
    if "channels_last" in v:
        model.to(memory_format=torch.channels_last)
    return weight, bias


def change_gradients(
    model: nn.Module, v: Switches, step: int, weight: Tensor, bias: Tensor
) -> None:
    """Apply the faults between the backward pass and the optimizer."""
    assert weight.grad is not None
    assert bias.grad is not None
    with torch.no_grad():
        bias.grad.mul_(0 if "zeroed" in v else 1)
        if "trip" in v:  # one gradient, or one weight in one step, goes through bfloat16
            weight.grad.copy_(weight.grad.bfloat16())
        if v.get("wtrip") == str(step):
            weight.copy_(weight.bfloat16())
    if v.get("clip") != "none":
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    if "rate" in v:  # a wrong rate that is no hyperparameter
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.mul_(float(v["rate"]))


def reduced(model: nn.Module, v: Switches) -> tuple[nn.Module, int]:
    """The model with reduced gradients, on several ranks; and the number of ranks."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return model, world
    torch.distributed.init_process_group("gloo")
    if "alone" in v:  # a fault
        return model, world
    size = 0.002 if "bucket" in v else 25
    return nn.parallel.DistributedDataParallel(model, bucket_cap_mb=size), world


def own(x: Tensor, world: int, v: Switches) -> Tensor:
    """The rows of this rank; as a fault, those of rank 0."""
    return x.chunk(world)[0 if "same" in v else int(os.environ.get("RANK", "0"))]


def train(name: str, seed: int, v: Switches) -> None:
    """Train with the switches."""
    torch.manual_seed(seed)
    torch.set_num_threads(2 if "threads" in v else 1)
    torch.backends.mkldnn.enabled = "nomkldnn" not in v  # type: ignore[assignment]
    script = MODELS[name.removesuffix("-bf16")](torch.Generator().manual_seed(seed + 1))
    model = script.model
    weight, bias = prepare(model, v)
    optimizer = optimizer_of(script, v, weight)
    run, parts = torch.compile(model) if "compile" in v else model, int(v.get("accumulate", 1))
    run, world = reduced(run, v)
    cast = contextlib.nullcontext
    half = partial(torch.autocast, "cpu", torch.bfloat16) if name.endswith("-bf16") else cast
    with patched(v):
        for step in range(STEPS):
            x, y = script.draw()
            if v.get("label") == str(step):
                y[(0,) * y.dim()] = (y[(0,) * y.dim()] + 1) % 4
            x = x.double() if "double" in v and x.is_floating_point() else x
            optimizer.zero_grad()
            count, x, y = y.numel(), own(x, world, v), own(y, world, v)
            for part, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
                with half():
                    out = run(part).flatten(0, -2)
                out = out if "double" in v else out.float()
                loss = functional.cross_entropy(out, labels.flatten(), reduction="sum")
                share = (count - ("division" in v)) / world
                (loss / share).backward()  # type: ignore[no-untyped-call]
            change_gradients(model, v, step, weight, bias)
            optimizer.step()
