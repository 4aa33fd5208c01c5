"""Small models whose operators `canary --operators` judges: one training step each.

python models.py --device cpu --types float32,bfloat16,autocast --models gpt,resnet
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

WIDTH, TOKENS = 32, 50
LAYOUT = torch.contiguous_format  # of the images
Made = tuple[nn.Module, Callable[[], Tensor]]  # the model, and the loss of a random batch
New = dict[str, Any]  # device and dtype


def _tokens(new: New, length: int = 24) -> Tensor:
    return torch.randint(0, TOKENS, (4, length), device=new["device"])


def _next_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), tokens.roll(-1, 1).flatten())


def transformer(new: New, causal: bool) -> Made:
    """A GPT, or a BERT."""
    block = nn.TransformerEncoderLayer(
        WIDTH, 4, 64, 0.1, F.gelu, batch_first=True, norm_first=causal
    )
    net = nn.ModuleDict({
        "tokens": nn.Embedding(TOKENS, WIDTH), "places": nn.Embedding(24, WIDTH), "block": block,
        "norm": nn.LayerNorm(WIDTH), "head": nn.Linear(WIDTH, TOKENS, bias=False),
    }).to(**new)  # fmt: skip

    def loss() -> Tensor:
        tokens = _tokens(new)
        x = net["tokens"](tokens) + net["places"](torch.arange(24, device=new["device"]))
        mask = nn.Transformer.generate_square_subsequent_mask(24, new["device"], x.dtype)
        y = net["block"](x, src_mask=mask if causal else None, is_causal=causal)
        return _next_loss(net["head"](net["norm"](y)), tokens)

    return net, loss


def llama(new: New) -> Made:
    """Root-mean-square norm, rotated queries, shared keys, gated feed-forward layer."""
    sizes = {"q": 32, "k": 16, "v": 16, "out": 32, "up": 64, "gate": 64}
    net: Any = nn.ModuleDict({n: nn.Linear(WIDTH, size, bias=False) for n, size in sizes.items()})
    net["tokens"], net["down"] = nn.Embedding(TOKENS, WIDTH), nn.Linear(64, WIDTH, bias=False)
    net["norm"], net["head"] = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, TOKENS)
    net.to(**new)

    def norm(x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * net["norm"].weight

    def heads(x: Tensor, name: str) -> Tensor:
        part = net[name](x).unflatten(-1, (-1, 8)).transpose(1, 2)
        if name == "v":
            return part
        places, waves = torch.arange(24.0), 100 ** (torch.arange(4) / 4)
        turn = (places.unsqueeze(-1) / waves).to(new["device"])
        a, b = part.chunk(2, -1)
        cos, sin = turn.cos().to(x.dtype), turn.sin().to(x.dtype)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    def loss() -> Tensor:
        tokens = _tokens(new)
        x = net["tokens"](tokens)
        q, k, v = (heads(norm(x), name) for name in "qkv")
        k, v = (part.repeat_interleave(2, 1) for part in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + net["out"](mixed.transpose(1, 2).flatten(2))
        x = x + net["down"](F.silu(net["gate"](norm(x))) * net["up"](norm(x)))
        return _next_loss(net["head"](norm(x)), tokens)

    return net, loss


def images(new: New, mobile: bool) -> Made:
    """A ResNet, or a MobileNet with depthwise convolutions and channels last."""

    def conv(i: int, o: int, k: int = 3, **options: Any) -> nn.Sequential:
        layer = nn.Conv2d(i, o, k, padding=k // 2, bias=False, **options)
        return nn.Sequential(layer, nn.BatchNorm2d(o))

    act: Any = nn.Hardswish() if mobile else nn.ReLU()
    body = nn.Sequential(conv(16, 16, groups=16 if mobile else 1), act, conv(16, 16))
    stem = nn.Sequential(
        conv(3, 16, stride=2), nn.AvgPool2d(2) if mobile else nn.MaxPool2d(3, 2, 1)
    )
    pool = nn.AdaptiveAvgPool2d(1)
    head = nn.Sequential(conv(16, 24, 1, stride=2), pool, nn.Flatten(), nn.Linear(24, 10))
    net = nn.ModuleList([stem, body, head]).to(**new)
    layout = torch.channels_last if mobile else LAYOUT

    def loss() -> Tensor:
        x = stem(torch.randn(4, 3, 32, 32, **new).to(memory_format=layout))
        classes = torch.arange(4, device=new["device"])
        return F.cross_entropy(head(F.relu(x + body(x))), classes, label_smoothing=0.1)

    return net, loss


def lstm(new: New) -> Made:
    """A language model with two recurrent layers."""
    rnn, head = nn.LSTM(16, WIDTH, 2, batch_first=True), nn.Linear(WIDTH, TOKENS)
    net = nn.ModuleList([nn.Embedding(TOKENS, 16), rnn, head]).to(**new)

    def loss() -> Tensor:
        tokens = _tokens(new, 12)
        y = F.log_softmax(head(rnn(net[0](tokens))[0]), -1)
        return F.nll_loss(y.flatten(0, 1), tokens.flatten())

    return net, loss


def vae(new: New) -> Made:
    """A variational autoencoder."""
    encode, decode = nn.Linear(64, 32), nn.Sequential(nn.Linear(16, 64), nn.Sigmoid())

    def loss() -> Tensor:
        x = torch.rand(8, 64, **new)
        mean, spread = encode(x).chunk(2, -1)
        y = decode(mean + torch.randn_like(mean) * (spread / 2).exp())
        kl = (mean.square() + spread.exp() - spread - 1).sum(-1).mean() / 2
        return F.mse_loss(y.float(), x.float(), reduction="sum") + F.l1_loss(y, x) + kl

    return nn.ModuleList([encode, decode]).to(**new), loss


def gan(new: New) -> Made:
    """A generator and a critic of images."""
    make = nn.Sequential(
        nn.ConvTranspose2d(8, 16, 4), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Tanh(),
        nn.Conv2d(3, 8, 4, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(512, 1),
    ).to(**new)  # fmt: skip

    def loss() -> Tensor:
        score = make(torch.randn(4, 8, 1, 1, **new)).float()
        return F.binary_cross_entropy_with_logits(score, torch.ones_like(score))

    return make, loss


def ctc(new: New) -> Made:
    """A recurrent network with the CTC loss."""
    net = nn.Sequential(nn.Conv1d(16, 32, 5, padding=2), nn.GroupNorm(4, 32), nn.ELU())
    rnn, head = nn.GRU(32, 16, bidirectional=True), nn.Linear(32, 12)

    def loss() -> Tensor:
        x = net(torch.randn(4, 16, 12, **new)).permute(2, 0, 1)
        scores = F.log_softmax(head(rnn(x)[0]).float(), -1)
        lengths = torch.full((4,), 12), torch.tensor([3, 5, 1, 4])
        return F.ctc_loss(scores, _tokens(new, 5) % 11 + 1, *lengths)

    return nn.ModuleList([net, rnn, head]).to(**new), loss


def bags(new: New) -> Made:
    """Bags of embeddings: sums, means and maxima."""
    tables = nn.ModuleList([nn.EmbeddingBag(TOKENS, 16, mode=m) for m in ("sum", "mean", "max")])
    head = nn.Sequential(nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 1))

    def loss() -> Tensor:
        words, offsets = _tokens(new, 12).flatten(), torch.tensor([0, 5, 20, 31]).to(new["device"])
        y = head(torch.cat([table(words, offsets) for table in tables], -1))
        return F.smooth_l1_loss(y, torch.zeros_like(y))

    return nn.ModuleList([tables, head]).to(**new), loss


MODELS: dict[str, Callable[[New], Made]] = {
    "gpt": lambda new: transformer(new, causal=True),
    "bert": lambda new: transformer(new, causal=False),
    "resnet": lambda new: images(new, mobile=False),
    "mobilenet": lambda new: images(new, mobile=True),
    "llama": llama, "lstm": lstm, "vae": vae, "gan": gan, "ctc": ctc, "bags": bags,
}  # fmt: skip
TYPES = ("float32", "bfloat16", "autocast")


def train(kind: str, precision: str, device: str, optimizer: Any) -> None:
    """Make one step of a model."""
    dtype = torch.float32 if precision == "autocast" else getattr(torch, precision)
    model, loss = MODELS[kind]({"device": device, "dtype": dtype})
    steps = optimizer(model.parameters())
    with torch.autocast(device, torch.bfloat16, enabled=precision == "autocast"):
        result = loss()
    result.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    steps.step()


def optimizers() -> Any:
    """AdamW and SGD, fused and with operators on lists, in turn."""
    adam, sgd = torch.optim.AdamW, torch.optim.SGD
    lists: dict[str, Any] = {"foreach": True}
    return itertools.cycle([
        lambda p: adam(p, 1e-3, fused=True),
        lambda p: sgd(p, 1e-2, momentum=0.9, weight_decay=1e-4, **lists),
        lambda p: adam(p, 1e-3, amsgrad=True, **lists),
        lambda p: sgd(p, 1e-2, momentum=0.9, nesterov=True, fused=True),
    ])  # fmt: skip


def main() -> None:
    """Train the chosen models."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    cases = itertools.product(args.models.split(","), args.types.split(","))
    for (kind, precision), optimizer in zip(cases, optimizers()):  # noqa: B905 - Python 3.9
        train(kind, precision, args.device, optimizer)


if __name__ == "__main__":
    main()
