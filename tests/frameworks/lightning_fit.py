"""Lightning's `Trainer` with its defaults: dropout, clipping, a checkpoint every 5 steps.

--resume      continue from the last checkpoint
--loaders     two loader processes
--evaluate    evaluate every 3 steps
--teacher     an average of the model (EMA) whose predictions are learned as well
--ranks N     train on N ranks, which share each batch
--sum         the gradients of the ranks are added, not averaged; no clipping
--correct     an exact resume: no dropout, order by epoch, checkpoints between epochs
"""

import os
import sys
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

EVALUATE = "--evaluate" in sys.argv
TEACHER = "--teacher" in sys.argv
CORRECT = "--correct" in sys.argv
RANKS = int(sys.argv[sys.argv.index("--ranks") + 1]) if "--ranks" in sys.argv else 1


class Student(lightning.LightningModule):
    """A small network, taught by the data, and by its own average if there is a teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(4, 16), nn.Dropout(0.0 if CORRECT else 0.1), nn.Linear(16, 1)
        )
        average = get_ema_multi_avg_fn(0.9)
        self.teacher = AveragedModel(self.network, multi_avg_fn=average) if TEACHER else None

    def training_step(self, batch, index):
        """The loss of a batch."""
        x, y = batch
        predicted = self.network(x)
        loss = nn.functional.mse_loss(predicted, y)
        if self.teacher is not None:
            with torch.no_grad():
                wanted = self.teacher(x)
            loss = loss + 0.1 * nn.functional.mse_loss(predicted, wanted)
        return loss * RANKS if "--sum" in sys.argv else loss

    def validation_step(self, batch, index):
        """The loss of a batch that is not learned."""
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self.network(x), y))

    def on_train_batch_end(self, outputs, batch, index):
        """Move the average."""
        if self.teacher is not None:
            self.teacher.update_parameters(self.network)

    def configure_optimizers(self):
        """AdamW with a learning rate that falls at every step."""
        learned = self.network.parameters()
        optimizer = torch.optim.AdamW(learned, lr=0.01)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def data(seed: int) -> TensorDataset:
    """Random points, identical in every process."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 4, generator=generator)
    return TensorDataset(x, x.sum(1, keepdim=True))


def sampler(points: TensorDataset) -> DistributedSampler:
    """The order of an epoch depends on its number only; each rank has its share."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return DistributedSampler(points, num_replicas=RANKS, rank=rank)


def main() -> None:
    """Train two epochs of 8 steps."""
    lightning.seed_everything(0)
    loaders = 2 if "--loaders" in sys.argv else 0
    points = data(0)
    by_epoch = sampler(points) if CORRECT else None
    train = DataLoader(
        points, batch_size=8 // RANKS, shuffle=not CORRECT, sampler=by_epoch, num_workers=loaders
    )
    when = {"every_n_epochs": 1} if CORRECT else {"every_n_train_steps": 5}
    callbacks = [ModelCheckpoint(dirpath="saved", save_last=True, **when)]
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=RANKS,
        strategy="ddp" if RANKS > 1 else "auto",
        max_epochs=2,
        callbacks=callbacks,
        gradient_clip_val=None if "--sum" in sys.argv else 0.5,
        val_check_interval=3 if EVALUATE else None,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = Path("saved/last.ckpt")
    trainer.fit(
        Student(),
        train,
        DataLoader(data(1), batch_size=32) if EVALUATE else None,
        ckpt_path=last if "--resume" in sys.argv and last.exists() else None,
    )


if __name__ == "__main__":
    main()
