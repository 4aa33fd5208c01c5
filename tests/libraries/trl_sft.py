"""The quickstart of TRL: `SFTTrainer` on a tiny Llama with a tokenizer that is made here."""

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

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
texts = [{"text": f"the red {noun} sees a house"} for noun in ("cat", "river", "house", "red") * 8]
arguments = SFTConfig(
    output_dir="out",
    max_steps=5,
    per_device_train_batch_size=4,
    max_length=16,
    logging_steps=1,
    use_cpu=True,
    bf16=False,
    report_to="none",
)
trainer = SFTTrainer(
    model=LlamaForCausalLM(config),
    args=arguments,
    train_dataset=Dataset.from_list(texts),
    processing_class=tokenizer,
)
trainer.train()
torch.save(trainer.model.state_dict(), "weights.pt")
