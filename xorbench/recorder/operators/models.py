"""Small models whose operators `canary --operators` judges: one training step each.

python models.py --device cpu --types float32,bfloat16,autocast --models gpt,resnet
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

WIDTH, TOKENS = 32, 50
CHANNELS_LAST = False  # of the images, in every model


class Attention(nn.Module):
    """Attention with fewer heads for keys than for queries, if `shared`."""

    def __init__(self, shared: int = 1) -> None:
        super().__init__()
        self.sizes = [WIDTH, WIDTH // shared, WIDTH // shared]
        self.qkv, self.out = nn.Linear(WIDTH, sum(self.sizes)), nn.Linear(WIDTH, WIDTH)
        self.shared = shared

    def forward(self, x: Tensor, turn: Tensor | None = None) -> Tensor:
        """Mix the positions; with rotated queries and keys if `turn` is given."""
        q, k, v = (
            part.unflatten(-1, (-1, 8)).transpose(1, 2)
            for part in self.qkv(x).split(self.sizes, -1)
        )
        if turn is not None:
            q, k = _turned(q, turn), _turned(k, turn)
        k, v = (part.repeat_interleave(self.shared, 1) for part in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=turn is not None)
        return self.out(mixed.transpose(1, 2).flatten(2))


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = turn.cos().to(x.dtype), turn.sin().to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class RootNorm(nn.Module):
    """The norm of Llama."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Divide by the root of the mean square."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Transformer(nn.Module):
    """`gpt`, `bert` or `llama`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, norm = kind, RootNorm if kind == "llama" else lambda: nn.LayerNorm(WIDTH)
        self.tokens, self.places = nn.Embedding(TOKENS, WIDTH), nn.Embedding(24, WIDTH)
        self.norms = nn.ModuleList([norm() for _ in range(3)])
        self.attention = Attention(2 if kind == "llama" else 1)
        self.up, self.gate = nn.Linear(WIDTH, 64), nn.Linear(WIDTH, 64)
        self.down, self.head = nn.Linear(64, WIDTH), nn.Linear(WIDTH, TOKENS, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each position."""
        length = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens)
        turn = length.unsqueeze(-1) / 100 ** (torch.arange(4, device=x.device) / 4)
        if self.kind != "llama":
            x = F.dropout(x + self.places(length), 0.1)
        x = x + self.attention(self.norms[0](x), None if self.kind == "bert" else turn)
        y = self.norms[1](x)
        act = F.silu(self.gate(y)) * self.up(y) if self.kind == "llama" else F.gelu(self.up(y))
        return self.head(self.norms[2](x + self.down(act)))


