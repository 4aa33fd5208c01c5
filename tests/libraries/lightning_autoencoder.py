"""The quickstart of Lightning: an autoencoder, a validation loop, checkpoints and a log."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class LitAutoEncoder(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 36))

    def loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(self.decoder(self.encoder(batch[0])), batch[0])

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


L.seed_everything(42)
train = DataLoader(TensorDataset(torch.randn(32, 36)), batch_size=8, shuffle=True)
val = DataLoader(TensorDataset(torch.randn(16, 36)), batch_size=8)
checkpoint = L.pytorch.callbacks.ModelCheckpoint(monitor="val_loss", save_last=True)
model = LitAutoEncoder()
trainer = L.Trainer(
    max_epochs=2,
    accelerator="cpu",
    deterministic=True,
    callbacks=[checkpoint],
    logger=L.pytorch.loggers.CSVLogger("logs"),
    enable_progress_bar=False,
    log_every_n_steps=1,
)
trainer.fit(model, train, val)
torch.save(model.state_dict(), "weights.pt")
