"""Accelerate as in its documentation: `save_state`, `load_state`, `skip_first_batches`.

--resume   continue from the last checkpoint
--sampler  `use_seedable_sampler`, which seeds the order of each epoch
--plain    no dropout, so that only the data order uses a global generator
--split    split a batch among the ranks
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def data() -> TensorDataset:
    """Random points, identical in every process."""
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1, keepdim=True))


def main() -> None:
    """Train two epochs of 8 steps; a checkpoint every 5 steps."""
    set_seed(0)
    loading = DataLoaderConfiguration(
        use_seedable_sampler="--sampler" in sys.argv, split_batches="--split" in sys.argv
    )
    accelerator = Accelerator(cpu=True, dataloader_config=loading)
    dropout = 0.0 if "--plain" in sys.argv else 0.1
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(dropout), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    loader = DataLoader(data(), batch_size=8, shuffle=True)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)

    done = 0
    saved = sorted(Path("saved").glob("step-*"), key=lambda path: int(path.name[5:]))
    if "--resume" in sys.argv and saved:
        accelerator.load_state(str(saved[-1]))
        done = int(saved[-1].name[5:])
    first_epoch, skipped = divmod(done, len(loader))

    step = done
    for epoch in range(first_epoch, 2):
        model.train()
        loader.set_epoch(epoch)
        batches = loader
        if epoch == first_epoch and skipped:
            batches = accelerator.skip_first_batches(loader, skipped)
        for x, y in batches:
            loss = nn.functional.mse_loss(model(x), y)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if step % 5 == 0:
                accelerator.save_state(f"saved/step-{step}")


if __name__ == "__main__":
    main()