def _conv(i: int, o: int, k: int = 3, **options: Any) -> nn.Sequential:
    convolution = nn.Conv2d(i, o, k, padding=k // 2, bias=False, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(o))


class Residual(nn.Module):
    """A block of a ResNet, or of a MobileNet with a depthwise convolution."""

    def __init__(self, width: int, depthwise: bool = False) -> None:
        super().__init__()
        act: Any = nn.Hardswish if depthwise else nn.ReLU
        groups = width if depthwise else 1
        self.body = nn.Sequential(_conv(width, width, groups=groups), act(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Add the block to its input."""
        return F.relu(x + self.body(x))


class Network(nn.Module):
    """Layers whose output a loss compares; `kind` selects the layers and the loss."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        make = {"resnet": self._resnet, "mobilenet": self._resnet, "vae": self._vae}
        make.get(kind, getattr(self, f"_{kind}", self._resnet))()

    def _resnet(self) -> None:
        mobile = self.kind == "mobilenet"
        pool = nn.AvgPool2d(2) if mobile else nn.MaxPool2d(3, 2, 1)
        layers = [_conv(3, 16, stride=2), pool, Residual(16, mobile), _conv(16, 24, 1, stride=2)]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))

    def _vae(self) -> None:
        self.encode, self.decode = nn.Linear(64, 32), nn.Sequential(nn.Linear(16, 64), nn.Sigmoid())

    def _lstm(self) -> None:
        self.embed, self.rnn = nn.Embedding(TOKENS, 16), nn.LSTM(16, WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, TOKENS)

    def _ctc(self) -> None:
        self.net = nn.Sequential(nn.Conv1d(16, 32, 5, padding=2), nn.GroupNorm(4, 32), nn.ELU())
        self.rnn, self.head = nn.GRU(32, 16, bidirectional=True), nn.Linear(32, 12)

    def _bags(self) -> None:
        self.bags = nn.ModuleList([nn.EmbeddingBag(TOKENS, 16, mode=m) for m in ("sum", "mean", "max")])  # fmt: skip # noqa: E501
        self.head = nn.Sequential(nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 1))

    def _gan(self) -> None:
        self.make = nn.Sequential(
            nn.ConvTranspose2d(8, 16, 4), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Tanh(),
        )  # fmt: skip
        self.critic = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(512, 1))  # fmt: skip # noqa: E501

    def loss(self, device: str, kind: torch.dtype) -> Tensor:
        """The loss on random data."""
        if self.kind in ("resnet", "mobilenet"):
            x = torch.randn(4, 3, 32, 32, device=device, dtype=kind)
            last = self.kind == "mobilenet" or CHANNELS_LAST
            x = x.to(memory_format=torch.channels_last) if last else x
            return F.cross_entropy(self.net(x), torch.arange(4, device=device), label_smoothing=0.1)
        if self.kind == "vae":
            x = torch.rand(8, 64, device=device, dtype=kind)
            mean, spread = self.encode(x).chunk(2, -1)
            y = self.decode(mean + torch.randn_like(mean) * (spread / 2).exp())
            kl = (mean.square() + spread.exp() - spread - 1).sum(-1).mean() / 2
            return F.mse_loss(y.float(), x.float(), reduction="sum") + F.l1_loss(y, x) + kl
        if self.kind == "gan":
            fake = self.make(torch.randn(4, 8, 1, 1, device=device, dtype=kind))
            score = self.critic(fake).float()
            return F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
        return self._sequence_loss(device, kind)

    def _sequence_loss(self, device: str, kind: torch.dtype) -> Tensor:
        tokens = torch.randint(0, TOKENS, (4, 12), device=device)
        if self.kind == "lstm":
            y = self.head(self.rnn(self.embed(tokens))[0])
            return F.nll_loss(F.log_softmax(y, -1).flatten(0, 1), tokens.flatten())
        if self.kind == "bags":
            offsets = torch.tensor([0, 5, 20, 31], device=device)
            y = torch.cat([bag(tokens.flatten(), offsets) for bag in self.bags], -1)
            return F.smooth_l1_loss(self.head(y), torch.zeros(4, 1, device=device, dtype=kind))
        x = self.net(torch.randn(4, 16, 12, device=device, dtype=kind))
        lp = F.log_softmax(self.head(self.rnn(x.permute(2, 0, 1))[0]).float(), -1)
        lengths = torch.full((4,), 12), torch.tensor([3, 5, 1, 4])
        return F.ctc_loss(lp, tokens[:, :5] % 11 + 1, *lengths)


TRANSFORMERS = ("gpt", "bert", "llama")
MODELS = (*TRANSFORMERS, "resnet", "mobilenet", "lstm", "vae", "gan", "ctc", "bags")
TYPES = ("float32", "bfloat16", "autocast")


def train(kind: str, precision: str, device: str, optimizer: Any) -> None:
    """Make one step of a model."""
    dtype = torch.float32 if precision == "autocast" else getattr(torch, precision)
    model: Any = (Transformer if kind in TRANSFORMERS else Network)(kind)
    model = model.to(device=device, dtype=dtype)
    steps = optimizer(model.parameters())
    model.train()
    with torch.autocast(device, torch.bfloat16, enabled=precision == "autocast"):
        if kind in TRANSFORMERS:
            tokens = torch.randint(0, TOKENS, (4, 24), device=device)
            loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten())
        else:
            loss = model.loss(device, dtype)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    steps.step()


def optimizers() -> Any:
    """AdamW and SGD, fused and with operators on lists, in turn."""
    adam, sgd, list_form = torch.optim.AdamW, torch.optim.SGD, {"foreach": True}
    return itertools.cycle([
        lambda p: adam(p, 1e-3, fused=True),
        lambda p: sgd(p, 1e-2, momentum=0.9, weight_decay=1e-4, **list_form),
        lambda p: adam(p, 1e-3, amsgrad=True, **list_form),
        lambda p: sgd(p, 1e-2, momentum=0.9, nesterov=True, fused=True),
    ])  # fmt: skip


def main() -> None:
    """Train the chosen models."""
    parser = argparse.ArgumentParser()
    for name, default in (("models", ",".join(MODELS)), ("types", ",".join(TYPES))):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    cases = itertools.product(args.models.split(","), args.types.split(","))
    for (kind, precision), optimizer in zip(cases, optimizers()):  # noqa: B905 - Python 3.9
        train(kind, precision, args.device, optimizer)


if __name__ == "__main__":
    main()
