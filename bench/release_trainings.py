"""Small trainings that run under every PyTorch release, with PyTorch only.

python bench/release_trainings.py gpt --steps 4
python bench/release_trainings.py xor gpt+bfloat16 gpt+compile
python bench/release_trainings.py gpt --save FOLDER
python bench/release_trainings.py gpt --resume FOLDER    # under another release
"""

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

VOCABULARY, LENGTH, BATCH = 97, 32, 8

Loss = Callable[[nn.Module, torch.Generator], Tensor]  # draws a batch, returns its loss


def xor() -> tuple[nn.Module, Loss]:
    """The XOR of two noisy bits."""
    from xor import SimpleClassifier

    model = SimpleClassifier()

    def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
        bits = torch.randint(0, 2, (128, 2), generator=generator).float()
        points = bits + 0.1 * torch.randn(128, 2, generator=generator)
        labels = (bits[:, 0] != bits[:, 1]).float()
        return functional.binary_cross_entropy_with_logits(model(points).squeeze(1).float(), labels)

    return model, loss


def gpt() -> tuple[nn.Module, Loss]:
    """A decoder with dropout: examples/gpt.py."""
    from gpt import CHARACTERS, GPT

    sizes = argparse.Namespace(layers=2, width=64, heads=4, length=LENGTH, dropout=0.1)
    return GPT(sizes), next_token(len(CHARACTERS))


def cnn() -> tuple[nn.Module, Loss]:
    """Two convolutions with batch normalization and dropout: examples/cnn.py."""
    from cnn import SHAPES, SIZE, ShapeNet

    return ShapeNet(), classes((1, SIZE, SIZE), len(SHAPES))


class LSTM(nn.Module):
    """A language model of two LSTM layers, without dropout."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each next token."""
        return self.head(self.lstm(self.tokens(tokens))[0])


class Residual(nn.Module):
    """Two 3×3 convolutions with batch normalization, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """The features of the block."""
        features = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(images)))))
        return torch.relu(features + self.shortcut(images))


def resnet18() -> tuple[nn.Module, Loss]:
    """ResNet-18 for images of 64 × 64 (He et al., 2015)."""
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers: list[nn.Module] = [*stem, nn.MaxPool2d(3, 2, 1)]
    for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
        layers += [
            Residual(inputs, outputs, 1 + (inputs != outputs)),
            Residual(outputs, outputs, 1),
        ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return model, classes((3, 64, 64), 10)


class BERT(nn.Module):
    """An encoder with learned positions, post-norm layers and dropout (Devlin et al., 2018)."""

    def __init__(self, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.places = nn.Embedding(LENGTH, width)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.1, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each token."""
        x = self.dropout(self.norm(self.tokens(tokens) + self.places.weight[: tokens.shape[1]]))
        return self.head(self.encoder(x))


class LlamaBlock(nn.Module):
    """Rotary attention with grouped keys, and SwiGLU, each after an RMS norm."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(width, groups * self.size, bias=False) for _ in range(2))
        self.out = nn.Linear(width, width, bias=False)
        self.gate, self.up = (nn.Linear(width, 3 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(3 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions, then map each position on its own."""
        y = self.norm1(x)
        split = (
            (self.query(y), self.heads),
            (self.key(y), self.groups),
            (self.value(y), self.groups),
        )
        query, key, value = (t.unflatten(-1, (n, self.size)).transpose(1, 2) for t, n in split)
        query, key = rotated(query), rotated(key)
        key, value = (t.repeat_interleave(self.heads // self.groups, 1) for t in (key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


def rotated(x: Tensor) -> Tensor:
    """Rotary position embedding (Su et al., 2021)."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(x.shape[-2], dtype=torch.float32)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Llama(nn.Module):
    """A decoder of the Llama family, without dropout (Touvron et al., 2023)."""

    def __init__(self, width: int = 64, heads: int = 4, groups: int = 2, layers: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.Sequential(*(LlamaBlock(width, heads, groups) for _ in range(layers)))
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each next token."""
        return self.head(self.norm(self.blocks(self.tokens(tokens))))


class VAE(nn.Module):
    """A variational autoencoder (Kingma and Welling, 2013)."""

    def __init__(self, pixels: int = 256, width: int = 64, latent: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(pixels, width), nn.ReLU())
        self.encoder.append(nn.Linear(width, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.ReLU())
        self.decoder.append(nn.Linear(width, pixels))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logits of the pixels, and the mean and the log variance of the code."""
        center, log_variance = self.encoder(pixels).chunk(2, dim=-1)
        code = center + torch.randn_like(center) * (log_variance / 2).exp()
        return self.decoder(code), center, log_variance


def vae() -> tuple[nn.Module, Loss]:
    """A variational autoencoder with random codes."""

    def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
        pixels = torch.rand(BATCH, 256, generator=generator)
        logits, center, log_variance = (tensor.float() for tensor in model(pixels))
        error = functional.binary_cross_entropy_with_logits(logits, pixels, reduction="sum")
        return error + 0.5 * (center**2 + log_variance.exp() - 1 - log_variance).sum()

    return VAE(), loss


def next_token(vocabulary: int) -> Loss:
    """The loss of the next token, of random tokens."""

    def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
        tokens = torch.randint(0, vocabulary, (BATCH, LENGTH + 1), generator=generator)
        logits = model(tokens[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())

    return loss


def classes(shape: tuple[int, ...], count: int) -> Loss:
    """The loss of the classes of random images."""

    def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
        images = torch.randn(BATCH, *shape, generator=generator)
        labels = torch.randint(0, count, (BATCH,), generator=generator)
        return functional.cross_entropy(model(images).float(), labels)

    return loss


TRAININGS = {
    "xor": xor,
    "gpt": gpt,
    "cnn": cnn,
    "lstm": lambda: (LSTM(), next_token(VOCABULARY)),
    "resnet18": resnet18,
    "bert": lambda: (BERT(), next_token(VOCABULARY)),
    "llama": lambda: (Llama(), next_token(VOCABULARY)),
    "vae": vae,
}


def train(case: str, steps: int, save: Path | None, resume: Path | None) -> str:
    """Train from a seed or from a checkpoint; the digest of the losses and the final state."""
    name, *settings = case.split("+")
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model, loss = TRAININGS[name]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if resume:
        state = torch.load(resume / f"{case}.pt")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["batches"])
        torch.set_rng_state(state["torch"])
    run = torch.compile(model) if "compile" in settings else model
    digest = hashlib.sha256()
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in settings):
            value = loss(run, generator)
        value.backward()
        optimizer.step()
        digest.update(str(value.item()).encode())
    for tensor in model.state_dict().values():
        digest.update(bytes(tensor.detach().reshape(-1).view(torch.uint8).numpy()))
    if save:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"batches": generator.get_state(), "torch": torch.get_rng_state()}
        torch.save(state, save / f"{case}.pt")
    return digest.hexdigest()


def main() -> None:
    """Train each case, and print its digest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", metavar="TRAINING[+bfloat16][+compile]")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--save", type=Path, help="write a checkpoint of each into this folder")
    parser.add_argument("--resume", type=Path, help="resume each from its checkpoint")
    options = parser.parse_args()
    for case in options.cases:
        print(case, train(case, options.steps, options.save, options.resume), flush=True)


if __name__ == "__main__":
    main()
