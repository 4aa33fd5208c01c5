"""The quickstart of PEFT: LoRA adapters on a tiny GPT-2, saved with `save_pretrained`."""

import torch
from peft import LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
base = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=2, n_head=2))
lora = LoraConfig(
    task_type=TaskType.CAUSAL_LM,
    r=4,
    lora_alpha=8,
    lora_dropout=0.1,
    target_modules=["c_attn"],
    fan_in_fan_out=True,
)
model = get_peft_model(base, lora)
model.print_trainable_parameters()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(6):
    tokens = torch.randint(0, 64, (4, 16))
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(loss.item())
model.save_pretrained("adapter")
torch.save(get_peft_model_state_dict(model), "weights.pt")
