"""`SentenceTransformerTrainer` with a tiny encoder that is made here, on pairs of sentences."""

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

set_seed(0)
words = ["[PAD]", "[UNK]", *"the a red small cat house river tree sees finds leaves".split()]
inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
)
config = BertConfig(
    vocab_size=len(words),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
)
tokenizer.save_pretrained("encoder")
BertModel(config).save_pretrained("encoder")
encoder = Transformer("encoder")
model = SentenceTransformer(modules=[encoder, Pooling(16)], device="cpu")
nouns = ["cat", "house", "river", "tree"]
pairs = [{"anchor": f"the {a} sees a {b}", "positive": f"a {b}"} for a in nouns for b in nouns]
arguments = SentenceTransformerTrainingArguments(
    output_dir="out",
    num_train_epochs=2,
    per_device_train_batch_size=4,
    use_cpu=True,
    report_to="none",
)
trainer = SentenceTransformerTrainer(
    model=model,
    args=arguments,
    train_dataset=Dataset.from_list(pairs),
    loss=MultipleNegativesRankingLoss(model),
)
trainer.train()
torch.save(model.state_dict(), "weights.pt")
