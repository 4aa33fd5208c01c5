"""The quickstart of PyTorch Forecasting: a temporal fusion transformer on two series."""

import lightning as L
import numpy as np
import pandas as pd
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.metrics import QuantileLoss

L.seed_everything(0)
frame = pd.DataFrame(
    {
        "time": np.tile(np.arange(40), 2),
        "group": np.repeat(["a", "b"], 40),
        "value": np.sin(np.arange(80) / 3) + np.repeat([1.0, 2.0], 40),
    }
)
training = TimeSeriesDataSet(
    frame,
    time_idx="time",
    target="value",
    group_ids=["group"],
    max_encoder_length=8,
    max_prediction_length=2,
    time_varying_known_reals=["time"],
    time_varying_unknown_reals=["value"],
)
loader = training.to_dataloader(train=True, batch_size=16)
model = TemporalFusionTransformer.from_dataset(
    training, hidden_size=8, attention_head_size=1, loss=QuantileLoss(), learning_rate=0.03
)
trainer = L.Trainer(
    max_epochs=2,
    limit_train_batches=3,
    accelerator="cpu",
    gradient_clip_val=0.1,
    logger=False,
    enable_progress_bar=False,
)
trainer.fit(model, loader)
torch.save(model.state_dict(), "weights.pt")
