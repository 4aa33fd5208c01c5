"""GRPO with TRL: completions are sampled, a function rewards short ones."""

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import GRPOConfig, GRPOTrainer

set_seed(0)
words = ["<pad>", "<eos>", "<unk>", "the", "red", "cat", "sees", "a", "house", "river"]
inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
)
config = LlamaConfig(
    vocab_size=len(words),
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    pad_token_id=0,
    eos_token_id=1,
)
prompts = [{"prompt": f"the red {noun}"} for noun in ("cat", "river", "house", "red") * 8]


def reward_short(completions: list[str], **_: object) -> list[float]:
    return [-float(len(completion)) for completion in completions]


arguments = GRPOConfig(
    output_dir="out",
    max_steps=3,
    per_device_train_batch_size=4,
    num_generations=4,
    max_completion_length=6,
    logging_steps=1,
    use_cpu=True,
    bf16=False,
    report_to="none",
)
trainer = GRPOTrainer(
    model=LlamaForCausalLM(config),
    args=arguments,
    reward_funcs=reward_short,
    train_dataset=Dataset.from_list(prompts),
    processing_class=tokenizer,
)
trainer.train()
torch.save(trainer.model.state_dict(), "weights.pt")
