"""Hugging Face `Trainer` as in its documentation: a tiny GPT-2, a checkpoint every 5 steps."""

import sys

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

LOADERS = 2 if "--loaders" in sys.argv else 0
EVALUATE = "--evaluate" in sys.argv


class Texts(Dataset):
    """Random tokens, identical in every process."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(0, 64, (64, 16), generator=generator)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[index], "labels": self.ids[index]}


def main() -> None:
    """Train two epochs of 8 steps."""
    set_seed(0)
    config = GPT2Config(
        vocab_size=64,
        n_positions=16,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    arguments = TrainingArguments(
        output_dir="out",
        num_train_epochs=2,
        per_device_train_batch_size=8,
        save_steps=5,
        logging_steps=4,
        eval_strategy="steps" if EVALUATE else "no",
        eval_steps=3,
        dataloader_num_workers=LOADERS,
        use_cpu=True,
        report_to="none",
        seed=0,
    )
    trainer = Trainer(
        model=GPT2LMHeadModel(config),
        args=arguments,
        train_dataset=Texts(0),
        eval_dataset=Texts(1),
    )
    trainer.train(resume_from_checkpoint="--resume" in sys.argv)


if __name__ == "__main__":
    main()
