"""A GAN in Lightning: manual optimization, two optimizers, `detach`, and clipping by hand."""

import sys

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Gan(lightning.LightningModule):
    """A generator of pairs, and their discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(), nn.Linear(8, 1))

    def training_step(self, batch, index):
        """First the discriminator, then the generator."""
        (real,) = batch
        first, second = self.optimizers()
        noise = torch.Generator() if "--noise" in sys.argv else None
        if noise is not None:
            noise.seed()
        made = self.generator(torch.randn(len(real), 3, generator=noise))
        true, false = self.discriminator(real), self.discriminator(made.detach())
        loss = _loss(true, 1.0) + _loss(false, 0.0)
        first.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(first, gradient_clip_val=1.0)
        first.step()
        second.zero_grad()
        self.manual_backward(_loss(self.discriminator(made), 1.0))
        self.clip_gradients(second, gradient_clip_val=1.0)
        second.step()

    def configure_optimizers(self):
        """One optimizer per model."""
        return [
            torch.optim.Adam(self.discriminator.parameters(), lr=0.01),
            torch.optim.Adam(self.generator.parameters(), lr=0.01),
        ]


def _loss(found: torch.Tensor, wanted: float) -> torch.Tensor:
    target = torch.full_like(found, wanted)
    return nn.functional.binary_cross_entropy_with_logits(found, target)


def main() -> None:
    """Train two epochs of 4 batches."""
    lightning.seed_everything(0)
    points = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Gan(), DataLoader(TensorDataset(points), batch_size=8, shuffle=True))


if __name__ == "__main__":
    main()
