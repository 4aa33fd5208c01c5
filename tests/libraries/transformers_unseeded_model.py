"""A `Trainer` that is given a new model: its weights are drawn before the trainer sets the seed."""

import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)


class Reviews(Dataset):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, object]:
        tokens = [(7 * index + k) % 60 + 2 for k in range(8)]
        return {"input_ids": tokens, "attention_mask": [1] * 8, "labels": index % 2}


config = BertConfig(
    vocab_size=64,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
)
arguments = TrainingArguments(
    "out",
    num_train_epochs=2,
    per_device_train_batch_size=8,
    seed=42,
    learning_rate=1e-3,
    logging_steps=1,
    report_to="none",
    use_cpu=True,
)
model = BertForSequenceClassification(config)
trainer = Trainer(model=model, args=arguments, train_dataset=Reviews())
trainer.train()
torch.save(trainer.model.state_dict(), "weights.pt")
