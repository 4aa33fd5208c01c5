"""Fine-tuning with the `Trainer` of Transformers: a tiny BERT, evaluation, the best model."""

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)


class Reviews(Dataset):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, object]:
        tokens = [(7 * index + k) % 60 + 2 for k in range(8)]
        return {"input_ids": tokens, "attention_mask": [1] * 8, "labels": index % 2}


def compute_metrics(prediction: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    logits, labels = prediction
    return {"accuracy": float((logits.argmax(-1) == labels).mean())}


set_seed(42)
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
    gradient_accumulation_steps=2,
    learning_rate=1e-3,
    eval_strategy="epoch",
    save_strategy="epoch",
    load_best_model_at_end=True,
    logging_steps=1,
    report_to="none",
    use_cpu=True,
)
trainer = Trainer(
    model=BertForSequenceClassification(config),
    args=arguments,
    train_dataset=Reviews(),
    eval_dataset=Reviews(),
    compute_metrics=compute_metrics,
)
trainer.train()
torch.save(trainer.model.state_dict(), "weights.pt")
