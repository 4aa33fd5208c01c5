"""The quickstart of Ignite: a trainer, an evaluator, metrics, a checkpoint."""

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import ModelCheckpoint
from ignite.metrics import Accuracy, Loss
from ignite.utils import manual_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

manual_seed(0)
data = TensorDataset(torch.randn(40, 1, 8, 8), torch.randint(0, 10, (40,)))
loader = DataLoader(data, batch_size=10, shuffle=True)
model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.005)
trainer = create_supervised_trainer(model, optimizer, criterion)
metrics = {"accuracy": Accuracy(), "loss": Loss(criterion)}
evaluator = create_supervised_evaluator(model, metrics=metrics)


@trainer.on(Events.EPOCH_COMPLETED)
def validate(trainer: object) -> None:
    evaluator.run(loader)
    print(trainer.state.epoch, evaluator.state.metrics)


checkpoint = ModelCheckpoint("checkpoint", n_saved=2, filename_prefix="best", require_empty=False)
trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint, {"model": model})
trainer.run(loader, max_epochs=2)
torch.save(model.state_dict(), "weights.pt")
