"""The quickstart of fastai: `TabularDataLoaders` and `fit_one_cycle`."""

import numpy as np
import pandas as pd
import torch
from fastai.tabular.all import (
    Categorify,
    FillMissing,
    Normalize,
    TabularDataLoaders,
    accuracy,
    set_seed,
    tabular_learner,
)

set_seed(42, reproducible=True)
generator = np.random.default_rng(0)
frame = pd.DataFrame(
    {
        "job": generator.choice(["a", "b", "c"], 200),
        "age": generator.normal(40, 10, 200),
        "hours": generator.normal(30, 5, 200),
        "salary": generator.choice(["<50k", ">=50k"], 200),
    }
)
loaders = TabularDataLoaders.from_df(
    frame,
    y_names="salary",
    cat_names=["job"],
    cont_names=["age", "hours"],
    procs=[Categorify, FillMissing, Normalize],
    valid_idx=list(range(160, 200)),
    bs=32,
    num_workers=0,
)
learner = tabular_learner(loaders, layers=[16, 8], metrics=accuracy)
learner.fit_one_cycle(2)
learner.save("model")
torch.save(learner.model.state_dict(), "weights.pt")
