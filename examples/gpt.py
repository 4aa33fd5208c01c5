"""A small GPT learns the characters of a generated text, and resumes exactly.

python examples/gpt.py --steps 20 --save-every 10
python examples/gpt.py --steps 40 --resume
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

WORDS = ["the", "small", "old", "red", "cat", "tree", "house", "river", "sees", "finds", "leaves"]
CHARACTERS = sorted(set("".join(WORDS) + " ."))


def make_text(words: int, seed: int) -> torch.Tensor:
    """Character numbers of random sentences of seven words."""
    chosen = torch.randint(0, len(WORDS), (words,), generator=torch.Generator().manual_seed(seed))
    text = "".join(WORDS[n] + (". " if i % 7 == 6 else " ") for i, n in enumerate(chosen.tolist()))
    number = {character: i for i, character in enumerate(CHARACTERS)}
    return torch.tensor([number[character] for character in text])


class Block(nn.Module):
    """Causal attention and a feed-forward layer, with residual connections."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix the positions, then map each position on its own."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.down(functional.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    """A decoder whose output layer shares the weights of the embedding."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.tokens = nn.Embedding(len(CHARACTERS), args.width)
        self.places = nn.Embedding(args.length, args.width)
        blocks = [Block(args.width, args.heads, args.dropout) for _ in range(args.layers)]
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(args.width)
        self.head = nn.Linear(args.width, len(CHARACTERS), bias=False)
        for embedding in (self.tokens, self.places):
            nn.init.normal_(embedding.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The logits of each next character."""
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def save(state: dict, path: Path) -> None:
    """Write a new file, then replace the old one."""
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("layers", 2), ("width", 64), ("heads", 4), ("batch", 8), ("length", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("steps", 20), ("save-every", 0), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint, if any"
    )
    parser.add_argument("--checkpoint", type=Path, default=Path("gpt.pt"))
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse()
    torch.manual_seed(args.seed)
    batches = torch.Generator().manual_seed(args.seed)
    text, model, start = make_text(5000, args.seed), GPT(args), 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    if args.resume and args.checkpoint.exists():
        state = torch.load(args.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        batches.set_state(state["batches"])
        torch.set_rng_state(state["torch"])
        start = state["step"]
    torch.use_deterministic_algorithms(
        args.compile
    )  # else the gradient of a compiled embedding varies
    run = torch.compile(model) if args.compile else model

    for step in range(start, args.steps):
        starts = torch.randint(0, len(text) - args.length, (args.batch, 1), generator=batches)
        window = text[starts + torch.arange(args.length + 1)]
        logits = run(window[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"step {step}: loss {loss.item():.4f}")
        if args.save_every and (step + 1) % args.save_every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"batches": batches.get_state(), "torch": torch.get_rng_state()}
            save({**state, "step": step + 1}, args.checkpoint)


if __name__ == "__main__":
    main()
