"""A forecast with Darts: N-BEATS with a random state, fit and predict."""

import numpy as np
import torch
from darts import TimeSeries
from darts.models import NBEATSModel

series = TimeSeries.from_values(np.sin(np.arange(60) / 3).astype("float32"))
model = NBEATSModel(
    input_chunk_length=8,
    output_chunk_length=4,
    n_epochs=2,
    batch_size=16,
    num_stacks=2,
    num_layers=2,
    layer_widths=16,
    random_state=42,
    pl_trainer_kwargs={"accelerator": "cpu", "enable_progress_bar": False},
)
model.fit(series)
print(model.predict(4).values().ravel())
torch.save(model.model.state_dict(), "weights.pt")
