"""The quickstart of NeuralForecast: NHITS on two series, then a forecast."""

import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.models import NHITS

frame = pd.DataFrame(
    {
        "unique_id": np.repeat(["a", "b"], 60),
        "ds": np.tile(pd.date_range("2020-01-31", periods=60, freq="ME"), 2),
        "y": np.sin(np.arange(120) / 2) + np.arange(120) / 50,
    }
)
model = NHITS(
    h=4,
    input_size=8,
    max_steps=6,
    mlp_units=[[16, 16]] * 3,
    random_seed=1,
    accelerator="cpu",
    logger=False,
    enable_progress_bar=False,
)
forecasts = NeuralForecast(models=[model], freq="ME")
forecasts.fit(df=frame)
print(forecasts.predict().head())
torch.save(forecasts.models[0].state_dict(), "weights.pt")
